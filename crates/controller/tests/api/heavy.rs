//! Bodies that are too large or too slow: refused early, with bounded memory, and in time.

use crate::client::*;
use crate::malformed::{Wrong, guarded, is_manifest, request, with_body};
use crate::roles;
use crate::world::world;
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Request;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::testing::TestStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

store::on_both_engines!(
    bodies_that_say_they_are_too_large_are_not_read,
    bodies_without_end_are_read_to_a_limit,
    bodies_that_do_not_come_are_given_up,
);

const MIB: u64 = 1024 * 1024;
/// What a client that means no good sends.
const HUGE: u64 = 100 * MIB;
/// Most that is read of a body that is no upload, and what is on its way by then.
const MOST_READ: u64 = 16 * MIB;

/// A body of [`HUGE`] bytes that counts what is read of it.
fn huge() -> (Body, Arc<AtomicU64>) {
    let (read, counted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let seen = Arc::clone(&read);
    let chunk = Bytes::from(vec![b' '; MIB as usize]);
    let chunks = stream::unfold((), move |()| {
        let chunk = chunk.clone();
        let at = counted.fetch_add(MIB, Ordering::Relaxed);
        read.store(at, Ordering::Relaxed);
        async move { (at < HUGE).then_some((Ok::<_, Infallible>(chunk), ())) }
    });
    (Body::from_stream(chunks), seen)
}

fn declared(mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert("content-length", HUGE.into());
    request
}

async fn bodies_that_say_they_are_too_large_are_not_read(store: &TestStore) {
    let mut wrong = Wrong::default();
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let world = world(&admin, "good").await;
    for route in with_body() {
        let (body, read) = huge();
        let path = roles::path(route.path, &world);
        let asked = request(&admin.token, route.method, &path, "application/json", body);
        let answer = platform.send(declared(asked)).await;
        let case = format!("{} {path}", route.method);
        wrong.unless_refused(&answer, &[413], &case);
        wrong.unless(read.load(Ordering::Relaxed) == 0, || format!("{case} read of it"));
    }
    // Who is not known is not listened to either.
    for route in guarded() {
        let (body, read) = huge();
        let path = roles::path(route.path, &world);
        let answer = platform
            .send(declared(request("nonsense", route.method, &path, "text/plain", body)))
            .await;
        wrong.unless_refused(&answer, &[401], &path);
        wrong.unless(read.load(Ordering::Relaxed) == 0, || {
            format!("{} {path} read of it", route.method)
        });
    }
    let (body, read) = huge();
    let asked = request("", "POST", "/oauth/token", "application/x-www-form-urlencoded", body);
    wrong.unless_refused(&platform.send(declared(asked)).await, &[413], "/oauth/token");
    assert_eq!(read.load(Ordering::Relaxed), 0);
    wrong.none();
    let _ = store;
}

async fn bodies_without_end_are_read_to_a_limit(store: &TestStore) {
    let mut wrong = Wrong::default();
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let world = world(&admin, "good").await;
    // What is removed first would be missing after it; it reads no body.
    for route in guarded().filter(|route| route.method != "DELETE") {
        let upload = route.path.ends_with("/upload");
        let (body, read) = huge();
        let path = roles::path(route.path, &world);
        let kind = if is_manifest(route) {
            "application/x-yaml"
        } else {
            "application/json"
        };
        let answer = platform
            .send(request(&admin.token, route.method, &path, kind, body))
            .await;
        let case = format!("{} {path}", route.method);
        let read = read.load(Ordering::Relaxed);
        wrong.unless(read <= MOST_READ, || format!("{case} read {read} bytes"));
        wrong.unless(answer.status.as_u16() < 500, || format!("{case}: {}", answer.text));
        if upload || with_body().any(|known| known == route) {
            wrong.unless_refused(&answer, if upload { &[400, 422] } else { &[413] }, &case);
        }
    }
    wrong.none();
    let _ = store;
}

async fn bodies_that_do_not_come_are_given_up(store: &TestStore) {
    let mut wrong = Wrong::default();
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let world = world(&admin, "good").await;
    let begun = Instant::now();
    let uploads = guarded().filter(|route| route.path.ends_with("/upload"));
    let asked = with_body().chain(uploads).map(|route| {
        let path = roles::path(route.path, &world);
        // A first byte, and then none.
        let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"--x\r\n{"))]);
        let body = Body::from_stream(futures_util::StreamExt::chain(first, stream::pending()));
        let kind = if route.path.ends_with("/upload") {
            "multipart/form-data; boundary=x"
        } else {
            "application/json"
        };
        let asked = request(&admin.token, route.method, &path, kind, body);
        let (platform, method) = (&platform, route.method);
        async move { (platform.send(asked).await, format!("{method} {path}")) }
    });
    for (answer, case) in futures_util::future::join_all(asked.collect::<Vec<_>>()).await {
        wrong.unless_refused(&answer, &[400, 422], &case);
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    wrong.none();
    let _ = store;
}

/// The same by a socket: the answer comes while the client still has nearly all of its body to send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_a_huge_body_is_answered_before_it_sent_it() {
    let store = TestStore::open(store::testing::Engine::Sqlite).await;
    let platform = platform(&store).await;
    let token = platform.admin().await.token;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(axum::serve(listener, platform.router.clone()).into_future());
    let mut client = tokio::net::TcpStream::connect(address).await.expect("connects");
    let head = format!(
        "POST /v3/apps HTTP/1.1\r\nHost: api\r\nAuthorization: bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {HUGE}\r\n\r\n{{"
    );
    client.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(30), client.read(&mut answer)).await;
    let read = read.expect("answered in time").expect("readable");
    let text = String::from_utf8_lossy(&answer[..read]);
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    server.abort();
    store.remove().await;
}
