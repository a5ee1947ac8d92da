//! Removes what a killed test run left under a slot's name. Only the holder of the slot's lock calls it, so nothing
//! that is still in use has the name; an orderly end leaves nothing to do.

use crate::machine::{NETWORKS, Thing, things};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Processes that were killed have this long to be gone from their groups.
const GRACE: Duration = Duration::from_secs(5);

/// Ends processes in groups and networks of `name`, then removes those, interfaces and firewall tables.
pub fn clear(name: &str) {
    let left: Vec<Thing> = things().into_iter().filter(|thing| is_of(thing, name)).collect();
    let of = |kind: &'static str| left.iter().filter(move |thing| thing.kind == kind);
    for thing in of("network namespace") {
        let namespace = first_word(&thing.text);
        kill_all(&output("ip", &["netns", "pids", namespace]));
        let _ = output("ip", &["netns", "del", namespace]);
    }
    // Inner groups are listed after the outer ones and go first.
    let groups: Vec<&Thing> = of("control group").collect();
    for group in groups.into_iter().rev() {
        remove_group(Path::new(&group.text));
    }
    for thing in of("interface") {
        let _ = output("ip", &["link", "del", &thing.text]);
    }
    for table in of("firewall") {
        let mut arguments = vec!["delete"];
        arguments.extend(table.text.split_whitespace());
        let _ = output("nft", &arguments);
    }
    for record in of("record of a network") {
        let _ = std::fs::remove_file(Path::new(NETWORKS).join(&record.text));
    }
}

fn is_of(thing: &Thing, name: &str) -> bool {
    match thing.kind {
        "control group" => thing.text.split('/').any(|part| is_named(part, name)),
        "firewall" => {
            let table = thing.text.rsplit(' ').next().unwrap_or_default();
            is_named(table.trim_start_matches("paas-"), name)
        }
        // One of this host's own network is for the next of its name to take over: it tells what was there before.
        "record of a network" => {
            let network = thing.text.split_once('-').map_or("", |(_, network)| network);
            is_named(network, &format!("{name}-"))
        }
        "interface" | "network namespace" => is_named(first_word(&thing.text), name),
        _ => false,
    }
}

/// Whether `word` is `name`, or one made from it, and not a longer number's.
fn is_named(word: &str, name: &str) -> bool {
    word.strip_prefix(name)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

fn remove_group(group: &Path) {
    let deadline = Instant::now() + GRACE;
    while std::fs::remove_dir(group).is_err() && group.exists() && Instant::now() < deadline {
        kill_all(&std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default());
        std::thread::yield_now();
    }
}

fn kill_all(pids: &str) {
    for pid in pids.lines().filter_map(|line| line.trim().parse().ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_run_leaves_nothing_to_the_next() {
        let name = format!("paasx{}", std::process::id() % 1_000_000);
        let namespace = format!("{name}-1");
        let _ = output("ip", &["link", "add", &name, "type", "bridge"]);
        let _ = output("ip", &["netns", "add", &namespace]);
        let mut child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{namespace}"))
            .args(["cat"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("starts");
        let ours = || {
            let things = things();
            things.into_iter().filter(|thing| is_of(thing, &name)).count()
        };
        assert!(ours() >= 2, "a bridge and a namespace");
        while output("ip", &["netns", "pids", &namespace]).is_empty() {
            std::thread::yield_now();
        }
        clear(&name);
        assert_eq!(ours(), 0);
        assert!(!child.wait().expect("waited").success(), "killed");
    }

    #[test]
    fn names_of_other_slots_are_others() {
        assert!(is_named("paast2", "paast2") && is_named("paast2-31", "paast2") && is_named("paast2p41", "paast2"));
        assert!(!is_named("paast21", "paast2") && !is_named("paasd", "paast2"));
    }
}
