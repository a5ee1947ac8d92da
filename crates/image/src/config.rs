//! The configuration of an image: what it is for, what its layers are, and how it is run.

use crate::{ARCHITECTURE, Error, document};
use model::Digest;
use model::image::ImageConfig;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Most words of a command, and most variables.
const WORDS: usize = 4096;
/// Most bytes of commands and variables together: what a cell passes on.
const BYTES: usize = 1024 * 1024;

/// A configuration. What is not listed is kept out: history, and settings that only other platforms have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Such as `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Such as `linux`.
    #[serde(default)]
    pub os: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// How it is run.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Settings,
    /// What its layers are.
    pub rootfs: RootFs,
}

/// Layers by the digests of their uncompressed archives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// How an image is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Settings {
    /// `user[:group]`, by name or number.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Such as `8080/tcp`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// `NAME=VALUE`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Program and first arguments.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Further arguments, or all of the command.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Working folder.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// For people and tools.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What is not set is written as null by many tools.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Where it is none, or beyond a limit.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let config: Self = document::parse("configuration", text)?;
        config.config.check()?;
        Ok(config)
    }

    /// Whether it runs on this machine's processor.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.architecture == ARCHITECTURE
    }

    /// How the platform runs it; `reference` is where it came from, pinned.
    #[must_use]
    pub fn runs(&self, reference: String) -> ImageConfig {
        let settings = &self.config;
        let mut image = ImageConfig {
            reference,
            entrypoint: settings.entrypoint.clone(),
            cmd: settings.cmd.clone(),
            user: settings.user.clone(),
            workdir: settings.working_dir.clone(),
            ports: settings.tcp_ports(),
            ..ImageConfig::default()
        };
        for pair in &settings.env {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            image.env.set(name, value);
        }
        image
    }
}

impl Settings {
    fn check(&self) -> Result<(), Error> {
        let words = || self.entrypoint.iter().chain(&self.cmd).chain(&self.env);
        let bytes: usize = words().map(String::len).sum();
        if words().count() > WORDS || bytes > BYTES {
            return Err(Error::TooMuch {
                what: "bytes of commands and variables",
                limit: BYTES as u64,
            });
        }
        let rest = [&self.user, &self.working_dir];
        if words().chain(rest).any(|text| text.contains('\0')) {
            return Err(Error::invalid("its configuration holds a NUL"));
        }
        if !self.working_dir.is_empty() && !self.working_dir.starts_with('/') {
            return Err(Error::invalid("its working folder is not absolute"));
        }
        Ok(())
    }

    /// TCP ports that it says it listens on, the lowest first.
    fn tcp_ports(&self) -> Vec<u16> {
        let port = |text: &String| match text.split_once('/') {
            None => text.parse().ok(),
            Some((port, "tcp")) => port.parse().ok(),
            Some(_) => None,
        };
        let mut ports: Vec<u16> = self
            .exposed_ports
            .keys()
            .filter_map(port)
            .filter(|&port| port > 0)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_as_tools_write_it() {
        let text = format!(
            r#"{{"architecture":"{ARCHITECTURE}","os":"linux","history":[{{"created_by":"x"}}],
            "config":{{"Env":["PATH=/bin","EMPTY=","ODD"],"Entrypoint":null,"Cmd":["sh","-c","x"],"User":"app:www",
              "WorkingDir":"/srv","ExposedPorts":{{"8080/tcp":{{}},"80/tcp":{{}},"53/udp":{{}},"443":{{}}}},
              "Labels":null,"Healthcheck":{{}}}},
            "rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            crate::digest(b"layer")
        );
        let config = Config::parse(text.as_bytes()).expect("reads");
        assert!(config.fits());
        let runs = config.runs("r@sha256:x".to_owned());
        assert_eq!(runs.argv(), ["sh", "-c", "x"]);
        assert_eq!((runs.user.as_str(), runs.workdir.as_str()), ("app:www", "/srv"));
        assert_eq!(runs.ports, [80, 443, 8080]);
        let env: Vec<_> = runs.env.expose().collect();
        assert_eq!(env, [("EMPTY", ""), ("ODD", ""), ("PATH", "/bin")]);
        let none = Config::parse(br#"{"config":null,"rootfs":{"type":"layers","diff_ids":null}}"#).expect("reads");
        assert_eq!(none.runs(String::new()).argv(), Vec::<String>::new());
    }

    #[test]
    fn what_could_not_be_run_is_refused() {
        for settings in [
            r#"{"Cmd":["a\u0000b"]}"#,
            r#"{"WorkingDir":"srv"}"#,
            r#"{"Env":"PATH=/bin"}"#,
            r#"{"User":7}"#,
        ] {
            let text = format!(r#"{{"config":{settings},"rootfs":{{"diff_ids":[]}}}}"#);
            assert!(Config::parse(text.as_bytes()).is_err(), "{settings}");
        }
        let long = "x".repeat(BYTES);
        let text = format!(r#"{{"config":{{"Cmd":["{long}","y"]}},"rootfs":{{"diff_ids":[]}}}}"#);
        assert!(Config::parse(text.as_bytes()).is_err());
    }
}
