//! A whole platform in one process: every role as it runs on hosts of its own, over loopback, on embedded stores.
//! Not here: where that process is (`place`).

use crate::config::Config;
use crate::install::Install;
use crate::place::{self, Place};
use crate::state::{Secrets, State};
use anyhow::{Context as _, bail, ensure};
use blobstore::Blobstore;
use controller::{Blobs, Bootstrap, Database, EncryptionKey, Sockets};
use identity::Proof;
use model::Secret;
use model::id::CellId;
use model::name::StackName;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longest label of a cell, and name of a zone.
const MAX_LABEL: usize = 255;
/// Longest time from start to ready.
const START: Duration = Duration::from_secs(60);
/// Longest time from the signal to the end, beyond the router's own drain time.
pub const STOP: Duration = Duration::from_secs(15);
/// Organisation, space and user that are ready in a platform on one machine.
const TENANT: &str = "dev";
const ADMIN: &str = "admin";
/// Folder of the cell's stacks below the state directory.
const STACKS: &str = "cell/stacks";
/// Variables of the host that builds get: certificates, proxies and mirrors, so that they install as the host does.
const STAGING_VARIABLES: [&str; 26] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "npm_config_registry",
    "NPM_CONFIG_REGISTRY",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_PYTHON_INSTALL_MIRROR",
    "GOPROXY",
    "GONOPROXY",
    "GOPRIVATE",
    "GOSUMDB",
    "BP_NODE_MIRROR",
    "BP_GO_MIRROR",
    "BP_JAVA_MIRROR",
    "BP_MAVEN_MIRROR",
    "BP_GRADLE_MIRROR",
    "BP_RUST_MIRROR",
    "BP_CARGO_MIRROR",
    "BP_DEBIAN_MIRROR",
    "PAAS_INSECURE_REGISTRIES",
];

/// Runs until a signal or a role's failure.
///
/// # Errors
/// What kept it from starting, or the role that failed.
pub async fn run(config: Config, place: Place, json: bool) -> anyhow::Result<()> {
    let state = State::open(&config.state)?;
    let (secrets, install) = (state.secrets()?, Install::find()?);
    let shutdown = CancellationToken::new();
    let mut roles = JoinSet::new();

    let Place { sockets, caller } = place;
    let place::Sockets { api, ssh, edge } = sockets;
    let ssh = ssh.map(TcpListener::from_std).transpose()?;
    let (listeners, api, own) = listen(api, caller.is_some()).await?;
    let controllers = cell::Controllers::new([own.as_str()])?;
    let token = secrets.machine_token.clone().context("there is no machine token")?;
    let proven = Proven {
        id: secrets.router,
        proof: token.clone().into(),
        controllers: controllers.clone(),
    };
    let router = router_config(&config, &state, proven)?;
    let router = router::Router::on(router, edge, shutdown.clone())?;
    let edge = router.address();
    let drain = config.router.drain();

    let blobs = blobs(&config, &state).await?;
    let mut settings = controller_config(&config, &state, &secrets, &install, &api, edge)?;
    settings.ssh_address = ssh_address(&config, ssh.as_ref())?;
    let (ready, controller_ready) = oneshot::channel();
    let stop = shutdown.clone();
    roles.spawn(async move {
        let sockets = Sockets {
            api: listeners,
            ssh,
            machines: None,
        };
        controller::run(settings, sockets, stop, ready)
            .await
            .context("the controller failed")
    });
    until_ready(&mut roles, controller_ready).await?;

    let (ready, cell_ready) = oneshot::channel();
    let proof = Proven {
        id: secrets.cell,
        proof: token.into(),
        controllers,
    };
    let settings = cell_config(&config, &state, proof, &install, blobs)?;
    let stop = shutdown.clone();
    roles.spawn(async move { cell::run(settings, stop, ready).await.context("the cell failed") });
    let (ready, router_ready) = oneshot::channel();
    roles.spawn(async move {
        router.run(ready).await;
        Ok(())
    });
    until_ready(&mut roles, cell_ready).await?;
    until_ready(&mut roles, router_ready).await?;
    write_login(&state, &secrets, &api)?;
    announce(&config, &api, edge, caller.unwrap_or_else(std::process::id), json)?;
    supervise(roles, shutdown, drain + STOP).await
}

