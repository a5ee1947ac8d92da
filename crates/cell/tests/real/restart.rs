//! The agent is killed and started again while work runs, ends, and is being prepared.

use crate::kit::{Kit, get, until};
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
        // sleeps: lines are to be written while nobody ships them.
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
    let command = "python3 -m http.server $PORT & while [ ! -e /tmp/end ]; do sleep 0.05; done; sleep 1; \
                   echo last words; exit 42";
    let work = kit.instance(&layers, Some(command));
    kit.controller.assign(std::slice::from_ref(&work));
    let seen = kit.running(work.work).await;
    let mut session = kit
        .controller
        .exec(work.work, &["touch /tmp/end; echo armed"], None)
        .await;
    let (out, err, _) = crate::controller::read_session(&mut session).await;
    assert_eq!((out.as_str(), err.as_str()), ("armed\n", ""));
    kit.kill_agent();
    let address = std::net::SocketAddr::from((seen.address.expect("an address"), 8080));
    let answers = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok();
    until("it has ended", || !answers()).await;
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
        // sleeps: the moment at which the agent dies is what is tested.
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
    until("nothing waits", || {
        std::fs::read_dir(&marks).expect("marks").count() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_controller_work_goes_on_and_nothing_new_starts_until_the_lease_is_held_again() {
    let kit = Kit::start().await;
    let layers = kit.droplet().await;
    let old = kit.instance(&layers, None);
    kit.controller.assign(std::slice::from_ref(&old));
    let seen = kit.running(old.work).await;
    kit.controller.refuse_reports(true);
    // sleeps: the lease is to run out.
    tokio::time::sleep(crate::controller::LEASE + Duration::from_millis(300)).await;
    let new = kit.instance(&layers, None);
    kit.controller.assign(&[old.clone(), new.clone()]);
    // sleeps: it is to have its chance to start in spite of it.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let sandboxes = std::fs::read_dir(kit.state().join("sandboxes/sandboxes"))
        .expect("sandboxes")
        .count();
    assert_eq!(sandboxes, 1, "nothing starts without a lease");
    assert_eq!(
        get(&seen, "/index.html").await,
        "hello from the app\n",
        "what runs goes on"
    );
    kit.controller.refuse_reports(false);
    kit.running(new.work).await;
    let registrations = kit.controller.seen(|seen| seen.registrations);
    kit.controller.break_feeds();
    let again = kit.controller.wait("registered again", |seen| {
        (seen.registrations > registrations).then_some(())
    });
    again.await;
    let newest = kit.instance(&layers, None);
    kit.controller.assign(&[old.clone(), new.clone(), newest.clone()]);
    kit.running(newest.work).await;
    assert!(
        kit.controller.seen(|seen| seen.work.len() == 3),
        "all was reported anew"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_told_to_end_leaves_its_work_and_one_that_is_told_to_destroy_leaves_nothing() {
    let mut kit = Kit::start().await;
    let layers = kit.droplet().await;
    let work = kit.instance(&layers, None);
    kit.controller.assign(std::slice::from_ref(&work));
    let seen = kit.running(work.work).await;
    kit.kill_agent();
    let (shutdown, running, agent) = kit.run_here().await;
    shutdown.cancel();
    running.await.expect("no panic").expect("a clean end");
    drop(agent);
    assert_eq!(
        get(&seen, "/index.html").await,
        "hello from the app\n",
        "it serves without an agent"
    );
    let (shutdown, running, agent) = kit.run_here().await;
    agent.destroy_all().await.expect("all destroyed");
    kit.gone(work.work).await;
    assert!(matches!(kit.ended(work.work).await, Cause::Stopped { .. }));
    shutdown.cancel();
    running.await.expect("no panic").expect("a clean end");
}
