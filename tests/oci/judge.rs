//! What came of a case on each runtime, and whether that will do.

use std::path::Path;

use serde_json::json;

use super::kit::{Bundle, RUNTIMES, Runtime};

/// Names the folder into which every case writes what came of it, for the table.
const ROWS: &str = "OCI_CONFORMANCE_ROWS";

/// Cases that ours fails on purpose, and why. Each has to fail still, and no two others may pass it.
const ON_PURPOSE: &[(&str, &str)] = &[];

/// Why a case did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The runtime did something else than it should.
    Failed(String),
    /// It cannot be tried on this machine.
    Impossible(String),
}

impl From<String> for Trouble {
    fn from(text: String) -> Trouble {
        Trouble::Failed(text)
    }
}

impl From<&str> for Trouble {
    fn from(text: &str) -> Trouble {
        Trouble::Failed(text.to_owned())
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Trouble {
        Trouble::Failed(error.to_string())
    }
}

/// What a case returns.
pub type Outcome = Result<(), Trouble>;

/// Fails with `text` unless it holds.
pub fn ensure(holds: bool, text: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(Trouble::Failed(text())) }
}

/// Fails unless `done` failed.
pub fn refused<T>(what: &str, done: Result<T, String>) -> Outcome {
    ensure(done.is_err(), || format!("{what} did not fail"))
}

/// Makes a test of each case.
macro_rules! cases {
    ($suite:literal: $($name:ident)*) => {
        mod case {
            $(
                #[test]
                fn $name() {
                    $crate::judge::judge($suite, stringify!($name), super::$name);
                }
            )*
        }
    };
}

/// Runs the case on every runtime, writes down what came of it, and fails if ours did.
pub fn judge(suite: &str, name: &str, case: fn(&mut Bundle) -> Outcome) {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let outcomes: Vec<Outcome> = RUNTIMES.iter().map(|runtime| on(*runtime, case)).collect();
    if let Ok(folder) = std::env::var(ROWS) {
        write(Path::new(&folder), suite, name, &outcomes);
    }
    let [ours, others @ ..] = outcomes.as_slice() else {
        unreachable!()
    };
    let Err(Trouble::Failed(why)) = ours else {
        assert!(
            on_purpose(name).is_none(),
            "{name} passes now: it is not refused any more"
        );
        return;
    };
    let behind = others.iter().all(Outcome::is_ok);
    assert!(!behind, "ours fails where both others pass: {why}");
    assert!(on_purpose(name).is_some(), "ours fails: {why}\nthe others: {others:?}");
}

fn on_purpose(name: &str) -> Option<&'static str> {
    ON_PURPOSE.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

/// On one runtime, of which nothing is left afterwards.
fn on(runtime: Runtime, case: fn(&mut Bundle) -> Outcome) -> Outcome {
    runtime.require();
    let mut bundle = Bundle::new(runtime);
    let outcome = case(&mut bundle);
    let (id, path) = (bundle.id.clone(), bundle.path().to_owned());
    if runtime.is_ours() {
        bundle.clear().expect("its end");
        let left = super::kit::groups_of(&id);
        assert!(left.is_empty(), "groups are left: {left:?}");
        let mounts = super::kit::mounts_below(&path);
        assert!(mounts.is_empty(), "mounts are left: {mounts:?}");
    } else {
        let _ = bundle.clear();
    }
    drop(bundle);
    for group in super::kit::groups_of(&id) {
        // What others leave is not to be here for ever.
        let _ = std::fs::remove_dir(group);
    }
    outcome
}

fn write(folder: &Path, suite: &str, name: &str, outcomes: &[Outcome]) {
    let rows = RUNTIMES.iter().zip(outcomes).map(|(runtime, outcome)| {
        let (word, why) = match outcome {
            Ok(()) => ("pass", ""),
            Err(Trouble::Failed(why)) => ("fail", why.as_str()),
            Err(Trouble::Impossible(why)) => ("not here", why.as_str()),
        };
        json!({ "runtime": runtime.name, "word": word, "why": why })
    });
    let reason = on_purpose(name);
    let row = json!({ "suite": suite, "name": name, "reason": reason, "verdicts": rows.collect::<Vec<_>>() });
    std::fs::write(folder.join(format!("{suite} {name}.json")), row.to_string()).unwrap();
}
