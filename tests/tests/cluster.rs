//! A platform on many hosts: pushed to, scaled over cells, and losing its parts one after the other under load.

use std::time::{Duration, Instant};
use tests::app;
use tests::cluster::{Cluster, Size};
use tests::load::Load;

const HOST: &str = "site.apps.test";
/// Longest wait for what is to happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        std::thread::yield_now();
    }
}

#[test]
fn parts_die_one_after_the_other_and_no_request_is_lost() {
    let mut cluster = Cluster::start(Size {
        controllers: 3,
        routers: 2,
        cells: 3,
    });
    cluster.make_space();
    let folder = app("static-site");
    let path = folder.path().to_str().expect("UTF-8");
    let _ = cluster.paas(["push", path, "-n", "site", "-i", "6", "-m", "64M"]).ok();
    let load = Load::start(&cluster.edge(0), HOST, 8);
    load.pass(200);

    // The elected controller, and one that is not: whichever is which, both die in turn.
    for n in 0..3 {
        cluster.controllers[n].kill();
        cluster.log_in((n + 1) % 3);
        load.pass(500);
        eventually("all instances are told of", || cluster.running("site") == Some(6));
        cluster.controllers[n].up();
    }
    cluster.log_in(0);

    // An agent: its apps go on, and it takes them over again.
    cluster.cells[0].kill();
    load.pass(500);
    cluster.cells[0].up();

    // The database and the object store are away for a while: what runs goes on.
    cluster.database.stop();
    load.pass(500);
    cluster.database.up();
    cluster.blobs.stop();
    load.pass(500);
    cluster.blobs.start_again().expect("it starts again");
    eventually("the API answers again", || cluster.running("site") == Some(6));

    let failures = load.stop();
    assert!(failures.is_empty(), "{} failed, first: {}", failures.len(), failures[0]);

    // Another push, with everything as it is now.
    let page = folder.path().join("public/index.html");
    std::fs::write(page, "again").expect("written");
    let _ = cluster.paas(["push", path, "-n", "site", "-i", "6", "-m", "64M"]).ok();
}
