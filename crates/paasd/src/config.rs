//! Settings: the commented defaults, a file, the environment, flags, in that order; all of it checked before anything
//! starts. Here and in `main.rs` alone the environment is read.

mod login;
mod router;

use self::login::Login;
pub use self::router::Router;

use anyhow::{Context as _, bail};
use model::Secret;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The commented defaults, as shipped.
const DEFAULTS: &str = include_str!("../../../deploy/paasd.toml");
const PREFIX: &str = "PAASD_";
/// Largest configuration file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// All settings. `deploy/paasd.toml` says what each means.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub state: PathBuf,
    pub log: String,
    pub database: Database,
    pub blobs: Blobs,
    pub cluster: Cluster,
    pub controller: Controller,
    pub login: Login,
    pub ssh: Ssh,
    pub router: Router,
    pub cell: Cell,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    pub listen: SocketAddr,
    pub url: String,
    pub advertise: String,
    pub domain: String,
    pub requests_per_hour: u32,
    pub anonymous_requests_per_hour: u32,
    pub key_days: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: Hidden,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blobs {
    pub endpoint: String,
    pub region: String,
    pub bucket: String,
    pub prefix: String,
    pub access_key: String,
    pub secret_key: Hidden,
}

impl From<identity::Blobs> for Blobs {
    fn from(told: identity::Blobs) -> Self {
        Self {
            endpoint: told.endpoint,
            region: told.region,
            bucket: told.bucket,
            prefix: told.prefix,
            access_key: told.access_key,
            secret_key: told.secret_key.into(),
        }
    }
}

impl Blobs {
    /// The S3-compatible store, if there is to be one.
    pub fn s3(&self) -> Option<blobstore::S3> {
        (!self.bucket.is_empty()).then(|| blobstore::S3 {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.get().unwrap_or_else(|| Secret::new("")),
        })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    pub controllers: Vec<String>,
    pub secrets: PathBuf,
    pub listen: String,
    pub certificate_hours: u32,
}

impl Cluster {
    /// Where a controller serves machines; `None` where it does not.
    ///
    /// # Errors
    /// Where the setting is no address.
    pub fn listen(&self) -> anyhow::Result<Option<SocketAddr>> {
        optional(&self.listen).context("in the setting cluster.listen")
    }

    /// How long certificates hold.
    pub fn certificate_life(&self) -> std::time::Duration {
        std::time::Duration::from_secs(u64::from(self.certificate_hours.max(1)) * 3600)
    }
}

/// An address, where the text names one.
fn optional(text: &str) -> anyhow::Result<Option<SocketAddr>> {
    let text = text.trim();
    let address = (!text.is_empty()).then(|| text.parse());
    Ok(address.transpose()?)
}

/// A setting that is not printed.
#[derive(Clone, Deserialize)]
pub struct Hidden(Secret);

impl From<Secret> for Hidden {
    fn from(secret: Secret) -> Self {
        Self(secret)
    }
}

impl Hidden {
    /// What was set, if anything was.
    pub fn get(&self) -> Option<Secret> {
        (!self.0.expose().is_empty()).then(|| self.0.clone())
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.get().is_some() { "hidden" } else { "none" })
    }
}

impl Serialize for Hidden {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.get().is_some() { "(hidden)" } else { "" })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    pub listen: String,
    pub address: String,
}

