//! Lock files of Poetry, Pipenv and PDM, written out as requirements with hashes: then uv installs exactly what they name.

use buildpack_kit::app::read_text;
use buildpack_kit::{Failure, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most packages of a lock, and most conditions under which one is needed.
const MOST: usize = 5000;
const MOST_CONDITIONS: usize = 32;

/// Tools whose locks are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `poetry.lock`.
    Poetry,
    /// `Pipfile.lock`.
    Pipenv,
    /// `pdm.lock`.
    Pdm,
}

impl Tool {
    /// The file.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Poetry => "poetry.lock",
            Self::Pipenv => "Pipfile.lock",
            Self::Pdm => "pdm.lock",
        }
    }

    /// What the lock was made from.
    #[must_use]
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Pipenv => "Pipfile",
            Self::Poetry | Self::Pdm => "pyproject.toml",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Poetry => "poetry lock",
            Self::Pipenv => "pipenv lock",
            Self::Pdm => "pdm lock",
        }
    }

    /// The lock as requirements of what is needed at run time.
    ///
    /// # Errors
    /// Where it cannot be read, does not belong to its manifest, or names what has no hash.
    pub fn requirements(self, app: &Path) -> Result<String> {
        let lock = read_text(app, self.file())?.unwrap_or_default();
        let manifest = read_text(app, self.manifest())?.unwrap_or_default();
        match self {
            Self::Poetry => poetry(
                &self.table(&lock, self.file())?,
                &self.table(&manifest, self.manifest())?,
            ),
            Self::Pdm => pdm(
                &self.table(&lock, self.file())?,
                &self.table(&manifest, self.manifest())?,
            ),
            Self::Pipenv => {
                let parsed = serde_json::from_str(&lock).map_err(|error| self.unreadable(self.file(), &error))?;
                pipenv(&parsed, &self.table(&manifest, self.manifest())?)
            }
        }
    }

    fn table(self, text: &str, file: &str) -> Result<toml::Table> {
        toml::from_str(text).map_err(|error| self.unreadable(file, &error.message()))
    }

    fn unreadable(self, file: &str, error: &dyn std::fmt::Display) -> Failure {
        Failure::new(
            format!("{file} cannot be read: {error}"),
            format!("Write it again by `{}`, and push it.", self.command()),
        )
    }

    fn stale(self, what: &str) -> Failure {
        Failure::new(
            format!("{} and {} disagree: {what}", self.manifest(), self.file()),
            format!(
                "Run `{}`, see that the app still works, and push both files.",
                self.command()
            ),
        )
    }

    fn without_hash(self, name: &str) -> Failure {
        Failure::new(
            format!(
                "{} takes {name} from where it has no hash (a repository, a folder or an address)",
                self.file()
            ),
            "Take it from a package index; or list everything in requirements.txt, where such sources are allowed.",
        )
    }
}

/// Names are compared like this, whatever people write.
fn normal(name: &str) -> String {
    let mut text = name.trim().to_ascii_lowercase().replace(['_', '.'], "-");
    while text.contains("--") {
        text = text.replace("--", "-");
    }
    text
}

/// The name in front of a requirement such as `flask[async] >= 2`.
fn name_of(requirement: &str) -> String {
    let end = requirement.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)));
    normal(&requirement[..end.unwrap_or(requirement.len())])
}

/// One line of requirements.
fn line(name: &str, version: &str, marker: Option<&str>, hashes: &BTreeSet<String>) -> String {
    let marker = marker.map(|marker| format!(" ; {marker}")).unwrap_or_default();
    let hashes: String = hashes.iter().map(|hash| format!(" --hash={hash}")).collect();
    format!("{name}=={version}{marker}{hashes}\n")
}

/// Hashes of a list of tables with a `hash`.
fn hashes(files: Option<&toml::Value>) -> BTreeSet<String> {
    let files = files.and_then(toml::Value::as_array).into_iter().flatten();
    files
        .filter_map(|file| Some(file.get("hash")?.as_str()?.to_owned()))
        .collect()
}

