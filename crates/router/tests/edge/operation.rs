//! What operators see: health, metrics, draining, and a start without controllers.

use crate::kit::*;
use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::routing::{any, get};
use futures_util::{SinkExt as _, StreamExt as _};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

async fn admin(edge: &Edge, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", edge.admin.expect("listens"));
    let response = client().get(url).send().await.expect("answered");
    (response.status().as_u16(), response.text().await.expect("whole"))
}

fn with_admin(config: &mut router::Config) {
    config.listen.admin = Some("127.0.0.1:0".parse().expect("an address"));
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let edge = edge_with(with_admin).await;
    let app = Router::new().fallback(any(|| async { "four" }));
    edge.controller
        .set(vec![route("a.test", &[(1, serve(app).await)]), route("b.test", &[])])
        .await;
    for _ in 0..3 {
        let response = edge.request("a.test", "/").send().await.expect("answered");
        assert_eq!(response.text().await.expect("whole"), "four");
    }
    assert_eq!(
        edge.request("b.test", "/").send().await.expect("answered").status(),
        503
    );
    let began = Instant::now();
    let text = loop {
        let (status, text) = admin(&edge, "/metrics").await;
        assert_eq!(status, 200);
        // The last request is counted when its body was sent, which may be after it was read.
        if text.contains("router_requests_total 4\n") || began.elapsed() > DEADLINE {
            break text;
        }
    };
    let id = "00000000-0000-0000-0000-00000000004d";
    for line in [
        format!("router_route_requests_total{{route=\"{id}\",host=\"a.test\",status=\"2xx\"}} 3"),
        format!("router_route_requests_total{{route=\"{id}\",host=\"b.test\",status=\"5xx\"}} 1"),
        format!("router_route_sent_bytes_total{{route=\"{id}\",host=\"a.test\"}} 12"),
        format!("router_route_requests_in_flight{{route=\"{id}\",host=\"a.test\"}} 0"),
        format!("router_route_latency_seconds_count{{route=\"{id}\",host=\"a.test\"}} 3"),
        "router_refusals_total 1".to_owned(),
        "router_hosts 2".to_owned(),
    ] {
        assert!(text.lines().any(|has| has == line), "{line} is not in {text}");
    }
    assert_eq!(admin(&edge, "/").await.0, 404);
    edge.stop().await;
}

#[tokio::test]
async fn a_router_that_stops_says_so_and_lets_tunnels_go_on() {
    let answer = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(message @ Message::Text(_))) = socket.recv().await {
                socket.send(message).await.expect("open");
            }
        })
    };
    let instance = serve(Router::new().route("/ws", get(answer)).fallback(any(|| async { "ok" }))).await;
    let edge = edge_with(|config| {
        with_admin(config);
        config.drain_wait = Duration::from_millis(300);
        config.drain_timeout = Duration::from_secs(30);
    })
    .await;
    edge.controller.set(vec![route("127.0.0.1", &[(1, instance)])]).await;
    assert_eq!(admin(&edge, "/health").await.0, 200);
    let url = format!("ws://{}/ws", edge.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("upgraded");
    edge.shutdown.cancel();
    let began = Instant::now();
    while admin(&edge, "/health").await.0 != 503 {
        assert!(began.elapsed() < DEADLINE);
    }
    // Listeners close some time after.
    while tokio::net::TcpStream::connect(edge.address).await.is_ok() {
        assert!(began.elapsed() < DEADLINE);
        tokio::task::yield_now().await;
    }
    assert!(began.elapsed() >= Duration::from_millis(200));
    socket.send("late".into()).await.expect("open");
    assert_eq!(
        socket
            .next()
            .await
            .expect("open")
            .expect("sound")
            .to_text()
            .expect("text"),
        "late"
    );
    socket.close(None).await.expect("closed");
    drop(socket);
    tokio::time::timeout(DEADLINE, edge.running)
        .await
        .expect("ends with its last tunnel")
        .expect("no panic");
}

#[tokio::test]
async fn the_last_table_is_served_while_no_controller_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().join("routes.json");
    let edge = edge_with(|config| config.state = Some(kept.clone())).await;
    let mut route = route("a.test", &[(1, echo("one").await)]);
    route.endpoints[0].weight = Some(7);
    route.options.hash_header = Some("x-a".to_owned());
    edge.controller.set(vec![route.clone()]).await;
    edge.stop().await;
    let text = std::fs::read_to_string(&kept).expect("kept");
    let message: api::edge::Table = serde_json::from_str(&text).expect("sound");
    assert_eq!(
        message,
        api::edge::Table::Snapshot {
            revision: 0,
            routes: vec![route]
        }
    );

    let token = model::Secret::new("token");
    let nobody = api::Controllers::new(["http://127.0.0.1:1"]).expect("an address");
    let mut config = router::Config::new(
        uuid::Uuid::nil(),
        "127.0.0.1:0".parse().expect("an address"),
        nobody,
        token,
    );
    config.state = Some(kept);
    let shutdown = CancellationToken::new();
    let router = router::Router::bind(config, shutdown.clone()).expect("a free port");
    let (address, (ready, told)) = (router.address(), oneshot::channel());
    let running = tokio::spawn(router.run(ready));
    tokio::time::timeout(DEADLINE, told)
        .await
        .expect("in time")
        .expect("ready");
    let response = client()
        .get(format!("http://{address}/"))
        .header("host", "a.test")
        .send()
        .await;
    assert_eq!(response.expect("answered").status(), 200);
    shutdown.cancel();
    running.await.expect("no panic");
}