/// Where the API is served: for people the address of the socket that was opened first, for our own roles that too, or,
/// where they are in another network than it, one of their own. The sockets, then both addresses.
async fn listen(api: std::net::TcpListener, elsewhere: bool) -> anyhow::Result<(Vec<TcpListener>, String, String)> {
    let public = TcpListener::from_std(api).context("failed to take over the API's socket")?;
    let address = public.local_addr()?;
    let url = |address: SocketAddr| format!("http://{address}");
    if !elsewhere {
        return Ok((vec![public], url(address), url(address)));
    }
    let own = TcpListener::bind((Ipv4Addr::LOCALHOST, address.port())).await;
    let own = own.context("failed to listen in the network of the sandboxes")?;
    let inside = url(own.local_addr()?);
    Ok((vec![public, own], url(address), inside))
}

/// What clients are told about where the SSH server is.
pub fn ssh_address(config: &Config, listener: Option<&TcpListener>) -> anyhow::Result<Option<String>> {
    let Some(listener) = listener else { return Ok(None) };
    let told = config.ssh.address.trim();
    if !told.is_empty() {
        return Ok(Some(told.to_owned()));
    }
    let mut address = listener.local_addr()?;
    if address.ip().is_unspecified() {
        // At all addresses, of which the API's is one that clients reach.
        address.set_ip(config.controller.listen.ip());
    }
    Ok(Some(address.to_string()))
}

pub async fn until_ready<T>(roles: &mut JoinSet<anyhow::Result<()>>, ready: oneshot::Receiver<T>) -> anyhow::Result<T> {
    tokio::select! {
        biased;
        ready = ready => match ready {
            Ok(ready) => Ok(ready),
            // The role ended before it was ready: its own error says why.
            Err(_) => Err(failure(roles).await),
        },
        () = tokio::time::sleep(START) => bail!("not ready after {} s", START.as_secs()),
    }
}

async fn failure(roles: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Error {
    match roles.join_next().await {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => anyhow::Error::new(error).context("a role broke"),
        Some(Ok(Ok(()))) | None => anyhow::anyhow!("a role ended before it was ready"),
    }
}

/// Waits for a signal or the end of a role, then ends all; a second signal ends at once.
pub async fn supervise(
    mut roles: JoinSet<anyhow::Result<()>>,
    shutdown: CancellationToken,
    deadline: Duration,
) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let result = tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        error = failure(&mut roles) => Err(error),
    };
    tracing::info!("stopping");
    shutdown.cancel();
    tokio::select! {
        () = async { while roles.join_next().await.is_some() {} } => {}
        () = tokio::time::sleep(deadline) => tracing::warn!(deadline_s = deadline.as_secs(), "not everything stopped in time"),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    result
}

/// Of a router that talks to `controllers`.
pub fn router_config(config: &Config, state: &State, proven: Proven) -> anyhow::Result<router::Config> {
    let kept = state.path("routes.json");
    let Proven { id, proof, controllers } = proven;
    config.router.told(id, controllers, proof, kept)
}

/// Of a controller that people reach at `api`.
pub fn controller_config(
    config: &Config,
    state: &State,
    secrets: &Secrets,
    install: &Install,
    api: &str,
    edge: SocketAddr,
) -> anyhow::Result<controller::Config> {
    Ok(controller::Config {
        public_url: api.to_owned(),
        router_port: edge.port(),
        database: match config.database.url.get() {
            None => Database::Sqlite(state.path("paas.db")),
            Some(url) => Database::Postgres(url),
        },
        advertise: api.to_owned(),
        blobs: match config.blobs.s3() {
            None => Blobs::Directory(state.path("blobs")),
            Some(store) => Blobs::S3 {
                store,
                scratch: state.path("scratch"),
            },
        },
        ssh_address: None,
        log_dir: state.path("logs"),
        encryption_key: EncryptionKey {
            id: 1,
            key: key(&secrets.encryption_key)?,
        },
        machine_token: secrets.machine_token.clone(),
        machines: None,
        bootstrap: Bootstrap {
            admin_name: ADMIN.to_owned(),
            admin_password: secrets.admin_password.clone(),
            org: Some(TENANT.to_owned()),
            space: Some(TENANT.to_owned()),
            domain: config
                .controller
                .domain
                .parse()
                .context("in the setting controller.domain")?,
            stacks: stacks(config, state)?,
        },
        buildpacks: install.built_in()?,
        lifecycle_version: env!("CARGO_PKG_VERSION").to_owned(),
        limits: controller::Limits {
            rate: controller::RateLimits {
                requests: config.controller.requests_per_hour,
                unauthenticated: config.controller.anonymous_requests_per_hour,
                ..controller::RateLimits::default()
            },
            key_age: Duration::from_secs(u64::from(config.controller.key_days.max(1)) * 24 * 3600),
            ..controller::Limits::default()
        },
        lifecycle_path: install.libexec.join("paas-lifecycle"),
        oidc: config.login.oidc.told()?,
    })
}

