//! `launch.toml`: processes, slices and labels, in the form of every supported version of the Buildpack API.
//!
//! Up to 0.8 a command is a text for the shell unless it says `direct`; from 0.9 on it is a program with its arguments.

use super::descriptor::for_production;
use serde::Deserialize;

/// Label by which a buildpack may say where a process comes from: this prefix and the process type.
const SOURCE_LABEL: &str = "paas.process.source.";
/// First minor version in which all processes are programs without a shell.
const DIRECT_ONLY: u32 = 9;
/// First minor version that knows `exec-env`.
const EXEC_ENV: u32 = 12;
/// Most entries of each kind.
const ENTRIES: usize = 1000;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaunchToml {
    /// `[[processes]]` for production.
    pub processes: Vec<Process>,
    /// `paths` of each of `[[slices]]`, relative to the app.
    pub slices: Vec<Vec<String>>,
    /// `[[labels]]`.
    pub labels: Vec<Label>,
}

/// `[[processes]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Such as `web`.
    pub process_type: String,
    /// Program and arguments that stay; of a process of the shell, its one text.
    pub command: Vec<String>,
    /// Arguments that a user's replace.
    pub args: Vec<String>,
    /// Executed as it is, without a shell.
    pub direct: bool,
    /// Started when nobody names a type.
    pub default: bool,
    /// Where it starts, the app's folder where absent.
    pub working_dir: Option<String>,
}

/// `[[labels]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Label {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Written {
    #[serde(default)]
    processes: Vec<WrittenProcess>,
    #[serde(default)]
    slices: Vec<Slice>,
    #[serde(default)]
    labels: Vec<Label>,
}

#[derive(Debug, Deserialize)]
struct Slice {
    #[serde(default)]
    paths: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct WrittenProcess {
    #[serde(rename = "type")]
    process_type: String,
    command: toml::Value,
    #[serde(default)]
    args: Vec<String>,
    direct: Option<bool>,
    #[serde(default)]
    default: bool,
    #[serde(default, rename = "working-dir")]
    working_dir: Option<String>,
    #[serde(default, rename = "exec-env")]
    exec_env: Vec<String>,
}

impl LaunchToml {
    /// What `written` means under Buildpack API 0.`api`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn read(written: Written, api: u32) -> Result<Self, String> {
        let most = written
            .processes
            .len()
            .max(written.slices.len())
            .max(written.labels.len());
        if most > ENTRIES {
            return Err(format!("it has more than {ENTRIES} entries"));
        }
        let for_us = |process: &WrittenProcess| api < EXEC_ENV || for_production(&process.exec_env);
        let processes: Result<Vec<Process>, String> = written
            .processes
            .into_iter()
            .filter(for_us)
            .map(|process| process.read(api))
            .collect();
        let processes = processes?;
        if processes.iter().filter(|process| process.default).count() > 1 {
            return Err("more than one process is the default".to_owned());
        }
        Ok(Self {
            processes,
            slices: written.slices.into_iter().map(|slice| slice.paths).collect(),
            labels: written.labels,
        })
    }

    /// Where the buildpack says `process` comes from.
    #[must_use]
    pub fn source(&self, process: &str) -> Option<&str> {
        let is_source = |label: &&Label| label.key.strip_prefix(SOURCE_LABEL) == Some(process);
        self.labels.iter().find(is_source).map(|label| label.value.as_str())
    }
}

impl WrittenProcess {
    fn read(self, api: u32) -> Result<Process, String> {
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let process_type = self.process_type;
        if process_type.is_empty() || process_type.len() > 255 || !process_type.chars().all(valid) {
            return Err(format!("{process_type:?} is no process type"));
        }
        let (command, direct) = if api >= DIRECT_ONLY {
            if self.direct.is_some() {
                return Err(format!(
                    "process {process_type:?} says `direct`, which Buildpack API 0.{api} does not know"
                ));
            }
            (words(&self.command), true)
        } else {
            let text = self.command.as_str().map(|text| vec![text.to_owned()]);
            (text, self.direct.unwrap_or(false))
        };
        let form = if api >= DIRECT_ONLY {
            "a list of texts"
        } else {
            "a text"
        };
        let command = command.ok_or_else(|| format!("the command of process {process_type:?} is not {form}"))?;
        if command.first().is_none_or(String::is_empty) {
            return Err(format!("process {process_type:?} has no command"));
        }
        Ok(Process {
            process_type,
            command,
            args: self.args,
            direct,
            default: self.default,
            working_dir: self.working_dir,
        })
    }
}

fn words(value: &toml::Value) -> Option<Vec<String>> {
    let words = value.as_array()?.iter();
    words.map(|word| word.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(api: u32, text: &str) -> Result<LaunchToml, String> {
        LaunchToml::read(toml::from_str(text).unwrap(), api)
    }

    #[test]
    fn each_version_has_its_own_form_of_a_command() {
        let list = "[[processes]]\ntype = 'web'\ncommand = ['a', 'b']\nargs = ['c']\n";
        let text = "[[processes]]\ntype = 'web'\ncommand = 'a b'\n";
        for (api, toml, direct) in [
            (9, list, Some(true)),
            (12, list, Some(true)),
            (8, text, Some(false)),
            (8, list, None),
            (9, text, None),
        ] {
            let found = read(api, toml).ok().map(|launch| launch.processes[0].direct);
            assert_eq!(found, direct, "0.{api} {toml}");
        }
        let direct = format!("{text}direct = true\n");
        assert!(read(7, &direct).unwrap().processes[0].direct);
        assert!(
            read(9, &format!("{list}direct = true\n"))
                .unwrap_err()
                .contains("direct")
        );
    }

    #[test]
    fn processes_for_other_purposes_are_left_out() {
        let text = "[[processes]]\ntype = 'web'\ncommand = ['a']\n[[processes]]\ntype = 'test'\ncommand = ['b']\nexec-env = ['test']\n";
        assert_eq!(read(12, text).unwrap().processes.len(), 1);
        assert_eq!(read(11, text).unwrap().processes.len(), 2);
    }

    #[test]
    fn what_is_invalid_says_why() {
        for (text, part) in [
            ("[[processes]]\ntype = ''\ncommand = ['a']\n", "no process type"),
            ("[[processes]]\ntype = 'a b'\ncommand = ['a']\n", "no process type"),
            ("[[processes]]\ntype = 'web'\ncommand = []\n", "no command"),
            ("[[processes]]\ntype = 'web'\ncommand = ['']\n", "no command"),
            ("[[processes]]\ntype = 'web'\ncommand = [1]\n", "not a list"),
        ] {
            assert!(read(10, text).unwrap_err().contains(part), "{text}");
        }
    }
}
