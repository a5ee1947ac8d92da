//! `/layers/config/metadata.toml`: what a droplet knows about starting its processes. Written by builds, read by launches.

use crate::{Error, Paths};
use model::staging::ProcessTemplate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LaunchMetadata {
    /// Buildpacks in the order of their layers' effects.
    #[serde(default)]
    pub buildpacks: Vec<LaunchBuildpack>,
    /// Put before the command of shell processes instead of the shell, as a classic buildpack asked for.
    #[serde(default, rename = "entrypoint-prefix", skip_serializing_if = "Option::is_none")]
    pub entrypoint_prefix: Option<String>,
    /// Variables that a process has unless the user sets them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, String>,
    /// Process types.
    #[serde(default)]
    pub processes: Vec<LaunchProcess>,
}

/// A buildpack with layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchBuildpack {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
}

/// How to start a process type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchProcess {
    /// Such as `web`.
    #[serde(rename = "type")]
    pub process_type: String,
    /// Program and arguments; for a shell process, the one text that the shell runs.
    pub command: Vec<String>,
    /// Further arguments, which a user's replace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Executed as it is, with no shell and no profile scripts.
    pub direct: bool,
    /// Started when nobody names a type.
    #[serde(default)]
    pub default: bool,
    /// Where it starts, the app's folder where absent.
    #[serde(default, rename = "working-dir", skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Where it came from.
    pub source: String,
    /// Memory that the buildpack asks for it, in MiB.
    #[serde(default, rename = "memory-mb", skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
}

impl LaunchProcess {
    /// A process of the shell.
    #[must_use]
    pub fn shell(process_type: String, command: String, source: String) -> Self {
        Self {
            process_type,
            command: vec![command],
            args: Vec::new(),
            direct: false,
            default: false,
            working_dir: None,
            source,
            memory_mb: None,
        }
    }

    /// Command and arguments; of a shell process, the one text with them, each expanded by the shell and kept whole.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        match self.command.as_slice() {
            [text] if !self.direct && !self.args.is_empty() => {
                let quoted = self
                    .args
                    .iter()
                    .map(|word| format!("\"{}\"", word.replace('"', "\\\"")));
                vec![
                    std::iter::once(text.clone())
                        .chain(quoted)
                        .collect::<Vec<_>>()
                        .join(" "),
                ]
            }
            command => [command, &self.args].concat(),
        }
    }

    /// The process as the droplet's record has it.
    #[must_use]
    pub fn template(&self) -> ProcessTemplate {
        ProcessTemplate {
            process_type: self.process_type.clone(),
            command: readable(&self.words(), self.direct),
            source: self.source.clone(),
            default: self.default,
            memory_mb: self.memory_mb,
        }
    }
}

/// A command as people write it, and as a shell reads it back.
fn readable(command: &[String], direct: bool) -> String {
    match command {
        [text] if !direct => text.clone(),
        [shell, flag, text] if flag == "-c" && ["bash", "sh", "/bin/bash", "/bin/sh"].contains(&shell.as_str()) => {
            text.clone()
        }
        words => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
            let quoted = words.iter().map(|word| {
                if !word.is_empty() && word.chars().all(plain) {
                    word.clone()
                } else {
                    format!("'{}'", word.replace('\'', "'\\''"))
                }
            });
            quoted.collect::<Vec<_>>().join(" ")
        }
    }
}

impl LaunchMetadata {
    /// Writes the file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, paths: &Paths) -> Result<(), Error> {
        let path = paths.metadata();
        let folder = paths.layers.join("config");
        std::fs::create_dir_all(&folder).map_err(Error::file("create folder", &folder))?;
        let text = toml::to_string(self).map_err(|error| Error::Metadata {
            reason: error.to_string(),
        })?;
        std::fs::write(&path, text).map_err(Error::file("write", &path))
    }

    /// Reads the file; a droplet without one has no processes of its own.
    ///
    /// # Errors
    /// [`Error::Metadata`] where it is invalid.
    pub fn read(paths: &Paths) -> Result<Self, Error> {
        let found = crate::cnb::layers::read_toml(&paths.metadata());
        Ok(found.map_err(|reason| Error::Metadata { reason })?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(command: &[&str], direct: bool) -> String {
        let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        readable(&words, direct)
    }

    #[test]
    fn commands_are_shown_as_people_write_them() {
        assert_eq!(shown(&["node index.js && true"], false), "node index.js && true");
        assert_eq!(shown(&["bash", "-c", "a | b"], true), "a | b");
        assert_eq!(
            shown(&["node", "my app.js", "it's"], true),
            r"node 'my app.js' 'it'\''s'"
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        assert_eq!(LaunchMetadata::read(&paths).unwrap(), LaunchMetadata::default());
        let metadata = LaunchMetadata {
            buildpacks: vec![LaunchBuildpack {
                id: "a/b".to_owned(),
                version: "1.0.0".to_owned(),
            }],
            entrypoint_prefix: Some("wrap".to_owned()),
            defaults: [("A".to_owned(), "1".to_owned())].into(),
            processes: vec![LaunchProcess {
                direct: true,
                args: vec!["x".to_owned()],
                memory_mb: Some(64),
                ..LaunchProcess::shell("web".to_owned(), "run".to_owned(), "a/b".to_owned())
            }],
        };
        metadata.write(&paths).unwrap();
        assert_eq!(LaunchMetadata::read(&paths).unwrap(), metadata);
    }
}
