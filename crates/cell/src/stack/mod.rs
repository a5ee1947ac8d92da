//! Root file systems below the layers of work.
//!
//! ```text
//! <dir>/host/<version>/       what has to be beside the host's /usr: links, an /etc of its own, empty folders
//! <dir>/<name>/               a root file system made by an operator (`build`), a link to its `version`
//! <dir>/.platform/<version>/  above either: certificates, the folders of the app's user
//! ```
//! A tree that a sandbox may use is never changed: a new version is another folder.

pub mod build;
mod copy;
mod host;
mod platform;
mod version;

use crate::cache::remove_tree;
use crate::env::CA_BUNDLE;
use crate::error::{Error, file};
use model::name::StackName;
use sandbox::Bind;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The stack that is the host's own userland.
pub const HOST: &str = "host";

/// What is the same for all stacks of a cell.
#[derive(Debug, Clone, Default)]
pub struct Platform {
    /// PEM files of authorities to trust, one after the other; empty for those that the host trusts.
    pub ca_files: Vec<PathBuf>,
}

/// The stacks of a cell.
#[derive(Debug, Clone)]
pub struct Stacks {
    dir: PathBuf,
    host: PathBuf,
    platform: PathBuf,
}

/// What a sandbox gets of its stack.
#[derive(Debug, Clone, Default)]
pub struct Root {
    /// Folders rooted at `/`, uppermost first.
    pub lowers: Vec<PathBuf>,
    /// Host folders shown read-only.
    pub binds: Vec<Bind>,
    /// Whether there are certificates of the platform.
    pub certificates: bool,
}

impl Stacks {
    /// Opens the stacks in `dir`, with the trees that this host and `settings` ask for. Blocking.
    ///
    /// # Errors
    /// A folder can't be written, or a file of certificates can't be read.
    pub fn open(dir: &Path, settings: &Platform) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(file("create", dir))?;
        Ok(Self {
            dir: dir.to_owned(),
            host: versioned(&dir.join(HOST), host::write)?,
            platform: versioned(&dir.join(".platform"), |tree| platform::write(tree, settings))?,
        })
    }

    /// Removes versions that nothing new uses. Only while no sandbox is alive.
    pub fn prune(&self) {
        if let Err(error) = version::prune(&self.dir) {
            tracing::warn!(error = %crate::error::chain(&error), "failed to remove an old version of a stack");
        }
        for current in [&self.host, &self.platform] {
            let siblings = current
                .parent()
                .into_iter()
                .filter_map(|dir| fs::read_dir(dir).ok())
                .flatten();
            for path in siblings.filter_map(|entry| Some(entry.ok()?.path())) {
                if path != *current
                    && let Err(error) = remove_tree(&path)
                {
                    tracing::warn!(error = %crate::error::chain(&error), "failed to remove an old stack");
                }
            }
        }
    }

    /// Names of the stacks that work can run on.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub fn names(&self) -> Result<Vec<StackName>, Error> {
        let entries = fs::read_dir(&self.dir).map_err(file("list", &self.dir))?;
        let mut names: Vec<StackName> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// What a sandbox on the stack `name` gets.
    ///
    /// # Errors
    /// There is no such stack.
    pub fn root(&self, name: &StackName) -> Result<Root, Error> {
        let certificates = self.platform.join(CA_BUNDLE.trim_start_matches('/')).is_file();
        if name.as_str() == HOST {
            return Ok(Root {
                lowers: vec![self.platform.clone(), self.host.clone()],
                binds: host::binds(),
                certificates,
            });
        }
        let Some(tree) = version::current(&self.dir, name) else {
            let known: Vec<String> = self.names()?.into_iter().map(String::from).collect();
            return Err(Error::NoStack {
                name: name.to_string(),
                known: known.join(", "),
            });
        };
        Ok(Root {
            lowers: vec![self.platform.clone(), tree],
            binds: Vec::new(),
            certificates,
        })
    }
}

/// Writes a tree by `write` and keeps it under the digest of what was written, once.
fn versioned(dir: &Path, write: impl FnOnce(&Path) -> Result<(), Error>) -> Result<PathBuf, Error> {
    fs::create_dir_all(dir).map_err(file("create", dir))?;
    let fresh = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(dir)
        .map_err(file("create a folder in", dir))?;
    let tree = fresh.path().join("tree");
    fs::create_dir(&tree).map_err(file("create", &tree))?;
    set_mode(&tree, 0o755)?;
    write(&tree)?;
    let mut hash = Sha256::new();
    digest(&tree, &mut hash)?;
    let version = hex::encode(&hash.finalize()[..8]);
    let target = dir.join(version);
    if !target.is_dir() {
        fs::rename(&tree, &target).map_err(file("move into place", &target))?;
    }
    Ok(target)
}

