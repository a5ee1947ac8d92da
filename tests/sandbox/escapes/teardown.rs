//! Apps that do what they can not to end: every one ends, whoever ends it and however.

use sandbox::Sandbox;

use crate::kit::{Host, printed};

/// What they do, and what they say once they do it.
const KINDS: [(&str, &str); 3] = [("bomb", "lit"), ("stubborn", "dug in"), ("zombies", "made")];

/// What one says once it does it.
pub fn word(kind: &str) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).unwrap().1
}

/// Starts one.
pub fn resisting(host: &Host, kind: &str) -> Sandbox {
    let sandbox = host.create(&host.spec("resists", &[kind]));
    printed(&sandbox, word(kind));
    sandbox
}

/// What is left of it after its end: nothing, or this fails.
pub fn nothing_is_left(host: &Host) {
    assert_eq!(host.runtime().list().unwrap(), Vec::<String>::new());
    assert_eq!(host.processes(), Vec::<i32>::new(), "processes outlive their sandbox");
}

#[test]
fn whatever_an_app_does_it_ends() {
    let host = Host::new();
    for (kind, _) in KINDS {
        for frozen in [false, true] {
            for orderly in [false, true] {
                let sandbox = resisting(&host, kind);
                if frozen {
                    sandbox.freeze(true).unwrap();
                }
                if orderly {
                    sandbox.kill().unwrap();
                }
                sandbox.destroy().unwrap();
                nothing_is_left(&host);
            }
        }
    }
    host.finish();
}

#[test]
fn a_sweep_ends_what_resists_as_well() {
    let mut host = Host::new();
    for (at, (kind, word)) in KINDS.into_iter().enumerate() {
        let sandbox = host.create(&host.spec(&format!("resists{at}"), &[kind]));
        printed(&sandbox, word);
        sandbox.freeze(at == 0).unwrap();
    }
    host.reopen();
    assert_eq!(host.runtime().sweep(&Default::default()).unwrap().len(), KINDS.len());
    nothing_is_left(&host);
    host.finish();
}
