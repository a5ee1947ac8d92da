//! The state directory of a platform on one machine: its lock, its secrets, the login that is ready for its user.

use anyhow::Context as _;
use model::Secret;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Secrets that are made at the first start and kept.
#[derive(Serialize, Deserialize)]
pub struct Secrets {
    /// Cells and routers show it to controllers.
    pub machine_token: Secret,
    /// Environment and credentials are encrypted with it: 32 bytes as 64 hexadecimal digits.
    pub encryption_key: Secret,
    /// Of the user `admin`.
    pub admin_password: Secret,
    /// Names this machine's cell.
    pub cell: Uuid,
    /// Names this machine's router.
    pub router: Uuid,
}

/// A state directory that no other daemon uses.
pub struct State {
    root: PathBuf,
    _lock: Flock<File>,
}

impl State {
    /// Makes the directory where it is not there, and takes its lock.
    ///
    /// # Errors
    /// Where another daemon has it, or it can't be made.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        // Others may pass through to the login that is theirs; what is secret below is 0600 or 0700 itself. Who runs a
        // platform without root has no others.
        let mode = if sandbox::unprivileged::confined() {
            0o700
        } else {
            0o755
        };
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(root)
            .with_context(|| format!("failed to make the state directory {}", root.display()))?;
        let path = root.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("failed to open {}", path.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            anyhow::Error::new(errno).context(format!(
                "another paasd uses {}: stop it, or choose another directory with --state",
                root.display()
            ))
        })?;
        Ok(Self {
            root: root.to_owned(),
            _lock: lock,
        })
    }

    /// A path below the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The directory's secrets; made where there are none yet.
    ///
    /// # Errors
    /// Where they can't be read or written.
    pub fn secrets(&self) -> anyhow::Result<Secrets> {
        let path = self.path("secrets.json");
        if path.exists() {
            let text = std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
            return serde_json::from_slice(&text).with_context(|| format!("failed to parse {}", path.display()));
        }
        let secrets = Secrets {
            machine_token: random_hex(),
            encryption_key: random_hex(),
            admin_password: random_hex(),
            cell: Uuid::new_v4(),
            router: Uuid::new_v4(),
        };
        self.write("secrets.json", &serde_json::to_vec_pretty(&secrets)?, None)?;
        Ok(secrets)
    }

    /// Writes a file that only its owner reads, so that a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write(&self, name: &str, content: &[u8], owner: Option<(u32, u32)>) -> anyhow::Result<()> {
        let (path, draft) = (self.path(name), self.path(&format!("{name}.new")));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(content)?;
            if let Some((uid, gid)) = owner {
                std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
            }
            file.sync_all()?;
            std::fs::rename(&draft, &path)?;
            File::open(&self.root)?.sync_all()
        };
        write().with_context(|| format!("failed to write {}", path.display()))
    }
}

fn random_hex() -> Secret {
    let bytes: [u8; 32] = rand::random();
    Secret::new(model::Digest::from_sha256(bytes).hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_and_are_their_owners_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = State::open(folder.path()).expect("free").secrets().expect("made");
        let state = State::open(folder.path()).expect("free again");
        let second = state.secrets().expect("read");
        assert!(first.machine_token == second.machine_token && first.cell == second.cell);
        let mode = std::fs::metadata(state.path("secrets.json"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn one_daemon_a_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        let _state = State::open(folder.path()).expect("free");
        let error = State::open(folder.path()).err().expect("taken");
        assert!(error.to_string().contains("--state"), "{error}");
    }
}
