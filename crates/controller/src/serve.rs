//! Puts the parts together: one router of all surfaces, and the tasks that run beside it.

use crate::config::Config;
use crate::context::Context;
use crate::control::{Control, Timing};
use crate::error::Failure;
use crate::request::{self, MAX_BODY_BYTES};
use crate::{events, feeds, lead, machines, oauth, scheduling, sessions, setup, strict, sweep, v3};
use api::error::Code;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

/// How long requests that are under way may take once the controller is told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a controller could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database could not be opened or filled.
    #[error("the controller's database failed")]
    Database {
        #[source]
        source: store::StoreError,
    },
    /// Blobs or logs could not be opened.
    #[error("the controller's {part} could not be opened")]
    Open {
        part: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no usable key to sign tokens with.
    #[error("the key that signs tokens could not be loaded or made")]
    SigningKey {
        #[source]
        source: crate::KeyError,
    },
    /// There is no usable key for the SSH server.
    #[error("the key of the SSH server could not be loaded or made: {cause}")]
    HostKey {
        /// What failed.
        cause: String,
    },
    /// There are no certificates for machines.
    #[error("the authority of machines' certificates could not be opened")]
    Machines {
        #[source]
        source: crate::machines::Error,
    },
    /// The first user's password could not be hashed.
    #[error("the administrator's password could not be hashed")]
    Password,
    /// Requests can't be taken any more.
    #[error("the API could not be served at {address}")]
    Serve {
        address: String,
        #[source]
        source: std::io::Error,
    },
}

/// What a controller listens on.
pub struct Sockets {
    /// For people, at least one.
    pub api: Vec<TcpListener>,
    /// For their SSH clients.
    pub ssh: Option<TcpListener>,
    /// For machines that have certificates, and other controllers: by TLS.
    pub machines: Option<TcpListener>,
}

/// Runs a controller on `sockets` until `shutdown`. `ready` is told the first address for people once requests are served.
///
/// # Errors
/// Where something can't be opened, or requests can't be served.
pub async fn run(
    config: Config,
    sockets: Sockets,
    shutdown: CancellationToken,
    ready: oneshot::Sender<SocketAddr>,
) -> Result<(), Error> {
    let context = setup::open(Arc::new(config), Context::system_clock()).await?;
    let control = Control::new(
        context.clone(),
        scheduler::Policy::default(),
        Timing::default(),
        shutdown.clone(),
    );
    let Sockets {
        api,
        ssh,
        machines: for_machines,
    } = sockets;
    let tasks = [
        tokio::spawn(machines::run(control.clone(), shutdown.clone())),
        tokio::spawn(scheduling::run(control.clone(), shutdown.clone())),
        tokio::spawn(sweep::run(control.clone(), shutdown.clone())),
    ];
    let proxy = async {
        match ssh {
            Some(listener) => sessions::run(control.clone(), listener, shutdown.clone()).await,
            None => Ok(()),
        }
    };
    let served = async {
        let served = serve(api, for_machines, &control, &shutdown, ready).await;
        shutdown.cancel();
        served
    };
    let served = tokio::try_join!(proxy, served).map(drop);
    shutdown.cancel();
    for task in tasks {
        if let Err(error) = task.await {
            tracing::error!(%error, "a background task of the controller ended badly");
        }
    }
    context.store.close().await;
    served
}

async fn serve(
    listeners: Vec<TcpListener>,
    for_machines: Option<TcpListener>,
    control: &Control,
    shutdown: &CancellationToken,
    ready: oneshot::Sender<SocketAddr>,
) -> Result<(), Error> {
    let failed = |address: String| move |source| Error::Serve { address, source };
    let router = surface(control.clone());
    let first = listeners
        .first()
        .ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into());
    let address = first.and_then(TcpListener::local_addr);
    let address = address.map_err(failed("its listener".to_owned()))?;
    tracing::info!(%address, "serving the API");
    // Whoever waited may have given up.
    let _ = ready.send(address);
    let serve = |listener| {
        let server = axum::serve(
            listener,
            router.clone().into_make_service_with_connect_info::<SocketAddr>(),
        );
        server
            .with_graceful_shutdown(shutdown.clone().cancelled_owned())
            .into_future()
    };
    let servers = futures_util::future::try_join_all(listeners.into_iter().map(serve));
    let by_tls = for_machines.zip(control.context.machines.as_ref());
    let by_tls = async {
        match by_tls {
            Some((listener, known)) => machines::serve(listener, known, router.clone(), shutdown.clone()).await,
            None => Ok(()),
        }
    };
    let servers = async { tokio::try_join!(servers, by_tls) };
    let mut server = std::pin::pin!(servers);
    tokio::select! {
        ended = &mut server => ended.map(drop).map_err(failed(address.to_string())),
        () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN).await } => {
            tracing::info!("requests that were still under way are cut off");
            Ok(())
        }
    }
}

/// Every surface of the controller: public API, token server, our additions, and what machines talk to.
pub fn surface(control: Control) -> Router {
    let context = control.context.clone();
    let people = Router::new()
        .merge(v3::routes().route_layer(from_fn_with_state(control.clone(), lead::elected_where_needed)))
        .merge(oauth::routes())
        .merge(events::routes(control.clone()))
        .merge(machines::operator_routes(control.clone()))
        .route("/healthz", get(healthz))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn_with_state(context.clone(), strict::check))
        .with_state(context);
    people
        .merge(feeds::routes(control.clone()))
        .merge(machines::routes(control))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(axum::middleware::from_fn(request::observe))
}

/// A fault of ours in one request leaves all others alone.
fn panicked(_: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    axum::response::IntoResponse::into_response(Failure::internal("a handler panicked"))
}

async fn unknown() -> Failure {
    Failure::new(Code::NotFound, "Unknown request")
}

/// Whether the database answers.
async fn healthz(axum::extract::State(context): axum::extract::State<Context>) -> Result<StatusCode, Failure> {
    context
        .store
        .event_newest()
        .await
        .map_err(|error| Failure::new(Code::ServiceUnavailable, "The database does not answer").caused_by(error))?;
    Ok(StatusCode::OK)
}
