//! Maven: by the project's wrapper, else by that of the stack, with downloads in a layer that the next build finds again.

use crate::build::{CACHE_BYTES, wrapped};
use crate::jdk::Java;
use buildpack_kit::source::mirror;
use buildpack_kit::tool::{self, Hint};
use buildpack_kit::{BuildContext, Failure, Result, Types, Variables, http, output};
use std::path::{Path, PathBuf};

/// What is run where the app says nothing else.
const GOALS: &str = "-DskipTests package";

/// Builds the project.
///
/// # Errors
/// Why it cannot be built.
pub fn build(context: &BuildContext, java: &Java) -> Result<()> {
    let variables = &context.variables;
    let downloads = context.layer("maven").bounded(CACHE_BYTES)?;
    let tmp = context.scratch()?;
    let (mut maven, shown) = wrapped(context, java, "mvnw", "mvn").ok_or_else(missing)?;
    maven
        .args(["--batch-mode", "--no-transfer-progress"])
        .arg(format!(
            "-Dmaven.repo.local={}",
            downloads.dir.join("repository").display()
        ))
        // Jars that are made twice are then the same.
        .arg("-Dproject.build.outputTimestamp=1980-02-01T00:00:00Z")
        .env("MAVEN_USER_HOME", downloads.dir.join("wrapper"));
    let mirror = mirror(variables, "BP_MAVEN_MIRROR", "maven");
    if let Some(path) = settings(context) {
        maven.arg("--settings").arg(path);
    } else if let Some(mirror) = &mirror {
        let path = tmp.path().join("settings.xml");
        std::fs::write(&path, mirrored(mirror)).map_err(Failure::file("write", &path))?;
        maven.arg("--settings").arg(path).env("MVNW_REPOURL", mirror);
    }
    let goals = variables.get("BP_MAVEN_BUILD_ARGUMENTS").unwrap_or(GOALS);
    if let Some(module) = variables.get("BP_MAVEN_BUILT_MODULE") {
        maven.args(["--projects", module, "--also-make"]);
    }
    output::headline(&format!("Build: {shown} {goals}"));
    let built = tool::run(maven.args(goals.split_whitespace()), &format!("{shown} {goals}"), HINTS);
    downloads.keep(Types::CACHED, "1", &[])?;
    built.map(drop)
}

fn missing() -> Failure {
    Failure::new(
        "the app is built by Maven, and there is neither a wrapper (mvnw) nor a mvn in the stack",
        "Run `mvn wrapper:wrapper` and push mvnw and .mvn; or push to a stack with the package maven; or push the jar.",
    )
}

/// The app's own settings.
fn settings(context: &BuildContext) -> Option<PathBuf> {
    let named = context
        .variables
        .get("BP_MAVEN_SETTINGS_PATH")
        .map(|path| context.app.join(path));
    let usual = ["settings.xml", ".mvn/settings.xml"].map(|name| context.app.join(name));
    named.into_iter().chain(usual).find(|path| path.is_file())
}

/// The mirror that `setting` names, else the part of the platform's mirror that there is.
pub fn mirror(variables: &Variables, setting: &str, part: &str) -> Option<String> {
    if let Some(text) = variables.get(setting) {
        return Some(http::address(text));
    }
    let base = http::address(variables.get(mirror::SETTING)?);
    let whole = format!("{base}/{part}");
    http::local(&whole).is_none_or(Path::is_dir).then_some(whole)
}

/// Settings that take everything from `mirror`.
fn mirrored(mirror: &str) -> String {
    let mirror = mirror.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<settings><mirrors><mirror><id>platform</id><mirrorOf>*</mirrorOf><url>{mirror}</url></mirror></mirrors></settings>\n"
    )
}

/// What Maven says, and what it means.
const HINTS: &[Hint] = &[
    Hint {
        words: &["COMPILATION ERROR", "Compilation failure"],
        cause: "the app does not compile (see above)",
        remedy: "Repair it; the same command in a fresh copy of the app should fail in the same way.",
    },
    Hint {
        words: &[
            "Unknown host",
            "Connect to ",
            "Connection timed out",
            "PKIX path",
            "Failed to fetch",
            "Failed to download",
        ],
        cause: "a repository of Maven could not be reached (see above)",
        remedy: "Push the jar that you build (-p target/app.jar), which needs no download; or the operator names a mirror that \
                 builds can reach (BP_MAVEN_MIRROR, or a maven folder of BP_MIRROR).",
    },
    Hint {
        words: &["Could not find artifact", "was not found in"],
        cause: "an artifact does not exist in the repository (see above)",
        remedy: "Repair its version; or the operator adds it to the mirror of staging.",
    },
    Hint {
        words: &["There are test failures"],
        cause: "tests of the app fail (see above)",
        remedy: "Repair them, or leave them out of the build (BP_MAVEN_BUILD_ARGUMENTS=-DskipTests package).",
    },
    Hint {
        words: &["Non-parseable POM", "Malformed POM"],
        cause: "pom.xml is not valid (see above)",
        remedy: "Repair it; `mvn validate` says where it is broken.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_from_the_mirror() {
        assert!(mirrored("https://m.test/a?b&c").contains("<url>https://m.test/a?b&amp;c</url>"));
        let folder = tempfile::tempdir().unwrap();
        let variables = Variables([(mirror::SETTING.into(), folder.path().into())].into());
        assert_eq!(mirror(&variables, "BP_MAVEN_MIRROR", "maven"), None);
        std::fs::create_dir(folder.path().join("maven")).unwrap();
        assert!(
            mirror(&variables, "BP_MAVEN_MIRROR", "maven")
                .unwrap()
                .starts_with("file:///")
        );
        let variables = Variables([("BP_MAVEN_MIRROR".into(), "https://m.test/".into())].into());
        assert_eq!(
            mirror(&variables, "BP_MAVEN_MIRROR", "maven").as_deref(),
            Some("https://m.test")
        );
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
