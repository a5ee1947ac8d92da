//! The agent is killed and started again while work runs, ends, and is being prepared.

use crate::kit::{Kit, get};
use model::work::{Cause, Wanted};
use std::time::Duration;

/// Numbers of the lines `tick <n>` that arrived, in order.
fn ticks(kit: &Kit, work: model::id::WorkId) -> Vec<u64> {
    let lines = kit.controller.output(work);
    lines
        .iter()
        .filter_map(|line| line.strip_prefix("tick ")?.parse().ok())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn running_work_goes_on_and_its_log_has_neither_gap_nor_duplicate() {
    let mut kit = Kit::start().await;
    let layers = kit.droplet().await;
    let ticking = "python3 -m http.server $PORT & n=0; while true; do n=$((n+1)); echo tick $n; sleep 0.01; done";
    let mut work = kit.instance(&layers, Some(ticking));
    kit.controller.assign(std::slice::from_ref(&work));
    let seen = kit.running(work.work).await;
    for round in 0..3 {
        let before = ticks(&kit, work.work).len();
        kit.kill_agent();
        assert_eq!(
            get(&seen, "/index.html").await,
            "hello from the app\n",
            "round {round}: it serves without an agent"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
        kit.start_agent().await;
        let again = kit.running(work.work).await;
        assert_eq!(again.address, seen.address);
        kit.line(work.work, &format!("tick {}", before + 30)).await;
    }
    let got = ticks(&kit, work.work);
    let expected: Vec<u64> = (1..=got.len() as u64).collect();
    assert_eq!(got, expected, "no gap, no duplicate");
    let times = kit.controller.seen(|seen| {
        seen.lines
            .iter()
            .filter(|line| line.work == work.work)
            .map(|line| line.ts_ns)
            .collect::<Vec<_>>()
    });
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "times grow");
    work.wanted = Wanted::Stop;
    kit.controller.assign(std::slice::from_ref(&work));
    assert!(matches!(kit.ended(work.work).await, Cause::Stopped { .. }));
    kit.gone(work.work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_meanwhile_is_reported_with_its_cause_and_its_last_lines() {
    let mut kit = Kit::start().await;
    let layers = kit.droplet().await;
    let command =
        "python3 -m http.server $PORT & while [ ! -e /tmp/end ]; do sleep 0.05; done; echo last words; exit 42";
    let work = kit.instance(&layers, Some(command));
    kit.controller.assign(std::slice::from_ref(&work));
    let seen = kit.running(work.work).await;
    let mut session = kit
        .controller
        .exec(work.work, &["(sleep 1; touch /tmp/end) & echo armed; sleep 0.2"], None)
        .await;
    let (out, err, _) = crate::controller::read_session(&mut session).await;
    assert_eq!((out.as_str(), err.as_str()), ("armed\n", ""));
    kit.kill_agent();
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_millis(300))
        .build()
        .expect("a client");
    let url = format!("http://{}:8080/", seen.address.expect("an address"));
    while client.get(&url).send().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    kit.start_agent().await;
    assert_eq!(kit.ended(work.work).await, Cause::Exited { code: 42 });
    kit.line(work.work, "last words").await;
    kit.gone(work.work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_of_a_start_the_work_runs_once_in_the_end() {
    let mut kit = Kit::start().await;
    let layers = kit.droplet().await;
    for pause in [0, 5, 15, 30, 60, 120] {
        let work = kit.instance(&layers, None);
        kit.controller.assign(std::slice::from_ref(&work));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        kit.kill_agent();
        kit.start_agent().await;
        let seen = kit.running(work.work).await;
        assert_eq!(
            get(&seen, "/index.html").await,
            "hello from the app\n",
            "killed after {pause} ms"
        );
        let sandboxes = std::fs::read_dir(kit.state().join("sandboxes/sandboxes"))
            .expect("sandboxes")
            .count();
        assert!(
            sandboxes <= 2,
            "this one, and perhaps the one before that is being removed: {sandboxes}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_log_waits_for_a_controller_without_the_sandbox() {
    let mut kit = Kit::start().await;
    let layers = kit.droplet().await;
    let work = kit.instance(&layers, Some("for n in $(seq 1 3000); do echo tick $n; done; exit 1"));
    kit.controller.assign(std::slice::from_ref(&work));
    assert_eq!(kit.ended(work.work).await, Cause::Exited { code: 1 });
    kit.kill_agent();
    kit.start_agent().await;
    kit.line(work.work, "tick 3000").await;
    kit.gone(work.work).await;
    let got = ticks(&kit, work.work);
    let mut once = got.clone();
    once.dedup();
    assert_eq!(once.iter().copied().max(), Some(3000));
    assert_eq!(got.first(), Some(&1));
    kit.controller.assign(&[]);
    let marks = kit.state().join("logs");
    while std::fs::read_dir(&marks).expect("marks").count() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
