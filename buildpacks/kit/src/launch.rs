//! `launch.toml`: which processes the app has, and where each comes from.

use crate::{BuildContext, Failure, Result};

/// Label by which the platform learns where a process comes from: this prefix and the process type.
const SOURCE_LABEL: &str = "paas.process.source.";

/// Processes of the app.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Launch {
    processes: Vec<(String, Vec<String>, String)>,
}

impl Launch {
    /// A process that is executed as it is.
    #[must_use]
    pub fn direct(mut self, process: &str, command: &[&str], source: &str) -> Self {
        let words = command.iter().map(|word| (*word).to_owned()).collect();
        self.processes.push((process.to_owned(), words, source.to_owned()));
        self
    }

    /// A process that a shell reads.
    #[must_use]
    pub fn shell(self, process: &str, command: &str, source: &str) -> Self {
        // Every stack has bash: commands are written for it.
        self.direct(process, &["bash", "-c", command], source)
    }

    /// Writes `launch.toml`; the first process is the default one.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, context: &BuildContext) -> Result<()> {
        let path = context.layers.join("launch.toml");
        std::fs::write(&path, self.to_toml()).map_err(Failure::file("write", &path))
    }

    fn to_toml(&self) -> String {
        let mut processes = Vec::new();
        let mut labels = Vec::new();
        for (index, (process, command, source)) in self.processes.iter().enumerate() {
            let mut table = toml::Table::new();
            table.insert("type".to_owned(), process.as_str().into());
            table.insert("command".to_owned(), command.clone().into());
            table.insert("default".to_owned(), (index == 0).into());
            processes.push(toml::Value::Table(table));
            let mut label = toml::Table::new();
            label.insert("key".to_owned(), format!("{SOURCE_LABEL}{process}").into());
            label.insert("value".to_owned(), source.as_str().into());
            labels.push(toml::Value::Table(label));
        }
        let mut whole = toml::Table::new();
        whole.insert("processes".to_owned(), processes.into());
        whole.insert("labels".to_owned(), labels.into());
        whole.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_written_as_the_contract_has_them() {
        let launch = Launch::default()
            .shell("web", "a \"b\"", "here")
            .direct("worker", &["c", "d"], "there");
        let table: toml::Table = toml::from_str(&launch.to_toml()).unwrap();
        let web = &table["processes"][0];
        assert_eq!(web["command"][2].as_str(), Some("a \"b\""));
        assert_eq!(web["default"].as_bool(), Some(true));
        assert_eq!(table["processes"][1]["default"].as_bool(), Some(false));
        assert_eq!(table["labels"][1]["key"].as_str(), Some("paas.process.source.worker"));
    }
}
