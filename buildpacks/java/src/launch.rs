//! What starts the app, and where that is written.

use crate::archive::Archive;
use crate::project::{Project, is_executable, top};
use buildpack_kit::{Failure, Result, Variables};
use std::path::Path;

/// A start command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// What follows `java` and its options.
    pub arguments: String,
    /// Where it comes from.
    pub source: String,
    /// What is started.
    pub archive: Archive,
}

impl Start {
    /// For the shell, which is replaced.
    #[must_use]
    pub fn command(&self) -> String {
        format!("exec java $JAVA_OPTS {}", self.arguments)
    }
}

/// Folders where builds leave their results.
const BUILT: &[&str] = &["target/quarkus-app", "target", "build/quarkus-app", "build/libs"];
/// Ends of names of jars beside the one that is started.
const BESIDE: &[&str] = &["-sources.jar", "-javadoc.jar", "-tests.jar", "-plain.jar", "-stubs.jar"];

/// For an app that needs no build, or was built.
///
/// # Errors
/// Where nothing can be started, or it is not clear what.
pub fn infer(app: &Path, project: &Project, variables: &Variables) -> Result<Start> {
    if let Some(name) = variables.get("BP_JAVA_JAR") {
        let archive = Archive::of_file(&app.join(name)).ok_or_else(|| {
            Failure::new(
                format!("BP_JAVA_JAR names {name}, which is no jar of the app"),
                "Name a jar, relative to the top of the app.",
            )
        })?;
        return of_archive(name, archive, "BP_JAVA_JAR");
    }
    match project {
        Project::Exploded => exploded(app),
        Project::Archives(names) => one_of(app, names),
        _ => one_of(app, &results(app)),
    }
}

fn exploded(app: &Path) -> Result<Start> {
    let archive = Archive::of_folder(app);
    let Some(main) = archive.manifest.main_class().map(str::to_owned) else {
        return Err(no_server("the app"));
    };
    let further = archive
        .manifest
        .get("Class-Path")
        .unwrap_or_default()
        .split_whitespace();
    let is_plain =
        |name: &&str| app.join(name).exists() && name.chars().all(|c| c.is_alphanumeric() || "./-_+".contains(c));
    let path: Vec<&str> = std::iter::once(".").chain(further.filter(is_plain)).collect();
    Ok(Start {
        arguments: format!("-cp {} {main}", path.join(":")),
        source: "Main-Class in META-INF/MANIFEST.MF".to_owned(),
        archive,
    })
}

fn no_server(what: &str) -> Failure {
    Failure::new(
        format!("{what} is a war without a server of its own: its manifest names no Main-Class"),
        "Package it with a server, for example as an executable war of Spring Boot, or with an embedded Jetty or Tomcat.",
    )
}

/// The one of `names`, relative to the app, that can be started.
fn one_of(app: &Path, names: &[String]) -> Result<Start> {
    let executable: Vec<&String> = names.iter().filter(|name| is_executable(&app.join(name))).collect();
    match executable.as_slice() {
        [name] => {
            let archive = Archive::of_file(&app.join(name)).unwrap_or_default();
            of_archive(name, archive, "Main-Class of")
        }
        [] => Err(none_starts(app, names)),
        several => {
            let list: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            Err(Failure::new(
                format!("several of the app's jars can be started: {}", list.join(", ")),
                "Name the one in BP_JAVA_JAR, or write a Procfile, for example `web: java $JAVA_OPTS -jar app.jar`.",
            ))
        }
    }
}

fn none_starts(app: &Path, names: &[String]) -> Failure {
    let damaged = names.iter().find(|name| Archive::of_file(&app.join(name)).is_none());
    if let Some(name) = damaged {
        return Failure::new(
            format!("{name} is damaged: it is no zip archive"),
            "Build it again, and look at how it is copied; .gitattributes and text filters damage jars.",
        );
    }
    if names.iter().any(|name| name.ends_with(".war")) {
        return no_server(&names.join(", "));
    }
    if names.is_empty() {
        return Failure::new(
            "the build left no jar that can be started",
            "Build an executable jar (Spring Boot's plugin, maven-shade-plugin, Gradle's application or shadow plugin), or name \
             one in BP_JAVA_JAR.",
        );
    }
    Failure::new(
        format!("the manifest of {} names no Main-Class", names.join(", ")),
        "Build an executable jar; or write a Procfile, for example `web: java -cp 'lib/*' org.example.Main`.",
    )
}

