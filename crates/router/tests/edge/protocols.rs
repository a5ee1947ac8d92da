//! HTTP/2 on both sides, streams and trailers, WebSocket over HTTP/2, and floods of frames.

use crate::kit::*;
use api::edge::Protocol;
use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::routing::{any, get};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

type Frames = StreamBody<ReceiverStream<Result<Frame<Bytes>, Infallible>>>;

async fn http2(address: SocketAddr) -> SendRequest<Frames> {
    let stream = TcpStream::connect(address).await.expect("listens");
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

/// A body that is sent piece by piece.
fn frames() -> (mpsc::Sender<Result<Frame<Bytes>, Infallible>>, Frames) {
    let (sender, frames) = mpsc::channel(4);
    (sender, StreamBody::new(ReceiverStream::new(frames)))
}

/// An instance of HTTP/2 that sends every piece back, and the trailers too.
async fn echo_frames() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: http::Request<Incoming>| async move {
                let te = request.headers().get("te").cloned();
                let mut response = http::Response::new(request.into_body());
                response
                    .headers_mut()
                    .insert("content-type", "application/grpc".parse().expect("sound"));
                if let Some(te) = te {
                    response.headers_mut().insert("x-te", te);
                }
                Ok::<_, Infallible>(response)
            });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

#[tokio::test]
async fn grpc_streams_both_ways_with_trailers() {
    let edge = edge().await;
    let mut route = route("a.test", &[(1, echo_frames().await)]);
    route.endpoints[0].protocol = Protocol::Http2;
    edge.controller.set(vec![route]).await;
    let mut client = http2(edge.address).await;
    for _ in 0..2 {
        let (sender, body) = frames();
        let request = http::Request::post("http://a.test/service/Method")
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(body)
            .expect("sound");
        let response = client.send_request(request).await.expect("answered");
        assert_eq!(response.version(), http::Version::HTTP_2);
        assert_eq!(response.headers()["x-te"], "trailers");
        let mut body = response.into_body();
        for piece in ["one", "two"] {
            sender.send(Ok(Frame::data(Bytes::from(piece)))).await.expect("open");
            // Each comes back while the request is far from its end.
            let frame = body.frame().await.expect("open").expect("sound");
            assert_eq!(frame.into_data().expect("data"), piece);
        }
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("sound"));
        sender.send(Ok(Frame::trailers(trailers))).await.expect("open");
        drop(sender);
        let frame = body.frame().await.expect("open").expect("sound");
        assert_eq!(frame.into_trailers().expect("trailers")["grpc-status"], "0");
    }
    edge.stop().await;
}

#[tokio::test]
async fn clients_of_http_2_reach_instances_of_http_1_and_the_other_way() {
    let edge = edge().await;
    let mut second = route("b.test", &[(2, echo_frames().await)]);
    second.endpoints[0].protocol = Protocol::Http2;
    edge.controller
        .set(vec![route("a.test", &[(1, echo("one").await)]), second])
        .await;
    let mut client = http2(edge.address).await;
    let request = http::Request::get("http://a.test/x?y=1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(frames().1)
        .expect("sound");
    let response = client.send_request(request).await.expect("answered");
    let text = response.into_body().collect().await.expect("whole").to_bytes();
    let text = String::from_utf8_lossy(&text);
    for line in [
        "GET /x?y=1",
        "host: a.test",
        "cookie: a=1; b=2",
        "x-forwarded-proto: http",
    ] {
        assert!(text.lines().any(|has| has == line), "{line} is not in {text}");
    }
    let request = client_of_http_1(&edge).body("hello");
    assert_eq!(
        request.send().await.expect("answered").text().await.expect("whole"),
        "hello"
    );
    edge.stop().await;
}

fn client_of_http_1(edge: &Edge) -> reqwest::RequestBuilder {
    client()
        .post(format!("http://{}/", edge.address))
        .header("host", "b.test")
}

#[tokio::test]
async fn websockets_pass_over_http_2() {
    let answer = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(message @ Message::Text(_))) = socket.recv().await {
                socket.send(message).await.expect("open");
            }
        })
    };
    let instance = serve(Router::new().route("/ws", get(answer)).fallback(any(|| async { "no" }))).await;
    let edge = edge().await;
    edge.controller.set(vec![route("a.test", &[(1, instance)])]).await;
    let mut client = http2(edge.address).await;
    let request = http::Request::get("http://a.test/").body(frames().1).expect("sound");
    assert_eq!(client.send_request(request).await.expect("answered").status(), 200);
    let mut connect = |path: &str| {
        let request = http::Request::connect(format!("http://a.test{path}"))
            .extension(hyper::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(frames().1)
            .expect("sound");
        client.send_request(request)
    };
    // An instance that speaks HTTP only: its success must not be taken for agreement.
    assert_eq!(connect("/no").await.expect("answered").status(), 502);
    let response = connect("/ws").await.expect("answered");
    assert_eq!(response.status(), 200);
    let upgraded = hyper::upgrade::on(response).await.expect("agreed");
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    socket.send("one".into()).await.expect("sent");
    let answer = socket.next().await.expect("open").expect("sound");
    assert_eq!(answer.to_text().expect("text"), "one");
    drop(socket);
    edge.stop().await;
}

