//! No update drops a request: a new push, a restart, scaling up and down, each under load, with one and three instances.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tests::{Platform, app};

const CLIENTS: usize = 16;

/// Requests without a pause, until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(platform: &Platform, host: &str) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..CLIENTS)
            .map(|_| {
                let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
                let (url, host) = (format!("http://{}/", platform.router), host.to_owned());
                std::thread::spawn(move || {
                    let client = reqwest::blocking::Client::builder()
                        .timeout(Duration::from_secs(30))
                        .build();
                    let client = client.expect("a client");
                    let mut failures = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        match client
                            .get(&url)
                            .header("host", &host)
                            .send()
                            .and_then(|r| r.error_for_status()?.bytes())
                        {
                            Ok(_) => drop(sent.fetch_add(1, Ordering::Relaxed)),
                            Err(error) => failures.push(format!("{error:?}")),
                        }
                    }
                    failures
                })
            })
            .collect();
        Self { stop, sent, clients }
    }

    /// Ends it, once there was enough of it: what it accompanies may be over before all clients have begun. The failures.
    fn stop(self) -> Vec<String> {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while self.sent.load(Ordering::Relaxed) <= 100 && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        self.stop.store(true, Ordering::Relaxed);
        let failures = self
            .clients
            .into_iter()
            .flat_map(|client| client.join().expect("no panic"))
            .collect();
        assert!(self.sent.load(Ordering::Relaxed) > 100, "there was hardly any load");
        failures
    }
}

fn under_load(platform: &Platform, what: &str, work: impl FnOnce()) {
    let load = Load::start(platform, "site.localhost");
    work();
    let failures = load.stop();
    assert!(
        failures.is_empty(),
        "{what}: {} failed, first: {}",
        failures.len(),
        failures[0]
    );
}

fn updates(instances: &str) {
    let platform = Platform::start();
    let folder = app("static-site");
    let path = folder.path().to_str().expect("UTF-8");
    let _ = platform.paas(["push", path, "-n", "site", "-i", instances]).ok();
    for round in 0..2 {
        under_load(&platform, "push", || {
            let page = folder.path().join("public/index.html");
            std::fs::write(page, format!("round {round}")).expect("written");
            let _ = platform.paas(["push", path, "-n", "site", "-i", instances]).ok();
            assert_eq!(platform.get("site.localhost", "/"), (200, format!("round {round}")));
        });
    }
    under_load(&platform, "restart", || drop(platform.paas(["restart", "site"]).ok()));
    under_load(&platform, "scale up", || {
        drop(platform.paas(["scale", "site", "-i", "5"]).ok())
    });
    under_load(&platform, "scale down", || {
        drop(platform.paas(["scale", "site", "-i", "1"]).ok())
    });
}

#[test]
fn one_instance() {
    updates("1");
}

#[test]
fn three_instances() {
    updates("3");
}