fn of_archive(name: &str, archive: Archive, said_by: &str) -> Result<Start> {
    if archive.manifest.main_class().is_none() && archive.is_war {
        return Err(no_server(name));
    }
    Ok(Start {
        arguments: format!("-jar '{}'", name.replace('\'', "'\\''")),
        source: format!("{said_by} {name}"),
        archive,
    })
}

/// Jars and wars that a build left, those of modules too, relative to the app.
fn results(app: &Path) -> Vec<String> {
    let mut modules = vec![String::new()];
    for entry in std::fs::read_dir(app)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok())
    {
        if entry.path().is_dir()
            && let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            modules.push(format!("{name}/"));
        }
    }
    modules.sort();
    let mut found = Vec::new();
    for module in modules {
        for folder in BUILT {
            let folder = format!("{module}{folder}");
            let names = top(&app.join(&folder), &[".jar", ".war"]);
            let own = names
                .into_iter()
                .filter(|name| !BESIDE.iter().any(|end| name.ends_with(end)) && !name.starts_with("original-"));
            let before = found.len();
            found.extend(own.map(|name| format!("{folder}/{name}")));
            if found.len() > before {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::zip;

    const MAIN: &[u8] = b"Main-Class: a.Main\n";

    fn infer_in(files: &[(&str, &[u8])], variables: &[(&str, &str)]) -> std::result::Result<(String, String), String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let variables = Variables(
            variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        );
        let project = Project::of(folder.path()).unwrap();
        let start = infer(folder.path(), &project, &variables);
        start
            .map(|start| (start.arguments, start.source))
            .map_err(|failure| format!("{}\n  -> {}", failure.cause, failure.remedy))
    }

    #[test]
    fn each_kind_of_app_is_started() {
        let (runs, library) = (zip(&[("META-INF/MANIFEST.MF", MAIN)]), zip(&[("a/B.class", b"")]));
        let ok = |arguments: &str, source: &str| Ok((arguments.to_owned(), source.to_owned()));
        assert_eq!(
            infer_in(
                &[
                    (
                        "META-INF/MANIFEST.MF",
                        b"Main-Class: a.Main\nClass-Path: lib/x.jar lib/gone.jar\n"
                    ),
                    ("lib/x.jar", b"")
                ],
                &[]
            ),
            ok("-cp .:lib/x.jar a.Main", "Main-Class in META-INF/MANIFEST.MF")
        );
        assert_eq!(
            infer_in(&[("app.jar", &runs), ("lib.jar", &library)], &[]),
            ok("-jar 'app.jar'", "Main-Class of app.jar")
        );
        let built: &[(&str, &[u8])] = &[
            ("pom.xml", b""),
            ("web/target/web-1.jar", &runs),
            ("web/target/web-1-sources.jar", &runs),
            ("web/target/original-web-1.jar", &runs),
            ("core/target/core-1.jar", &library),
        ];
        assert_eq!(
            infer_in(built, &[]),
            ok("-jar 'web/target/web-1.jar'", "Main-Class of web/target/web-1.jar")
        );
        let two: &[(&str, &[u8])] = &[("a.jar", &runs), ("b.jar", &runs)];
        assert_eq!(
            infer_in(two, &[("BP_JAVA_JAR", "b.jar")]),
            ok("-jar 'b.jar'", "BP_JAVA_JAR b.jar")
        );
    }

    /// What is told where nothing can be started, for reading.
    #[test]
    fn failures_in_words() {
        let (runs, library) = (zip(&[("META-INF/MANIFEST.MF", MAIN)]), zip(&[("a/B.class", b"")]));
        let war = zip(&[("WEB-INF/web.xml", b"")]);
        let cases: [&[(&str, &[u8])]; 6] = [
            &[("a.jar", &runs), ("b.jar", &runs)],
            &[("lib.jar", &library)],
            &[("app.jar", b"damaged")],
            &[("app.war", &war)],
            &[("WEB-INF/web.xml", b"")],
            &[("pom.xml", b"")],
        ];
        let told: Vec<String> = cases.iter().map(|files| infer_in(files, &[]).unwrap_err()).collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
