//! The build, step by step.

use crate::archive::Archive;
use crate::jdk::{self, Java};
use crate::launch::{self, Start};
use crate::project::{Project, top};
use crate::version::{self, Wanted};
use crate::{gradle, maven, memory};
use buildpack_kit::tool::{self, Hint};
use buildpack_kit::{BuildContext, Failure, Launch, Result, Types, output};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Most bytes of what Maven and Gradle download that are kept for the next build.
pub const CACHE_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Builds where there is something to build, provides the runtime, and declares the process.
///
/// # Errors
/// Why the app cannot be built.
pub fn run(context: &BuildContext) -> Result<()> {
    let app = &context.app;
    let Some(project) = Project::of(app) else {
        return Err(Failure::new(
            "there is no jar, war, pom.xml, build.gradle or source file with a main at the top of the app",
            "Push one of these: for a project that is built, the jar (-p target/app.jar) or the whole project.",
        ));
    };
    let procfile = app.join("Procfile").is_file();
    let start = match &project {
        Project::Maven | Project::Gradle | Project::Sources(_) => build(context, &project, procfile)?,
        _ => found(context, &project, procfile)?,
    };
    let classes = start.as_ref().map(|start| &start.archive);
    let wanted = version::wanted(app, &context.variables, classes.and_then(|archive| archive.release))?;
    check(&wanted, classes)?;
    jdk::runtime(context, &wanted)?;
    set_up(context, classes.map_or(0, |archive| archive.classes))?;
    let launch = match &start {
        Some(start) => Launch::default().shell("web", &start.command(), &start.source),
        None => Launch::default(),
    };
    launch.write(context)
}

/// What starts the app; with a Procfile that says it nothing needs to be found.
fn found(context: &BuildContext, project: &Project, procfile: bool) -> Result<Option<Start>> {
    match launch::infer(&context.app, project, &context.variables) {
        Err(_) if procfile => Ok(None),
        result => result.map(Some),
    }
}

fn build(context: &BuildContext, project: &Project, procfile: bool) -> Result<Option<Start>> {
    let wanted = version::wanted(&context.app, &context.variables, None)?;
    let java = jdk::compiler(context, &wanted)?;
    output::headline(&format!("Compiler of Java {} ({})", java.version, java.home.display()));
    match project {
        Project::Sources(class) => return compile(context, &java, &wanted, class).map(Some),
        Project::Maven => maven::build(context, &java)?,
        _ => gradle::build(context, &java)?,
    }
    found(context, project, procfile)
}

/// A command of a build tool that finds `java`.
pub fn command(context: &BuildContext, java: &Java, program: &Path) -> Command {
    let mut path = OsString::from(java.home.join("bin"));
    path.push(":");
    path.push(context.variables.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin"));
    let mut command = Command::new(program);
    command
        .current_dir(&context.app)
        .env("PATH", path)
        .env("JAVA_HOME", &java.home);
    command
}

/// A build tool as it is run: the project's wrapper `./<wrapper>`, else `<name>` of the stack, and how users know it.
/// `None`: there is neither.
pub fn wrapped(context: &BuildContext, java: &Java, wrapper: &str, name: &str) -> Option<(Command, String)> {
    let own = context.app.join(wrapper);
    if own.is_file() {
        // A wrapper that lost its mode on the way is run all the same.
        let mut shell = command(context, java, Path::new("/bin/sh"));
        shell.arg(own);
        return Some((shell, format!("./{wrapper}")));
    }
    let of_stack = ["/usr/local/bin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
    let program = of_stack.into_iter().find(|path| path.is_file())?;
    Some((command(context, java, &program), name.to_owned()))
}

/// Source files at the top, compiled into a layer.
fn compile(context: &BuildContext, java: &Java, wanted: &Wanted, class: &str) -> Result<Start> {
    let mut layer = context.layer("classes");
    layer.reset()?;
    let classes = layer.dir.join("classes");
    let mut javac = command(context, java, &java.home.join("bin/javac"));
    javac
        .args(["--release", &wanted.major.to_string(), "-cp", ".:*:lib/*", "-d"])
        .arg(&classes)
        .args(top(&context.app, &[".java"]));
    output::headline("Build: javac *.java");
    tool::run(&mut javac, "javac", HINTS)?;
    layer.keep(Types::LAUNCH, "classes", &[])?;
    Ok(Start {
        arguments: format!("-cp '{}:.:*:lib/*' {class}", classes.display()),
        source: format!("main in {class}.java"),
        archive: Archive::of_folder(&classes),
    })
}

/// Classes that the runtime is too old for would only be told when they are loaded.
fn check(wanted: &Wanted, archive: Option<&Archive>) -> Result<()> {
    let Some(release) = archive.and_then(|archive| archive.release).map(u64::from) else {
        return Ok(());
    };
    if release <= wanted.major {
        return Ok(());
    }
    Err(Failure::new(
        format!(
            "the app is compiled for Java {release}, and {} asks for Java {}",
            wanted.said_by, wanted.text
        ),
        format!(
            "Ask for Java {release} (java.runtime.version={release} in system.properties), or compile it for {}.",
            wanted.major
        ),
    ))
}

fn set_up(context: &BuildContext, classes: u64) -> Result<()> {
    let mut layer = context.layer("settings");
    layer.reset()?;
    memory::write(&layer, classes)?;
    layer.keep(Types::LAUNCH, "settings", &[])
}

/// What the compiler says, and what it means.
const HINTS: &[Hint] = &[
    Hint {
        words: &["release version", "invalid target release"],
        cause: "the compiler does not know the release of Java that the app asks for (see above)",
        remedy: "Ask for another one in system.properties (java.runtime.version), or push to a stack with a newer OpenJDK.",
    },
    Hint {
        words: &["java.lang.OutOfMemoryError"],
        cause: "the compiler ran out of memory: a JVM takes a quarter of what the build has (see above)",
        remedy: "Give builds more memory (staging_memory_in_mb).",
    },
    Hint {
        words: &["error:", "errors"],
        cause: "the app does not compile (see above)",
        remedy: "Repair it; the same command in a fresh copy of the app should fail in the same way.",
    },
];
