//! Takes connections in and watches over them: how many there are, how long a client may take to say who it is, and
//! whether it is still there.

use crate::channel::WINDOW;
use crate::connection::Connection;
use crate::{HostKey, Instances, Stream};
use russh::server::{Config, run_stream};
use russh::{MethodKind, MethodSet, SshId};
use std::borrow::Cow;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Most connections at once.
const CONNECTIONS: usize = 256;
/// Time for a client to say who it is.
const GRACE: Duration = Duration::from_secs(30);
/// Wrong codes until the connection is cut.
const TRIES: usize = 3;
/// Every wrong code takes this long.
const REJECTION: Duration = Duration::from_secs(1);
/// A silent client is asked this often whether it is there, and cut off after so many questions.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVES: usize = 3;
/// Nothing at all from a client for this long is its end; clients that are there answer [`KEEP_ALIVE`].
const SILENCE: Duration = Duration::from_secs(120);
/// Time for a connection that was cut to end.
const END: Duration = Duration::from_secs(5);
/// Pause after an accept that failed, as where there are no descriptors left.
const BREATH: Duration = Duration::from_millis(100);
const PACKET: u32 = 32 << 10;
/// What is under way of a connection that came by another way, in bytes.
const PIPE: usize = 64 << 10;
/// Messages that wait within the library.
const EVENTS: usize = 16;

/// Serves SSH on `listener` until `shutdown`; connections end with it.
pub async fn serve<I: Instances>(listener: TcpListener, key: &HostKey, instances: Arc<I>, shutdown: CancellationToken) {
    let config = Arc::new(config(key));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection by SSH could not be taken");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!(limit = CONNECTIONS, "too many connections by SSH: one was cut off");
            continue;
        };
        let (config, instances, shutdown) = (Arc::clone(&config), Arc::clone(&instances), shutdown.clone());
        tokio::spawn(async move {
            if let Err(error) = taken(config, stream, instances, shutdown).await {
                // Clients that scan, give up or break off are of no concern.
                tracing::debug!(%error, "a connection by SSH ended badly");
            }
            drop(place);
        });
    }
}

fn config(key: &HostKey) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-paas")),
        methods: MethodSet::from([MethodKind::Password].as_slice()),
        auth_rejection_time: REJECTION,
        // The first question of every client is which methods there are.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key.private()],
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        event_buffer_size: EVENTS,
        max_auth_attempts: TRIES,
        inactivity_timeout: Some(SILENCE),
        keepalive_interval: Some(KEEP_ALIVE),
        keepalive_max: KEEP_ALIVES,
        nodelay: true,
        ..Config::default()
    }
}

/// Serves one connection to its end, here or elsewhere.
async fn taken<I: Instances>(
    config: Arc<Config>,
    mut stream: TcpStream,
    instances: Arc<I>,
    shutdown: CancellationToken,
) -> Result<(), russh::Error> {
    stream.set_nodelay(true)?;
    match instances.elsewhere().await {
        Ok(None) => {}
        Ok(Some(mut there)) => {
            tokio::select! {
                // How it ends is the two ends' business.
                _ = tokio::io::copy_bidirectional(&mut stream, &mut there) => {}
                () = shutdown.cancelled() => {}
            }
            return Ok(());
        }
        Err(reason) => {
            tracing::warn!(reason, "a connection by SSH can't be served");
            // Servers may say something before they say their version (RFC 4253, 4.2).
            stream.write_all(format!("{reason}\r\n").as_bytes()).await?;
            return Ok(());
        }
    }
    // A second hand on the socket: the library has no word for "now".
    let stream = stream.into_std()?;
    let hand = stream.try_clone()?;
    let stream = TcpStream::from_std(stream)?;
    let cut = move || {
        // One that is closed already needs no more.
        let _ = hand.shutdown(Shutdown::Both);
    };
    watched(config, stream, instances, shutdown, cut).await
}

/// Serves one connection that came by another way, to its end or until `shutdown`.
pub async fn attend<I: Instances, S: Stream + 'static>(
    mut stream: S,
    key: &HostKey,
    instances: Arc<I>,
    shutdown: CancellationToken,
) {
    let (mut near, far) = tokio::io::duplex(PIPE);
    let pump = tokio::spawn(async move {
        // How it ends is the two ends' business.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut near).await;
    });
    let hand = pump.abort_handle();
    let served = watched(Arc::new(config(key)), far, instances, shutdown, move || hand.abort()).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection by SSH that was carried here ended badly");
    }
}

/// Serves a stream to its end; `cut` closes it at once.
async fn watched<I: Instances, S: Stream + 'static>(
    config: Arc<Config>,
    stream: S,
    instances: Arc<I>,
    shutdown: CancellationToken,
    cut: impl FnOnce(),
) -> Result<(), russh::Error> {
    let admitted = CancellationToken::new();
    let connection = Connection::new(instances, admitted.clone());
    let served = async { run_stream(config, stream, connection).await?.await };
    tokio::pin!(served);
    let late = async {
        if tokio::time::timeout(GRACE, admitted.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = &mut served => return ended,
        () = late => {}
        () = shutdown.cancelled() => {}
    }
    cut();
    tokio::time::timeout(END, served).await.unwrap_or(Ok(()))
}