/// Hashes names, modes, owners, contents and targets, in order.
fn digest(dir: &Path, hash: &mut Sha256) -> Result<(), Error> {
    let entries = fs::read_dir(dir).map_err(file("list", dir))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let metadata = fs::symlink_metadata(&path).map_err(file("read", &path))?;
        hash.update(path.file_name().unwrap_or_default().as_bytes());
        hash.update(format!("\0{:o} {} ", metadata.mode(), metadata.uid()));
        if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(file("read", &path))?;
            hash.update(target.as_os_str().as_bytes());
        } else if metadata.is_dir() {
            digest(&path, hash)?;
        } else {
            hash.update(fs::read(&path).map_err(file("read", &path))?);
        }
        hash.update("\0");
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(file("set the mode of", path))
}

fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(file("create", path))?;
    set_mode(path, mode)
}

fn write_file(path: &Path, contents: &[u8]) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(file("create", parent))?;
    }
    fs::write(path, contents).map_err(file("write", path))?;
    set_mode(path, 0o644)
}

/// Accounts that every stack has.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nvcap:x:2000:2000:vcap:/home/vcap:/bin/bash\n";
/// Groups that every stack has.
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\nvcap:x:2000:\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_stack_shows_what_is_needed_and_nothing_private() {
        let dir = tempfile::tempdir().expect("folder");
        let stacks = Stacks::open(dir.path(), &Platform::default()).expect("open");
        let root = stacks.root(&HOST.parse().expect("a name")).expect("root");
        let [platform, host] = &root.lowers[..] else {
            panic!("two lowers")
        };
        let passwd = fs::read_to_string(host.join("etc/passwd")).expect("passwd");
        assert!(passwd.contains("vcap:x:2000:2000"));
        assert_ne!(
            passwd,
            fs::read_to_string("/etc/passwd").expect("the host's"),
            "not the host's"
        );
        for name in ["etc/nsswitch.conf", "etc/group", "etc/hosts", "etc/ld.so.cache"] {
            assert!(host.join(name).exists(), "{name}");
        }
        for name in ["etc/shadow", "etc/ssl/private", "etc/apt", "etc/cron.d", "etc/gshadow"] {
            assert!(!host.join(name).exists(), "{name}");
        }
        assert!(platform.join("etc/ssl/certs/ca-certificates.crt").exists());
        let tmp = fs::metadata(platform.join("tmp")).expect("tmp");
        assert_eq!(tmp.mode() & 0o7777, 0o1777);
        assert_eq!(fs::metadata(platform.join("home/vcap/app")).expect("app").uid(), 2000);
        for bind in &root.binds {
            assert!(bind.readonly && bind.source.is_dir(), "{}", bind.source.display());
            let source = bind.source.to_str().expect("text");
            assert!(
                source.starts_with("/usr/") && !source.starts_with("/usr/local"),
                "{source}"
            );
        }
        assert!(root.binds.iter().any(|bind| bind.source == Path::new("/usr/bin")));
        assert!(host.join("bin").is_symlink() || root.binds.iter().any(|bind| bind.target == Path::new("/bin")));
    }

    #[test]
    fn a_version_is_kept_until_something_changes() {
        let dir = tempfile::tempdir().expect("folder");
        let first = Stacks::open(dir.path(), &Platform::default()).expect("open");
        let again = Stacks::open(dir.path(), &Platform::default()).expect("open");
        assert_eq!((&first.host, &first.platform), (&again.host, &again.platform));
        let certificates = dir.path().join("own.pem");
        fs::write(&certificates, "PEM").expect("write");
        let other = Platform {
            ca_files: vec![certificates],
        };
        let changed = Stacks::open(dir.path(), &other).expect("open");
        assert_ne!(first.platform, changed.platform);
        assert!(first.platform.is_dir(), "still there for who uses it");
        changed.prune();
        assert!(!first.platform.exists() && changed.platform.is_dir() && changed.host.is_dir());
    }

    #[test]
    fn stacks_have_names_and_unknown_ones_are_told_apart() {
        let dir = tempfile::tempdir().expect("folder");
        fs::create_dir_all(dir.path().join("debian12/etc")).expect("a stack");
        let stacks = Stacks::open(dir.path(), &Platform::default()).expect("open");
        let names: Vec<String> = stacks.names().expect("names").into_iter().map(String::from).collect();
        assert_eq!(names, ["debian12", "host"]);
        let root = stacks.root(&"debian12".parse().expect("a name")).expect("root");
        assert!(root.binds.is_empty() && root.lowers[1].ends_with("debian12"));
        let error = stacks.root(&"other".parse().expect("a name")).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "this cell has no stack \"other\"; it has: debian12, host"
        );
    }
}
