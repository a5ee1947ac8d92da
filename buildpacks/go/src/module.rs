//! `go.mod` and `go.work`: the parts that matter here.

use buildpack_kit::app::read_text;
use buildpack_kit::{Failure, Result};
use std::path::Path;

/// What the app's files say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Project {
    /// `go.mod` or `go.work`; none for files without a module.
    pub file: Option<&'static str>,
    /// Files at the top, for an app without a module.
    pub loose: Vec<String>,
    /// `module`.
    pub path: Option<String>,
    /// `go`: the oldest that will do.
    pub go: Option<String>,
    /// `toolchain` without its `go`.
    pub toolchain: Option<String>,
    /// `// +heroku goVersion`.
    pub comment_version: Option<String>,
    /// `// +heroku install`: what to build.
    pub comment_targets: Vec<String>,
    /// Whether modules of others are needed.
    pub requires: bool,
    /// Whether `vendor` holds them.
    pub vendored: bool,
}

/// Files of tools that came before modules.
const ANCIENT: &[&str] = &["Gopkg.toml", "Godeps/Godeps.json", "glide.yaml", "vendor/vendor.json"];

impl Project {
    /// Reads the files of `app`; `None` where there is no Go at its top.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub fn read(app: &Path) -> Result<Option<Self>> {
        for file in ["go.work", "go.mod"] {
            if let Some(text) = read_text(app, file)? {
                let mut project = Self::parse(&text);
                project.file = Some(file);
                project.vendored = app.join("vendor/modules.txt").is_file();
                return Ok(Some(project));
            }
        }
        let loose = loose(app);
        let ancient = ANCIENT.iter().any(|name| app.join(name).is_file());
        Ok((!loose.is_empty() || ancient).then(|| Self {
            loose,
            ..Self::default()
        }))
    }

    fn parse(text: &str) -> Self {
        let mut project = Self::default();
        let mut in_require = false;
        for line in text.lines().map(str::trim) {
            if let Some(comment) = line.strip_prefix("//") {
                project.comment(comment.trim());
                continue;
            }
            let words: Vec<&str> = line.split("//").next().unwrap_or_default().split_whitespace().collect();
            match words.as_slice() {
                [")"] => in_require = false,
                ["require", "("] => in_require = true,
                ["require", _, ..] => project.requires = true,
                ["module", path] => project.path = Some(path.trim_matches('"').to_owned()),
                ["go", version] => project.go = Some((*version).to_owned()),
                ["toolchain", name] => {
                    project.toolchain = name.strip_prefix("go").map(str::to_owned);
                }
                [_, _] if in_require => project.requires = true,
                _ => {}
            }
        }
        project
    }

    fn comment(&mut self, comment: &str) {
        let mut words = comment.split_whitespace();
        if words.next() != Some("+heroku") {
            return;
        }
        match words.next() {
            Some("goVersion") => {
                self.comment_version = words.next().map(|version| version.trim_start_matches("go").to_owned());
            }
            Some("install") => self.comment_targets = words.map(str::to_owned).collect(),
            _ => {}
        }
    }

    /// Refuses what is neither module nor loose files.
    ///
    /// # Errors
    /// That failure, with the way out.
    pub fn require_module(&self, app: &Path) -> Result<()> {
        let ancient = ANCIENT.iter().find(|name| app.join(name).is_file());
        match (self.file, ancient) {
            (None, Some(ancient)) => Err(Failure::new(
                format!("the app is made for a tool that came before Go modules ({ancient})"),
                "Run `go mod init` and `go mod tidy`, and push go.mod and go.sum with the app.",
            )),
            _ => Ok(()),
        }
    }
}

/// Names of the `.go` files at the top that are part of the program.
fn loose(app: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(app) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| name.ends_with(".go") && !name.ends_with("_test.go"))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_needs() {
        let text = "// +heroku goVersion go1.25\n// +heroku install ./cmd/web ./cmd/job\nmodule \"example.com/a\" // x\n\
                    go 1.24.1\ntoolchain go1.26.2\nrequire (\n\tx.org/y v1.0.0 // indirect\n)\n";
        let project = Project::parse(text);
        assert_eq!(project.path.as_deref(), Some("example.com/a"));
        assert_eq!(project.go.as_deref(), Some("1.24.1"));
        assert_eq!(project.toolchain.as_deref(), Some("1.26.2"));
        assert_eq!(project.comment_version.as_deref(), Some("1.25"));
        assert_eq!(project.comment_targets, ["./cmd/web", "./cmd/job"]);
        assert!(project.requires && Project::parse("require x.org/y v1\n").requires);
        assert!(!Project::parse("module a\nrequire (\n)\nexclude (\n x v1\n)\n").requires);
    }

    #[test]
    fn tools_before_modules_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Gopkg.toml"), "").unwrap();
        let project = Project::read(folder.path()).unwrap().unwrap();
        let failure = project.require_module(folder.path()).unwrap_err();
        assert!(failure.remedy.contains("go mod init"), "{failure:?}");
    }
}
