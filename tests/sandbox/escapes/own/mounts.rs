//! Mounts that pass the border, and false folders of the kernel's.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use super::targets::Folders;
use super::{Host, apart, output, table};
use crate::escapes::bundle::{Bundle, Line, Runner};
use crate::escapes::outside::Outside;
use crate::kit::printed;
use crate::lifecycle::exec_output;

/// A mount of this thread's namespace, for as long as it is held.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

const NOTHING: Option<&str> = None;

/// A mount of a folder onto itself that tells others about what is mounted in it.
fn shared(folder: &Path) -> Mounted {
    mount(Some(folder), folder, NOTHING, MsFlags::MS_BIND, NOTHING).unwrap();
    let mounted = Mounted(folder.to_owned());
    mount(NOTHING, folder, NOTHING, MsFlags::MS_SHARED, NOTHING).unwrap();
    mounted
}

/// Something new in it, with a file.
fn later(folder: &Path) -> Mounted {
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), NOTHING).unwrap();
    let mounted = Mounted(folder.to_owned());
    std::fs::write(folder.join("news"), "of the host").unwrap();
    mounted
}

#[test]
fn mounts_from_outside() {
    // Whatever is started from here is in this namespace, and nothing of it is the machine's.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).unwrap();
    let host = Host::new();
    let outside = Outside::new(&host);
    let bound = shared(outside.folder());
    let place = outside.folder().join("later");
    std::fs::create_dir(&place).unwrap();

    let mut spec = host.spec("hears", &["sleep"]);
    spec.binds = vec![outside.bind()];
    let sandbox = host.create(&spec);
    printed(&sandbox, "asleep");
    let mounts = exec_output(&sandbox, &["escape", "shared-mounts"]).1;
    assert!(mounts.contains("held"), "{mounts}");
    let news = later(&place);
    assert_eq!(exec_output(&sandbox, &["list", "/shown/later"]).1.trim_end(), "");
    drop(news);
    sandbox.destroy().unwrap();

    let bundle = Bundle::new(&host, &spec, &[Line::Shared("/shown")]);
    let mut child = bundle.start(Runner::Runc);
    crate::kit::eventually("the bundle runs", || bundle.output().contains("asleep"));
    let news = later(&place);
    let heard = bundle.ask(Runner::Runc, &["exec"], &["/bin/probe", "list", "/shown/later"]);
    assert_eq!(heard.trim_end(), "news", "the weakened bundle hears of nothing");
    drop(news);
    drop(bundle);
    child.wait().unwrap();
    table::record(
        "mounts-from-outside",
        "what is mounted afterwards is not there",
        "what is mounted afterwards",
    );
    drop(bound);
    drop(outside);
    host.finish();
}

#[test]
fn linked_kernel_folders() {
    let host = Host::new();
    let folders = Folders::new(&host);
    for name in ["dev", "proc", "sys"] {
        let evil = host.dir.path().join(format!("evil-{name}"));
        std::fs::create_dir(&evil).unwrap();
        std::os::unix::fs::symlink("/etc", evil.join(name)).unwrap();
        let mut spec = host.spec("evil", &["sleep"]);
        spec.layers.insert(0, evil);
        assert!(
            host.runtime().create(&spec).is_err(),
            "/{name} was a link and was followed"
        );
        spec.layers.remove(0);
        spec.binds = vec![folders.bind("/tools")];
        let bundle = Bundle::new(&host, &spec, &[]);
        std::os::unix::fs::symlink(&folders.victim, bundle.root.join(name)).unwrap();
        let (ok, told) = bundle.run_by(Runner::Ours);
        assert!(
            !ok && !told.contains("asleep"),
            "/{name} was a link and was followed: {told}"
        );
        let script = "mount -t tmpfs none \"$1\" && grep -c \"$2\" /proc/self/mountinfo";
        let naive = apart(script, &[&bundle.root.join(name), &folders.victim]);
        assert_eq!(naive.trim(), "1", "{name}");
    }
    table::record("linked-kernel-folders", "the start is refused", "a folder of the host");
    host.finish();
}

#[test]
fn false_proc() {
    let host = Host::new();
    let setting = "/proc/sys/net/ipv4/ping_group_range";
    let mut bundle = Bundle::new(&host, &host.spec("false", &["read", setting]), &[]);
    bundle.unmount("/proc");
    for key in ["maskedPaths", "readonlyPaths"] {
        bundle.config["linux"][key] = json!([]);
    }
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ping_group_range": "1 1" });
    let false_one = bundle.root.join(setting.trim_start_matches('/'));
    std::fs::create_dir_all(false_one.parent().unwrap()).unwrap();
    std::fs::write(&false_one, "untouched").unwrap();
    let (_, told) = bundle.run_by(Runner::Ours);
    assert_eq!(std::fs::read_to_string(&false_one).unwrap(), "untouched", "{told}");
    let mut naive = Command::new("nsenter");
    naive.arg(format!("--root={}", bundle.root.display()));
    output(naive.args(["/bin/probe", "write", setting, "1 1"]));
    assert_eq!(std::fs::read_to_string(&false_one).unwrap(), "1 1");
    table::record(
        "false-proc",
        "the false file is untouched",
        "whatever file the root has there",
    );
    drop(bundle);
    host.finish();
}

#[test]
fn false_null() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, &host.spec("false", &["read", "/etc/passwd"]), &[]);
    bundle.unmount("/dev");
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/passwd"]);
    std::fs::create_dir_all(bundle.root.join("dev")).unwrap();
    std::os::unix::fs::symlink("../etc/secret", bundle.root.join("dev/null")).unwrap();
    let (_, told) = bundle.run_by(Runner::Ours);
    assert!(!told.contains("only for root"), "{told}");
    let script = "mount --bind \"$1/dev/null\" \"$1/etc/passwd\" && cat \"$1/etc/passwd\"";
    let naive = apart(script, &[&bundle.root]);
    assert_eq!(naive.trim(), "only for root");
    table::record(
        "false-null",
        "masked by the host's or refused",
        "a file in the place of the mask",
    );
    drop(bundle);
    host.finish();
}
