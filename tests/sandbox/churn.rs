//! Sandboxes that are started and stopped by the hundred while their agent is killed with SIGKILL at random moments,
//! its spawner too now and then. Whatever was half done: at the end nothing is left on the machine.
//!
//! `SANDBOX_CHURN` is how many are started, `SANDBOX_CHURN_SEED` repeats a run's random numbers.

#![allow(clippy::print_stdout, reason = "figures, and what the agent tells the test")]

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use sandbox::net::Egress;
use sandbox::{Error, Network, ParkSpec, Parking, Sandbox, Spec};

use crate::crashes::{find_spawner, spawner};
use crate::kit::{Host, Identity, PATIENCE, chain, eventually};
use crate::lifecycle::exec_spec;
use crate::machine::things;

/// Set for the process that plays the agent: its host, seed, and whether sandboxes get addresses.
const AGENT: &str = "SANDBOX_TEST_CHURN";
/// Started in the ordinary suite.
const FEW: u32 = 100;
/// Threads of an agent that start sandboxes.
const THREADS: u64 = 2;
/// The longest life of an agent once it has begun.
const LIFE: Duration = Duration::from_millis(500);
/// What an agent has said and the test has not read yet.
const LINES: usize = 64;
/// What an agent keeps of what it finds.
const KEPT: usize = 6;

/// Random enough, and the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// What the agent's process tells, a word at the beginning of a line each.
fn tell(word: &str, more: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{word} {more}").and_then(|()| out.flush());
}

/// An error that a killed spawner explains is none.
fn complain(what: &str, error: &Error) {
    if !matches!(error, Error::Spawner { .. }) {
        tell("error", &format!("{what}: {}", chain(error)));
    }
}

/// No test by itself: the others here start it in a process of its own, to be killed.
#[test]
fn plays_the_agent() {
    let Ok(told) = std::env::var(AGENT) else { return };
    let (identity, seed, networked): (Identity, u64, bool) = serde_json::from_str(&told).unwrap();
    println!();
    let mut host = Host::again(identity);
    host.parked = Parking {
        max: 2,
        disks: 1,
        blanks: 1,
    };
    host.reopen();
    tell("open", "");
    adopt(&host, &mut Random(seed));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let host = &host;
            scope.spawn(move || start_and_stop(host, thread, Random(seed + thread + 1), networked));
        }
    });
}

/// As every agent does first: takes over what lives and is wanted, ends the rest.
fn adopt(host: &Host, random: &mut Random) {
    let mut keep = HashSet::new();
    for id in host.runtime().list().unwrap() {
        match host.runtime().adopt(&id) {
            Ok(Some(sandbox)) if keep.len() < KEPT && random.once_in(2) => {
                if let Err(error) = sandbox.exit() {
                    complain("exit of an adopted one", &error);
                }
                keep.insert(id);
            }
            Ok(Some(sandbox)) => {
                if let Err(error) = sandbox.destroy() {
                    complain("destruction of an adopted one", &error);
                }
            }
            Ok(None) => {}
            Err(error) => complain("adoption", &error),
        }
    }
    match host.runtime().sweep(&keep) {
        Ok(gone) => tell("swept", &gone.len().to_string()),
        Err(error) => complain("sweep", &error),
    }
}

fn start_and_stop(host: &Host, thread: u64, mut random: Random, networked: bool) {
    for round in 0..u64::MAX {
        let id = format!("c{}-{thread}-{round}", std::process::id());
        let spec = some_spec(host, &id, &mut random, networked);
        if random.once_in(3) {
            let _ = host.runtime().park(&ParkSpec::whole(&spec), 1);
        }
        tell("starting", "");
        match host.runtime().create(&spec) {
            Ok(sandbox) => {
                tell("started", if sandbox.was_parked() { "parked" } else { "cold" });
                stop(sandbox, &mut random);
            }
            Err(error) => complain("start", &error),
        }
    }
}