/// Where blobs are kept, opened for the cell.
pub async fn blobs(config: &Config, state: &State) -> anyhow::Result<Blobstore> {
    let limits = blobstore::Limits::default();
    Ok(match config.blobs.s3() {
        None => Blobstore::open_directory(&state.path("blobs"), limits)?,
        Some(store) => Blobstore::open_s3(&store, &state.path("cell/scratch"), limits).await?,
    })
}

/// The stack of apps that name none, then those that were made on this machine.
fn stacks(config: &Config, state: &State) -> anyhow::Result<Vec<StackName>> {
    let default: StackName = config.cell.stack.parse().context("in the setting cell.stack")?;
    let made = std::fs::read_dir(state.path(STACKS)).into_iter().flatten().flatten();
    let mut names: Vec<StackName> = made
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    names.retain(|name| *name != default);
    names.sort();
    names.insert(0, default);
    Ok(names)
}

fn key(secret: &Secret) -> anyhow::Result<[u8; 32]> {
    let digest: model::Digest = format!("sha256:{}", secret.expose())
        .parse()
        .context("the encryption key is damaged")?;
    Ok(*digest.as_bytes())
}

/// Who a host is, and whom it talks to.
#[derive(Clone)]
pub struct Proven {
    pub id: Uuid,
    pub proof: Proof,
    pub controllers: cell::Controllers,
}

/// Of a cell.
pub fn cell_config(
    config: &Config,
    state: &State,
    proven: Proven,
    install: &Install,
    blobs: Blobstore,
) -> anyhow::Result<cell::Config> {
    let settings = &config.cell.network;
    let subnet = settings.subnet.parse().context("in the setting cell.network.subnet")?;
    let folder = state.path("cell").join("network");
    let mut network = sandbox::net::NetworkConfig::new(&settings.name, &settings.bridge, subnet, folder);
    network.uplink = (!settings.uplink.is_empty()).then(|| settings.uplink.clone());
    if !settings.resolvers.is_empty() {
        network.resolvers.clone_from(&settings.resolvers);
    }
    network.rates = Some(rates(settings));
    for caller in &settings.callers {
        let block = caller.parse().context("in the setting cell.network.callers")?;
        network.callers.push(block);
    }
    let Proven { id, proof, controllers } = proven;
    let mut cell = cell::Config::new(state.path("cell"), controllers, proof, blobs, &install.libexec, network);
    cell.id = Some(CellId(id));
    cell.name.clone_from(&config.cell.name);
    cell.zone = label(&config.cell.zone).context("in the setting cell.zone")?;
    let labels = config.cell.labels.iter().map(|text| label(text));
    cell.tags = labels
        .collect::<anyhow::Result<_>>()
        .context("in the setting cell.labels")?;
    cell.uid_base = config.cell.uid_base;
    cell.limits.parked = config.cell.parked;
    cell.capacity.memory_mb = (config.cell.memory_mb > 0).then_some(config.cell.memory_mb);
    cell.capacity.disk_mb = (config.cell.disk_mb > 0).then_some(config.cell.disk_mb);
    cell.staging_env = crate::config::variables(&STAGING_VARIABLES);
    mirror(&mut cell, &config.cell.mirror);
    Ok(cell)
}

/// A word that cells are told apart by.
fn label(text: &str) -> anyhow::Result<String> {
    let text = text.trim();
    let sound = !text.is_empty() && text.chars().count() <= MAX_LABEL && !text.chars().any(char::is_control);
    ensure!(sound, "{text:?} is no label: it takes 1 to {MAX_LABEL} characters");
    Ok(text.to_owned())
}

/// A folder has to be shown to builds; a server they reach by its address.
fn mirror(cell: &mut cell::Config, setting: &str) {
    const VARIABLE: &str = "BP_MIRROR";
    let of_host = crate::config::variables(&[VARIABLE]).pop().map(|(_, value)| value);
    let named = Some(setting.to_owned()).filter(|text| !text.is_empty()).or(of_host);
    match named {
        Some(folder) if folder.starts_with('/') => cell.mirror_dir = Some(folder.into()),
        Some(address) => cell.staging_env.push((VARIABLE.to_owned(), address)),
        None => {}
    }
}

