//! `paas exec`.

use crate::actor::{Cx, exec as actor};
use crate::args::app::Exec;
use crate::client::exec::ExecRequest;
use crate::errors::Error;
use crate::terminal;

/// Runs a command inside an instance; its exit code is ours.
pub async fn run(cx: &Cx, args: Exec) -> Result<u8, Error> {
    if cx.ui.json() {
        return Err(Error::usage("a session has no JSON form"));
    }
    let wants_terminal = !args.no_tty && cx.env.stdin_tty && cx.env.stdout_tty;
    if !wants_terminal && args.command.is_empty() && cx.env.stdin_tty {
        return Err(Error::Usage {
            message: "a shell needs a terminal".into(),
            hint: Some("give a command: `paas exec APP -- ls`".into()),
        });
    }
    cx.ui
        .detail(&format!("opening a session with {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let request = ExecRequest {
        app: &app.guid,
        process: &args.process,
        index: args.index,
        command: &args.command,
        terminal: wants_terminal.then(|| terminal::size().unwrap_or((24, 80))),
        connect: None,
    };
    actor::run(cx, &target, &request).await
}