impl Ssh {
    /// Where it is served; `None` where it is not.
    ///
    /// # Errors
    /// Where the setting is no address.
    pub fn listen(&self) -> anyhow::Result<Option<SocketAddr>> {
        optional(&self.listen).context("in the setting ssh.listen")
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    pub name: String,
    pub zone: String,
    pub labels: Vec<String>,
    pub memory_mb: u64,
    pub disk_mb: u64,
    pub stack: String,
    pub uid_base: u32,
    pub mirror: String,
    pub parked: usize,
    pub network: Network,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub name: String,
    pub bridge: String,
    pub subnet: String,
    pub uplink: String,
    pub resolvers: Vec<Ipv4Addr>,
    pub callers: Vec<String>,
    pub egress_bits_per_second: u64,
    pub ingress_bits_per_second: u64,
    pub egress_packets_per_second: u32,
    pub connections_per_second: u32,
    pub connections: u32,
}

/// Puts the settings together from a file, the environment's `variables` and `--set` assignments.
///
/// # Errors
/// Names the first setting that is unknown or has a wrong value, and where it came from.
pub fn load(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
    assignments: &[String],
) -> anyhow::Result<Config> {
    let mut settings: toml::Table = DEFAULTS.parse().context("failed to parse the built-in defaults")?;
    if let Some(path) = file {
        let size = std::fs::metadata(path)
            .with_context(|| format!("failed to read {}", path.display()))?
            .len();
        if size > MAX_FILE {
            bail!("{} is larger than {MAX_FILE} bytes", path.display());
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        let over: toml::Table = text
            .parse()
            .with_context(|| format!("failed to parse {}", path.display()))?;
        merge(&mut settings, over, "").with_context(|| format!("in {}", path.display()))?;
    }
    for (name, value) in variables {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let key = key.to_ascii_lowercase().replace("__", ".");
        assign(&mut settings, &key, &value).with_context(|| format!("in the environment variable {name}"))?;
    }
    for assignment in assignments {
        let (key, value) = assignment.split_once('=').context("--set takes key=value")?;
        assign(&mut settings, key.trim(), value.trim()).context("in --set")?;
    }
    toml::Value::Table(settings)
        .try_into()
        .context("failed to read the settings")
}

/// Lays `over` on `settings`; a key that is not there is unknown.
fn merge(settings: &mut toml::Table, over: toml::Table, path: &str) -> anyhow::Result<()> {
    for (key, value) in over {
        let name = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match (settings.get_mut(&key), value) {
            (None, _) => bail!("unknown setting {name:?}"),
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => merge(inner, value, &name)?,
            (Some(old), value) if old.type_str() == value.type_str() => *old = value,
            (Some(old), value) => bail!("{name} has to be of type {}, not {}", old.type_str(), value.type_str()),
        }
    }
    Ok(())
}

/// Sets one dotted key from text, read as the type that the default has.
fn assign(settings: &mut toml::Table, key: &str, text: &str) -> anyhow::Result<()> {
    let (path, last) = key.rsplit_once('.').unwrap_or(("", key));
    let mut table = settings;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let inner = table.get_mut(part).and_then(toml::Value::as_table_mut);
        table = inner.with_context(|| format!("unknown setting {key:?}"))?;
    }
    let old = table
        .get_mut(last)
        .with_context(|| format!("unknown setting {key:?}"))?;
    *old = match old {
        toml::Value::String(_) => toml::Value::String(text.to_owned()),
        toml::Value::Integer(_) => toml::Value::Integer(
            text.parse()
                .with_context(|| format!("{key} has to be a whole number, not {text:?}"))?,
        ),
        toml::Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            toml::Value::Array(items.map(|item| toml::Value::String(item.to_owned())).collect())
        }
        _ => bail!("{key} can't be set from text"),
    };
    Ok(())
}

