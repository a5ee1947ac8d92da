//! What classic buildpacks say in files: `launch.yml` and `config.yml` in their folder of dependencies, and what
//! `bin/release` prints.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Longest text that is read.
const LIMIT_BYTES: u64 = 1024 * 1024;
/// Most processes and sidecars of a buildpack.
const PROCESSES: usize = 1000;

/// What a buildpack wants started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// By process type.
    pub processes: BTreeMap<String, Start>,
    /// By name, with the process types beside which each runs.
    pub sidecars: BTreeMap<String, (Start, Vec<String>)>,
    /// Variables that a process has unless the user sets them.
    pub config_vars: BTreeMap<String, String>,
}

/// A command with what it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// What the shell runs.
    pub command: String,
    /// In MiB.
    pub memory_mb: Option<u32>,
}

/// `config.yml`: who the buildpack says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Config {
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Its version.
    #[serde(default)]
    pub version: Option<serde_yaml_text::Text>,
    /// Settings of the launcher.
    #[serde(default)]
    pub config: Option<LauncherConfig>,
}

/// Settings of the launcher.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct LauncherConfig {
    /// Runs shell commands instead of the shell.
    #[serde(default)]
    pub entrypoint_prefix: Option<String>,
}

/// Texts that YAML may take for numbers.
pub mod serde_yaml_text {
    use serde::{Deserialize, Deserializer};

    /// A text, or what else was written where one was meant.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Text(pub String);

    impl<'de> Deserialize<'de> for Text {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match serde_yaml::Value::deserialize(deserializer)? {
                serde_yaml::Value::String(text) => Ok(Self(text)),
                serde_yaml::Value::Number(number) => Ok(Self(number.to_string())),
                serde_yaml::Value::Bool(value) => Ok(Self(value.to_string())),
                _ => Err(serde::de::Error::custom("a text is expected")),
            }
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct LaunchYml {
    #[serde(default)]
    processes: Vec<Process>,
}

#[derive(Debug, Deserialize)]
struct Process {
    #[serde(rename = "type")]
    process_type: String,
    command: String,
    #[serde(default)]
    platforms: Option<Platforms>,
    #[serde(default)]
    limits: Option<Limits>,
}

#[derive(Debug, Default, Deserialize)]
struct Platforms {
    #[serde(default)]
    cloudfoundry: Option<CloudFoundry>,
}

#[derive(Debug, Default, Deserialize)]
struct CloudFoundry {
    #[serde(default)]
    sidecar_for: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Limits {
    #[serde(default)]
    memory: Option<serde_yaml_text::Text>,
}

#[derive(Debug, Default, Deserialize)]
struct Release {
    #[serde(default)]
    default_process_types: Option<BTreeMap<String, String>>,
    #[serde(default)]
    config_vars: Option<BTreeMap<String, serde_yaml_text::Text>>,
}

/// What a `launch.yml` declares; `None` where there is no such file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn launch(path: &Path) -> Result<Option<Declared>, String> {
    let Some(parsed) = read::<LaunchYml>(path)? else {
        return Ok(None);
    };
    if parsed.processes.len() > PROCESSES {
        return Err(format!("it has more than {PROCESSES} processes"));
    }
    let mut declared = Declared::default();
    for process in parsed.processes {
        let memory = process.limits.and_then(|limits| limits.memory);
        let start = Start {
            command: process.command,
            memory_mb: memory.map(|text| megabytes(&text.0)).transpose()?,
        };
        let sidecar_for = process.platforms.and_then(|platforms| platforms.cloudfoundry);
        match sidecar_for.unwrap_or_default().sidecar_for {
            none if none.is_empty() => declared.processes.insert(process.process_type, start).map(|_| ()),
            beside => declared
                .sidecars
                .insert(process.process_type, (start, beside))
                .map(|_| ()),
        };
    }
    Ok(Some(declared))
}

/// A `config.yml`; `None` where there is no such file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn config(path: &Path) -> Result<Option<Config>, String> {
    read(path)
}

/// What `bin/release` printed.
///
/// # Errors
/// What is wrong with it, in words.
pub fn release(text: &str) -> Result<Declared, String> {
    let parsed: Option<Release> = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let parsed = parsed.unwrap_or_default();
    let start = |command| Start {
        command,
        memory_mb: None,
    };
    let processes = parsed.default_process_types.unwrap_or_default().into_iter();
    let variables = parsed.config_vars.unwrap_or_default().into_iter();
    Ok(Declared {
        processes: processes.map(|(name, command)| (name, start(command))).collect(),
        sidecars: BTreeMap::new(),
        config_vars: variables.map(|(name, value)| (name, value.0)).collect(),
    })
}

/// `128`, `128M` or `1G`.
fn megabytes(text: &str) -> Result<u32, String> {
    let upper = text.trim().to_ascii_uppercase();
    let (number, factor) = match upper.trim_end_matches('B') {
        text if text.ends_with('G') => (text.trim_end_matches('G'), 1024),
        text => (text.trim_end_matches('M'), 1),
    };
    let number: Option<u32> = number.trim().parse().ok();
    let found = number
        .and_then(|number| number.checked_mul(factor))
        .filter(|&found| found > 0);
    found.ok_or_else(|| format!("{text:?} is no size of memory: write 128M or 1G"))
}

fn read<T: serde::de::DeserializeOwned + Default>(path: &Path) -> Result<Option<T>, String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() <= LIMIT_BYTES => {}
        Ok(_) => return Err("it is no file, or longer than 1 MiB".to_owned()),
        Err(_) => return Ok(None),
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let parsed: Option<T> = serde_yaml::from_str(&text).map_err(|error| error.to_string())?;
    Ok(Some(parsed.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_buildpacks_print_them() {
        let found = release("---\ndefault_process_types:\n  web: run it\nconfig_vars:\n  PORTS: 3\n").unwrap();
        assert_eq!(found.processes["web"].command, "run it");
        assert_eq!(found.config_vars["PORTS"], "3");
        for empty in ["", "---\n", "--- {}\n", "addons: []\n", "default_process_types:\n"] {
            assert_eq!(release(empty).unwrap(), Declared::default(), "{empty:?}");
        }
        assert!(release("[").is_err() && release("default_process_types: [a]").is_err());
    }

    #[test]
    fn launch_files_may_be_absent_but_not_broken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("launch.yml");
        assert_eq!(launch(&path).unwrap(), None);
        let text = "processes:\n- type: web\n  command: x\n  limits: {memory: 1}\n\
            - type: agent\n  command: y\n  platforms: {cloudfoundry: {sidecar_for: [web]}}\n  limits: {memory: 1G}\n";
        std::fs::write(&path, text).unwrap();
        let found = launch(&path).unwrap().unwrap();
        assert_eq!((found.processes["web"].memory_mb, found.processes.len()), (Some(1), 1));
        let (agent, beside) = &found.sidecars["agent"];
        assert_eq!(
            (agent.memory_mb, beside.as_slice()),
            (Some(1024), &["web".to_owned()][..])
        );
        for bad in [
            "processes: 3",
            "processes:\n- type: a\n  command: b\n  limits: {memory: much}\n",
            "processes:\n- type: a\n  command: b\n  limits: {memory: 0}\n",
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(launch(&path).is_err(), "{bad}");
        }
    }
}
