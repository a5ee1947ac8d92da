//! A whole router against real instances on loopback. Only the controller is a fake: it serves the edge feed by hand.

use api::edge::{Ack, Endpoint, RouteEntry, RouteKey, Table};
use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use model::Secret;
use model::id::{AppId, RouteId, WorkId};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(10);
/// Acknowledgements that no test has looked at yet.
const ACKS: usize = 1024;

fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(DEADLINE).build().expect("a client")
}

/// Serves the edge feed of one router and keeps what it acknowledges.
struct FakeController {
    table: watch::Sender<(u64, Vec<RouteEntry>)>,
    acks: Mutex<mpsc::Receiver<Ack>>,
}

impl FakeController {
    async fn start() -> (Arc<Self>, String) {
        let (table, _) = watch::channel((1, Vec::new()));
        let (sender, acks) = mpsc::channel(ACKS);
        let fake = Arc::new(Self {
            table,
            acks: Mutex::new(acks),
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
            .route(api::edge::LOGS.path, post(|| async {}));
        (fake, format!("http://{}", serve(app).await))
    }

    /// Sets the table and waits until the router has it.
    async fn set(&self, routes: Vec<RouteEntry>) -> Ack {
        let mut revision = 0;
        self.table.send_modify(|(current, table)| {
            *current += 1;
            revision = *current;
            *table = routes;
        });
        self.ack(|ack| ack.revision >= revision).await
    }

    async fn ack(&self, wanted: impl Fn(&Ack) -> bool) -> Ack {
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

fn tokio_stream(
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

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

struct Edge {
    controller: Arc<FakeController>,
    address: SocketAddr,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

async fn edge() -> Edge {
    let (controller, url) = FakeController::start().await;
    let shutdown = CancellationToken::new();
    let (ready, bound) = oneshot::channel();
    let config = router::Config {
        id: Uuid::from_u128(1),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        controllers: api::Controllers::new([url]).expect("an address"),
        machine_token: Secret::new("token"),
        workers: 2,
        drain_timeout: Duration::from_secs(5),
        limits: router::Limits {
            max_headers: 20,
            ..router::Limits::default()
        },
    };
    let router = router::Router::bind(config, shutdown.clone()).expect("a free port");
    let address = router.address();
    let running = tokio::spawn(router.run(ready));
    tokio::time::timeout(DEADLINE, bound)
        .await
        .expect("in time")
        .expect("ready");
    Edge {
        controller,
        address,
        shutdown,
        running,
    }
}

impl Edge {
    fn request(&self, host: &str, path: &str) -> reqwest::RequestBuilder {
        client()
            .get(format!("http://{}{path}", self.address))
            .header("host", host)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.expect("no panic");
    }
}

fn route(host: &str, endpoints: &[(u128, SocketAddr)]) -> RouteEntry {
    let endpoint = |(work, address): &(u128, SocketAddr)| Endpoint {
        work: WorkId(Uuid::from_u128(*work)),
        app: AppId(Uuid::from_u128(5)),
        index: u32::try_from(*work).expect("small"),
        address: match address {
            SocketAddr::V4(address) => *address,
            SocketAddr::V6(_) => unreachable!("tests listen on IPv4"),
        },
        process: None,
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

fn refusing() -> SocketAddr {
    // Port 1 of loopback: nothing listens there.
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1).into()
}

#[tokio::test]
async fn requests_reach_the_app_with_their_headers_and_unknown_ones_are_refused() {
    let app = Router::new().fallback(any(|headers: HeaderMap, body: Bytes| async move {
        let mut echo = String::from_utf8(body.to_vec()).expect("text");
        for name in [
            "host",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-cf-instanceindex",
            "x-secret",
        ] {
            let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
            echo += &format!("\n{name}: {value}");
        }
        echo
    }));
    let backend = serve(app).await;
    let edge = edge().await;
    edge.controller
        .set(vec![route("a.test", &[(3, backend)]), route("empty.test", &[])])
        .await;

    let response = client()
        .post(format!("http://{}/x", edge.address))
        .header("host", "a.test:80")
        .header("connection", "x-secret")
        .header("x-secret", "1")
        .body("hello")
        .send()
        .await
        .expect("answered");
    assert!(response.headers().contains_key("x-vcap-request-id"));
    let text = response.text().await.expect("whole");
    let expected = "hello\nhost: a.test:80\nx-forwarded-for: 127.0.0.1\nx-forwarded-proto: http\nx-cf-instanceindex: 3\nx-secret: -";
    assert_eq!(text, expected);

    for (host, status, name) in [("b.test", 404, "unknown_route"), ("empty.test", 503, "no_endpoints")] {
        let response = edge.request(host, "/").send().await.expect("answered");
        assert_eq!(response.status(), status, "{host}");
        assert_eq!(response.headers()["x-cf-routererror"], name);
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_dead_instance_is_passed_over() {
    let backend = serve(Router::new().fallback(any(|body: Bytes| async { body }))).await;
    let edge = edge().await;
    edge.controller
        .set(vec![route("a.test", &[(1, refusing()), (2, backend)])])
        .await;
    let client = client();
    for n in 0..50 {
        let response = client
            .post(format!("http://{}/", edge.address))
            .header("host", "a.test")
            .body(n.to_string())
            .send()
            .await
            .expect("answered");
        assert_eq!(response.status(), 200);
        assert_eq!(response.text().await.expect("whole"), n.to_string());
    }
    edge.controller.set(vec![route("a.test", &[(1, refusing())])]).await;
    let response = edge.request("a.test", "/").send().await.expect("answered");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-cf-routererror"]),
        (502, &"endpoint_failure".parse().expect("ascii"))
    );
    edge.stop().await;
}

/// Answers each request on a connection, then closes it at once: the race of a server that closes idle connections.
async fn closing_backend() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                if stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                        .await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_request() {
    let backend = closing_backend().await;
    let edge = edge().await;
    edge.controller.set(vec![route("a.test", &[(1, backend)])]).await;
    let client = client();
    for _ in 0..300 {
        let request = client.get(format!("http://{}/", edge.address)).header("host", "a.test");
        assert_eq!(request.send().await.expect("answered").status(), 200);
    }
    edge.stop().await;
}

#[tokio::test]
async fn websockets_pass() {
    async fn echo(upgrade: WebSocketUpgrade) -> impl IntoResponse {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(message @ Message::Text(_))) = socket.recv().await {
                socket.send(message).await.expect("open");
            }
        })
    }
    let backend = serve(Router::new().route("/ws", get(echo))).await;
    let edge = edge().await;
    edge.controller.set(vec![route("127.0.0.1", &[(1, backend)])]).await;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/ws", edge.address))
        .await
        .expect("upgraded");
    for text in ["one", "two"] {
        socket.send(text.into()).await.expect("sent");
        let answer = socket.next().await.expect("open").expect("sound");
        assert_eq!(answer.to_text().expect("text"), text);
    }
    // While it is open, the instance is draining; when it closes, the router says so.
    let ack = edge.controller.set(vec![]).await;
    assert_eq!(ack.draining, [WorkId(Uuid::from_u128(1))]);
    socket.close(None).await.expect("closed");
    drop(socket);
    edge.controller.ack(|ack| ack.draining.is_empty()).await;
    edge.stop().await;
}

#[tokio::test]
async fn an_instance_leaves_without_losing_its_request_and_bodies_stream() {
    let (lines, _) = broadcast::channel::<&'static str>(8);
    let started = Arc::new(Notify::new());
    let app = {
        let (lines, started) = (lines.clone(), Arc::clone(&started));
        Router::new().fallback(any(move |State(()): State<()>| async move {
            let lines = lines.subscribe();
            started.notify_one();
            Body::from_stream(futures_util::stream::unfold(lines, |mut lines| async move {
                let line = lines.recv().await.ok()?;
                Some((Ok::<_, std::io::Error>(line), lines))
            }))
        }))
    };
    let (old, new) = (
        serve(app).await,
        serve(Router::new().fallback(any(|| async { "new" }))).await,
    );
    let edge = edge().await;
    edge.controller.set(vec![route("a.test", &[(1, old)])]).await;
    let mut response = edge.request("a.test", "/").send().await.expect("answered");
    started.notified().await;
    lines.send("first\n").expect("heard");
    // The first line comes while the body is far from its end.
    assert_eq!(response.chunk().await.expect("open").expect("data"), "first\n");

    let ack = edge.controller.set(vec![route("a.test", &[(2, new)])]).await;
    assert_eq!(ack.draining, [WorkId(Uuid::from_u128(1))]);
    assert_eq!(
        edge.request("a.test", "/")
            .send()
            .await
            .expect("answered")
            .text()
            .await
            .expect("whole"),
        "new"
    );
    lines.send("last\n").expect("heard");
    assert_eq!(response.chunk().await.expect("open").expect("data"), "last\n");
    drop(response);
    edge.controller.ack(|ack| ack.draining.is_empty()).await;
    edge.stop().await;
}

#[tokio::test]
async fn what_two_readers_could_read_differently_is_refused() {
    let backend = serve(Router::new().fallback(any(|| async { "ok" }))).await;
    let edge = edge().await;
    edge.controller.set(vec![route("a.test", &[(1, backend)])]).await;
    let long = format!("GET / HTTP/1.1\r\nhost: a.test\r\n{}\r\n", "x-a: b\r\n".repeat(30));
    for (head, status) in [
        ("GET / HTTP/1.1\r\nhost: a.test\r\nhost: a.test\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET http://b.test/ HTTP/1.1\r\nhost: a.test\r\n\r\n", "400"),
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "501",
        ),
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            "400",
        ),
        ("GET / HTTP/1.1\r\nhost : a.test\r\n\r\n", "400"),
        ("CONNECT a.test:80 HTTP/1.1\r\nhost: a.test\r\n\r\n", "405"),
        (&long, "431"),
        ("GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n", "200"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(edge.address).await.expect("listens");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = vec![0; 1024];
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut answer))
            .await
            .expect("in time")
            .expect("open");
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head:?}: {answer}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_shutdown_lets_open_requests_end() {
    let release = Arc::new(Notify::new());
    let reached = Arc::new(Notify::new());
    let app = {
        let (release, reached) = (Arc::clone(&release), Arc::clone(&reached));
        Router::new().fallback(any(|| async move {
            reached.notify_one();
            release.notified().await;
            (StatusCode::OK, "late")
        }))
    };
    let backend = serve(app).await;
    let edge = edge().await;
    edge.controller.set(vec![route("a.test", &[(1, backend)])]).await;
    let response = tokio::spawn(edge.request("a.test", "/").send());
    reached.notified().await;
    edge.shutdown.cancel();
    release.notify_one();
    let response = response.await.expect("no panic").expect("answered");
    assert_eq!(response.text().await.expect("whole"), "late");
    edge.stop().await;
}
