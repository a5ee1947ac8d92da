//! What the process was started with: the only place that reads environment variables and asks after terminals.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

/// A snapshot of the process's surroundings, taken once at the start.
#[derive(Debug, Clone)]
pub struct Environment {
    vars: BTreeMap<String, String>,
    pub cwd: PathBuf,
    pub stdin_tty: bool,
    pub stdout_tty: bool,
    pub stderr_tty: bool,
}

/// Variables that mean something to this program, besides those that begin with `PAAS_`.
const KNOWN: &[&str] = &[
    "HOME",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
    "NO_COLOR",
    "CLICOLOR_FORCE",
    "TERM",
    "CI",
    "SHELL",
    "LANG",
    "LC_ALL",
    "CF_DOCKER_PASSWORD",
    "SSL_CERT_FILE",
];

impl Environment {
    /// Of this process.
    pub fn from_process() -> Self {
        let vars = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, value)| !value.is_empty() && (name.starts_with("PAAS_") || KNOWN.contains(&name.as_str())))
            .collect();
        Self {
            vars,
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            stdin_tty: std::io::stdin().is_terminal(),
            stdout_tty: std::io::stdout().is_terminal(),
            stderr_tty: std::io::stderr().is_terminal(),
        }
    }

    /// Of a test: no terminals, these variables.
    #[cfg(test)]
    pub fn fake(cwd: &Path, vars: &[(&str, &str)]) -> Self {
        Self {
            vars: vars
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            cwd: cwd.to_owned(),
            stdin_tty: false,
            stdout_tty: false,
            stderr_tty: false,
        }
    }

    /// A variable that is set and not empty.
    pub fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }

    /// Whether a variable is set.
    pub fn has(&self, name: &str) -> bool {
        self.vars.contains_key(name)
    }

    /// Folder of the user file.
    pub fn config_dir(&self) -> PathBuf {
        self.xdg("XDG_CONFIG_HOME", ".config")
    }

    /// Folder of caches, which may be deleted at any time.
    pub fn cache_dir(&self) -> PathBuf {
        self.xdg("XDG_CACHE_HOME", ".cache")
    }

    /// Folder of a platform that this user runs.
    pub fn state_dir(&self) -> PathBuf {
        self.xdg("XDG_STATE_HOME", ".local/state")
    }

    fn xdg(&self, name: &str, below_home: &str) -> PathBuf {
        let base = self
            .var(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| self.var("HOME").map(|home| Path::new(&home).join(below_home)))
            .unwrap_or_else(|| self.cwd.join(below_home));
        base.join("paas")
    }
}
