//! Steady load on an app, to see whether a request fails while something else happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait for one answer, and for enough of them.
const PATIENCE: Duration = Duration::from_secs(30);
/// As many requests are load.
const ENOUGH: u64 = 100;

/// Requests without a pause, until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// So many clients ask a router (host and port) for the first page of `host`.
    #[must_use]
    pub fn start(router: &str, host: &str, clients: usize) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            let (url, host) = (format!("http://{router}/"), host.to_owned());
            std::thread::spawn(move || ask(&url, &host, &stop, &sent))
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, sent, clients }
    }

    /// Waits until that many more requests were answered.
    pub fn pass(&self, more: u64) {
        let until = self.sent.load(Ordering::Relaxed) + more;
        assert!(self.comes_to(until), "no {more} requests were answered in time");
    }

    fn comes_to(&self, count: u64) -> bool {
        let deadline = Instant::now() + PATIENCE * 2;
        while self.sent.load(Ordering::Relaxed) < count {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// Requests that were answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it, once there was enough of it: what it accompanies may be over before all clients have begun. The failures.
    #[must_use]
    pub fn stop(self) -> Vec<String> {
        let enough = self.comes_to(ENOUGH + 1);
        self.stop.store(true, Ordering::Relaxed);
        let clients = self.clients.into_iter();
        let failures = clients.flat_map(|client| client.join().expect("no panic")).collect();
        assert!(enough, "there was hardly any load");
        failures
    }
}

/// Asks until it is to stop; the failures.
fn ask(url: &str, host: &str, stop: &AtomicBool, sent: &AtomicU64) -> Vec<String> {
    let client = reqwest::blocking::Client::builder().timeout(PATIENCE).build();
    let client = client.expect("a client");
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let answer = client.get(url).header("host", host).send();
        match answer.and_then(|answer| answer.error_for_status()?.bytes()) {
            Ok(_) => drop(sent.fetch_add(1, Ordering::Relaxed)),
            Err(error) => failures.push(format!("{error:?}")),
        }
    }
    failures
}