fn some_spec(host: &Host, id: &str, random: &mut Random, networked: bool) -> Spec {
    let argv: &[&str] = match random.next() % 4 {
        0 => &["sleep"],
        1 => &["term"],
        2 => &["zombies"],
        _ => &["say", "here"],
    };
    let mut spec = host.spec(id, argv);
    if networked && random.once_in(2) {
        spec.network = Network::Isolated {
            policy: Egress::public(),
        };
    }
    spec
}

/// Ends it in one of several ways, or leaves it to whoever comes next.
fn stop(sandbox: Sandbox, random: &mut Random) {
    if random.once_in(4) {
        // Whether it comes to run before the app ends is as it may.
        let _ = sandbox.exec(&exec_spec(&["say", "also"]));
    }
    if random.once_in(8) {
        let _ = sandbox.freeze(true);
    }
    let told = match random.next() % 8 {
        0 => return,
        1 | 2 => sandbox.kill().and_then(|()| sandbox.destroy()),
        _ => sandbox.destroy(),
    };
    match told {
        Ok(()) => tell("stopped", ""),
        Err(error) => complain("stop", &error),
    }
}

fn agent(host: &Host, seed: u64, networked: bool) -> (Child, Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "churn::plays_the_agent", "--nocapture"])
        .env(
            AGENT,
            serde_json::to_string(&(host.identity(), seed, networked)).unwrap(),
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let (sender, lines) = sync_channel(LINES);
    let output = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        output
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    (child, lines)
}

/// What came of it, by the words that agents said.
type Counts = BTreeMap<String, u32>;

/// One agent's life, which ends by SIGKILL at a moment that `random` chooses.
fn life(host: &Host, random: &mut Random, networked: bool, counts: &Mutex<Counts>) {
    let (mut child, lines) = agent(host, random.next() >> 1, networked);
    let mut end = Instant::now() + PATIENCE;
    let mut errors = Vec::new();
    let mut is_open = false;
    let count = |line: &str| {
        *counts.lock().unwrap().entry(line.trim().to_owned()).or_default() += 1;
    };
    loop {
        let line = match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => panic!("an agent ended by itself"),
        };
        match line.split_once(' ') {
            Some(("open", _)) => {
                is_open = true;
                end = Instant::now() + LIFE.mul_f64((random.next() % 1000) as f64 / 1000.0);
            }
            Some(("error", text)) => errors.push(text.to_owned()),
            Some(("starting" | "started" | "stopped", _)) => count(&line),
            _ => {}
        }
    }
    if is_open && random.once_in(6) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(spawner(host)),
            nix::sys::signal::Signal::SIGKILL,
        );
        count("spawner killed");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    count("agent killed");
    assert!(is_open, "an agent could not begin");
    assert_eq!(errors, Vec::<String>::new());
}

