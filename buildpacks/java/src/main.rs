//! Java: a jar, a war, their contents, a source file, or a project of Maven or Gradle; the runtime for it; and memory that
//! adds up.

mod api;
mod archive;
mod build;
mod gradle;
mod jdk;
mod launch;
mod manifest;
mod maven;
mod memory;
mod project;
mod version;

use buildpack_kit::{BuildContext, Buildpack, DetectContext, Detection, Result, Variables, run};
use project::Project;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    run(&Java, &arguments, Variables(std::env::vars_os().collect()))
}

struct Java;

impl Buildpack for Java {
    fn detect(&self, context: &DetectContext) -> Result<Detection> {
        let Some(project) = Project::of(&context.app) else {
            return Ok(Detection::Declined(
                "no pom.xml, build.gradle, .jar, .war, META-INF/MANIFEST.MF with a Main-Class, or .java file with a main"
                    .to_owned(),
            ));
        };
        Ok(Detection::Passed {
            found: format!("Java ({})", project.describe()),
            provides: Some("jvm-application".to_owned()),
        })
    }

    fn build(&self, context: &BuildContext) -> Result<()> {
        build::run(context)
    }
}
