//! Health checks against real listeners.

use super::*;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;

fn check(probe: Probe) -> HealthCheck {
    HealthCheck {
        probe,
        ..HealthCheck::default()
    }
}

fn http(endpoint: &str) -> Probe {
    Probe::Http {
        endpoint: endpoint.to_owned(),
    }
}

async fn listen() -> (TcpListener, SocketAddrV4) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    match listener.local_addr().expect("address") {
        SocketAddr::V4(address) => (listener, address),
        SocketAddr::V6(_) => panic!("asked for IPv4"),
    }
}

/// Answers every connection with `answer` after reading the request; tells how the requests began.
fn serve(listener: TcpListener, answer: &'static str) -> tokio::sync::mpsc::Receiver<String> {
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 1024];
            let n = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..n]).into_owned();
            let first = request.lines().next().unwrap_or_default().to_owned();
            sender.send(first).await.expect("somebody listens");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    receiver
}

#[tokio::test]
async fn an_open_port_is_healthy_and_a_closed_one_says_so() {
    let (listener, address) = listen().await;
    let target = Target::new(&check(Probe::Port), Some(address)).expect("a target");
    assert_eq!(target.ask().await, Ok(()));
    drop(listener);
    let answer = target.ask().await.expect_err("closed");
    assert_eq!(answer, format!("port {}: connection refused", address.port()));
}

#[tokio::test]
async fn an_endpoint_has_to_answer_200() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", None),
        ("HTTP/1.0 200 OK\r\n\r\n", None),
        (
            "HTTP/1.1 503 Service Unavailable\r\n\r\n",
            Some("was answered with 503, expected 200"),
        ),
        (
            "HTTP/1.1 204 No Content\r\n\r\n",
            Some("was answered with 204, expected 200"),
        ),
        ("SSH-2.0-OpenSSH\r\n", Some("was not answered in HTTP/1")),
        ("", Some("was not answered in HTTP/1")),
    ] {
        let (listener, address) = listen().await;
        let mut requests = serve(listener, answer);
        let target = Target::new(&check(http("/healthz?full=1")), Some(address)).expect("a target");
        match (target.ask().await, expected) {
            (Ok(()), None) => {}
            (Err(told), Some(part)) => assert!(told.contains(part), "{told}"),
            (got, _) => panic!("{answer:?}: {got:?}"),
        }
        assert_eq!(requests.recv().await.as_deref(), Some("GET /healthz?full=1 HTTP/1.1"));
    }
}

#[tokio::test]
async fn silence_ends_with_the_time_allowed() {
    let (_listener, address) = listen().await;
    let target = Target::new(&check(http("/")), Some(address)).expect("a target");
    let began = std::time::Instant::now();
    let answer = target.ask().await.expect_err("silent");
    assert!(answer.contains("was not answered within 1 s"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_new_instance_is_seen_soon_after_it_listens() {
    let (listener, address) = listen().await;
    drop(listener);
    let target = Target::new(&check(Probe::Port), Some(address)).expect("a target");
    let last = parking_lot::Mutex::new(String::new());
    let late = async {
        // sleeps: the app of this test is slow to listen.
        sleep(Duration::from_millis(60)).await;
        TcpListener::bind(address).await.expect("listen")
    };
    let began = std::time::Instant::now();
    let (_listener, ()) = tokio::join!(late, target.until_healthy(&last));
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    assert!(last.lock().contains("connection refused"));
}

#[tokio::test]
async fn failures_are_forgiven_until_there_are_three_in_a_row() {
    let (listener, address) = listen().await;
    let target = Target::new(&check(Probe::Port), Some(address)).expect("a target");
    let mut asked = std::pin::pin!(target.until_unhealthy(Duration::from_millis(20)));
    let answering = timeout(Duration::from_millis(200), &mut asked).await;
    assert!(answering.is_err(), "healthy while it answers");
    drop(listener);
    let began = Instant::now();
    let answer = asked.await;
    assert!(answer.contains("connection refused"), "{answer}");
    assert!(began.elapsed() >= Duration::from_millis(40), "more than one question");
}

#[test]
fn processes_without_a_port_are_not_asked() {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
    assert!(Target::new(&check(Probe::Process), Some(address)).is_none());
    assert!(Target::new(&check(Probe::Port), None).is_none());
}
