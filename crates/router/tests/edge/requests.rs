//! Requests, streams and tunnels through a router while its table changes.

use crate::kit::*;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use model::id::WorkId;
use std::sync::Arc;
use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

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
        (502, &"endpoint_failure (connection refused)".parse().expect("ascii"))
    );
    edge.stop().await;
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_request() {
    let backend = scripted(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
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
