//! Which Java the app wants, said by whom, and which of those published that is.

use buildpack_kit::app::{first_line, read_text, tool_version};
use buildpack_kit::source::Release;
use buildpack_kit::{Failure, Result, Variables, Version};
use std::path::Path;

/// The line used where nothing asks for another: supported for long, and what most libraries are tried with.
const DEFAULT: u64 = 21;
/// Lines that are supported for long.
const LONG: &[u64] = &[8, 11, 17, 21, 25, 29];

/// What the app wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// As written.
    pub text: String,
    /// Where it is written.
    pub said_by: &'static str,
    /// Release of Java.
    pub major: u64,
    /// Whether a newer one will do.
    minimum: bool,
}

/// The variable of the app, `system.properties`, `.java-version`, `.sdkmanrc`, `.tool-versions`, what the project is
/// compiled for, what its classes are compiled for; else the default.
///
/// # Errors
/// Where what is written is no version.
pub fn wanted(app: &Path, variables: &Variables, classes: Option<u16>) -> Result<Wanted> {
    let cf = variables.get("JBP_CONFIG_OPEN_JDK_JRE").and_then(after_version);
    let chosen = [
        (variables.get("BP_JVM_VERSION").map(str::to_owned), "BP_JVM_VERSION"),
        (cf, "JBP_CONFIG_OPEN_JDK_JRE"),
        (
            property(app, "system.properties", "java.runtime.version")?,
            "system.properties java.runtime.version",
        ),
        (first_line(app, ".java-version")?, ".java-version"),
        (property(app, ".sdkmanrc", "java")?, ".sdkmanrc"),
        (tool_version(app, &["java"])?, ".tool-versions"),
    ];
    if let Some((text, said_by)) = chosen.into_iter().find_map(|(text, by)| Some((text?, by))) {
        let major = major(&text).ok_or_else(|| not_a_version(&text, said_by))?;
        return Ok(Wanted {
            text,
            said_by,
            major,
            minimum: false,
        });
    }
    let (major, said_by) = match (of_project(app)?, classes) {
        (Some(major), _) => (major, "the build file"),
        (None, Some(release)) if u64::from(release) > DEFAULT => (u64::from(release), "the class files"),
        _ => (DEFAULT, "default"),
    };
    Ok(Wanted {
        text: major.to_string(),
        said_by,
        major,
        minimum: true,
    })
}

fn not_a_version(text: &str, said_by: &str) -> Failure {
    Failure::new(
        format!("{said_by} asks for Java {text:?}, which is no version"),
        "Write a release such as 21.",
    )
}

/// `17` of `17`, `17.0.9`, `1.8`, `temurin-17.0.2`, `17.0.2-tem`, `17.+`, `openjdk64-17`.
fn major(text: &str) -> Option<u64> {
    let rest = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    // A name with a number in it is not the version.
    let rest = rest.rsplit_once("64-").map_or(rest, |(_, rest)| rest);
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
    let first: u64 = numbers.next()?.parse().ok()?;
    let major = if first == 1 {
        numbers.next()?.parse().ok()?
    } else {
        first
    };
    (6..=99).contains(&major).then_some(major)
}

/// What follows `version:` in the form in which Cloud Foundry's buildpack is configured.
fn after_version(text: &str) -> Option<String> {
    let rest = text.split("version:").nth(1)?.trim_start_matches([' ', '"', '\'']);
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && !".+".contains(c))
        .unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

fn property(app: &Path, file: &str, name: &str) -> Result<Option<String>> {
    let text = read_text(app, file)?.unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let (key, value) = line.split_once(['=', ':'])?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    Ok(found.filter(|value| !value.is_empty()))
}

/// The release that `pom.xml` or `build.gradle` compiles for.
fn of_project(app: &Path) -> Result<Option<u64>> {
    let pom = read_text(app, "pom.xml")?.unwrap_or_default();
    let tags = [
        "maven.compiler.release",
        "java.version",
        "maven.compiler.target",
        "release",
    ];
    let of_pom = tags.iter().find_map(|tag| {
        let value = pom.split(&format!("<{tag}>")).nth(1)?.split('<').next()?;
        major(value.trim()).filter(|_| !value.contains("${"))
    });
    if of_pom.is_some() {
        return Ok(of_pom);
    }
    for file in ["build.gradle", "build.gradle.kts"] {
        let text = read_text(app, file)?.unwrap_or_default();
        for mark in [
            "JavaLanguageVersion.of(",
            "JavaVersion.VERSION_",
            "targetCompatibility",
            "sourceCompatibility",
            "jvmToolchain(",
        ] {
            let rest = text.split(mark).nth(1).unwrap_or_default();
            let value = rest.lines().next().unwrap_or_default().replace('_', ".");
            if let Some(major) = major(&value) {
                return Ok(Some(major));
            }
        }
    }
    Ok(None)
}

