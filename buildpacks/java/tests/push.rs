//! Apps pushed with a real Java, started from their layers, and pushed again. Compiling needs a JDK of this machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use lifecycle::testing::{Running, Stage, written};
use model::staging::BuildResult;
use std::io::Write as _;
use std::path::Path;

fn stage() -> Stage {
    Stage::of(
        "java_buildpack",
        env!("CARGO_MANIFEST_DIR"),
        env!("CARGO_BIN_EXE_buildpack-java"),
    )
}

fn start(stage: &Stage, result: &BuildResult) -> Running {
    stage.web(result, "128m")
}

fn empty(stage: &Stage) {
    std::fs::remove_dir_all(stage.source()).unwrap();
    std::fs::create_dir(stage.source()).unwrap();
}

/// One test, since a runtime is 34 MB: the same program as sources, as a jar, and as the contents of one.
#[test]
fn sources_jar_and_contents() {
    let mut stage = stage();
    stage.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/apps/java-http"));
    let first = stage.push().unwrap();
    assert_eq!(first.buildpacks[0].detected, "Java (Main.java)");
    assert_eq!(first.processes[0].source, "main in Main.java");
    let classes = stage.paths().layers.join("paas_java/classes/classes");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(classes).unwrap() {
        let path = entry.unwrap().path();
        files.push((
            path.file_name().unwrap().to_str().unwrap().to_owned(),
            std::fs::read(&path).unwrap(),
        ));
    }
    let mut running = start(&stage, &first);
    assert!(running.get("/").contains("Hello from Java 17"));
    let env = running.get("/env");
    assert!(
        env.contains("-Xmx") && env.contains(&format!("SERVER_PORT={}", running.port)),
        "{env}"
    );
    assert_eq!(running.stop().code(), Some(143), "SIGTERM reaches the JVM itself");
    assert_eq!(written(&stage.push().unwrap()), ["app", "config"], "an unchanged push");

    empty(&stage);
    files.push(("META-INF/MANIFEST.MF".to_owned(), b"Main-Class: Main\n".to_vec()));
    files.sort();
    let mut jar = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in &files {
        stage.write(name, content);
        jar.start_file(name.as_str(), zip::write::SimpleFileOptions::default())
            .unwrap();
        jar.write_all(content).unwrap();
    }
    stage.write("system.properties", "java.runtime.version=17\n");
    let exploded = stage.push().unwrap();
    assert_eq!(exploded.processes[0].source, "Main-Class in META-INF/MANIFEST.MF");
    assert!(!written(&exploded).contains(&"paas/java:jre"), "the same runtime");
    assert!(start(&stage, &exploded).get("/").contains("Hello from Java 17"));

    stage.write("system.properties", "java.runtime.version=11\n");
    let failure = stage.push().unwrap_err().explain();
    assert_eq!(
        failure.cause,
        "the app is compiled for Java 17, and system.properties java.runtime.version asks for Java 11"
    );

    empty(&stage);
    stage.write("system.properties", "java.runtime.version=17\n");
    stage.write("app.jar", jar.finish().unwrap().into_inner());
    let jar = stage.push().unwrap();
    assert_eq!(jar.processes[0].command, "exec java $JAVA_OPTS -jar 'app.jar'");
    assert!(start(&stage, &jar).get("/").contains("Hello from Java 17"));
}

#[test]
fn failures_say_what_to_do() {
    let main = "class Main { public static void main(String[] a) { undefined(); } }";
    let mut told = String::new();
    let cases: [&[(&str, &str)]; 4] = [
        &[("Main.java", main), ("system.properties", "java.runtime.version=17\n")],
        &[
            ("Main.java", main),
            ("system.properties", "java.runtime.version=latest\n"),
        ],
        &[("app.jar", "damaged")],
        &[(
            "build.gradle",
            "java { toolchain { languageVersion = JavaLanguageVersion.of(17) } }",
        )],
    ];
    for files in cases {
        let mut stage = stage();
        for (name, content) in files {
            stage.write(name, content);
        }
        let failure = stage.push().unwrap_err().explain();
        told.push_str(&format!(
            "{}\n  {}\n  -> {}\n\n",
            failure.title, failure.cause, failure.remedy
        ));
    }
    insta::assert_snapshot!("failures", told);
}