fn packages(lock: &toml::Table) -> impl Iterator<Item = &toml::Value> {
    lock.get("package")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .take(MOST)
}

fn text<'a>(value: &'a toml::Value, name: &str) -> &'a str {
    value.get(name).and_then(toml::Value::as_str).unwrap_or_default()
}

/// Follows what the app needs through the lock: older ones do not say which group a package is of.
fn poetry(lock: &toml::Table, manifest: &toml::Table) -> Result<String> {
    let tool = Tool::Poetry;
    let mut by_name: BTreeMap<String, Vec<&toml::Value>> = BTreeMap::new();
    for package in packages(lock) {
        by_name.entry(normal(text(package, "name"))).or_default().push(package);
    }
    let mut needed: BTreeMap<String, Conditions> = BTreeMap::new();
    let mut waiting = wishes(manifest);
    while let Some(wish) = waiting.pop() {
        let Some(found) = by_name.get(&wish.name) else {
            return Err(tool.stale(&format!("{} is not locked", wish.name)));
        };
        let conditions = needed.entry(wish.name.clone()).or_default();
        if !conditions.add(wish.condition.as_deref(), &wish.extras) {
            continue;
        }
        for package in found {
            waiting.extend(needs(package, &wish));
        }
    }
    let of_old = lock.get("metadata").and_then(|metadata| metadata.get("files"));
    let mut lines = String::new();
    for (name, conditions) in &needed {
        let found = &by_name[name];
        for package in found {
            let kind = package
                .get("source")
                .map(|source| text(source, "type"))
                .unwrap_or_default();
            if matches!(kind, "git" | "url" | "directory" | "file") {
                return Err(tool.without_hash(name));
            }
            let listed = of_old.and_then(|files| files.get(text(package, "name")));
            let mut hashes = hashes(package.get("files"));
            hashes.extend(self::hashes(listed));
            if hashes.is_empty() {
                return Err(tool.without_hash(name));
            }
            let own = package
                .get("markers")
                .and_then(|markers| markers.as_str().or_else(|| markers.get("main")?.as_str()));
            // Of several versions of a package each says for which Python it is.
            let several = (found.len() > 1 && own.is_none()).then(|| python_marker(text(package, "python-versions")));
            let all = [own.map(str::to_owned), several.flatten(), conditions.marker()];
            let all: Vec<String> = all.into_iter().flatten().map(|marker| format!("({marker})")).collect();
            let marker = (!all.is_empty()).then(|| all.join(" and "));
            lines.push_str(&line(name, text(package, "version"), marker.as_deref(), &hashes));
        }
    }
    Ok(lines)
}

/// Something that is needed, and when.
#[derive(Debug, Clone)]
struct Wish {
    name: String,
    extras: BTreeSet<String>,
    condition: Option<String>,
}

/// When a package is needed: always, or where one of these holds.
#[derive(Debug, Default)]
struct Conditions {
    always: bool,
    some: BTreeSet<String>,
    extras: BTreeSet<String>,
}

impl Conditions {
    /// Adds a way to it; whether it says anything new.
    fn add(&mut self, condition: Option<&str>, extras: &BTreeSet<String>) -> bool {
        let before = (self.always, self.some.len(), self.extras.len());
        self.extras.extend(extras.iter().cloned());
        match condition {
            // Too many of them are as good as always: uv then installs one package that is not needed.
            Some(condition) if self.some.len() < MOST_CONDITIONS => {
                self.some.insert(condition.to_owned());
            }
            _ => self.always = true,
        }
        let first = before == (false, 0, 0);
        first || before.0 != self.always || before.2 != self.extras.len() || (!before.0 && before.1 != self.some.len())
    }

