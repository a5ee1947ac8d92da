//! `paas completion`.

use crate::actor::Cx;
use crate::args::Cli;
use crate::args::platform::Completion;
use crate::errors::Error;
use clap::CommandFactory as _;

/// Prints the script.
pub fn run(cx: &Cx, args: Completion) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "paas", &mut script);
    cx.ui.out(&String::from_utf8_lossy(&script));
    Ok(())
}
