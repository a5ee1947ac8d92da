//! `paas ssh` and what belongs to it: codes for other clients, and the switches.

use crate::actor::{Cx, exec as actor, forward};
use crate::args::ssh::{Ssh, SshCommand, SshEnabled};
use crate::client::exec::ExecRequest;
use crate::errors::Error;
use crate::terminal;
use serde_json::json;

/// Window of a terminal that does not say how large it is.
const WINDOW: (u16, u16) = (24, 80);

/// Runs one of them; the exit code of a session is what ran there.
pub async fn run(cx: &Cx, command: SshCommand) -> Result<u8, Error> {
    match command {
        SshCommand::Exec(args) => return super::exec::run(cx, args).await,
        SshCommand::Ssh(args) => return session(cx, args).await,
        SshCommand::SshCode(_) => code(cx).await,
        SshCommand::SshEnabled(args) => enabled(cx, args).await,
        SshCommand::EnableSsh(args) => switch_app(cx, &args.app, true).await,
        SshCommand::DisableSsh(args) => switch_app(cx, &args.app, false).await,
        SshCommand::SpaceSshAllowed(args) => space(cx, &args.name, None).await,
        SshCommand::AllowSpaceSsh(args) => space(cx, &args.name, Some(true)).await,
        SshCommand::DisallowSpaceSsh(args) => space(cx, &args.name, Some(false)).await,
    }
    .map(|()| 0)
}

/// Opens a session.
async fn session(cx: &Cx, args: Ssh) -> Result<u8, Error> {
    if cx.ui.json() {
        return Err(Error::usage("a session has no JSON form"));
    }
    if args.nothing && args.forward.is_empty() {
        return Err(Error::usage("there is nothing to do: give ports with -L"));
    }
    let both = cx.env.stdin_tty && cx.env.stdout_tty;
    let wants_terminal = !args.no_tty && (args.tty || (both && args.command.is_none()));
    if !args.nothing && !wants_terminal && args.command.is_none() && cx.env.stdin_tty {
        return Err(Error::Usage {
            message: "a shell needs a terminal".into(),
            hint: Some("give a command: `paas ssh APP -c ls`".into()),
        });
    }
    cx.ui
        .detail(&format!("opening a session with {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let through = forward::Through {
        app: app.guid,
        process: args.process,
        index: args.index,
    };
    let _ports = forward::open(cx, &target, &through, &args.forward).await?;
    if args.nothing {
        // Until it is interrupted.
        return std::future::pending().await;
    }
    let command: Vec<String> = args.command.into_iter().collect();
    let request = ExecRequest {
        app: &through.app,
        process: &through.process,
        index: through.index,
        command: &command,
        terminal: wants_terminal.then(|| terminal::size().unwrap_or(WINDOW)),
        connect: None,
    };
    actor::run(cx, &target, &request).await
}

/// Prints a one-time code.
async fn code(cx: &Cx) -> Result<(), Error> {
    let client = cx.client()?;
    let code = client.ssh_code().await?;
    if let Some(link) = &client.links().await?.app_ssh {
        cx.ui.detail(&format!(
            "it is good for one connection to {} within five minutes",
            link.href
        ));
    }
    if cx.ui.json() {
        cx.ui.document(&json!({"code": code.expose()}));
    } else {
        cx.ui.out_line(code.expose());
    }
    Ok(())
}

/// Says how an app's switch stands.
async fn enabled(cx: &Cx, args: SshEnabled) -> Result<(), Error> {
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let standing = target.client.ssh_enabled(&app.guid).await?;
    if cx.ui.json() {
        cx.ui.document(&standing);
    } else if standing.enabled {
        cx.ui
            .out_line(&format!("ssh support is enabled for app '{}'", args.app));
    } else {
        cx.ui.out_line(&format!(
            "ssh support is disabled for app '{}': {}",
            args.app, standing.reason
        ));
    }
    Ok(())
}

/// Sets an app's switch.
async fn switch_app(cx: &Cx, name: &str, enabled: bool) -> Result<(), Error> {
    let target = cx.target().await?;
    let app = target.app(name).await?;
    target.client.set_app_ssh(&app.guid, enabled).await?;
    let standing = target.client.ssh_enabled(&app.guid).await?;
    if cx.ui.json() {
        cx.ui.document(&standing);
        return Ok(());
    }
    let word = if enabled { "enabled" } else { "disabled" };
    cx.ui.out_line(&format!("ssh support is {word} for app '{name}'"));
    if enabled && !standing.enabled {
        cx.ui
            .warn(&format!("nobody has sessions in it nevertheless: {}", standing.reason));
    }
    Ok(())
}

/// Sets a space's switch, where there is something to set, and says how it stands.
async fn space(cx: &Cx, name: &str, set: Option<bool>) -> Result<(), Error> {
    let config = cx.config()?;
    let client = cx.client()?;
    let org = cx.org(&client, &config).await?;
    let Some(space) = client.space(&org.guid, name).await? else {
        return Err(Error::NotFound {
            kind: "space",
            name: name.to_owned(),
            place: format!("organisation {}", org.name),
            similar: Vec::new(),
        });
    };
    let enabled = match set {
        Some(enabled) => client.set_space_ssh(&space.guid, enabled).await?,
        None => client.space_ssh(&space.guid).await?,
    };
    if cx.ui.json() {
        cx.ui.document(&json!({"space": name, "enabled": enabled}));
    } else {
        let word = if enabled { "enabled" } else { "disabled" };
        cx.ui.out_line(&format!("ssh support is {word} in space '{name}'"));
    }
    Ok(())
}
