//! What Cloud Foundry's router shows to clients and apps.

use crate::kit::*;
use api::edge::RouteOptions;
use axum::Router;
use axum::http::header::SET_COOKIE;
use axum::routing::any;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const APP: &str = "00000000-0000-0000-0000-000000000005";
const PROCESS: &str = "00000000-0000-0000-0000-000000000006";

#[tokio::test]
async fn apps_get_the_headers_of_cloud_foundry() {
    let edge = edge().await;
    edge.controller
        .set(vec![route("a.test", &[(3, echo("one").await)])])
        .await;
    let response = edge
        .request("a.test", "/x?y=1")
        .header("x-forwarded-for", "192.0.2.7")
        .header("connection", "x-secret, x-forwarded-for, traceparent")
        .header("x-secret", "1")
        .header("te", "trailers")
        .send()
        .await
        .expect("answered");
    let id = response.headers()["x-vcap-request-id"]
        .to_str()
        .expect("text")
        .to_owned();
    let text = response.text().await.expect("whole");
    for line in [
        "GET /x?y=1".to_owned(),
        "host: a.test".to_owned(),
        "x-forwarded-for: 192.0.2.7, 127.0.0.1".to_owned(),
        "x-forwarded-proto: http".to_owned(),
        format!("x-vcap-request-id: {id}"),
        format!("x-cf-applicationid: {APP}"),
        "x-cf-instanceid: 00000000-0000-0000-0000-000000000003".to_owned(),
        "x-cf-instanceindex: 3".to_owned(),
        format!("x-b3-traceid: {}", id.replace('-', "")),
    ] {
        assert!(text.lines().any(|has| has == line), "{line} is not in {text}");
    }
    for name in [
        "x-request-start: 1",
        "traceparent: 00-",
        "tracestate: gorouter=",
        "b3: ",
        "x-b3-spanid: ",
    ] {
        assert!(text.lines().any(|has| has.starts_with(name)), "{name} is not in {text}");
    }
    for name in ["x-secret", "connection:", "te:"] {
        assert!(!text.lines().any(|has| has.starts_with(name)), "{name} is in {text}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn requests_reach_the_instance_that_they_name() {
    let edge = edge().await;
    let (one, two) = (echo("one").await, echo("two").await);
    edge.controller.set(vec![route("a.test", &[(1, one), (2, two)])]).await;
    let nobody = "00000000-0000-0000-0000-000000000099";
    for (name, value, status, expected) in [
        ("x-cf-app-instance", format!("{APP}:1"), 200, "one"),
        ("x-cf-app-instance", format!("{APP}:2"), 200, "two"),
        ("x-cf-app-instance", format!("{APP}:3"), 400, "unknown_route"),
        ("x-cf-app-instance", format!("{nobody}:1"), 400, "unknown_route"),
        (
            "x-cf-app-instance",
            APP.to_owned(),
            400,
            "invalid_cf_app_instance_header",
        ),
        ("x-cf-process-instance", format!("{PROCESS}:2"), 200, "two"),
        ("x-cf-process-instance", nobody.to_owned(), 400, "unknown_route"),
        (
            "x-cf-process-instance",
            "web".to_owned(),
            400,
            "invalid_cf_process_instance_header",
        ),
    ] {
        for _ in 0..4 {
            let request = edge.request("a.test", "/").header(name, &value);
            let response = request.send().await.expect("answered");
            assert_eq!(response.status(), status, "{name}: {value}");
            if status == 200 {
                assert!(response.text().await.expect("whole").starts_with(expected));
            } else {
                assert_eq!(response.headers()["x-cf-routererror"], expected, "{name}: {value}");
            }
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn every_refusal_has_its_name_and_is_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let edge = edge_with(|config| {
        config.access.file = Some(log.clone());
        config.access.query = router::Query::Redact;
        config.limits.max_per_instance = 1;
        config.limits.attempts = 1;
    })
    .await;
    let broken = scripted(b"HTTP/1.1 what\r\n\r\n").await;
    let closing = scripted(b"").await;
    let mut slow = route("slow.test", &[(7, hanging().await.0)]);
    slow.options = RouteOptions {
        request_timeout_seconds: Some(1),
        ..RouteOptions::default()
    };
    edge.controller
        .set(vec![
            route("empty.test", &[]),
            route("gone.test", &[(4, refusing())]),
            route("broken.test", &[(5, broken)]),
            route("closing.test", &[(6, closing)]),
            slow,
        ])
        .await;
    let full = tokio::spawn(edge.request("slow.test", "/first").send());
    for (host, status, name) in [
        ("none.test", 404, "unknown_route"),
        ("empty.test", 503, "no_endpoints"),
        ("gone.test", 502, "endpoint_failure (connection refused)"),
        ("broken.test", 502, "endpoint_failure (malformed response)"),
        ("closing.test", 502, "endpoint_failure (EOF)"),
    ] {
        let response = edge.request(host, "/x?secret=1").send().await.expect("answered");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-cf-routererror"]),
            (status, &name.parse().expect("ascii")),
            "{host}"
        );
        assert_eq!(response.headers()["cache-control"], "no-cache, no-store");
    }
    let response = full.await.expect("no panic").expect("answered");
    assert_eq!(response.status(), 502);
    assert_eq!(
        response.headers()["x-cf-routererror"],
        "endpoint_failure (timed out waiting for a response)"
    );
    assert!(edge.raw(b"GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 400"));
    // The app's log gets the line too, where an instance was tried.
    let line = edge.controller.line().await;
    assert_eq!((line.source_type.as_str(), line.app.to_string().as_str()), ("RTR", APP));
    assert!(line.text.starts_with("gone.test - ["), "{}", line.text);
    edge.stop().await;
    let lines = std::fs::read_to_string(log).expect("written");
    for end in [
        "x_cf_routererror:\"no_endpoints\"",
        "x_cf_routererror:\"empty_host\"",
        "app_index:\"4\"",
        "\"GET /x HTTP/1.1\" 404 ",
    ] {
        assert!(lines.contains(end), "{end} is not in {lines}");
    }
    assert!(!lines.contains("secret"));
}

/// An instance that takes connections and says nothing but to us that it has one more.
async fn hanging() -> (std::net::SocketAddr, mpsc::Receiver<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (taken, told) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
            let _ = taken.try_send(());
        }
    });
    (address, told)
}

