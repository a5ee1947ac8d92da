//! One role on a host of its own, beside others of the same platform: `paasd controller`, `paasd router`, `paasd cell`.
//! Not here: a whole platform in one process (`dev`), which these share their set-up with.

use crate::config::Config;
use crate::dev::{self, Proven, STOP, supervise, until_ready};
use crate::install::Install;
use crate::place::listen_for_ssh;
use crate::state::State;
use anyhow::{Context as _, bail, ensure};
use cell::Controllers;
use controller::{Bootstrap, Sockets, machines};
use identity::{Credentials, Held, JoinToken, Proof};
use model::machine::{Machine, Role};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
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
    let url = named(&config.controller.url, "http", address);
    let mut settings = dev::controller_config(&config, &state, &secrets, &install, &url, config.router.listen)?;
    settings.advertise = named(&config.controller.advertise, "http", address);
    let for_machines = for_machines(&config, &mut settings).await?;
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
    let sockets = Sockets {
        api: vec![listener],
        ssh,
        machines: for_machines,
    };
    roles.spawn(async move {
        controller::run(settings, sockets, stop, ready)
            .await
            .context("the controller failed")
    });
    until_ready(&mut roles, is_ready).await?;
    say("controller", &url, json)?;
    supervise(roles, shutdown, STOP).await
}

/// What a controller with these settings keeps its state in.
fn settings_of_stores(config: &Config) -> anyhow::Result<controller::Config> {
    // A daemon that runs has the lock; what is asked for here does not need it.
    let state = State::beside(&config.state)?;
    let (secrets, install) = (state.secrets_of(&config.cluster.secrets)?, Install::find()?);
    dev::controller_config(config, &state, &secrets, &install, "", config.router.listen)
}

/// Writes a backup into a folder.
///
/// # Errors
/// Where something can't be read or written.
pub async fn backup(config: Config, folder: PathBuf) -> anyhow::Result<()> {
    let kept = controller::backup(&settings_of_stores(&config)?, &folder).await?;
    tracing::info!(rows = kept.rows, blobs = kept.blobs, bytes = kept.bytes, folder = %folder.display(), "backed up");
    Ok(())
}

/// Reads a backup.
///
/// # Errors
/// Where the database is in use, or the backup is damaged.
pub async fn restore(config: Config, folder: PathBuf) -> anyhow::Result<()> {
    let kept = controller::restore(&settings_of_stores(&config)?, &folder).await?;
    tracing::info!(rows = kept.rows, blobs = kept.blobs, bytes = kept.bytes, folder = %folder.display(), "restored");
    Ok(())
}

/// Opens the socket for machines, where there is to be one, and says so in the settings.
async fn for_machines(config: &Config, settings: &mut controller::Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(listen) = config.cluster.listen()? else {
        return Ok(None);
    };
    let listener = TcpListener::bind(listen).await;
    let listener = listener.with_context(|| format!("failed to listen on {listen}"))?;
    let address = named(&config.controller.advertise, "https", listener.local_addr()?);
    let host = host_of(&address)?;
    settings.advertise.clone_from(&address);
    settings.machines = Some(machines::Settings {
        address,
        host,
        life: config.cluster.certificate_life(),
    });
    Ok(Some(listener))
}

/// The host in an address that machines use.
fn host_of(address: &str) -> anyhow::Result<String> {
    let rest = address.strip_prefix("https://").context(
        "the setting controller.advertise has to be an https:// address where cluster.listen is set, for machines and other \
         controllers use it",
    )?;
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let nowhere = ["", "0.0.0.0", "::"].contains(&host);
    ensure!(
        !nowhere,
        "set controller.advertise: machines can't reach this controller at {address}"
    );
    Ok(host.to_owned())
}

/// Makes this host a machine of a platform.
///
/// # Errors
/// Where the token is none or not good, or no controller is reached.
pub async fn join(config: &Config, role: Role, token: &str) -> anyhow::Result<()> {
    let token: JoinToken = token.parse()?;
    let state = State::open(&config.state)?;
    let secrets = state.secrets()?;
    let earlier = state.credentials()?;
    if let Some(earlier) = &earlier {
        ensure!(
            earlier.machine.role == role,
            "this host is a {} already, and its state is in {}: choose another directory with --state",
            earlier.machine.role,
            config.state.display()
        );
    }
    let id = match role {
        Role::Cell => secrets.cell,
        Role::Router => secrets.router,
        Role::Controller => bail!("controllers do not join: they have the platform's key"),
    };
    let machine = Machine { role, id };
    let name = match config.cell.name.as_str() {
        "" => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
        name => name.to_owned(),
    };
    let joined = identity::join(&token, machine, &name, earlier.as_ref()).await;
    let joined = joined.context("this host could not join")?;
    state.keep(&joined)?;
    tracing::info!(%machine, until = %joined.until, "this host joined");
    Ok(())
}

/// What a host that has joined, or shares a token, proves itself by.
struct Standing {
    proven: Proven,
    credentials: Option<(Credentials, Held)>,
}

