//! One role on a host of its own, beside others of the same platform: `paasd controller`, `paasd router`, `paasd cell`.
//! Not here: a whole platform in one process (`dev`), which these share their set-up with.

use crate::config::Config;
use crate::dev::{self, STOP, supervise, until_ready};
use crate::install::Install;
use crate::place::listen_for_ssh;
use crate::state::State;
use anyhow::Context as _;
use cell::Controllers;
use controller::Bootstrap;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Runs a controller until a signal.
///
/// # Errors
/// What kept it from starting, or made it stop.
pub async fn controller(config: Config, json: bool) -> anyhow::Result<()> {
    let state = State::open(&config.state)?;
    let (secrets, install) = (state.secrets_of(&config.cluster.secrets)?, Install::find()?);
    let listener = TcpListener::bind(config.controller.listen).await;
    let listener = listener.with_context(|| format!("failed to listen on {}", config.controller.listen))?;
    let address = listener.local_addr()?;
    let url = named(&config.controller.url, address);
    let mut settings = dev::controller_config(&config, &state, &secrets, &install, &url, config.router.listen)?;
    settings.advertise = named(&config.controller.advertise, address);
    let ssh = config.ssh.listen()?.map(listen_for_ssh).transpose()?;
    let ssh = ssh.map(TcpListener::from_std).transpose()?;
    settings.ssh_address = dev::ssh_address(&config, ssh.as_ref())?;
    // Who runs a platform on many hosts makes its tenants.
    settings.bootstrap = Bootstrap {
        org: None,
        space: None,
        ..settings.bootstrap
    };
    let shutdown = CancellationToken::new();
    let (ready, is_ready) = oneshot::channel();
    let mut roles = JoinSet::new();
    let stop = shutdown.clone();
    roles.spawn(async move {
        controller::run(settings, vec![listener], ssh, stop, ready)
            .await
            .context("the controller failed")
    });
    until_ready(&mut roles, is_ready).await?;
    say("controller", &url, json)?;
    supervise(roles, shutdown, STOP).await
}

/// Runs a router until a signal.
///
/// # Errors
/// What kept it from starting, or made it stop.
pub async fn router(config: Config, json: bool) -> anyhow::Result<()> {
    let state = State::open(&config.state)?;
    let secrets = state.secrets_of(&config.cluster.secrets)?;
    let shutdown = CancellationToken::new();
    let settings = dev::router_config(&config, &state, &secrets, controllers(&config)?)?;
    let router = router::Router::bind(settings, shutdown.clone())?;
    let address = router.address();
    let (ready, is_ready) = oneshot::channel();
    let mut roles = JoinSet::new();
    roles.spawn(async move {
        router.run(ready).await;
        Ok(())
    });
    until_ready(&mut roles, is_ready).await?;
    say("router", &address.to_string(), json)?;
    let drain = config.router.drain();
    supervise(roles, shutdown, drain + STOP).await
}

/// Runs a cell until a signal. Its work goes on without it.
///
/// # Errors
/// What kept it from starting, or made it stop.
pub async fn cell(config: Config, json: bool) -> anyhow::Result<()> {
    let state = State::open(&config.state)?;
    let (secrets, install) = (state.secrets_of(&config.cluster.secrets)?, Install::find()?);
    let blobs = dev::blobs(&config, &state).await?;
    let settings = dev::cell_config(&config, &state, &secrets, &install, controllers(&config)?, blobs)?;
    let name = secrets.cell.to_string();
    let shutdown = CancellationToken::new();
    let (ready, is_ready) = oneshot::channel();
    let mut roles = JoinSet::new();
    let stop = shutdown.clone();
    roles.spawn(async move { cell::run(settings, stop, ready).await.context("the cell failed") });
    until_ready(&mut roles, is_ready).await?;
    say("cell", &name, json)?;
    supervise(roles, shutdown, STOP).await
}

fn controllers(config: &Config) -> anyhow::Result<Controllers> {
    Controllers::new(config.cluster.controllers.iter().cloned())
        .context("in the setting cluster.controllers: it lists the controllers' addresses")
}

/// The address that a setting names; where it names none, that of the socket.
fn named(setting: &str, address: SocketAddr) -> String {
    match setting.trim_end_matches('/') {
        "" => format!("http://{address}"),
        setting => setting.to_owned(),
    }
}

#[allow(clippy::print_stdout, reason = "tells whoever started it that it is ready")]
fn say(role: &str, name: &str, json: bool) -> anyhow::Result<()> {
    use std::io::Write as _;
    if json {
        println!(
            "{}",
            serde_json::json!({ "role": role, "name": name, "pid": std::process::id() })
        );
    } else {
        println!("The {role} is ready: {name}");
    }
    std::io::stdout()
        .flush()
        .context("failed to say that the role is ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_sockets_unless_it_is_set() {
        let socket = "10.0.0.1:8181".parse().expect("an address");
        assert_eq!(named("", socket), "http://10.0.0.1:8181");
        assert_eq!(named("https://api.example.com/", socket), "https://api.example.com");
    }
}
