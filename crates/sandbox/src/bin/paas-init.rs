//! Two programs in one, because both become the first process of sandboxes: `paas-init spawner`, the process that
//! forks the platform's inits (started by the agent, with its listening socket as standard input), and a runtime for
//! OCI bundles, for use by hand and by whatever drives such runtimes.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["spawner"] {
        return match sandbox::spawner::serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&format!("paas-init: spawner failed: {error}"), 70),
        };
    }
    match sandbox::oci::cli::execute(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(failed) => complain(&format!("paas-init: {}", failed.text), failed.code),
    }
}

fn complain(text: &str, code: u8) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(code)
}
