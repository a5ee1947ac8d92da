//! What classic buildpacks say of processes: `launch.yml` in their folder of dependencies, or what `bin/release` prints.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Longest text that is read.
const LIMIT_BYTES: u64 = 1024 * 1024;

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
}

#[derive(Debug, Default, Deserialize)]
struct Release {
    #[serde(default)]
    default_process_types: Option<BTreeMap<String, String>>,
}

/// Processes of a `launch.yml`; `None` where there is no such file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(path: &Path) -> Result<Option<BTreeMap<String, String>>, String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() <= LIMIT_BYTES => {}
        Ok(_) => return Err("it is no file, or longer than 1 MiB".to_owned()),
        Err(_) => return Ok(None),
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let parsed: Option<LaunchYml> = serde_yaml::from_str(&text).map_err(|error| error.to_string())?;
    let processes = parsed.unwrap_or_default().processes.into_iter();
    Ok(Some(
        processes
            .map(|process| (process.process_type, process.command))
            .collect(),
    ))
}

/// Processes of what `bin/release` printed.
///
/// # Errors
/// What is wrong with it, in words.
pub fn release(text: &str) -> Result<BTreeMap<String, String>, String> {
    let parsed: Option<Release> = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    Ok(parsed.unwrap_or_default().default_process_types.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_buildpacks_print_them() {
        assert_eq!(
            release("---\ndefault_process_types:\n  web: run it\n").unwrap()["web"],
            "run it"
        );
        for empty in ["", "---\n", "--- {}\n", "addons: []\n", "default_process_types:\n"] {
            assert!(release(empty).unwrap().is_empty(), "{empty:?}");
        }
        assert!(release("[").is_err() && release("default_process_types: [a]").is_err());
    }

    #[test]
    fn launch_files_may_be_absent_but_not_broken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("launch.yml");
        assert_eq!(read(&path).unwrap(), None);
        std::fs::write(&path, "processes:\n- type: web\n  command: x\n  limits: {memory: 1}\n").unwrap();
        assert_eq!(read(&path).unwrap().unwrap()["web"], "x");
        std::fs::write(&path, "processes: 3").unwrap();
        assert!(read(&path).is_err());
    }
}
