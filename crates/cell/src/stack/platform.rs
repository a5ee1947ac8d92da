//! What lies above every stack: certificates, the folders of the user that apps run as, and the places
//! at which the platform's own programs appear.

use super::{Platform, make_dir, write_file};
use crate::env::CA_BUNDLE;
use crate::error::{Error, file};
use crate::unpack::owner;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

/// Where hosts keep the authorities they trust.
const HOST_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Folders that the user of apps may write to.
const USERS: [&str; 8] = [
    "home/vcap",
    "home/vcap/app",
    "home/vcap/deps",
    "home/vcap/logs",
    "home/vcap/tmp",
    "layers",
    "paas",
    "paas/out",
];
/// Largest file of certificates.
const MAX_BUNDLE_BYTES: u64 = 16 << 20;

/// Writes the tree.
pub(super) fn write(tree: &Path, settings: &Platform) -> Result<(), Error> {
    make_dir(&tree.join("etc"), 0o755)?;
    make_dir(&tree.join("home"), 0o755)?;
    make_dir(&tree.join("tmp"), 0o1777)?;
    make_dir(&tree.join(".paas/buildpacks"), 0o755)?;
    write_file(&tree.join(".paas/lifecycle"), b"")?;
    for name in USERS {
        let path = tree.join(name);
        make_dir(&path, 0o755)?;
        chown(&path, Some(owner()), Some(owner())).map_err(file("give away", &path))?;
    }
    let certificates = bundle(settings)?;
    if !certificates.is_empty() {
        write_file(&tree.join(CA_BUNDLE.trim_start_matches('/')), &certificates)?;
    }
    Ok(())
}

fn bundle(settings: &Platform) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    if settings.ca_files.is_empty() {
        if let Some(path) = HOST_BUNDLES.iter().map(Path::new).find(|path| path.is_file()) {
            all = fs::read(path).map_err(file("read", path))?;
        }
        return Ok(all);
    }
    for path in &settings.ca_files {
        let size = fs::metadata(path).map_err(file("read", path))?.len();
        if size > MAX_BUNDLE_BYTES {
            return Err(Error::Config {
                reason: format!("{} is no file of certificates: {size} bytes", path.display()),
            });
        }
        let text = fs::read(path).map_err(file("read", path))?;
        all.extend_from_slice(&text);
        if !all.ends_with(b"\n") {
            all.push(b'\n');
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_certificates_follow_each_other() {
        let dir = tempfile::tempdir().expect("folder");
        let paths = ["a.pem", "b.pem"].map(|name| dir.path().join(name));
        fs::write(&paths[0], "A").expect("write");
        fs::write(&paths[1], "B\n").expect("write");
        let settings = Platform {
            ca_files: paths.to_vec(),
        };
        assert_eq!(bundle(&settings).expect("read"), b"A\nB\n");
        let missing = Platform {
            ca_files: vec![dir.path().join("c.pem")],
        };
        assert!(bundle(&missing).is_err());
    }
}