    fn marker(&self) -> Option<String> {
        if self.always {
            return None;
        }
        let some: Vec<String> = self.some.iter().map(|one| format!("({one})")).collect();
        Some(some.join(" or "))
    }
}

/// What the app itself needs at run time: of Poetry's own table, or of the standard one.
fn wishes(manifest: &toml::Table) -> Vec<Wish> {
    let mut wishes = Vec::new();
    let standard = manifest
        .get("project")
        .and_then(|project| project.get("dependencies")?.as_array());
    for requirement in standard.into_iter().flatten().filter_map(toml::Value::as_str) {
        wishes.push(parse(requirement));
    }
    let own = manifest
        .get("tool")
        .and_then(|tool| tool.get("poetry")?.get("dependencies")?.as_table());
    for (name, value) in own.into_iter().flatten().filter(|(name, _)| *name != "python") {
        for value in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
            // Those are only for extras of the app, which nobody asks for.
            if value.get("optional").and_then(toml::Value::as_bool) != Some(true) {
                wishes.push(wish(name, value, None));
            }
        }
    }
    wishes
}

/// What `package` needs where it is needed itself.
fn needs(package: &toml::Value, by: &Wish) -> Vec<Wish> {
    let mut found = Vec::new();
    let asked: BTreeSet<String> = package
        .get("extras")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flatten()
        .filter(|(extra, _)| by.extras.contains(&normal(extra)))
        .flat_map(|(_, requirements)| requirements.as_array().into_iter().flatten())
        .filter_map(|requirement| Some(name_of(requirement.as_str()?)))
        .collect();
    let table = package.get("dependencies").and_then(toml::Value::as_table);
    for (name, value) in table.into_iter().flatten() {
        for value in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
            let optional = value.get("optional").and_then(toml::Value::as_bool) == Some(true);
            if !optional || asked.contains(&normal(name)) {
                found.push(wish(name, value, by.condition.as_deref()));
            }
        }
    }
    found
}

fn wish(name: &str, value: &toml::Value, before: Option<&str>) -> Wish {
    let extras = value
        .get("extras")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten();
    let marker = text(value, "markers");
    // Which extra was asked for is known already.
    let marker = (!marker.is_empty() && !marker.contains("extra")).then_some(marker);
    let python = python_marker(text(value, "python"));
    let all: Vec<String> = [before, marker, python.as_deref()]
        .into_iter()
        .flatten()
        .map(|one| format!("({one})"))
        .collect();
    Wish {
        name: normal(name),
        extras: extras.filter_map(|extra| Some(normal(extra.as_str()?))).collect(),
        condition: (!all.is_empty() && all.len() < 8).then(|| all.join(" and ")),
    }
}

/// A requirement as the standard writes it.
fn parse(requirement: &str) -> Wish {
    let (body, marker) = requirement
        .split_once(';')
        .map_or((requirement, None), |(body, marker)| (body, Some(marker)));
    let extras = body
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(extras, _)| extras);
    Wish {
        name: name_of(body.trim()),
        extras: extras
            .unwrap_or_default()
            .split(',')
            .map(normal)
            .filter(|extra| !extra.is_empty())
            .collect(),
        condition: marker
            .map(|marker| marker.trim().to_owned())
            .filter(|marker| !marker.contains("extra")),
    }
}

/// `>=3.8,<3.12` as a marker; `None` for any, and for what is written in Poetry's own way.
fn python_marker(range: &str) -> Option<String> {
    if range.is_empty() || range == "*" || range.contains(['^', '~', '|']) {
        return None;
    }
    let condition = |part: &str| {
        let part = part.trim();
        let sign = [">=", "<=", "!=", "==", ">", "<"]
            .into_iter()
            .find(|sign| part.starts_with(sign))?;
        let version = part[sign.len()..].trim();
        let plain = version
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'*');
        plain.then(|| format!("python_full_version {sign} \"{version}\""))
    };
    let all: Option<Vec<String>> = range.split(',').map(condition).collect();
    all.map(|all| all.join(" and "))
}

