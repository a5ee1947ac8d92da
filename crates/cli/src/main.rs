//! `paas`, the command line: arguments, a command, an exit code.
//!
//! The layers: `args` (grammar), `commands` (one file a verb), `actor` (use cases), `client` (the API), `ui` (the only one
//! that prints), `errors` (all words for what goes wrong). Nothing here knows an app.

mod actor;
mod args;
mod client;
mod commands;
mod config;
mod errors;
mod interrupt;
mod manifest;
mod source;
mod terminal;
mod ui;

use actor::Cx;
use args::{Cli, ColorWhen, Globals};
use clap::Parser as _;
use clap::error::ErrorKind;
use config::Environment;
use errors::Error;
use std::process::ExitCode;
use ui::{Settings, Ui};

fn main() -> ExitCode {
    let environment = Environment::from_process();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(usage(&environment, &error)),
    };
    let ui = Ui::new(settings(&environment, &cli.globals));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            ui.error(&Error::file("start", "the runtime", &error));
            return ExitCode::from(1);
        }
    };
    let cx = Cx::new(ui.clone(), environment, &cli.globals);
    let outcome = runtime.block_on(async {
        let command = commands::run(&cx, cli.command);
        tokio::pin!(command);
        tokio::select! {
            outcome = &mut command => outcome,
            () = interrupt::first() => Err(interrupt::handle(&cx).await),
        }
    });
    // A thread may still be reading standard input, and would be waited for.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            ui.error(&error);
            ExitCode::from(error.report().exit_code)
        }
    }
}

/// Shows what clap has to say: help and version as results, the rest as an error of ours.
fn usage(environment: &Environment, error: &clap::Error) -> u8 {
    let json = std::env::args_os().any(|arg| arg == "--json");
    let ui = Ui::new(settings(
        environment,
        &Globals {
            json,
            ..Globals::default()
        },
    ));
    let text = if ui.settings().color {
        error.render().ansi().to_string()
    } else {
        error.render().to_string()
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            ui.out(&text);
            0
        }
        _ if json => {
            let plain = error.render().to_string();
            let message = plain
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned();
            let error = Error::Usage {
                message,
                hint: Some("`paas help` shows how it is written".into()),
            };
            ui.error(&error);
            error.report().exit_code
        }
        _ => {
            ui.usage_text(&text);
            2
        }
    }
}

fn settings(environment: &Environment, globals: &Globals) -> Settings {
    let dumb = environment.var("TERM").is_some_and(|term| term == "dumb");
    let plain = dumb || environment.has("NO_COLOR") || environment.has("CI");
    let chosen = globals
        .color
        .or_else(|| match environment.var("PAAS_COLOR").as_deref() {
            Some("always") => Some(ColorWhen::Always),
            Some("never") => Some(ColorWhen::Never),
            _ => None,
        });
    let (color, forced) = match chosen {
        Some(ColorWhen::Always) => (true, true),
        Some(ColorWhen::Never) => (false, false),
        _ => (
            !plain || environment.has("CLICOLOR_FORCE"),
            environment.has("CLICOLOR_FORCE"),
        ),
    };
    Settings {
        json: globals.json,
        quiet: globals.quiet,
        verbose: globals.verbose,
        trace: globals.trace,
        color,
        color_forced: forced,
        stdin_tty: environment.stdin_tty,
        stdout_tty: environment.stdout_tty,
        // Without cursor movement, or for a log of a build server, lines are the better form.
        stderr_tty: environment.stderr_tty && !dumb && !environment.has("CI"),
        yes: globals.yes,
        no_input: globals.no_input || environment.has("CI"),
    }
}
