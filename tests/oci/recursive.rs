//! Cases of youki's contest about attributes that are to hold for a bind and all that is mounted below its source.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use super::judge::{Outcome, Trouble, ensure};
use super::kit::Bundle;

cases!("contest": mounts_recursive_rro mounts_recursive_rrw mounts_recursive_rnosuid mounts_recursive_rsuid
       mounts_recursive_rnodev mounts_recursive_rdev mounts_recursive_rnoexec mounts_recursive_rexec
       mounts_recursive_rnodiratime mounts_recursive_rdiratime mounts_recursive_rnoatime mounts_recursive_ratime
       mounts_recursive_rstrictatime mounts_recursive_rnosymfollow);

/// Two mounts, one below the other, on the host.
struct Source(PathBuf);

impl Source {
    fn new(path: &Path, flags: MsFlags) -> Result<Source, Trouble> {
        let source = Source(path.to_owned());
        std::fs::create_dir(path)?;
        let below = path.join("below");
        let tmpfs = |path: &Path, flags| mount(Some("tmpfs"), path, Some("tmpfs"), flags, None::<&str>);
        tmpfs(path, MsFlags::empty()).map_err(std::io::Error::from)?;
        std::fs::create_dir(&below)?;
        tmpfs(&below, flags).map_err(std::io::Error::from)?;
        if !flags.is_empty() {
            let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
            mount(None::<&str>, path, None::<&str>, again, None::<&str>).map_err(std::io::Error::from)?;
        }
        Ok(source)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        for path in [self.0.join("below"), self.0.clone()] {
            let _ = umount2(&path, MntFlags::MNT_DETACH);
        }
    }
}

/// Binds a source whose mounts have `flags` with `word`; both then have `there` and lack `gone`.
fn recursive(bundle: &mut Bundle, word: &str, flags: MsFlags, there: &str, gone: &str) -> Outcome {
    let source = Source::new(&bundle.path().join("source"), flags)?;
    let mount = json!({ "destination": "/mnt/bound", "source": source.0, "options": ["rbind", word] });
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    let seen = bundle.run()?;
    for target in ["/mnt/bound", "/mnt/bound/below"] {
        let found = seen.mount(target)?;
        let options = &found.options;
        ensure(there.is_empty() || found.has(there), || {
            format!("{target} is {options}, without {there}")
        })?;
        ensure(gone.is_empty() || !found.has(gone), || {
            format!("{target} is {options}, with {gone}")
        })?;
    }
    Ok(())
}

fn mounts_recursive_rro(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rro", MsFlags::empty(), "ro", "rw")
}

fn mounts_recursive_rrw(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rrw", MsFlags::MS_RDONLY, "rw", "ro")
}

fn mounts_recursive_rnosuid(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rnosuid", MsFlags::empty(), "nosuid", "")
}

fn mounts_recursive_rsuid(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rsuid", MsFlags::MS_NOSUID, "", "nosuid")
}

fn mounts_recursive_rnodev(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rnodev", MsFlags::empty(), "nodev", "")
}

fn mounts_recursive_rdev(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rdev", MsFlags::MS_NODEV, "", "nodev")
}

fn mounts_recursive_rnoexec(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rnoexec", MsFlags::empty(), "noexec", "")
}

fn mounts_recursive_rexec(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rexec", MsFlags::MS_NOEXEC, "", "noexec")
}

fn mounts_recursive_rnodiratime(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rnodiratime", MsFlags::empty(), "nodiratime", "")
}

fn mounts_recursive_rdiratime(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rdiratime", MsFlags::MS_NODIRATIME, "", "nodiratime")
}

fn mounts_recursive_rnoatime(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rnoatime", MsFlags::empty(), "noatime", "relatime")
}

fn mounts_recursive_ratime(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "ratime", MsFlags::MS_NOATIME, "", "noatime")
}

fn mounts_recursive_rstrictatime(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rstrictatime", MsFlags::empty(), "", "relatime")
}

fn mounts_recursive_rnosymfollow(bundle: &mut Bundle) -> Outcome {
    recursive(bundle, "rnosymfollow", MsFlags::empty(), "nosymfollow", "")
}
