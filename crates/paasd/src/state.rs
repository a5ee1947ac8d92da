//! The state directory of a platform on one machine: its lock, its secrets, the login that is ready for its user.

use anyhow::Context as _;
use identity::Credentials;
use model::Secret;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// File of what a host that joined proves itself by.
const CREDENTIALS: &str = "machine.json";
/// File of a host's own secrets.
const SECRETS: &str = "secrets.json";

/// Secrets that are made at the first start and kept.
#[derive(Serialize, Deserialize)]
pub struct Secrets {
    /// Cells and routers show it to controllers, where they have no certificates.
    pub machine_token: Option<Secret>,
    /// Environment and credentials are encrypted with it: 32 bytes as 64 hexadecimal digits.
    pub encryption_key: Secret,
    /// Of the user `admin`.
    pub admin_password: Secret,
    /// Names this machine's cell.
    pub cell: Uuid,
    /// Names this machine's router.
    pub router: Uuid,
}

/// What parts of one platform on several hosts know: controllers all of it; cells and routers the token alone, where
/// there is one.
#[derive(Serialize, Deserialize)]
struct Shared {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    machine_token: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encryption_key: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin_password: Option<Secret>,
}

/// Makes the secrets of a new platform in `folder`: `controller.json` for controllers, and with `token`, which cells and
/// routers then may have in place of certificates, `machine.json` for those. Keys are those of the state directory `from`, where there is one.
/// Existing files stay.
///
/// # Errors
/// Where there is one already, or one can't be written.
pub fn create_shared(folder: &Path, token: bool, from: Option<&Path>) -> anyhow::Result<()> {
    let known = from.map(read_secrets).transpose()?;
    let machine_token = token.then(random_hex);
    let all = Shared {
        machine_token: machine_token.clone(),
        encryption_key: Some(
            known
                .as_ref()
                .map_or_else(random_hex, |known| known.encryption_key.clone()),
        ),
        admin_password: Some(known.map_or_else(random_hex, |known| known.admin_password)),
    };
    let machine = Shared {
        machine_token,
        encryption_key: None,
        admin_password: None,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("failed to make {}", folder.display()))?;
    let files = [("controller.json", &all), ("machine.json", &machine)];
    for (name, secrets) in files.into_iter().take(if token { 2 } else { 1 }) {
        let path = folder.join(name);
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| {
                format!(
                    "failed to make {}; secrets that are there are not replaced",
                    path.display()
                )
            })?;
        file.write_all(&serde_json::to_vec_pretty(secrets)?)
            .and_then(|()| file.sync_all())
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

/// The secrets of a state directory that has some.
fn read_secrets(root: &Path) -> anyhow::Result<Secrets> {
    let path = root.join(SECRETS);
    let text = std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("failed to parse {}", path.display()))
}

/// A state directory that no other daemon uses.
pub struct State {
    root: PathBuf,
    _lock: Option<Flock<File>>,
}

impl State {
    /// Makes the directory where it is not there, and takes its lock.
    ///
    /// # Errors
    /// Where another daemon has it, or it can't be made.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let mut state = Self::beside(root)?;
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
        state._lock = Some(lock);
        Ok(state)
    }

    /// The directory for what may be done while a daemon uses it; made where it is not there.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn beside(root: &Path) -> anyhow::Result<Self> {
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
        Ok(Self {
            root: root.to_owned(),
            _lock: None,
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
        if self.path(SECRETS).exists() {
            return read_secrets(&self.root);
        }
        let secrets = Secrets {
            machine_token: Some(random_hex()),
            encryption_key: random_hex(),
            admin_password: random_hex(),
            cell: Uuid::new_v4(),
            router: Uuid::new_v4(),
        };
        self.write(SECRETS, &serde_json::to_vec_pretty(&secrets)?, None)?;
        Ok(secrets)
    }

    /// The same with what all parts of a platform know taken from `shared`, a file of [`create_shared`], where it is set.
    ///
    /// # Errors
    /// Where one of the two can't be read or written.
    pub fn secrets_of(&self, shared: &Path) -> anyhow::Result<Secrets> {
        let mut secrets = self.secrets()?;
        if shared.as_os_str().is_empty() {
            return Ok(secrets);
        }
        let text = std::fs::read(shared).with_context(|| format!("failed to read {}", shared.display()))?;
        let shared: Shared =
            serde_json::from_slice(&text).with_context(|| format!("failed to parse {}", shared.display()))?;
        secrets.machine_token = shared.machine_token;
        secrets.encryption_key = shared.encryption_key.unwrap_or(secrets.encryption_key);
        secrets.admin_password = shared.admin_password.unwrap_or(secrets.admin_password);
        Ok(secrets)
    }

    /// What this host proves itself by since it joined; `None` where it has not.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        let path = self.path(CREDENTIALS);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .with_context(|| format!("failed to parse {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }

    /// Keeps what this host proves itself by.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn keep(&self, credentials: &Credentials) -> anyhow::Result<()> {
        self.write(CREDENTIALS, &serde_json::to_vec_pretty(credentials)?, None)
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
    fn parts_on_other_hosts_share_what_they_have_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let shared = folder.path().join("shared");
        create_shared(&shared, true, None).expect("made");
        assert!(create_shared(&shared, true, None).is_err(), "never replaced");
        let of = |host: &str, file: &str| {
            let state = State::open(&folder.path().join(host)).expect("free");
            state.secrets_of(&shared.join(file)).expect("read")
        };
        let (first, second) = (of("a", "controller.json"), of("b", "controller.json"));
        let cell = of("c", "machine.json");
        assert!(first.encryption_key == second.encryption_key && first.admin_password == second.admin_password);
        assert!(first.machine_token == cell.machine_token && first.encryption_key != cell.encryption_key);
        assert!(first.cell != second.cell);
    }

    #[test]
    fn a_platform_with_certificates_has_no_secret_that_all_share() {
        let folder = tempfile::tempdir().expect("a folder");
        create_shared(folder.path(), false, None).expect("made");
        assert!(!folder.path().join("machine.json").exists());
        let state = State::open(&folder.path().join("host")).expect("free");
        let secrets = state.secrets_of(&folder.path().join("controller.json")).expect("read");
        assert!(secrets.machine_token.is_none());
        assert!(state.credentials().expect("read").is_none(), "it has not joined");
        let moved = folder.path().join("moved");
        create_shared(&moved, false, Some(&folder.path().join("host"))).expect("made");
        let many = State::open(&folder.path().join("many")).expect("free");
        let many = many.secrets_of(&moved.join("controller.json")).expect("read");
        let one = state.secrets().expect("read");
        assert!(many.encryption_key == one.encryption_key && many.admin_password == one.admin_password);
    }

    #[test]
    fn one_daemon_a_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        let _state = State::open(folder.path()).expect("free");
        let error = State::open(folder.path()).err().expect("taken");
        assert!(error.to_string().contains("--state"), "{error}");
    }
}
