//! Descriptors that somebody left open: an agent, or whoever starts a bundle with hooks.

use std::fs::File;
use std::io::Read;
use std::time::Instant;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use sandbox::{ParkSpec, Parking, Sandbox};
use serde_json::json;

use super::{Host, Outcome, attempt, attempt_spec, output, table};
use crate::escapes::bundle::{Bundle, Line, Runner};
use crate::escapes::outside::Outside;
use crate::kit::PATIENCE;
use crate::lifecycle::{exec_output, exec_spec};

const NAME: &str = "careless-agent";
const ATTEMPT: &str = "leaked-descriptor";

/// The attempt on a terminal.
fn on_a_terminal(sandbox: &Sandbox) -> String {
    let mut spec = exec_spec(&["escape", ATTEMPT, "outside"]);
    spec.tty = Some((24, 80));
    let mut exec = sandbox.exec(&spec).unwrap();
    let mut told = Vec::new();
    let mut terminal = File::from(exec.terminal.take().unwrap());
    // It ends with an error, as terminals do.
    let _ = terminal.read_to_end(&mut told);
    exec.wait(Instant::now() + PATIENCE).unwrap();
    String::from_utf8_lossy(&told).into_owned()
}

#[test]
fn careless_agent() {
    let mut host = Host::new();
    let outside = Outside::new(&host);
    // Another spawner, and whatever comes of it, by a process that leaves a folder open.
    host.runtime.take().unwrap().close().unwrap();
    let folder = File::open(host.dir.path()).unwrap();
    fcntl(&folder, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    host.parked = Parking {
        max: 1,
        ..Parking::default()
    };
    host.open();

    let mut spec = attempt_spec(&host, &outside, ATTEMPT);
    let real = attempt(&host, &spec, ATTEMPT).held(ATTEMPT, "a sandbox");
    host.runtime().park(&ParkSpec::whole(&spec), 1).unwrap();
    assert!(host.runtime().await_parked(Instant::now() + PATIENCE));
    attempt(&host, &spec, ATTEMPT).held(ATTEMPT, "a parked sandbox");
    spec.process.terminal = true;
    attempt(&host, &spec, ATTEMPT).held(ATTEMPT, "a sandbox with a terminal");

    let sandbox = host.create(&host.spec("exec", &["sleep"]));
    let (_, told) = exec_output(&sandbox, &["escape", ATTEMPT, "outside"]);
    let further = Outcome::read(ATTEMPT, &told).held(ATTEMPT, "a further process");
    assert_eq!(further, real);
    let further = Outcome::read(ATTEMPT, &on_a_terminal(&sandbox)).held(ATTEMPT, "a terminal");
    assert_eq!(further, real);
    sandbox.destroy().unwrap();
    drop(folder);

    spec.process.terminal = false;
    let bundle = Bundle::new(&host, &spec, &[Line::LeftOpen]);
    let reached = Outcome::read(ATTEMPT, &bundle.run()).escaped(ATTEMPT, "a weakened bundle");
    table::record(NAME, &real, &reached);
    drop((bundle, outside));
    host.finish();
}

#[test]
fn hook_descriptors() {
    let name = "hook-descriptors";
    let host = Host::new();
    let spec = host.spec("hooks", &["say", "ran"]);
    let mut bundle = Bundle::new(&host, &spec, &[]);
    let own = host.dir.path().to_owned();
    bundle.leave_open(&own);
    let listing = |kind: &str| own.join(format!("listing-{kind}"));
    let script = |kind: &str| format!("ls -l /proc/self/fd > {}", listing(kind).display());
    let hook =
        |kind: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", script(kind)], "env": ["PATH=/usr/bin:/bin"] }]);
    let on_the_host = ["createRuntime", "poststart", "poststop"];
    let mut hooks: serde_json::Map<_, _> = on_the_host
        .iter()
        .map(|kind| ((*kind).to_owned(), hook(kind)))
        .collect();
    let inside = json!([{ "path": "/bin/probe", "args": ["probe", "list", "/proc/self/fd"] }]);
    hooks.insert("startContainer".to_owned(), inside);
    bundle.config["hooks"] = hooks.into();
    let (ok, told) = bundle.run_by(Runner::Ours);
    assert!(ok && told.contains("ran"), "{told}");
    // The three, and that of the listing.
    assert!(
        told.lines().any(|line| line == "0 1 2 3"),
        "a hook inside has more: {told}"
    );
    let folder = own.to_str().unwrap();
    for kind in on_the_host {
        let listing = std::fs::read_to_string(listing(kind)).unwrap();
        let descriptors = listing.lines().filter(|line| line.contains("->"));
        let leaked = |line: &&str| line.ends_with(folder);
        assert_eq!(descriptors.clone().filter(leaked).count(), 0, "{kind}: {listing}");
        assert!(descriptors.count() <= 4, "{kind}: {listing}");
    }
    let mut careless = std::process::Command::new("sh");
    careless.args(["-c", &format!("exec 3<{folder}; /bin/sh -c '{}'", script("twin"))]);
    output(&mut careless);
    let twin = std::fs::read_to_string(listing("twin")).unwrap();
    assert!(twin.lines().any(|line| line.ends_with(folder)), "{twin}");
    table::record(name, "3 descriptors, in every kind of hook", "a folder of the host");
    drop(bundle);
    host.finish();
}
