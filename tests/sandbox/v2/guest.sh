#!/bin/sh
# First process of a user-mode Linux whose root is the host's, read-only: makes a machine with
# control groups v2 alone, runs the tests named in $W/tests one by one, and powers off.
# Not for use by hand: `cargo xtask v2` prepares the folder $W and reads what is written to it.
#
# $W/tests    a line `<program> <label> <name> [<starts>]` for each test; programs are links in $W/program, and
#             <starts> says out of which kind of parked sandbox every start is made, if out of any
# $W/results  a line `ok|FAIL <seconds> <label>` for each that ran
# $W/log/LABEL its output
# $W/error    why it could not begin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

die() {
    echo "$*" >>/run/out/error
    busybox poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/out /run/tmp
mount -t hostfs -o "$W" hostfs /run/out || busybox poweroff -f
mount -t cgroup2 cgroup2 /sys/fs/cgroup || die "no control groups v2"
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
for module in $(echo "$MODULES" | busybox tr , " "); do
    busybox insmod "/usr/lib/uml/modules/$(uname -r)/kernel/$module.ko" || die "no module $module"
done
mkdir /sys/fs/cgroup/init
echo $$ >/sys/fs/cgroup/init/cgroup.procs
for controller in cpu io memory pids; do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || die "no controller $controller"
done
busybox ip link set lo up

# Layers need a file system that can shift owners, which this kernel's tmpfs cannot.
mount -t ext4 -o noatime /dev/ubda /run/tmp || die "no disk"

export TMPDIR=/run/tmp HOME=/run/tmp
while read -r program label name starts; do
    if [ -n "$starts" ]; then
        export SANDBOX_TEST_STARTS="$starts"
    else
        unset SANDBOX_TEST_STARTS
    fi
    begun=$(busybox cut -d' ' -f1 /proc/uptime)
    if busybox timeout -s KILL "$SECONDS_EACH" "/run/out/program/$program" --exact "$name" --nocapture \
        >"/run/out/log/$label" 2>&1 </dev/null; then
        verdict=ok
    else
        verdict=FAIL
    fi
    ended=$(busybox cut -d' ' -f1 /proc/uptime)
    echo "$verdict $(busybox awk "BEGIN { print $ended - $begun }") $label" >>/run/out/results
done </run/out/tests
busybox sync
busybox poweroff -f
