//! Images of the Open Container Initiative as the platform knows them: where one comes from, and what it says of how it
//! is run. What its documents look like is the crate `image`'s.

use crate::secret::{Secret, SecretEnv};
use serde::{Deserialize, Serialize};

/// Longest reference of an image, in bytes.
pub const MAX_REFERENCE_BYTES: usize = 512;
/// Longest user name or password of a registry, in bytes.
pub const MAX_CREDENTIAL_BYTES: usize = 16 * 1024;

/// What staging makes an app's droplets of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppLifecycle {
    /// Buildpacks, of either contract.
    #[default]
    Buildpack,
    /// An image, which is taken as it is.
    Docker,
}

/// An image in a registry, and what it takes to get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryImage {
    /// As the user wrote it, such as `registry.example.com:5000/team/shop:1.2`.
    pub reference: String,
    /// Name at the registry, where it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password or token at the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// Where a build gets an image from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum ImageSource {
    /// A registry.
    Registry(RegistryImage),
    /// The package: an image layout, or what `docker save` writes, unpacked.
    Package,
}

/// What an image says of how it is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The image that was taken: `registry/repository@sha256:…`, or `layout@sha256:…` for one that was uploaded.
    pub reference: String,
    /// `ENTRYPOINT`.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// `CMD`: arguments of the entrypoint, or the command where there is none.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// `ENV`. Values may be secret, as those of an app.
    #[serde(default)]
    pub env: SecretEnv,
    /// `USER`: `user`, `user:group`, by name or number; empty for the image's root.
    #[serde(default)]
    pub user: String,
    /// `WORKDIR`; empty for `/`.
    #[serde(default)]
    pub workdir: String,
    /// `EXPOSE`: TCP ports, the lowest first.
    #[serde(default)]
    pub ports: Vec<u16>,
}

impl ImageConfig {
    /// Program and arguments that the image starts by itself; empty where it names none.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }

    /// The same as people read it: quoted where a shell would want it.
    #[must_use]
    pub fn command(&self) -> String {
        self.argv()
            .iter()
            .map(|word| quoted(word))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_what_a_shell_would_take() {
        let image = ImageConfig {
            entrypoint: vec!["/entry.sh".to_owned()],
            cmd: ["-p", "a b", "it's", ""].map(str::to_owned).to_vec(),
            ..ImageConfig::default()
        };
        assert_eq!(image.command(), r"/entry.sh -p 'a b' 'it'\''s' ''");
        assert_eq!(ImageConfig::default().command(), "");
    }

    #[test]
    fn credentials_and_variables_are_not_shown() {
        let image = RegistryImage {
            reference: "r/i".to_owned(),
            username: Some("u".to_owned()),
            password: Some(Secret::new("hunter2")),
        };
        let mut config = ImageConfig::default();
        config.env.set("TOKEN", "hunter2");
        assert!(!format!("{image:?} {config:?}").contains("hunter2"));
    }
}
