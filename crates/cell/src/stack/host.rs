//! The stack `host`: the userland of this machine, read-only, for development without any set-up.
//!
//! Programs and libraries are bound from `/usr`; of `/etc` there is an own one with the parts that programs need. Of
//! `/root`, `/home`, `/var`, `/opt` and `/usr/local` nothing is shown.

use super::copy::Copy;
use super::{GROUP, PASSWD, make_dir, write_file};
use crate::error::{Error, file};
use sandbox::Bind;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Folders of `/usr` that are shown.
const USR: [&str; 9] = [
    "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "share", "include",
];
/// Folders at the root that are links into `/usr` on a merged system, and folders of their own on others.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Names in `/etc` that are taken from the host.
const ETC: [&str; 17] = [
    "alternatives",
    "debian_version",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "os-release",
    "perl",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates.conf",
    "terminfo",
    "timezone",
];
/// Beginnings of further names in `/etc`: settings of language runtimes.
const ETC_PREFIXES: [&str; 2] = ["java-", "python3"];
/// Empty folders, with their modes.
const EMPTY: [(&str, u32); 14] = [
    ("dev", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("usr/local/bin", 0o755),
    ("usr/local/lib", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// Writes the tree beside the binds.
pub(super) fn write(tree: &Path) -> Result<(), Error> {
    for (name, mode) in EMPTY {
        make_dir(&tree.join(name), mode)?;
    }
    for bind in binds() {
        let target = bind.target.strip_prefix("/").unwrap_or(&bind.target);
        make_dir(&tree.join(target), 0o755)?;
    }
    for name in MERGED {
        let host = Path::new("/").join(name);
        if let Ok(target) = fs::read_link(&host) {
            let link = tree.join(name);
            symlink(&target, &link).map_err(file("link", &link))?;
        }
    }
    let mut copy = Copy::default();
    for name in ETC.map(PathBuf::from).into_iter().chain(runtimes()) {
        let target = tree.join("etc").join(&name);
        if let Some(parent) = target.parent() {
            make_dir(parent, 0o755)?;
        }
        copy.take(&Path::new("/etc").join(&name), &target)?;
    }
    for (name, contents) in [
        ("etc/passwd", PASSWD),
        ("etc/group", GROUP),
        ("etc/hosts", HOSTS),
        ("etc/nsswitch.conf", NSSWITCH),
    ] {
        write_file(&tree.join(name), contents.as_bytes())?;
    }
    Ok(())
}

/// The host's folders that a sandbox sees.
pub(super) fn binds() -> Vec<Bind> {
    let usr = USR.map(|name| Path::new("/usr").join(name));
    let own = MERGED.map(|name| Path::new("/").join(name));
    usr.into_iter()
        .chain(own)
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()))
        .map(|path| Bind {
            source: path.clone(),
            target: path,
            readonly: true,
        })
        .collect()
}

fn runtimes() -> Vec<PathBuf> {
    let names = fs::read_dir("/etc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| ETC_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .map(PathBuf::from)
        .collect()
}