impl Wanted {
    /// The newest of its release; where that is not published and a newer one will do, of the next that is supported for long.
    ///
    /// # Errors
    /// Where none will do.
    pub fn choose(&self, releases: &[Release]) -> Result<Release> {
        let published: Vec<(Version, &Release)> = releases
            .iter()
            .filter_map(|release| Some((Version::parse(&release.version)?, release)))
            .collect();
        let newest = |major: u64| {
            let fitting = published.iter().filter(|(version, _)| version.part(0) == major);
            // Of builds of one version the last is the newest.
            fitting
                .max_by(|a, b| a.0.cmp(&b.0))
                .map(|(_, release)| (*release).clone())
        };
        let later = || {
            let later = LONG.iter().filter(|major| self.minimum && **major > self.major);
            later.copied().find_map(newest)
        };
        newest(self.major).or_else(later).ok_or_else(|| {
            let mut lines: Vec<u64> = published.iter().map(|(version, _)| version.part(0)).filter(|major| *major > 5).collect();
            lines.sort_unstable();
            lines.dedup();
            let lines: Vec<String> = lines.iter().map(u64::to_string).collect();
            Failure::new(
                format!("Java {} ({}) cannot be had here; there is {}", self.text, self.said_by, lines.join(", ")),
                "Ask for one of these in system.properties (java.runtime.version=21); or the operator names another source \
                 for staging (BP_JAVA_MIRROR, BP_MIRROR), or adds an OpenJDK to the stack.",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildpack_kit::http::Integrity;
    use buildpack_kit::source::{Form, Root};

    fn wish(files: &[(&str, &str)], variables: &[(&str, &str)], classes: Option<u16>) -> Result<Wanted> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let variables = Variables(
            variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        );
        wanted(folder.path(), &variables, classes)
    }

    #[test]
    fn each_way_to_ask() {
        for (files, variables, expected, said_by) in [
            (&[][..], &[][..], 21, "default"),
            (
                &[("system.properties", "a=b\njava.runtime.version=17\n")],
                &[],
                17,
                "system.properties java.runtime.version",
            ),
            (&[(".java-version", "temurin-25.0.1\n")], &[], 25, ".java-version"),
            (&[(".java-version", "openjdk64-17.0.2\n")], &[], 17, ".java-version"),
            (&[(".sdkmanrc", "java=11.0.2-tem\n")], &[], 11, ".sdkmanrc"),
            (
                &[("pom.xml", "<properties><java.version>17</java.version>")],
                &[],
                17,
                "the build file",
            ),
            (
                &[("pom.xml", "<maven.compiler.target>1.8</maven.compiler.target>")],
                &[],
                8,
                "the build file",
            ),
            (
                &[(
                    "build.gradle",
                    "java { toolchain { languageVersion = JavaLanguageVersion.of(25) } }",
                )],
                &[],
                25,
                "the build file",
            ),
            (
                &[("build.gradle", "sourceCompatibility = JavaVersion.VERSION_1_8")],
                &[],
                8,
                "the build file",
            ),
            (
                &[],
                &[("JBP_CONFIG_OPEN_JDK_JRE", "{ jre: { version: 17.+ }}")],
                17,
                "JBP_CONFIG_OPEN_JDK_JRE",
            ),
            (&[], &[("BP_JVM_VERSION", "25.*")], 25, "BP_JVM_VERSION"),
        ] {
            let found = wish(files, variables, None).unwrap();
            assert_eq!((found.major, found.said_by), (expected, said_by), "{files:?}");
        }
        assert_eq!(wish(&[], &[], Some(25)).unwrap().said_by, "the class files");
        assert_eq!(wish(&[], &[], Some(17)).unwrap().major, 21);
        assert!(wish(&[(".java-version", "latest")], &[], None).is_err());
    }

    #[test]
    fn the_next_that_is_supported_for_long_will_do() {
        let release = |version: &&str| Release {
            version: (*version).to_owned(),
            url: String::new(),
            integrity: Integrity::Sha256(Vec::new()),
            form: Form::Zip,
            root: Root::Strip(0),
        };
        let published: Vec<Release> = ["0.0.1", "11.0.13.1", "17.0.9.2", "21.0.8.1", "21.0.8.2"]
            .iter()
            .map(release)
            .collect();
        let chosen = |files: &[(&str, &str)]| {
            let found = wish(files, &[], None).unwrap().choose(&published);
            found.map(|release| release.version).map_err(|failure| failure.cause)
        };
        assert_eq!(chosen(&[]).as_deref(), Ok("21.0.8.2"));
        assert_eq!(
            chosen(&[("pom.xml", "<java.version>18</java.version>")]).as_deref(),
            Ok("21.0.8.2")
        );
        assert_eq!(
            chosen(&[(".java-version", "18")]).unwrap_err(),
            "Java 18 (.java-version) cannot be had here; there is 11, 17, 21"
        );
    }
}