#[tokio::test]
async fn streams_of_http_2_end_well_while_the_router_stops() {
    let edge = edge().await;
    edge.controller
        .set(vec![route("a.test", &[(1, echo_frames_1().await)])])
        .await;
    let mut client = http2(edge.address).await;
    let (sender, body) = frames();
    let request = http::Request::post("http://a.test/").body(body).expect("sound");
    let mut body = client.send_request(request).await.expect("answered").into_body();
    edge.shutdown.cancel();
    // The router says that it goes away: nothing new begins on this connection, what is open goes on.
    let began = std::time::Instant::now();
    while client.ready().await.is_ok() {
        assert!(began.elapsed() < DEADLINE);
        let request = http::Request::get("http://a.test/").body(frames().1).expect("sound");
        if client.send_request(request).await.is_err() {
            break;
        }
    }
    sender.send(Ok(Frame::data(Bytes::from("late")))).await.expect("open");
    let frame = body.frame().await.expect("open").expect("sound");
    assert_eq!(frame.into_data().expect("data"), "late");
    drop(sender);
    let rest = body.collect().await.expect("ends well").to_bytes();
    assert!(rest.is_empty());
    edge.stop().await;
}

/// An instance of HTTP/1.1 that sends back what comes, as it comes.
async fn echo_frames_1() -> SocketAddr {
    serve(Router::new().fallback(any(|body: axum::body::Body| async { body }))).await
}

/// A connection of HTTP/2 by hand.
struct Raw(TcpStream);

impl Raw {
    async fn connect(edge: &Edge) -> Self {
        let mut stream = TcpStream::connect(edge.address).await.expect("listens");
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .expect("sent");
        let mut raw = Self(stream);
        raw.send(4, 0, 0, &[]).await.expect("sent");
        raw
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[&head, payload].concat()).await
    }

    /// The code of the router's GOAWAY, or `None` where it merely cut the connection.
    async fn goaway(mut self) -> Option<u32> {
        let all = async {
            loop {
                let mut head = [0; 9];
                self.0.read_exact(&mut head).await.ok()?;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let mut payload = vec![0; length];
                self.0.read_exact(&mut payload).await.ok()?;
                if head[3] == 7 {
                    return Some(u32::from_be_bytes(payload[4..8].try_into().expect("four")));
                }
            }
        };
        tokio::time::timeout(DEADLINE, all).await.expect("cut off in time")
    }
}

/// `GET http://a.test/`, compressed.
const FIELDS: &[u8] = b"\x82\x84\x86\x01\x06a.test";
const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test]
async fn idle_connections_of_http_2_are_told_to_go() {
    let edge = edge_with(|config| config.limits.idle_client = std::time::Duration::from_millis(200)).await;
    assert_eq!(Raw::connect(&edge).await.goaway().await, Some(0));
    edge.stop().await;
}

#[tokio::test]
async fn clients_that_reset_without_end_are_cut_off() {
    let edge = edge().await;
    edge.controller
        .set(vec![route("a.test", &[(1, echo("one").await)])])
        .await;
    let mut raw = Raw::connect(&edge).await;
    for n in 0..20_000_u32 {
        let stream = 2 * n + 1;
        let sent = raw.send(1, 0x5, stream, FIELDS).await;
        if sent.is_err() || raw.send(3, 0, stream, &8_u32.to_be_bytes()).await.is_err() {
            break;
        }
    }
    let code = raw.goaway().await;
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    assert_eq!(
        edge.request("a.test", "/").send().await.expect("answered").status(),
        200
    );
    edge.stop().await;
}

#[tokio::test]
async fn heads_without_end_are_cut_off() {
    let edge = edge().await;
    edge.controller
        .set(vec![route("a.test", &[(1, echo("one").await)])])
        .await;
    let mut raw = Raw::connect(&edge).await;
    raw.send(1, 0x1, 1, FIELDS).await.expect("sent");
    // Fields of 16 KB, more than any head may have in all.
    let field = [&b"\x00\x01a\x7f\x81\x7f"[..], &[b'x'; 16_000]].concat();
    let mut cut = false;
    for _ in 0..2_000 {
        cut |= raw.send(9, 0, 1, &field).await.is_err();
        if cut {
            break;
        }
    }
    let code = raw.goaway().await;
    assert!(cut || code.is_some(), "32 MB of one head were taken");
    assert_eq!(
        edge.request("a.test", "/").send().await.expect("answered").status(),
        200
    );
    edge.stop().await;
}