impl Standing {
    fn of(role: Role, config: &Config, state: &State) -> anyhow::Result<Self> {
        let mut addresses = config.cluster.controllers.clone();
        let secrets = state.secrets_of(&config.cluster.secrets)?;
        let own = match role {
            Role::Router => secrets.router,
            Role::Cell | Role::Controller => secrets.cell,
        };
        let credentials = state.credentials()?;
        let (id, proof, credentials) = match (credentials, secrets.machine_token) {
            (Some(credentials), _) => {
                ensure!(
                    credentials.machine.role == role,
                    "this host joined as a {}, not as a {role}",
                    credentials.machine.role
                );
                if addresses.is_empty() {
                    addresses.clone_from(&credentials.controllers);
                }
                let held = Held::new(&credentials)?;
                let proof = Proof::from(held.clone());
                (credentials.machine.id, proof, Some((credentials, held)))
            }
            (None, Some(token)) if !config.cluster.secrets.as_os_str().is_empty() => (own, token.into(), None),
            (None, _) => bail!(
                "this host has not joined a platform: make a token with `paas admin token create --role {role}`, and \
                 run `paasd {role} join TOKEN`"
            ),
        };
        let controllers = Controllers::new(addresses);
        let controllers =
            controllers.context("in the setting cluster.controllers: it lists the controllers' addresses")?;
        let proven = Proven { id, proof, controllers };
        Ok(Self { proven, credentials })
    }

    /// Keeps the certificate young for as long as the role runs.
    fn keep(self, state: Arc<State>, roles: &mut JoinSet<anyhow::Result<()>>, shutdown: &CancellationToken) {
        let Some((credentials, held)) = self.credentials else {
            return;
        };
        let (controllers, shutdown) = (self.proven.controllers, shutdown.clone());
        let store = move |next: &Credentials| state.keep(next).map_err(Into::into);
        roles.spawn(async move {
            let kept = identity::keep(held, credentials, controllers, store, shutdown).await;
            kept.context("the certificate can't be renewed")
        });
    }
}

/// Runs a router until a signal.
///
/// # Errors
/// What kept it from starting, or made it stop.
pub async fn router(config: Config, json: bool) -> anyhow::Result<()> {
    let state = Arc::new(State::open(&config.state)?);
    let standing = Standing::of(Role::Router, &config, &state)?;
    let shutdown = CancellationToken::new();
    let proven = standing.proven.clone();
    let settings = dev::router_config(&config, &state, proven)?;
    let router = router::Router::bind(settings, shutdown.clone())?;
    let address = router.address();
    let (ready, is_ready) = oneshot::channel();
    let mut roles = JoinSet::new();
    standing.keep(state.clone(), &mut roles, &shutdown);
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
pub async fn cell(mut config: Config, json: bool) -> anyhow::Result<()> {
    let state = Arc::new(State::open(&config.state)?);
    let standing = Standing::of(Role::Cell, &config, &state)?;
    let install = Install::find()?;
    let told = standing.credentials.as_ref().and_then(|(told, _)| told.blobs.clone());
    if let Some(told) = told.filter(|_| config.blobs.bucket.is_empty()) {
        config.blobs = told.into();
    }
    let blobs = dev::blobs(&config, &state).await?;
    let settings = dev::cell_config(&config, &state, standing.proven.clone(), &install, blobs)?;
    let name = standing.proven.id.to_string();
    let shutdown = CancellationToken::new();
    let (ready, is_ready) = oneshot::channel();
    let mut roles = JoinSet::new();
    standing.keep(state.clone(), &mut roles, &shutdown);
    let stop = shutdown.clone();
    roles.spawn(async move { cell::run(settings, stop, ready).await.context("the cell failed") });
    until_ready(&mut roles, is_ready).await?;
    say("cell", &name, json)?;
    supervise(roles, shutdown, STOP).await
}

/// The address that a setting names; where it names none, that of the socket.
fn named(setting: &str, scheme: &str, address: SocketAddr) -> String {
    match setting.trim_end_matches('/') {
        "" => format!("{scheme}://{address}"),
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
        assert_eq!(named("", "http", socket), "http://10.0.0.1:8181");
        assert_eq!(
            named("https://api.example.com/", "http", socket),
            "https://api.example.com"
        );
    }

    #[test]
    fn machines_are_told_a_host_that_they_reach() {
        assert_eq!(host_of("https://10.0.0.1:8182").expect("sound"), "10.0.0.1");
        assert_eq!(host_of("https://[fd00::1]:8182").expect("sound"), "fd00::1");
        assert_eq!(host_of("https://c1.internal:8182").expect("sound"), "c1.internal");
        for wrong in ["http://10.0.0.1:8182", "https://0.0.0.0:8182", "https://[::]:1"] {
            assert!(host_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_that_has_not_joined_is_told_how() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("free");
        let config = crate::config::load(None, std::iter::empty(), &[]).expect("sound");
        let error = Standing::of(Role::Cell, &config, &state).err().expect("refused");
        assert!(error.to_string().contains("paasd cell join TOKEN"), "{error}");
    }
}
