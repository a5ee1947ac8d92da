//! A number that was a sandbox's first process and now is another's.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Host, table};
use crate::escapes::bundle::{Bundle, Runner};
use crate::kit::{ended, eventually, printed, probe};

/// Somebody with nothing to do with any sandbox.
struct Bystander {
    /// Ends with it.
    parent: Child,
    pid: i32,
}

impl Bystander {
    /// With the number `pid`, which nobody has.
    fn new(pid: i32) -> Bystander {
        eventually("the number is free", || !Path::new(&format!("/proc/{pid}")).exists());
        let mut parent = Command::new(probe())
            .args(["as-pid", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = String::new();
        BufReader::new(parent.stdout.take().unwrap())
            .read_line(&mut told)
            .unwrap();
        let bystander = Bystander { parent, pid };
        assert_eq!(told.trim(), pid.to_string(), "the number could not be had");
        bystander
    }

    fn lives(&mut self) -> bool {
        self.parent.try_wait().unwrap().is_none()
    }

    /// When it started, in the kernel's ticks.
    fn start_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1;
        fields.split(' ').nth(19).unwrap().parse().unwrap()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

#[test]
fn pid_reuse() {
    let mut host = Host::new();
    for id in ["held", "adopted", "swept", "twin"] {
        let sandbox = host.create(&host.spec(id, &["sleep"]));
        printed(&sandbox, "asleep");
        let pid = sandbox.init_pid();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        ended(&sandbox);
        let mut bystander = Bystander::new(pid);
        if id == "held" {
            assert!(sandbox.signal(libc::SIGKILL).is_err());
            sandbox.kill().unwrap();
            sandbox.destroy().unwrap();
            host.runtime().list().unwrap();
            assert!(bystander.lives(), "a process of somebody else's was killed");
            continue;
        }
        drop(sandbox);
        if id == "twin" {
            let path = host.dir.path().join("state/sandboxes/twin/state.json");
            let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            record["start_ticks"] = bystander.start_ticks().into();
            std::fs::write(&path, record.to_string()).unwrap();
        }
        host.reopen();
        if id == "adopted" {
            let sandbox = host.runtime().adopt(id).unwrap().unwrap();
            assert!(sandbox.exit().unwrap().is_some(), "it is taken for alive");
            assert!(sandbox.signal(libc::SIGKILL).is_err());
            sandbox.kill().unwrap();
            sandbox.destroy().unwrap();
            host.runtime().list().unwrap();
        }
        host.runtime().sweep(&Default::default()).unwrap();
        if id == "twin" {
            eventually("the check of the start is what protects it", || !bystander.lives());
        } else {
            assert!(bystander.lives(), "{id}: a process of somebody else's was killed");
        }
    }
    table::record("pid-reuse", "it lives", "a process of somebody else's");
    host.finish();
}

#[test]
fn a_bundle_by_hand_never_ends_somebody_else() {
    let host = Host::new();
    let bundle = Bundle::new(&host, &host.spec("hand", &["sleep"]), &[]);
    bundle.detach();
    let pid = bundle.pid(Runner::Ours);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let mut bystander = Bystander::new(pid);
    let told = bundle.ask(Runner::Ours, &["state"], &[]);
    assert!(told.contains("stopped"), "{told}");
    bundle.ask(Runner::Ours, &["kill"], &["KILL"]);
    bundle.ask(Runner::Ours, &["delete", "--force"], &[]);
    assert!(bystander.lives(), "a process of somebody else's was killed");
    drop(bystander);
    drop(bundle);
    host.finish();
}
