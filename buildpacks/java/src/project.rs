//! What kind of app it is, by its files.

use crate::archive::Archive;
use std::fs;
use std::path::Path;

/// A kind of app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Project {
    /// `pom.xml`.
    Maven,
    /// `build.gradle`, `build.gradle.kts`, or the settings of several.
    Gradle,
    /// The contents of a jar or war.
    Exploded,
    /// Jars or wars at the top.
    Archives(Vec<String>),
    /// Source files at the top of which one has a `main`: its class.
    Sources(String),
}

/// Files of Gradle.
const GRADLE: &[&str] = &[
    "build.gradle",
    "build.gradle.kts",
    "settings.gradle",
    "settings.gradle.kts",
];

impl Project {
    /// The kind of `app`; `None` where it is none of Java.
    #[must_use]
    pub fn of(app: &Path) -> Option<Self> {
        let has = |name: &str| app.join(name).is_file();
        if has("META-INF/MANIFEST.MF") && (has_main(app) || app.join("WEB-INF").is_dir()) {
            return Some(Self::Exploded);
        }
        if app.join("WEB-INF").is_dir() {
            return Some(Self::Exploded);
        }
        if has("pom.xml") {
            return Some(Self::Maven);
        }
        if GRADLE.iter().any(|name| has(name)) {
            return Some(Self::Gradle);
        }
        let archives = top(app, &[".jar", ".war"]);
        if !archives.is_empty() {
            return Some(Self::Archives(archives));
        }
        main_source(app).map(Self::Sources)
    }

    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Maven => "pom.xml".to_owned(),
            Self::Gradle => "Gradle".to_owned(),
            Self::Exploded => "contents of a jar or war".to_owned(),
            Self::Archives(names) => names.join(", "),
            Self::Sources(class) => format!("{class}.java"),
        }
    }
}

fn has_main(app: &Path) -> bool {
    let text = fs::read_to_string(app.join("META-INF/MANIFEST.MF")).unwrap_or_default();
    crate::manifest::Manifest::parse(&text).main_class().is_some()
}

/// Names at the top with one of `ends`, sorted.
pub fn top(app: &Path, ends: &[&str]) -> Vec<String> {
    let Ok(entries) = fs::read_dir(app) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| ends.iter().any(|end| name.ends_with(end)))
        .collect();
    names.sort();
    names
}

/// The class with the `main`, of source files at the top: the one called Main or App, else the only one.
fn main_source(app: &Path) -> Option<String> {
    let with_main: Vec<String> = top(app, &[".java"])
        .into_iter()
        .filter(|name| {
            let text = fs::read_to_string(app.join(name)).unwrap_or_default();
            text.contains("void main(")
        })
        .map(|name| name.trim_end_matches(".java").to_owned())
        .collect();
    let usual = ["Main", "App", "Application", "Server"]
        .iter()
        .find_map(|usual| with_main.iter().find(|name| name == usual));
    match (usual, with_main.as_slice()) {
        (Some(name), _) | (None, [name]) => Some(name.clone()),
        _ => None,
    }
}

/// Whether a file can be started by itself.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    Archive::of_file(path).is_some_and(|archive| archive.manifest.main_class().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Option<Project> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Project::of(folder.path())
    }

    #[test]
    fn each_kind_is_recognised() {
        let main = "class A { public static void main(String[] a) {} }";
        assert_eq!(of(&[("pom.xml", ""), ("lib.jar", "")]), Some(Project::Maven));
        assert_eq!(of(&[("build.gradle.kts", "")]), Some(Project::Gradle));
        assert_eq!(
            of(&[("app.jar", "")]),
            Some(Project::Archives(vec!["app.jar".to_owned()]))
        );
        assert_eq!(
            of(&[("META-INF/MANIFEST.MF", "Main-Class: a.B\n"), ("a/B.class", "")]),
            Some(Project::Exploded)
        );
        assert_eq!(of(&[("WEB-INF/web.xml", "")]), Some(Project::Exploded));
        assert_eq!(of(&[("A.java", main)]), Some(Project::Sources("A".to_owned())));
        assert_eq!(
            of(&[("A.java", main), ("Main.java", main)]),
            Some(Project::Sources("Main".to_owned()))
        );
        assert_eq!(of(&[("A.java", main), ("B.java", main)]), None);
        assert_eq!(of(&[("META-INF/MANIFEST.MF", "")]), None);
        assert_eq!(of(&[("A.java", "class A {}")]), None);
    }
}
