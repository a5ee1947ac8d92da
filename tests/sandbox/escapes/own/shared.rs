//! What the kernel counts for each user: one sandbox takes all it can get, and the next finds what is left.

use super::{Host, Outcome, attempt, table};
use crate::escapes::bundle::{Bundle, Line, Runner};
use crate::kit::{eventually, printed};

/// `hog` takes, `left` looks.
fn taken_from_neighbours(hog: &str, left: &str) {
    let host = Host::new();
    let greedy = host.create(&host.spec("greedy", &["escape", hog]));
    printed(&greedy, "holding");
    let real = attempt(&host, &host.spec("modest", &["escape", left]), left).held(left, "a sandbox");
    greedy.destroy().unwrap();

    // Both are one user of the host's, whom nobody else is.
    let own = host.uids().end - 1;
    let twin = |argv: &[&str]| {
        let lines = [Line::Without("user")];
        let mut bundle = Bundle::new(&host, &host.spec("twin", argv), &lines);
        bundle.config["process"]["user"] = serde_json::json!({ "uid": own, "gid": own });
        bundle
    };
    let greedy = twin(&["escape", hog]);
    let mut child = greedy.start(Runner::Runc);
    eventually("the twin holds all", || greedy.output().contains("holding"));
    let reached = Outcome::read(left, &twin(&["escape", left]).run()).escaped(left, "a twin beside it");
    drop(greedy);
    child.wait().unwrap();
    table::record(left, &real, &reached);
    host.finish();
}

#[test]
fn inotify_left() {
    taken_from_neighbours("inotify-hog", "inotify-left");
}

#[test]
fn pipe_left() {
    taken_from_neighbours("pipe-hog", "pipe-left");
}
