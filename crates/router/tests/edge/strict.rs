//! What two readers could read differently never reaches an instance; slow and greedy clients end.

use crate::kit::*;
use api::edge::RouteOptions;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HEAD: &str = "POST / HTTP/1.1\r\nhost: a.test\r\n";

/// What a client sends on one connection, and the status of each answer.
const MATRIX: &[(&str, &str, &[u16])] = &[
    (
        "nothing special",
        "POST / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n",
        &[200],
    ),
    (
        "length and coding",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "two equal lengths",
        "content-length: 1\r\ncontent-length: 1\r\n\r\na",
        &[400],
    ),
    (
        "two lengths",
        "content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        &[400],
    ),
    ("a length with a sign", "content-length: +1\r\n\r\na", &[400]),
    ("a list of lengths", "content-length: 1, 1\r\n\r\na", &[400]),
    (
        "two codings",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "gzip and chunked",
        "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        &[501],
    ),
    (
        "chunked and identity",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        &[501],
    ),
    (
        "an unknown coding",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        &[501],
    ),
    (
        "space before a colon",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "a vertical tab",
        "transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    ("a fold", "x-a: b\r\n c\r\n\r\n", &[400]),
    ("a second host", "host: a.test\r\n\r\n", &[400]),
    ("another host", "host: b.test\r\n\r\n", &[400]),
    ("a bare line feed", "x-a: b\nx-c: d\r\n\r\n", &[400]),
    ("a bare carriage return", "x-a: b\rx-c: d\r\n\r\n", &[400]),
    ("a zero byte", "x-a: \0\r\n\r\n", &[400]),
    ("a bad chunk size", "transfer-encoding: chunked\r\n\r\nx\r\n", &[400]),
    (
        "a chunk size that overflows",
        "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        &[400],
    ),
    (
        "a chunk that ends early",
        "transfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        &[400],
    ),
    (
        "a chunk ended by a line feed",
        "transfer-encoding: chunked\r\n\r\n1\na\n0\n\n",
        &[400],
    ),
    (
        "an unknown expectation",
        "expect: tea\r\nconnection: close\r\n\r\n",
        &[417],
    ),
    (
        "coding in 1.0",
        "POST / HTTP/1.0\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    ("no host", "GET / HTTP/1.1\r\n\r\n", &[400]),
    ("an empty host", "GET / HTTP/1.1\r\nhost:\r\n\r\n", &[400]),
    (
        "another host in the target",
        "GET http://b.test/ HTTP/1.1\r\nhost: a.test\r\n\r\n",
        &[400],
    ),
    ("connect", "CONNECT a.test:80 HTTP/1.1\r\nhost: a.test\r\n\r\n", &[405]),
    ("version 2 in text", "GET / HTTP/2.0\r\nhost: a.test\r\n\r\n", &[400]),
    (
        "what stands for a refusal",
        "ROUTER-REFUSED / HTTP/1.1\r\nhost: a.test\r\n\r\n",
        &[400],
    ),
    (
        "a refused request behind a sound one",
        "GET / HTTP/1.1\r\nhost: a.test\r\n\r\nGET / HTTP/1.1\nhost: a.test\r\n\r\n",
        &[200, 400],
    ),
    (
        "another protocol that nobody speaks, and a request behind it",
        "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: tea\r\n\r\nGET /none HTTP/1.1\r\nhost: b.test\r\nconnection: close\r\n\r\n",
        &[200, 404],
    ),
];

fn statuses(answer: &str) -> Vec<u16> {
    // Bodies are the echo of heads, whose lines never begin like this.
    let lines = answer.lines().filter_map(|line| line.strip_prefix("HTTP/1."));
    lines.filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect()
}

#[tokio::test]
async fn what_two_readers_could_read_differently_is_refused() {
    let edge = edge().await;
    edge.controller
        .set(vec![route("a.test", &[(1, echo("one").await)])])
        .await;
    for (what, sent, expected) in MATRIX {
        let whole = sent.starts_with(|c: char| c.is_ascii_uppercase());
        let sent = if whole {
            (*sent).to_owned()
        } else {
            format!("{HEAD}{sent}")
        };
        let answer = edge.raw(sent.as_bytes()).await;
        assert_eq!(&statuses(&answer), expected, "{what}: {answer}");
        // The same in single bytes: where reads are cut makes no difference.
        let mut stream = TcpStream::connect(edge.address).await.expect("listens");
        stream.set_nodelay(true).expect("set");
        for byte in sent.as_bytes() {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let mut answer = Vec::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        let _ = read.expect("closed in time");
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(&statuses(&answer), expected, "{what}, in single bytes: {answer}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn heads_have_limits() {
    let edge = edge_with(|config| config.limits.max_head_bytes = 10_000).await;
    edge.controller
        .set(vec![route("a.test", &[(1, echo("one").await)])])
        .await;
    let of = |fields: String| format!("{HEAD}connection: close\r\n{fields}\r\n");
    for (fields, status) in [
        ("x-a: b\r\n".repeat(18), 200),
        ("x-a: b\r\n".repeat(19), 431),
        (format!("x-a: {}\r\n", "b".repeat(9_000)), 200),
        (format!("x-a: {}\r\n", "b".repeat(11_000)), 431),
    ] {
        let answer = edge.raw(of(fields).as_bytes()).await;
        assert_eq!(statuses(&answer), [status], "{answer}");
        if status == 431 {
            assert!(
                answer.contains("x-cf-routererror: max-request-size-exceeded"),
                "{answer}"
            );
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn slow_clients_end_at_their_deadlines() {
    let edge = edge_with(|config| {
        config.limits.head_read = Duration::from_millis(200);
        config.limits.body_stall = Duration::from_millis(200);
        config.limits.idle_client = Duration::from_millis(400);
    })
    .await;
    edge.controller
        .set(vec![route("a.test", &[(1, echo("one").await)])])
        .await;
    let answer = edge.raw(b"GET / HTTP/1.1\r\nhost: a").await;
    assert_eq!(statuses(&answer), [408], "{answer}");
    let answer = edge.raw(format!("{HEAD}content-length: 5\r\n\r\nab").as_bytes()).await;
    assert_eq!(statuses(&answer), [408], "{answer}");
    // Nothing at all, and nothing after a request: closed without a word.
    assert_eq!(edge.raw(b"").await, "");
    let answer = edge.raw(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    assert_eq!(statuses(&answer), [200]);
    edge.stop().await;
}

#[tokio::test]
async fn bodies_that_are_larger_than_a_route_allows_are_refused() {
    let edge = edge().await;
    let mut small = route("a.test", &[(1, echo("one").await)]);
    small.options = RouteOptions {
        max_body_bytes: Some(4),
        ..RouteOptions::default()
    };
    edge.controller.set(vec![small]).await;
    for (body, status) in [
        ("content-length: 4\r\nconnection: close\r\n\r\nabcd", 200),
        ("content-length: 5\r\n\r\nabcde", 413),
        ("transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", 413),
    ] {
        let answer = edge.raw(format!("{HEAD}{body}").as_bytes()).await;
        assert_eq!(statuses(&answer), [status], "{answer}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_the_instance_wants_it() {
    let edge = edge().await;
    let never = scripted(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    edge.controller
        .set(vec![
            route("a.test", &[(1, echo("one").await)]),
            route("b.test", &[(2, never)]),
        ])
        .await;
    let expecting = |host: &str| {
        format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
        )
    };
    let answer = edge.raw(expecting("b.test").as_bytes()).await;
    assert_eq!(statuses(&answer), [417], "{answer}");
    let mut stream = TcpStream::connect(edge.address).await.expect("listens");
    stream.write_all(expecting("a.test").as_bytes()).await.expect("sent");
    let mut answer = vec![0; 25];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer))
        .await
        .expect("in time")
        .expect("open");
    assert_eq!(answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ab").await.expect("sent");
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer))
        .await
        .expect("in time")
        .expect("text");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("\n\nab"),
        "{answer}"
    );
    edge.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_turned_away() {
    let edge = edge_with(|config| config.limits.max_connections = 1).await;
    let mut first = TcpStream::connect(edge.address).await.expect("listens");
    first
        .write_all(b"GET / HTTP/1.1\r\nhost: b.test\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = [0; 12];
    first.read_exact(&mut answer).await.expect("answered");
    let mut second = TcpStream::connect(edge.address).await.expect("listens");
    let read = tokio::time::timeout(DEADLINE, second.read(&mut [0; 1]))
        .await
        .expect("in time");
    assert!(read.is_err() || read.is_ok_and(|read| read == 0));
    drop(first);
    edge.stop().await;
}