fn pdm(lock: &toml::Table, manifest: &toml::Table) -> Result<String> {
    let tool = Tool::Pdm;
    let mut lines = String::new();
    let mut locked = BTreeSet::new();
    for package in packages(lock) {
        let name = normal(text(package, "name"));
        locked.insert(name.clone());
        let groups = package.get("groups").and_then(toml::Value::as_array);
        let is_default = groups.is_none_or(|groups| groups.iter().any(|group| group.as_str() == Some("default")));
        if !is_default {
            continue;
        }
        let hashes = hashes(package.get("files"));
        if hashes.is_empty() {
            return Err(tool.without_hash(&name));
        }
        let marker = Some(text(package, "marker")).filter(|marker| !marker.is_empty());
        lines.push_str(&line(&name, text(package, "version"), marker, &hashes));
    }
    let wanted = wishes(manifest);
    match wanted.iter().find(|wish| !locked.contains(&wish.name)) {
        Some(wish) => Err(tool.stale(&format!("{} is not locked", wish.name))),
        None => Ok(lines),
    }
}

fn pipenv(lock: &Value, manifest: &toml::Table) -> Result<String> {
    let tool = Tool::Pipenv;
    let packages = lock.get("default").and_then(Value::as_object);
    let wanted = manifest
        .get("packages")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flatten();
    let locked: BTreeSet<String> = packages.into_iter().flatten().map(|(name, _)| normal(name)).collect();
    for (name, _) in wanted {
        if !locked.contains(&normal(name)) {
            return Err(tool.stale(&format!("{name} is not locked")));
        }
    }
    if let (Some(noted), Some(own)) = (lock["_meta"]["hash"]["sha256"].as_str(), pipfile_hash(manifest))
        && noted != own
    {
        return Err(tool.stale("the lock was made from another Pipfile"));
    }
    let mut lines = String::new();
    for (name, package) in packages.into_iter().flatten() {
        let version = package["version"]
            .as_str()
            .and_then(|version| version.strip_prefix("=="));
        let hashes = package["hashes"].as_array().into_iter().flatten();
        let hashes: BTreeSet<String> = hashes.filter_map(|hash| hash.as_str().map(str::to_owned)).collect();
        let (Some(version), false) = (version, hashes.is_empty()) else {
            return Err(tool.without_hash(name));
        };
        lines.push_str(&line(&normal(name), version, package["markers"].as_str(), &hashes));
    }
    Ok(lines)
}

/// What Pipenv notes of a Pipfile: the digest of its parts as compact JSON with sorted names.
fn pipfile_hash(manifest: &toml::Table) -> Option<String> {
    use sha2::{Digest as _, Sha256};
    let json = |name: &str| {
        manifest
            .get(name)
            .map_or_else(|| Some(serde_json::json!({})), |value| serde_json::to_value(value).ok())
    };
    let mut parts = serde_json::Map::new();
    // Without a source Pipenv puts in its own, which is not written anywhere.
    let sources = serde_json::to_value(manifest.get("source")?).ok()?;
    let requires = json("requires")?;
    let about = serde_json::json!({"sources": sources, "requires": requires});
    parts.insert("_meta".to_owned(), about);
    parts.insert("default".to_owned(), json("packages")?);
    parts.insert("develop".to_owned(), json("dev-packages")?);
    let known = ["source", "requires", "packages", "dev-packages", "pipenv", "scripts"];
    for (name, value) in manifest.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
        parts.insert(name.clone(), serde_json::to_value(value).ok()?);
    }
    let text = sorted(&Value::Object(parts));
    // Others would be written with escapes.
    text.is_ascii().then(|| hex::encode(Sha256::digest(text)))
}

fn sorted(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<&String, &Value> = map.iter().collect();
            let entries = ordered
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), sorted(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(sorted).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
