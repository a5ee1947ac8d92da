//! `Staticfile` as Cloud Foundry's buildpack reads it, and the settings of the server made from it.

use buildpack_kit::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The keys of a Staticfile that are understood; others are named in a warning.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Staticfile {
    /// Folder to serve.
    pub root: Option<String>,
    pushstate: bool,
    directory: bool,
    host_dot_files: bool,
    force_https: bool,
    hsts: Option<String>,
    status_pages: BTreeMap<u16, String>,
    unknown: Vec<String>,
}

/// What the server reads.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Folder to serve.
    pub root: PathBuf,
    /// Folder with a `.gz` of files worth it, laid out as `root`.
    pub compressed: Option<PathBuf>,
    /// Unknown paths get the index: the app routes by itself.
    pub pushstate: bool,
    /// Folders without an index are listed.
    pub directory: bool,
    /// Files whose names begin with a dot are served.
    pub host_dot_files: bool,
    /// Plain requests are redirected.
    pub force_https: bool,
    /// `Strict-Transport-Security`.
    pub hsts: Option<String>,
    /// Pages for failures, by status, relative to the root.
    pub status_pages: BTreeMap<u16, String>,
}

impl Staticfile {
    /// Reads `<app>/Staticfile`; an absent or empty one is all defaults.
    ///
    /// # Errors
    /// Where it is no YAML map, or asks for protection that would be missing.
    pub fn read(app: &Path) -> Result<Self> {
        if app.join("Staticfile.auth").exists() {
            return Err(Failure::new(
                "the app has a Staticfile.auth, and password protection is not supported: the site would be public",
                "Remove the file if the site may be public, or protect it by another app in front of it.",
            ));
        }
        let path = app.join("Staticfile");
        if !path.is_file() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(&path).map_err(Failure::file("read", &path))?;
        Self::parse(&text).map_err(|reason| {
            Failure::new(
                format!("the Staticfile cannot be read: {reason}"),
                "Write one setting per line, for example `root: public` or `pushstate: enabled`.",
            )
        })
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let map: Option<BTreeMap<String, serde_yaml::Value>> =
            serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        let mut found = Self::default();
        let mut hsts = [false; 3];
        for (key, value) in map.unwrap_or_default() {
            match key.as_str() {
                "root" => found.root = Some(text_of(&value).ok_or("root is no text")?),
                "pushstate" => found.pushstate = is_on(&value),
                "directory" => found.directory = is_on(&value),
                "host_dot_files" => found.host_dot_files = is_on(&value),
                "force_https" => found.force_https = is_on(&value),
                "http_strict_transport_security" => hsts[0] = is_on(&value),
                "http_strict_transport_security_include_subdomains" => hsts[1] = is_on(&value),
                "http_strict_transport_security_preload" => hsts[2] = is_on(&value),
                "status_codes" => found.status_pages = status_pages(&value)?,
                _ => found.unknown.push(key),
            }
        }
        if hsts[0] {
            let mut text = "max-age=31536000".to_owned();
            for (on, part) in [(hsts[1], "; includeSubDomains"), (hsts[2], "; preload")] {
                text.push_str(if on { part } else { "" });
            }
            found.hsts = Some(text);
        }
        Ok(found)
    }

    /// What the person who pushed should know.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let ignored = self.unknown.iter();
        ignored
            .map(|key| format!("Staticfile: {key} is not supported and has no effect"))
            .collect()
    }

    /// Settings of the server for the folder `root`.
    #[must_use]
    pub fn settings(&self, root: PathBuf, compressed: Option<PathBuf>) -> Settings {
        Settings {
            root,
            compressed,
            pushstate: self.pushstate,
            directory: self.directory,
            host_dot_files: self.host_dot_files,
            force_https: self.force_https,
            hsts: self.hsts.clone(),
            status_pages: self.status_pages.clone(),
        }
    }
}

fn is_on(value: &serde_yaml::Value) -> bool {
    match value {
        serde_yaml::Value::Bool(on) => *on,
        serde_yaml::Value::String(text) => {
            ["enabled", "visible", "true", "on", "yes"].contains(&text.to_ascii_lowercase().as_str())
        }
        _ => false,
    }
}

fn text_of(value: &serde_yaml::Value) -> Option<String> {
    match value {
        serde_yaml::Value::String(text) => Some(text.clone()),
        serde_yaml::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn status_pages(value: &serde_yaml::Value) -> std::result::Result<BTreeMap<u16, String>, String> {
    let serde_yaml::Value::Mapping(pages) = value else {
        return Err("status_codes is no map of status to page".to_owned());
    };
    let pages = pages.iter().map(|(status, page)| {
        let status = text_of(status).and_then(|status| status.parse().ok());
        let status = status.ok_or("status_codes has a key that is no status")?;
        let page = text_of(page).ok_or("status_codes has a page that is no text")?;
        Ok((status, page.trim_start_matches('/').to_owned()))
    });
    pages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_written() {
        let text = "root: public\npushstate: enabled\ndirectory: visible\nforce_https: true\nssi: enabled\n\
            http_strict_transport_security: true\nhttp_strict_transport_security_preload: true\n\
            status_codes:\n  404: /lost.html\n";
        let found = Staticfile::parse(text).unwrap();
        assert_eq!(found.root.as_deref(), Some("public"));
        assert_eq!(found.warnings().len(), 1);
        let settings = found.settings("/x".into(), None);
        assert!(settings.pushstate && settings.directory && settings.force_https && !settings.host_dot_files);
        assert_eq!(settings.hsts.as_deref(), Some("max-age=31536000; preload"));
        assert_eq!(settings.status_pages[&404], "lost.html");
    }

    #[test]
    fn an_empty_file_is_all_defaults_and_a_bad_one_an_error() {
        assert_eq!(Staticfile::parse("").unwrap(), Staticfile::default());
        assert!(Staticfile::parse("- a").is_err());
        assert!(Staticfile::parse("root: [a]").is_err());
    }

    #[test]
    fn protection_is_not_dropped_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Staticfile.auth"), "a:b").unwrap();
        assert!(Staticfile::read(folder.path()).is_err());
    }
}
