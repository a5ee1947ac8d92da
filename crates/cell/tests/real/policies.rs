//! Security groups at work: what instances, tasks and builds reach, and how soon a change holds for what runs.

use crate::builds::{Stage, outcome, stage};
use crate::controller::read_session;
use crate::kit::{Kit, until};
use crate::world::{OTHER, PORT};
use model::id::{SecurityGroupId, SpaceId, WorkId};
use model::security::{GroupsByUse, Policies, SecurityProtocol, SecurityRule, Use};
use model::work::{Assignment, Cause, TaskSpec, Wanted, WorkKind, WorkState};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Connects again and again, and says what becomes of it.
const CLIENT: &str = "
import socket, sys, time
last = ''
def say(word):
    global last
    if word != last: print(word, flush=True)
    last = word
while True:
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), 2) as stream:
            stream.settimeout(2)
            say('connected')
            while True:
                stream.sendall(b'x')
                if not stream.recv(100): break
                time.sleep(0.05)
    except OSError as error:
        say('refused' if last != 'connected' else 'ended')
    time.sleep(0.05)
";
/// A change has to hold within this time; on an idle machine it takes some ten milliseconds.
const SOON: Duration = Duration::from_secs(5);

fn tcp(to: Ipv4Addr, port: u16) -> SecurityRule {
    SecurityRule {
        ports: Some(port.to_string()),
        ..SecurityRule::new(SecurityProtocol::Tcp, &to.to_string())
    }
}

/// One group bound to the test's space for one use, and none else.
pub fn bound(use_: Use, rules: Vec<SecurityRule>) -> Policies {
    let group = SecurityGroupId(Uuid::from_u128(1));
    let mut policies = Policies::default();
    let mut groups = GroupsByUse::default();
    groups.of_mut(use_).insert(group);
    policies.groups.insert(group, rules);
    policies.spaces.insert(SpaceId(Uuid::nil()), groups);
    policies
}

/// An instance that connects to `to` and is healthy whatever comes of it.
async fn client(kit: &Kit, to: Ipv4Addr) -> Assignment {
    let layers = kit.droplet().await;
    let script = kit.layer(&[("home/vcap/app/client.py", CLIENT, 0o644)]).await;
    let command = format!("python3 -m http.server $PORT & exec python3 client.py {to} {PORT}");
    kit.instance(&[vec![script], layers].concat(), Some(&command))
}

