//! The build, step by step.

use crate::project::{self, Project};
use crate::{composer, runtime, server, version};
use buildpack_kit::{BuildContext, Failure, Launch, Result};

/// Installs PHP, the packages of the app and the server, and declares the process.
///
/// # Errors
/// Why the app cannot be built.
pub fn run(context: &BuildContext) -> Result<()> {
    let Some(project) = Project::read(&context.app)? else {
        return Err(Failure::new(
            "there is no composer.json and no .php file at the top of the app",
            "Push the folder that holds them.",
        ));
    };
    let wanted = version::wanted(&context.app, &project, &context.variables)?;
    let web = project::web_folder(&context.app, &context.variables)?;
    let php = runtime::install(context, &project, &wanted)?;
    composer::install(context, &project, &php)?;
    server::write(context, &php, &web)?;
    let source = if web.is_empty() {
        "nginx and FPM for the top of the app".to_owned()
    } else {
        format!("nginx and FPM for the folder {web}")
    };
    Launch::default()
        .direct("web", &[server::PROGRAM], &source)
        .write(context)
}
