//! `paas-lifecycle`: the one program of the platform that runs beside other people's code. It has no credentials and no
//! options beyond what the cell needs to say.

use lifecycle::cnb::environment::Environment;
use lifecycle::{Error, Paths, build, errors, launch, session, ui};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: paas-lifecycle build --input FILE
       paas-lifecycle launch --process TYPE [--args ARGUMENT... | -- COMMAND | -- PROGRAM ARGUMENT...]
       paas-lifecycle session -- PROGRAM ARGUMENT...
       paas-lifecycle connect HOST PORT
       paas-lifecycle sftp";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let environment = Environment(std::env::vars_os().collect());
    match words.as_slice() {
        ["build", "--input", file] => run_build(file.into(), environment),
        ["launch", "--process", process] => run_launch(process, &[], &[], environment),
        ["launch", "--process", process, "--args", args @ ..] => run_launch(process, &[], args, environment),
        ["launch", "--process", process, "--", command @ ..] => run_launch(process, command, &[], environment),
        ["session", "--", ..] => session::end(session::run(&arguments[2..])),
        ["connect", host, port] => match port.parse() {
            Ok(port) => run_service(session::connect::run(host, port)),
            Err(_) => usage(),
        },
        ["sftp"] => run_service(session::sftp::run()),
        ["--version"] => {
            ui::line(concat!("paas-lifecycle ", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    ui::alert_on_stderr(USAGE);
    ExitCode::from(2)
}

/// Ends a session that serves its standard streams.
fn run_service(served: std::io::Result<()>) -> ExitCode {
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui::alert_on_stderr(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run_build(input: PathBuf, environment: Environment) -> ExitCode {
    match build::run(&Paths::in_sandbox(), &input, environment) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let failure = error.explain();
            ui::alert(&failure.title);
            ui::alert(&failure.cause);
            ui::alert(&failure.remedy);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run_launch(process: &str, command: &[&str], args: &[&str], environment: Environment) -> ExitCode {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let request = launch::Request {
        process: process.to_owned(),
        command: owned(command),
        args: owned(args),
    };
    let error: Error = match launch::run(&Paths::in_sandbox(), &request, environment) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    ui::alert_on_stderr(&errors::chain(&error));
    if let Error::NoStartCommand { process, known } = &error {
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        ui::alert_on_stderr(&format!(
            "process type {process:?} is not one of the droplet's ({known}): add it to a Procfile, or give a start command"
        ));
    }
    ExitCode::from(error.exit_code())
}