/// Waits until the work has said this many words.
async fn said(kit: &Kit, work: WorkId, words: &[&str]) -> Duration {
    let begun = Instant::now();
    let waiting = until("the words come", || kit.controller.output(work).len() >= words.len());
    waiting.await;
    let spoken = begun.elapsed();
    let own: Vec<String> = kit.controller.output(work);
    assert_eq!(own, words, "{}", kit.agent_log());
    spoken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_holds_for_what_runs_and_its_end_ends_connections() {
    let mut kit = Kit::start_with_world().await;
    let to = kit.world.as_ref().expect("made").far(7);
    kit.controller.tell_policies(Policies::default());
    let work = client(&kit, to).await;
    kit.controller.assign(std::slice::from_ref(&work));
    let before = kit.running(work.work).await;
    said(&kit, work.work, &["refused"]).await;
    kit.controller.tell_policies(bound(Use::Running, vec![tcp(to, PORT)]));
    let opened = said(&kit, work.work, &["refused", "connected"]).await;
    kit.controller.tell_policies(bound(Use::Running, vec![tcp(to, OTHER)]));
    let ended = said(&kit, work.work, &["refused", "connected", "ended"]).await;
    said(&kit, work.work, &["refused", "connected", "ended", "refused"]).await;
    assert!(
        opened < SOON && ended < SOON,
        "opened in {opened:?}, ended in {ended:?}"
    );
    // What is told while no agent runs holds as soon as one does.
    kit.kill_agent();
    kit.controller.tell_policies(bound(Use::Running, vec![tcp(to, PORT)]));
    kit.start_agent().await;
    said(
        &kit,
        work.work,
        &["refused", "connected", "ended", "refused", "connected"],
    )
    .await;
    // One that was told nothing goes on by what the one before was told, for what begins too.
    let after = kit.running(work.work).await;
    assert_eq!(
        (after.address, after.since),
        (before.address, before.since),
        "the same sandbox"
    );
    let states = kit.controller.seen(|seen| seen.states[&work.work].clone());
    assert!(!states.iter().any(|state| state == "exited"), "{states:?}");
    #[allow(clippy::print_stdout, reason = "part of the test's report")]
    {
        println!("a rule opened after {opened:?}, a connection ended after {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_use_has_its_own_rules_and_no_wide_rule_opens_metadata() {
    let kit = Kit::start_with_world().await;
    let to = kit.world.as_ref().expect("made").far(8);
    let everything = SecurityRule::new(SecurityProtocol::All, "0.0.0.0/0");
    kit.controller.tell_policies(bound(Use::Running, vec![everything]));
    // A name that no resolver has to know: that it answers at all is what counts.
    let trouble = format!(
        "look() {{ python3 -c 'import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)' \
         $1 $2 2>/dev/null && echo $3 open || echo $3 closed; }}\n\
         look {to} {PORT} build; look 169.254.169.254 {PORT} metadata\n"
    );
    let files = [("index.html", "x"), ("trouble", trouble.as_str())];
    let staged = stage(&kit, Stage::of(&files)).await;
    let mut task = kit.instance(&kit.droplet().await, None);
    task.spec.kind = WorkKind::Task(TaskSpec {
        task: model::id::TaskId(Uuid::new_v4()),
        name: "look".to_owned(),
        droplet: model::id::DropletId(Uuid::new_v4()),
        layers: kit.droplet().await,
        command: trouble.replace("build", "task"),
        timeout_seconds: 60,
        image: None,
    });
    kit.controller.assign(&[staged.clone(), task.clone()]);
    let (cause, _) = outcome(&kit, staged.work).await;
    assert_eq!(cause, Cause::Exited { code: 0 });
    kit.line(staged.work, "build closed").await;
    kit.line(staged.work, "metadata closed").await;
    kit.line(task.work, "task open").await;
    kit.line(task.work, "metadata closed").await;
    kit.controller.tell_policies(bound(Use::Staging, vec![tcp(to, PORT)]));
    let again = stage(&kit, Stage::of(&files)).await;
    kit.controller.assign(std::slice::from_ref(&again));
    outcome(&kit, again.work).await;
    kit.line(again.work, "build open").await;
    kit.line(again.work, "metadata closed").await;
    kit.gone(again.work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_a_rule_tells_of_are_in_the_log_with_their_app() {
    let kit = Kit::start_with_world().await;
    let to = kit.world.as_ref().expect("made").far(9);
    let told = SecurityRule {
        log: Some(true),
        ..tcp(to, PORT)
    };
    kit.controller.tell_policies(bound(Use::Running, vec![told]));
    let work = client(&kit, to).await;
    kit.controller.assign(std::slice::from_ref(&work));
    kit.running(work.work).await;
    said(&kit, work.work, &["connected"]).await;
    let app = kit.app.to_string();
    let wanted = [
        app.as_str(),
        &to.to_string(),
        "9000",
        "a security group allowed a connection",
    ];
    until("it is in the log", || {
        let log = kit.agent_log();
        log.lines().any(|line| wanted.iter().all(|part| line.contains(part)))
    })
    .await;
    let mut stop = work.clone();
    stop.wanted = Wanted::Stop;
    kit.controller.assign(std::slice::from_ref(&stop));
    assert!(matches!(kit.ended(work.work).await, Cause::Stopped { .. }));
    kit.gone(work.work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_of_a_cell_holds_for_what_ran_before_it_was_set() {
    const RATE: u64 = 1 << 20;
    let mut kit = Kit::start_with_world().await;
    let to = kit.world.as_ref().expect("made").far(10);
    kit.controller.tell_policies(bound(Use::Running, vec![tcp(to, PORT)]));
    let work = kit.instance(&kit.droplet().await, None);
    kit.controller.assign(std::slice::from_ref(&work));
    kit.running(work.work).await;
    let send = format!(
        "python3 -c 'import socket,time\n\
         s = socket.create_connection((\"{to}\", {PORT}))\n\
         s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)\n\
         begin, sent, block = time.time(), 0, b\"-\" * 65536\n\
         while time.time() < begin + 2: sent += s.send(block)\n\
         print(int(sent / (time.time() - begin)))'"
    );
    let speed = async |kit: &Kit| -> u64 {
        let mut session = kit.controller.exec(work.work, &["sh", "-c", &send], None).await;
        let (out, err, _) = read_session(&mut session).await;
        out.trim().parse().unwrap_or_else(|_| panic!("{out} {err}"))
    };
    let before = speed(&kit).await;
    assert!(before > 8 * RATE, "nobody limits it: {before}");
    kit.kill_agent();
    kit.set_rate(RATE);
    kit.start_agent().await;
    // Its feed is open once it has taken over what is assigned.
    kit.controller.assign(std::slice::from_ref(&work));
    let revision = kit.controller.revision();
    let taken = kit
        .controller
        .wait("taken over", |seen| (seen.revision == revision).then_some(()));
    taken.await;
    let seen = kit.running(work.work).await;
    let after = speed(&kit).await;
    assert!((RATE / 2..RATE * 2).contains(&after), "{after} of {RATE}");
    assert!(matches!(seen.state, WorkState::Running));
}