/// Takes a state directory of the user's own in place of the default one, which is root's: `paas` in
/// `$XDG_STATE_HOME` or `~/.local/state`.
///
/// # Errors
/// Where neither variable says where that is.
pub fn own_state(config: &mut Config, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<()> {
    let defaults: toml::Table = DEFAULTS.parse().context("failed to parse the built-in defaults")?;
    if defaults.get("state").and_then(toml::Value::as_str).map(Path::new) != Some(&config.state) {
        return Ok(());
    }
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    config.state = folder
        .context("there is no HOME: say where to keep things with --state")?
        .join("paas");
    Ok(())
}

/// Those of the environment's variables that are set, by name.
pub fn variables(names: &[&str]) -> Vec<(String, String)> {
    names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect()
}

/// User and group that started this program through `sudo`, if it was so.
pub fn invoking_user() -> Option<(u32, u32)> {
    let id = |name| std::env::var(name).ok()?.parse().ok();
    Some((id("SUDO_UID")?, id("SUDO_GID")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(file: Option<&str>, variables: &[(&str, &str)], assignments: &[&str]) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("paasd.toml");
        if let Some(text) = file {
            std::fs::write(&path, text).expect("written");
        }
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let assignments: Vec<_> = assignments.iter().map(|text| (*text).to_owned()).collect();
        load(file.map(|_| path.as_path()), variables, &assignments)
    }

    #[test]
    fn later_sources_win() {
        let file = "[router]\nworkers = 3\n[cell.network]\nbridge = \"paas7\"";
        let variables = [("PAASD_CELL__NETWORK__SUBNET", "10.9.0.0/16"), ("HOME", "/")];
        let config = from(
            Some(file),
            &variables,
            &["router.workers=5", "cell.network.resolvers=192.0.2.1,192.0.2.2"],
        );
        let config = config.expect("sound");
        assert_eq!(config.router.workers, 5);
        assert_eq!(config.cell.network.bridge, "paas7");
        assert_eq!(config.cell.network.subnet, "10.9.0.0/16");
        assert_eq!(config.cell.network.resolvers.len(), 2);
        assert_eq!(config.cell.network.egress_bits_per_second, 0);
        assert_eq!(config.controller.domain, "localhost");
    }

    #[test]
    fn the_reference_settings_of_each_role_are_sound() {
        let read = |text| from(Some(text), &[], &[]).expect("sound");
        let controller = read(include_str!("../../../deploy/hosts/controller.toml"));
        assert!(controller.cluster.listen().expect("an address").is_some());
        assert!(controller.ssh.listen().expect("an address").is_some() && controller.blobs.s3().is_some());
        let router = read(include_str!("../../../deploy/hosts/router.toml")).router;
        assert!(router.addresses().expect("addresses").tls.is_some());
        let cell = read(include_str!("../../../deploy/hosts/cell.toml")).cell;
        assert_eq!((cell.zone.as_str(), cell.labels.len()), ("a", 1));
    }

    #[test]
    fn who_is_not_root_has_a_state_of_his_own() {
        let state = |assignments: &[&str], variables: &[(&str, &str)]| {
            let mut config = from(None, &[], assignments).expect("sound");
            let variable = |name: &str| {
                variables
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            own_state(&mut config, variable).map(|()| config.state)
        };
        let home = ("HOME", "/home/ann");
        assert_eq!(
            state(&[], &[home]).expect("found"),
            Path::new("/home/ann/.local/state/paas")
        );
        assert_eq!(
            state(&[], &[home, ("XDG_STATE_HOME", "/s")]).expect("found"),
            Path::new("/s/paas")
        );
        assert_eq!(state(&["state=/mine"], &[home]).expect("found"), Path::new("/mine"));
        assert!(state(&[], &[("HOME", "here")]).is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = from(
            None,
            &[("PAASD_BLOBS__SECRET_KEY", "hush"), ("PAASD_BLOBS__BUCKET", "b")],
            &["database.url=postgres://u:hush@h/d"],
        );
        let config = config.expect("sound");
        let shown = format!("{} {config:?}", toml::to_string(&config).expect("TOML"));
        assert!(shown.contains("(hidden)") && !shown.contains("hush"), "{shown}");
        let store = config.blobs.s3().expect("a bucket is set");
        assert_eq!(store.secret_key.expose(), "hush");
    }

    #[test]
    fn mistakes_are_named() {
        for (file, assignment, part) in [
            ("[router]\nworker = 3", None, "router.worker"),
            (
                "[router]\nworkers = \"3\"",
                None,
                "router.workers has to be of type integer",
            ),
            (
                "",
                Some("router.workers=many"),
                "router.workers has to be a whole number",
            ),
            ("", Some("nothing.here=1"), "unknown setting \"nothing.here\""),
            ("", Some("controller.listen=here"), "controller.listen"),
        ] {
            let error = from(Some(file), &[], assignment.as_slice()).expect_err("refused");
            let text = format!("{error:#}");
            assert!(
                text.contains(part) || part == "controller.listen" && text.contains("listen"),
                "{text}"
            );
        }
    }
}