/// The limits of every sandbox; where there are none that is said too, so that those of an earlier start end.
fn rates(settings: &crate::config::Network) -> sandbox::net::Rates {
    let bytes = |bits: u64| (bits > 0).then_some(bits / 8);
    let count = |number: u32| (number > 0).then_some(number);
    sandbox::net::Rates {
        bytes_in: bytes(settings.ingress_bits_per_second),
        bytes_out: bytes(settings.egress_bits_per_second),
        packets_out: count(settings.egress_packets_per_second),
        connections_per_second: count(settings.connections_per_second),
        connections: count(settings.connections),
    }
}

/// Writes the login that `paas` takes when it has no other, readable by whoever started the platform.
fn write_login(state: &State, secrets: &Secrets, api: &str) -> anyhow::Result<()> {
    let login = serde_json::json!({
        "api": api,
        "username": ADMIN,
        "password": secrets.admin_password.expose(),
        "org": TENANT,
        "space": TENANT,
    });
    state.write(
        "login.json",
        &serde_json::to_vec_pretty(&login)?,
        crate::config::invoking_user(),
    )
}

#[allow(clippy::print_stdout, reason = "tells whoever started it that it is ready")]
fn announce(config: &Config, api: &str, edge: SocketAddr, pid: u32, json: bool) -> anyhow::Result<()> {
    use std::io::Write as _;
    let missing = sandbox::unprivileged::lacks();
    if json {
        println!(
            "{}",
            serde_json::json!({ "api": api, "router": edge.to_string(), "pid": pid, "missing": missing })
        );
    } else {
        println!(
            "The platform is ready.\n  API   {api}\n  apps  http://<app>.{}:{}",
            config.controller.domain,
            edge.port()
        );
        println!("Push one with: paas push ./app");
        if !missing.is_empty() {
            println!("{}", crate::place::told(&missing));
        }
    }
    std::io::stdout()
        .flush()
        .context("failed to say that the platform is ready")
}

/// Ends every app and build, and removes sandboxes and network.
///
/// # Errors
/// Where the platform runs, or something can't be removed.
pub async fn teardown(config: Config) -> anyhow::Result<()> {
    let state = State::open(&config.state)?;
    let (secrets, install) = (state.secrets()?, Install::find()?);
    // Nothing is fetched, and nobody is talked to.
    let blobs = Blobstore::open_directory(&state.path("blobs"), blobstore::Limits::default())?;
    let proven = Proven {
        id: secrets.cell,
        proof: Secret::new("").into(),
        controllers: cell::Controllers::new(["http://127.0.0.1"])?,
    };
    let settings = cell_config(&config, &state, proven, &install, blobs)?;
    cell::teardown(&settings).context("failed to end all work")
}

/// A stack as an operator asks for it.
pub struct Wanted<'a> {
    pub name: &'a str,
    /// Debian release.
    pub suite: &'a str,
    /// Beyond the minimum.
    pub packages: &'a [String],
    pub mirror: Option<String>,
    pub keyring: Option<PathBuf>,
}

/// Makes a stack from Debian packages, or a new version of one.
///
/// # Errors
/// Where a tool is missing or a package can't be had; who is not root is told what to do.
pub async fn create_stack(config: Config, wanted: Wanted<'_>) -> anyhow::Result<()> {
    let name = wanted.name;
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "making a stack needs root, for it installs packages as on a machine of their own: run `sudo paasd stack \
             create {name} --state {}`; a platform without root runs apps on it, as on the stack \"host\", which needs \
             nothing made",
            config.state.display()
        );
    }
    let defaults = cell::stack::build::DEFAULT_PACKAGES.map(str::to_owned);
    let recipe = cell::stack::build::Recipe {
        name: name.parse().context("in the stack's name")?,
        suite: wanted.suite.to_owned(),
        packages: defaults.into_iter().chain(wanted.packages.iter().cloned()).collect(),
        mirror: wanted.mirror,
        keyring: wanted.keyring,
    };
    let folder = config.state.join(STACKS);
    let tree = cell::stack::build::build(&folder, recipe, |line| tracing::info!("{line}")).await?;
    tracing::info!(
        stack = name,
        path = %tree.display(),
        "made; a running cell offers a new stack after its next start, and starts on a new version at once; \
         `paas admin roll-stack {name}` brings what runs over to it"
    );
    Ok(())
}
