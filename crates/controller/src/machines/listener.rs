//! The socket that machines come to: TLS, with or without a certificate of theirs.

use super::Machines;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use model::machine::Machine;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Handshakes at once. Who is beyond that waits.
const HANDSHAKES: usize = 512;
/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that wait to be served.
const READY: usize = 64;
/// Pause after an error of the socket itself, such as too many open files.
const PAUSE: Duration = Duration::from_millis(200);

/// Where a connection is from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub address: SocketAddr,
    /// Who its certificate says it is.
    pub machine: Option<Machine>,
}

/// TLS on a listener. Dropping it ends it.
struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, Origin)>,
    _accepting: DropGuard,
}

impl TlsListener {
    /// Begins to accept connections.
    fn new(listener: TcpListener, machines: &Machines) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let config = machines.held().server().map_err(std::io::Error::other)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (sender, ready) = mpsc::channel(READY);
        let ended = CancellationToken::new();
        tokio::spawn(accept(listener, acceptor, sender, ended.clone()));
        Ok(Self {
            address,
            ready,
            _accepting: ended.drop_guard(),
        })
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    sender: mpsc::Sender<(TlsStream<TcpStream>, Origin)>,
    ended: CancellationToken,
) {
    let turns = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(turn) = turns.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = ended.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a machine's connection was not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            let _turn = turn;
            // What goes wrong with it shows when it is written to.
            let _ = socket.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await {
                Ok(Ok(stream)) => {
                    let chain = stream.get_ref().1.peer_certificates();
                    let machine = chain.and_then(identity::machine_of);
                    // Nobody listens any more where the controller stops.
                    let _ = sender.send((stream, Origin { address, machine })).await;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%address, cause = telemetry::chain(&error), "a machine's connection was refused");
                }
                Err(_) => tracing::debug!(%address, "a machine took too long for its handshake"),
            }
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = Origin;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            // The task that sends ends after this one.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(Origin {
            address: self.address,
            machine: None,
        })
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Origin {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        *stream.remote_addr()
    }
}

/// Serves `router` to machines until `stop`; requests say where they are from.
///
/// # Errors
/// Where TLS can't be set up, or connections can't be taken any more.
pub async fn serve(
    listener: TcpListener,
    machines: &Machines,
    router: Router,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = TlsListener::new(listener, machines)?;
    let router = router.layer(axum::middleware::from_fn(with_origin));
    axum::serve(listener, router.into_make_service_with_connect_info::<Origin>())
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

/// Says to all that comes after where the request is from, as connections without TLS do.
async fn with_origin(ConnectInfo(origin): ConnectInfo<Origin>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(ConnectInfo(origin.address));
    request.extensions_mut().insert(origin);
    next.run(request).await
}
