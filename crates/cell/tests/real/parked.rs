//! Blank sandboxes of a cell: work starts out of them, others follow, and they end with their agent.

use crate::kit::{Kit, PARKED, until};
use model::id::WorkId;
use std::collections::BTreeSet;
use std::fs;

/// Names of the sandboxes that wait, finished or not.
fn waiting(kit: &Kit) -> BTreeSet<String> {
    let folder = kit.state().join("sandboxes/parked");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().join("state.json").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// What the sandbox of `work` was called before it was that.
fn seat(kit: &Kit, work: WorkId) -> String {
    let path = kit
        .state()
        .join("sandboxes/sandboxes")
        .join(work.to_string())
        .join("state.json");
    let text = fs::read_to_string(path).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&text).expect("a record");
    record["seat"].as_str().expect("a seat").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn work_starts_out_of_what_waits_and_as_much_waits_again() {
    let kit = Kit::start().await;
    until("they wait", || waiting(&kit).len() == PARKED).await;
    let before = waiting(&kit);
    let layers = kit.droplet().await;
    let mut works = vec![kit.instance(&layers, None)];
    kit.controller.assign(&works);
    kit.running(works[0].work).await;
    assert!(before.contains(&seat(&kit, works[0].work)), "{before:?}");
    until("as many wait again", || waiting(&kit).len() == PARKED).await;
    // More than wait, with another size of disk and memory: those that find none are built anew.
    for _ in 0..2 * PARKED {
        let mut other = kit.instance(&layers, None);
        (other.spec.limits.disk_mb, other.spec.limits.memory_mb) = (96, 192);
        works.push(other);
    }
    kit.controller.assign(&works);
    let mut taken = 0;
    for work in &works[1..] {
        kit.running(work.work).await;
        taken += usize::from(seat(&kit, work.work).starts_with('_'));
    }
    assert!(taken > 0, "none was taken");
    until("as many wait again", || waiting(&kit).len() == PARKED).await;
    kit.controller.assign(&[]);
    for work in &works {
        kit.gone(work.work).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_end_with_their_agent_and_the_next_makes_its_own() {
    let mut kit = Kit::start().await;
    let layers = kit.droplet().await;
    let work = kit.instance(&layers, None);
    kit.controller.assign(std::slice::from_ref(&work));
    kit.running(work.work).await;
    let own = seat(&kit, work.work);
    until("they wait", || waiting(&kit).len() == PARKED).await;
    let before = waiting(&kit);
    kit.kill_agent();
    kit.start_agent().await;
    until("others wait", || waiting(&kit).len() == PARKED).await;
    let after = waiting(&kit);
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");
    kit.running(work.work).await;
    assert_eq!(seat(&kit, work.work), own, "what runs goes on");
    for name in &before {
        let left = kit.groups(name);
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_they_take_is_not_offered() {
    let kit = Kit::start().await;
    let offered = kit
        .controller
        .seen(|seen| seen.info.as_ref().map(|info| info.memory_mb));
    assert_eq!(offered, Some(4096 - 2 * PARKED as u64));
}

/// How much there is in it: run it with `PAAS_CELL_TEST_PARKED=0` beside.
#[tokio::test(flavor = "multi_thread")]
async fn one_after_the_other_starts_out_of_what_waits() {
    let kit = Kit::start().await;
    let layers = kit.droplet().await;
    let mut works = Vec::new();
    let mut spent = Vec::new();
    for _ in 0..12 {
        works.push(kit.instance(&layers, None));
        kit.controller.assign(&works);
        let seen = kit.running(works.last().expect("one").work).await;
        let phase = seen
            .phases
            .iter()
            .find(|phase| phase.name == "sandbox")
            .expect("a phase");
        spent.push(phase.duration_ms);
    }
    println!("milliseconds from a specification to a running program: {spent:?}");
    kit.controller.assign(&[]);
    for work in &works {
        kit.gone(work.work).await;
    }
}