#[tokio::test]
async fn an_instance_that_is_full_gets_no_more_and_a_client_that_goes_is_recorded_as_499() {
    let edge = edge_with(|config| config.limits.max_per_instance = 1).await;
    let (instance, mut taken) = hanging().await;
    edge.controller.set(vec![route("a.test", &[(1, instance)])]).await;
    let mut first = TcpStream::connect(edge.address).await.expect("listens");
    let head = b"GET /first HTTP/1.1\r\nhost: a.test\r\n\r\n";
    first.write_all(head).await.expect("sent");
    tokio::time::timeout(DEADLINE, taken.recv())
        .await
        .expect("in time")
        .expect("taken");
    let full = edge.request("a.test", "/second").send().await.expect("answered");
    assert_eq!(full.status(), 503);
    assert_eq!(full.headers()["x-cf-routererror"], "Connection Limit Reached");
    drop(first);
    loop {
        let line = edge.controller.line().await.text;
        if line.contains("/first") {
            assert!(line.contains("\" 499 0 0 "), "{line}");
            assert!(
                line.contains("x_cf_routererror:\"endpoint_failure (context canceled)\""),
                "{line}"
            );
            break;
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn sessions_stay_with_their_instance_while_it_is_there() {
    let login = |name: &'static str| async move {
        let answer = move || async move { ([(SET_COOKIE, "JSESSIONID=x; Max-Age=9; Secure")], name) };
        serve(Router::new().fallback(any(answer))).await
    };
    let edge = edge().await;
    let (one, two) = (login("one").await, login("two").await);
    edge.controller.set(vec![route("a.test", &[(1, one), (2, two)])]).await;
    let response = edge.request("a.test", "/").send().await.expect("answered");
    let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().cloned().collect();
    let ours = cookies[1].to_str().expect("text").to_owned();
    let first = response.text().await.expect("whole");
    let work = if first == "one" { 1 } else { 2 };
    assert_eq!(
        ours,
        format!("__VCAP_ID__=00000000-0000-0000-0000-00000000000{work}; Path=/; HttpOnly; Max-Age=9; Secure")
    );
    let cookie = format!("JSESSIONID=x; {}", ours.split(';').next().expect("one"));
    let again = || edge.request("a.test", "/").header("cookie", &cookie).send();
    for _ in 0..20 {
        assert_eq!(again().await.expect("answered").text().await.expect("whole"), first);
    }
    // Its instance leaves: the session moves, and says so.
    let (other, address) = if work == 1 { (2, two) } else { (1, one) };
    edge.controller.set(vec![route("a.test", &[(other, address)])]).await;
    let moved = again().await.expect("answered");
    let cookies = moved.headers().get_all(SET_COOKIE).iter();
    assert!(cookies.into_iter().any(|cookie| {
        cookie
            .to_str()
            .is_ok_and(|cookie| cookie.contains(&format!("000{other};")))
    }));
    edge.stop().await;
}