fn churn(wanted: u32, networked: bool) {
    let seed = std::env::var("SANDBOX_CHURN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed: u64 = seed.unwrap_or_else(clock);
    println!("seed {seed}, {wanted} sandboxes");
    let mut host = Host::new();
    let before = forwarding();
    drop(host.runtime.take());
    let (mut random, counts) = (Random(seed), Mutex::new(Counts::new()));
    let began = Instant::now();
    let started = || {
        let counts = counts.lock().unwrap();
        counts
            .iter()
            .filter(|(word, _)| word.starts_with("started"))
            .map(|(_, n)| n)
            .sum::<u32>()
    };
    while started() < wanted {
        life(&host, &mut random, networked, &counts);
    }
    println!("{:?} in {:.1} s", counts.lock().unwrap(), began.elapsed().as_secs_f64());
    // The last agent wants none of it.
    host.open();
    host.runtime().sweep(&HashSet::new()).unwrap();
    let (words, state) = (own_words(&host), host.dir.path().to_owned());
    nothing_is_kept(&host);
    host.finish_with(|host| {
        eventually("nothing of it is left on the machine", || {
            let left = left(&words);
            if !left.is_empty() {
                println!("still there: {left:?}");
            }
            left.is_empty()
        });
        eventually("the spawner is gone", || find_spawner(host).is_none());
        assert_eq!(leased(host), Vec::<String>::new(), "addresses are still out");
        only_what_is_kept_for_good(&state);
    });
    assert!(
        forwarding().is_subset(&before) || others_forward(),
        "the host forwards since"
    );
}

/// The next agent may have no use for a network, and closes all the same.
#[test]
fn a_network_goes_with_an_agent_that_never_used_it() {
    let mut host = Host::new();
    let mut spec = host.spec("once", &["exit", "0"]);
    spec.network = Network::Isolated {
        policy: Egress::public(),
    };
    host.run(&spec);
    host.reopen();
    let words = own_words(&host);
    let firewall = || left(&words).iter().any(|thing| thing.starts_with("firewall"));
    assert!(firewall(), "an agent that only ends leaves its network to the next");
    host.finish_with(|_| {
        eventually("nothing of it is left on the machine", || left(&words).is_empty());
    });
}

/// What the names of all that is this host's contain.
fn own_words(host: &Host) -> Vec<String> {
    let network = host.config().network;
    let folder = host.dir.path().file_name().unwrap().to_string_lossy().into_owned();
    vec![
        folder,
        host.parent.clone(),
        format!("{}v", network.bridge),
        format!("paas-{}", network.name),
        format!("-{}.json", network.name),
    ]
}

/// Things on the machine that are this host's.
fn left(words: &[String]) -> Vec<String> {
    let own = format!("{} ", std::process::id());
    let is_own = |text: &str, word: &str| {
        text.match_indices(word).any(|(at, _)| {
            !word.starts_with("paas-") || !text[at + word.len()..].starts_with(|c: char| c.is_ascii_digit())
        })
    };
    things()
        .into_iter()
        .filter(|thing| !thing.text.starts_with(&own) && words.iter().any(|word| is_own(&thing.text, word)))
        .map(|thing| thing.to_string())
        .collect()
}

fn forwarding() -> HashSet<String> {
    let all = things().into_iter().filter(|thing| thing.kind == "forwarding");
    all.map(|thing| thing.text).collect()
}

/// Whether another network on this machine needs it.
fn others_forward() -> bool {
    things().iter().any(|thing| thing.kind == "record of a network")
}

/// No sandbox, no parked one, no disk for either.
fn nothing_is_kept(host: &Host) {
    assert_eq!(host.runtime().list().unwrap(), Vec::<String>::new());
    assert_eq!(host.runtime().parked(), 0);
}

/// Addresses that are out by the journal.
fn leased(host: &Host) -> Vec<String> {
    let journal = std::fs::read_to_string(host.dir.path().join("net/addresses")).unwrap_or_default();
    let mut out = Vec::new();
    for line in journal.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["take", address] => out.push(address.to_owned()),
            ["back", address, _] => out.retain(|other| other != address),
            _ => {}
        }
    }
    out
}

/// Files of the runtime that outlive its sandboxes.
fn only_what_is_kept_for_good(state: &std::path::Path) {
    let kept = ["disks", "lock", "parked", "sandboxes", "spawner.log", "templates"];
    for entry in std::fs::read_dir(state.join("state")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(kept.contains(&name.as_str()), "{name} is left in the state folder");
        if ["disks", "parked", "sandboxes"].contains(&name.as_str()) {
            let left: Vec<_> = std::fs::read_dir(entry.path()).unwrap().flatten().collect();
            assert!(left.is_empty(), "left in {name}: {left:?}");
        }
    }
}

fn wanted() -> u32 {
    std::env::var("SANDBOX_CHURN").map_or(FEW, |count| count.parse().expect("SANDBOX_CHURN is a number"))
}

#[test]
fn killed_agents_leave_nothing_of_sandboxes_with_addresses() {
    churn(wanted(), true);
}

#[test]
fn killed_agents_leave_nothing_of_sandboxes_without_a_network() {
    churn(wanted() / 4, false);
}
