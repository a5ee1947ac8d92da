//! What starts the app where no Procfile says it.

use crate::lock::Lock;
use std::path::Path;

/// Files that are the app's entry by habit.
const ENTRIES: &[&str] = &["app.rb", "main.rb", "server.rb", "web.rb"];

/// A start command and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// For the shell.
    pub command: String,
    /// Such as `config.ru with puma`.
    pub source: String,
}

/// Rails, then a Rack file by the server that is locked, then a file with a usual name.
#[must_use]
pub fn infer(app: &Path, lock: Option<&Lock>) -> Option<Start> {
    let has = |gem: &str| lock.is_some_and(|lock| lock.has(gem));
    let start = |command: &str, source: &str| {
        Some(Start {
            command: command.to_owned(),
            source: source.to_owned(),
        })
    };
    let rack = app.join("config.ru").is_file();
    if rack && has("puma") {
        let own = app.join("config/puma.rb").is_file();
        // The app's own configuration reads PORT, as Rails writes it; else it has to be told.
        let command = if own {
            "exec bundle exec puma -C config/puma.rb"
        } else {
            "exec bundle exec puma -b tcp://0.0.0.0:$PORT"
        };
        return start(command, if own { "config/puma.rb" } else { "config.ru with puma" });
    }
    if has("railties") {
        return start("exec bundle exec rails server -b 0.0.0.0 -p $PORT", "Rails");
    }
    if rack && has("rack") {
        return start("exec bundle exec rackup -o 0.0.0.0 -p $PORT", "config.ru");
    }
    let entry = ENTRIES.iter().find(|name| app.join(name).is_file())?;
    let command = if lock.is_some_and(|lock| !lock.gems.is_empty()) {
        format!("exec bundle exec ruby {entry}")
    } else {
        format!("exec ruby {entry}")
    };
    start(&command, entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_that_is_locked_serves() {
        let infer = |files: &[&str], gems: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("config")).unwrap();
            for file in files {
                std::fs::write(folder.path().join(file), "").unwrap();
            }
            let lock = Lock {
                gems: gems.iter().map(|&gem| gem.to_owned()).collect(),
                ..Lock::default()
            };
            infer(folder.path(), Some(&lock))
                .map(|start| start.command)
                .unwrap_or_default()
        };
        assert_eq!(
            infer(&["config.ru"], &["rack", "puma"]),
            "exec bundle exec puma -b tcp://0.0.0.0:$PORT"
        );
        assert_eq!(
            infer(&["config.ru", "config/puma.rb"], &["puma", "railties"]),
            "exec bundle exec puma -C config/puma.rb"
        );
        assert_eq!(
            infer(&["config.ru"], &["railties"]),
            "exec bundle exec rails server -b 0.0.0.0 -p $PORT"
        );
        assert_eq!(
            infer(&["config.ru"], &["rack"]),
            "exec bundle exec rackup -o 0.0.0.0 -p $PORT"
        );
        assert_eq!(infer(&["server.rb"], &[]), "exec ruby server.rb");
        assert_eq!(
            infer(&["app.rb", "server.rb"], &["greeting"]),
            "exec bundle exec ruby app.rb"
        );
        assert_eq!(infer(&["lib.rb"], &["greeting"]), "");
    }
}
