//! A whole router against real instances on loopback. Only the controller is a fake: it serves the edge feed by hand,
//! and keeps the lines that the router sends.

use api::cell::{LogBatch, LogLine};
use api::edge::{Ack, Endpoint, RouteEntry, RouteKey, Table};
use axum::body::Body;
use axum::http::HeaderMap;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use model::Secret;
use model::id::{AppId, ProcessId, RouteId, WorkId};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const DEADLINE: Duration = Duration::from_secs(10);
/// Acknowledgements that no test has looked at yet.
const ACKS: usize = 1024;

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(DEADLINE).build().expect("a client")
}

/// Serves the edge feed of one router and keeps what it acknowledges.
pub struct FakeController {
    table: watch::Sender<(u64, Vec<RouteEntry>)>,
    acks: Mutex<mpsc::Receiver<Ack>>,
    lines: Mutex<mpsc::Receiver<LogLine>>,
}

impl FakeController {
    pub async fn start() -> (Arc<Self>, String) {
        let (table, _) = watch::channel((1, Vec::new()));
        let (sender, acks) = mpsc::channel(ACKS);
        let (logged, lines) = mpsc::channel(ACKS);
        let fake = Arc::new(Self {
            table,
            acks: Mutex::new(acks),
            lines: Mutex::new(lines),
        });
        let feed = {
            let fake = Arc::clone(&fake);
            get(move || async move {
                let changes = tokio_stream(fake.table.subscribe());
                Body::from_stream(changes)
            })
        };
        let app = Router::new()
            .route(api::edge::FEED.path, feed)
            .route(
                api::edge::ACK.path,
                post(move |Json(ack): Json<Ack>| async move { sender.send(ack).await.expect("kept") }),
            )
            .route(
                api::edge::LOGS.path,
                post(move |Json(batch): Json<LogBatch>| async move {
                    for line in batch.lines {
                        // Most tests look at none.
                        let _ = logged.try_send(line);
                    }
                }),
            );
        (fake, format!("http://{}", serve(app).await))
    }

    /// Sets the table and waits until the router has it.
    pub async fn set(&self, routes: Vec<RouteEntry>) -> Ack {
        let mut revision = 0;
        self.table.send_modify(|(current, table)| {
            *current += 1;
            revision = *current;
            *table = routes;
        });
        self.ack(|ack| ack.revision >= revision).await
    }

    /// The next line for an app's log.
    pub async fn line(&self) -> LogLine {
        let mut lines = self.lines.lock().await;
        let line = tokio::time::timeout(DEADLINE, lines.recv()).await;
        line.expect("logged in time").expect("the fake lives")
    }

    pub async fn ack(&self, wanted: impl Fn(&Ack) -> bool) -> Ack {
        let mut acks = self.acks.lock().await;
        tokio::time::timeout(DEADLINE, async {
            loop {
                let ack = acks.recv().await.expect("the fake lives");
                if wanted(&ack) {
                    return ack;
                }
            }
        })
        .await
        .expect("acknowledged in time")
    }
}

pub fn tokio_stream(
    table: watch::Receiver<(u64, Vec<RouteEntry>)>,
) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
    futures_util::stream::unfold((table, true), |(mut table, first)| async move {
        if !first {
            table.changed().await.ok()?;
        }
        let (revision, routes) = table.borrow_and_update().clone();
        let mut line = serde_json::to_vec(&Table::Snapshot { revision, routes }).expect("serialises");
        line.push(b'\n');
        Some((Ok(Bytes::from(line)), (table, false)))
    })
}

pub async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

pub struct Edge {
    pub controller: Arc<FakeController>,
    pub address: SocketAddr,
    pub tls: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub shutdown: CancellationToken,
    pub running: tokio::task::JoinHandle<()>,
    client: reqwest::Client,
}

pub async fn edge() -> Edge {
    edge_with(|_| {}).await
}

/// A router with other settings.
pub async fn edge_with(change: impl FnOnce(&mut router::Config)) -> Edge {
    let (controller, url) = FakeController::start().await;
    let shutdown = CancellationToken::new();
    let (ready, bound) = oneshot::channel();
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let controllers = api::Controllers::new([url]).expect("an address");
    let mut config = router::Config::new(Uuid::from_u128(1), listen, controllers, Secret::new("token"));
    config.workers = 2;
    config.drain_timeout = Duration::from_secs(5);
    config.limits.max_headers = 20;
    change(&mut config);
    let router = router::Router::bind(config, shutdown.clone()).expect("a free port");
    let (address, tls, admin) = (router.address(), router.tls_address(), router.admin_address());
    let running = tokio::spawn(router.run(ready));
    tokio::time::timeout(DEADLINE, bound)
        .await
        .expect("in time")
        .expect("ready");
    Edge {
        controller,
        address,
        tls,
        admin,
        shutdown,
        running,
        client: client(),
    }
}

impl Edge {
    pub fn request(&self, host: &str, path: &str) -> reqwest::RequestBuilder {
        self.client
            .get(format!("http://{}{path}", self.address))
            .header("host", host)
    }

    /// What comes back for bytes sent on a connection of their own, until it is closed.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("listens");
        stream.write_all(bytes).await.expect("sent");
        let mut answer = Vec::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        let _ = read.expect("closed in time");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.expect("no panic");
    }
}

pub fn route(host: &str, endpoints: &[(u128, SocketAddr)]) -> RouteEntry {
    let endpoint = |(work, address): &(u128, SocketAddr)| Endpoint {
        work: WorkId(Uuid::from_u128(*work)),
        app: AppId(Uuid::from_u128(5)),
        index: u32::try_from(*work).expect("small"),
        address: match address {
            SocketAddr::V4(address) => *address,
            SocketAddr::V6(_) => unreachable!("tests listen on IPv4"),
        },
        process: Some(ProcessId(Uuid::from_u128(6))),
        protocol: api::edge::Protocol::default(),
        weight: None,
        zone: None,
    };
    RouteEntry {
        key: RouteKey {
            host: host.into(),
            path: String::new(),
        },
        route: RouteId(Uuid::from_u128(77)),
        endpoints: endpoints.iter().map(endpoint).collect(),
        options: api::edge::RouteOptions::default(),
    }
}

pub fn refusing() -> SocketAddr {
    // Port 1 of loopback: nothing listens there.
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1).into()
}

/// An instance that answers with its name and the head that it got.
pub async fn echo(name: &'static str) -> SocketAddr {
    let answer = move |method: axum::http::Method, uri: axum::http::Uri, headers: HeaderMap, body: Bytes| async move {
        let mut text = format!("{name}\n{method} {uri}\n");
        for (name, value) in &headers {
            text += &format!("{name}: {}\n", value.to_str().unwrap_or("?"));
        }
        text + "\n" + &String::from_utf8_lossy(&body)
    };
    serve(Router::new().fallback(any(answer))).await
}

/// An instance that answers every connection's first bytes with `answer`, and closes.
pub async fn scripted(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                if stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(answer).await;
                }
            });
        }
    });
    address
}
