#!/bin/sh
# What fits depends on the memory of this instance: what the platform says, else what the control group allows.
tell() { printf '%s = "%s"\n' "$1" "$2" >&3; }
megabytes=${MEMORY_LIMIT%%[!0-9]*}
case "$MEMORY_LIMIT" in
    '' | [!0-9]*) megabytes= ;;
    *[gG]*) megabytes=$((megabytes * 1024)) ;;
    *[mM]*) ;;
    *) megabytes= ;;
esac
if [ -z "$megabytes" ]; then
    for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
        bytes=$(cat "$file" 2>/dev/null)
        # Longer ones are how a kernel says that there is none.
        case "$bytes" in '' | *[!0-9]* | ????????????????*) ;; *) megabytes=$((bytes / 1048576)); break ;; esac
    done
fi
[ -n "$megabytes" ] && [ "$megabytes" -gt 0 ] || exit 0
