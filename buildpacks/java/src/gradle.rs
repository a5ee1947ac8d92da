//! Gradle: by the project's wrapper, else by that of the stack, with downloads in a layer that the next build finds again.

use crate::build::{CACHE_BYTES, wrapped};
use crate::jdk::Java;
use crate::maven::mirror;
use buildpack_kit::tool::{self, Hint};
use buildpack_kit::{BuildContext, Failure, Result, Types, output};
use std::path::Path;

/// What is run where the app says nothing else.
const TASKS: &str = "assemble -x test";
/// Where the wrapper says where Gradle comes from.
const WRAPPER: &str = "gradle/wrapper/gradle-wrapper.properties";
/// Jars that are made twice are then the same.
const REPRODUCIBLE: &str = "allprojects { tasks.withType(AbstractArchiveTask).configureEach { preserveFileTimestamps = false; reproducibleFileOrder = true } }\n";

/// Builds the project.
///
/// # Errors
/// Why it cannot be built.
pub fn build(context: &BuildContext, java: &Java) -> Result<()> {
    let variables = &context.variables;
    let downloads = context.layer("gradle").bounded(CACHE_BYTES)?;
    let tmp = context.scratch()?;
    let (mut gradle, shown) = wrapped(context, java, "gradlew", "gradle").ok_or_else(missing)?;
    let mut script = REPRODUCIBLE.to_owned();
    if let Some(mirror) = mirror(variables, "BP_MAVEN_MIRROR", "maven") {
        script.push_str(&mirrored(&mirror));
    }
    let init = tmp.path().join("platform.gradle");
    std::fs::write(&init, script).map_err(Failure::file("write", &init))?;
    let original = mirror(variables, "BP_GRADLE_MIRROR", "gradle")
        .map(|mirror| distribution(&context.app, &mirror))
        .transpose()?
        .flatten();
    let tasks = variables.get("BP_GRADLE_BUILD_ARGUMENTS").unwrap_or(TASKS);
    gradle
        .args(["--no-daemon", "--console=plain", "--init-script"])
        .arg(&init)
        .args(tasks.split_whitespace())
        .env("GRADLE_USER_HOME", &downloads.dir);
    output::headline(&format!("Build: {shown} {tasks}"));
    let built = tool::run(&mut gradle, &format!("{shown} {tasks}"), HINTS);
    if let Some(original) = original {
        let path = context.app.join(WRAPPER);
        std::fs::write(&path, original).map_err(Failure::file("write", &path))?;
    }
    // What it keeps of this build alone is of no use to the next, and never the same.
    for folder in [context.app.join(".gradle"), downloads.dir.join("daemon")] {
        if folder.is_dir() {
            std::fs::remove_dir_all(&folder).map_err(Failure::file("remove", &folder))?;
        }
    }
    downloads.keep(Types::CACHED, "1", &[])?;
    built.map(drop)
}

fn missing() -> Failure {
    Failure::new(
        "the app is built by Gradle, and there is neither a wrapper (gradlew) nor a gradle in the stack",
        "Run `gradle wrapper` and push gradlew and the folder gradle; or push to a stack with the package gradle; or push the jar.",
    )
}

/// A script that takes everything from `mirror`.
fn mirrored(mirror: &str) -> String {
    let mirror = mirror.replace('\\', "\\\\").replace('\'', "\\'");
    let repository = format!("maven {{ url = '{mirror}'; allowInsecureProtocol = true }}");
    format!(
        "def platform = {{ clear(); {repository} }}\n\
         settingsEvaluated {{ s -> s.pluginManagement.repositories(platform); s.dependencyResolutionManagement.repositories(platform) }}\n\
         allprojects {{ afterEvaluate {{ repositories(platform); buildscript.repositories(platform) }} }}\n"
    )
}

/// Has the wrapper take Gradle from `mirror`; its settings as they were, where they were changed.
fn distribution(app: &Path, mirror: &str) -> Result<Option<String>> {
    let path = app.join(WRAPPER);
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(None);
    };
    let changed: Vec<String> = text.lines().map(|line| distribution_line(line, mirror)).collect();
    std::fs::write(&path, changed.join("\n") + "\n").map_err(Failure::file("write", &path))?;
    Ok(Some(text))
}

fn distribution_line(line: &str, mirror: &str) -> String {
    match line
        .strip_prefix("distributionUrl=")
        .and_then(|url| url.rsplit('/').next())
    {
        Some(file) => format!("distributionUrl={}/{file}", mirror.replace(':', "\\:")),
        None => line.to_owned(),
    }
}

/// What Gradle says, and what it means.
const HINTS: &[Hint] = &[
    Hint {
        words: &["Compilation failed", "compilation failed", "Compilation error"],
        cause: "the app does not compile (see above)",
        remedy: "Repair it; the same command in a fresh copy of the app should fail in the same way.",
    },
    Hint {
        words: &[
            "UnknownHostException",
            "Could not GET",
            "Could not HEAD",
            "Connect to ",
            "PKIX path",
            "ConnectException",
        ],
        cause: "Gradle, or a repository of the app, could not be reached (see above)",
        remedy: "Push the jar that you build (-p build/libs/app.jar), which needs no download; or the operator names mirrors that \
                 builds can reach (BP_GRADLE_MIRROR, BP_MAVEN_MIRROR, or folders of BP_MIRROR).",
    },
    Hint {
        words: &["Could not resolve all", "Could not find "],
        cause: "an artifact does not exist in the app's repositories (see above)",
        remedy: "Repair its version; or the operator adds it to the mirror of staging.",
    },
    Hint {
        words: &[
            "Unsupported class file major version",
            "requires JVM",
            "Incompatible Gradle JVM",
        ],
        cause: "this Gradle does not run on the Java that the app asks for (see above)",
        remedy: "Use a newer Gradle (`./gradlew wrapper --gradle-version latest`), or ask for another Java in system.properties.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrapper_takes_gradle_from_the_mirror() {
        let line = "distributionUrl=https\\://services.gradle.org/distributions/gradle-8.10-bin.zip";
        assert_eq!(
            distribution_line(line, "https://m.test/gradle"),
            "distributionUrl=https\\://m.test/gradle/gradle-8.10-bin.zip"
        );
        assert_eq!(distribution_line("zipStorePath=x", "m"), "zipStorePath=x");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(distribution(folder.path(), "m").unwrap(), None);
        assert!(mirrored("https://m.test/it's").contains("url = 'https://m.test/it\\'s'"));
    }

    /// Everything that is told where a build fails, for reading.
    #[test]
    fn failures_in_words() {
        let told: Vec<String> = HINTS
            .iter()
            .map(|hint| format!("{}\n  {}\n  -> {}\n", hint.words[0], hint.cause, hint.remedy))
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
