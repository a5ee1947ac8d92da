//! `paas-init spawner`: the process that forks the inits, which is all this program does.
//! It is started by the agent, with its listening socket as standard input.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments != ["spawner"] {
        return complain("usage: paas-init spawner (started by the cell agent)", 64);
    }
    match sandbox::spawner::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("paas-init: spawner failed: {error}"), 70),
    }
}

fn complain(text: &str, code: u8) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(code)
}
