//! What the container finds in its root: mounts, nodes, masks, propagation.

use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, mknod};
use serde_json::json;

use super::judge::{Outcome, Trouble, ensure, refused};
use super::kit::Bundle;

cases!("runtime-tools": root_readonly_true mounts linux_devices linux_masked_paths linux_readonly_paths
       linux_rootfs_propagation linux_mount_label);

fn root_readonly_true(bundle: &mut Bundle) -> Outcome {
    bundle.config["root"]["readonly"] = json!(true);
    bundle.inside().map(drop)
}

fn mounts(bundle: &mut Bundle) -> Outcome {
    let common = ["nosuid", "strictatime", "mode=755", "size=1k"];
    let all = bundle.config["mounts"].as_array_mut().unwrap();
    for way in ["shared", "slave", "private"] {
        let options: Vec<&str> = common.iter().copied().chain([way]).collect();
        let target = format!("/tmp/test-{way}");
        all.push(json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": options }));
    }
    for way in [
        "shared",
        "rshared",
        "slave",
        "rslave",
        "private",
        "rprivate",
        "unbindable",
        "runbindable",
    ] {
        let bind = if way.starts_with("rs") || way.starts_with("rp") || way.starts_with("ru") {
            "rbind"
        } else {
            "bind"
        };
        let options: Vec<&str> = common.iter().copied().chain([bind, way]).collect();
        all.push(json!({ "destination": format!("/mnt/etc-{way}"), "source": "/etc", "options": options }));
    }
    bundle.inside().map(drop)
}

fn linux_devices(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["devices"] = json!([
        { "path": "/dev/test1", "type": "c", "major": 10, "minor": 666, "fileMode": 432, "uid": 0, "gid": 0 },
        { "path": "/dev/test2", "type": "b", "major": 8, "minor": 666, "fileMode": 432, "uid": 0, "gid": 0 },
        { "path": "/dev/test3", "type": "p", "major": 8, "minor": 666, "fileMode": 432 },
    ]);
    bundle.inside().map(drop)
}

/// Folders and files, one below another, of which every one is named.
fn tree(root: &Path) -> Result<[&'static str; 5], Trouble> {
    std::fs::create_dir_all(root.join("folder/below"))?;
    std::fs::write(root.join("folder/below/other"), "x")?;
    let paths = [
        "/folder",
        "/file",
        "/folder/below",
        "/folder/file",
        "/folder/below/file",
    ];
    for path in ["file", "folder/file", "folder/below/file"] {
        std::fs::write(root.join(path), "secret")?;
    }
    Ok(paths)
}

fn node(root: &Path, kind: SFlag) -> Result<(), Trouble> {
    let path = root.join("node");
    let _ = std::fs::remove_file(&path);
    Ok(mknod(&path, kind, Mode::from_bits_truncate(0o666), 0).map_err(std::io::Error::from)?)
}

/// Lists of paths are alike in what they take.
fn path_lists(bundle: &mut Bundle, key: &str) -> Outcome {
    let paths = tree(&bundle.root())?;
    bundle.config["linux"][key] = json!(paths);
    bundle.inside()?;
    bundle.config["linux"][key] = json!(["relative"]);
    std::fs::write(bundle.root().join("relative"), "x")?;
    let made = bundle.create();
    if made.is_ok() {
        bundle.finish()?;
    }
    refused("a relative path", made)?;
    // A link that leads to itself is no path to anything.
    symlink("../link", bundle.root().join("link"))?;
    bundle.config["linux"][key] = json!(["/link"]);
    let made = bundle.create();
    if made.is_ok() {
        bundle.finish()?;
    }
    refused("a link to itself", made)?;
    bundle.config["linux"][key] = json!(["/node"]);
    for kind in [SFlag::S_IFBLK, SFlag::S_IFCHR, SFlag::S_IFIFO] {
        node(&bundle.root(), kind)?;
        bundle.inside()?;
    }
    Ok(())
}

fn linux_masked_paths(bundle: &mut Bundle) -> Outcome {
    path_lists(bundle, "maskedPaths")
}

fn linux_readonly_paths(bundle: &mut Bundle) -> Outcome {
    path_lists(bundle, "readonlyPaths")
}

fn linux_rootfs_propagation(bundle: &mut Bundle) -> Outcome {
    let sets = bundle.config["process"]["capabilities"].as_object_mut().unwrap();
    for set in sets.values_mut() {
        set.as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
    }
    bundle.args(&["propagation"]);
    for (way, wanted) in [
        ("shared", "shared"),
        ("slave", "apart"),
        ("private", "apart"),
        ("unbindable", "unbindable"),
    ] {
        bundle.config["linux"]["rootfsPropagation"] = json!(way);
        let found = bundle.run()?;
        let found = found.get("propagation");
        ensure(found == wanted, || format!("{way} is {found}"))?;
    }
    Ok(())
}

fn linux_mount_label(bundle: &mut Bundle) -> Outcome {
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(Trouble::Impossible("this kernel has no SELinux".to_owned()));
    }
    bundle.config["linux"]["mountLabel"] = json!("system_u:object_r:svirt_sandbox_file_t:s0:c715,c811");
    bundle.inside().map(drop)
}
