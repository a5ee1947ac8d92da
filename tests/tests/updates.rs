//! No update drops a request: a new push, a restart, scaling up and down, each under load, with one and three instances.

use tests::load::Load;
use tests::{Platform, app};

const CLIENTS: usize = 16;

fn under_load(platform: &Platform, what: &str, work: impl FnOnce()) {
    let load = Load::start(&platform.router, "site.localhost", CLIENTS);
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
