//! Hooks: programs of the host's owner (or, for two kinds, inside the container) that are run at points of a
//! container's life with its state as their input.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Hooks};

use super::error::{Error, Result};
use crate::wire;

/// A hook that sets no limit is not waited for longer.
const MAX_SECONDS: u64 = 3600;

/// At which point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Before the root is entered, in the host's namespaces (deprecated).
    Prestart,
    /// Before the root is entered, in the host's namespaces.
    CreateRuntime,
    /// Before the root is entered, in the container's namespaces.
    CreateContainer,
    /// Before the program is executed, inside.
    StartContainer,
    /// After it was executed, on the host.
    Poststart,
    /// After the container was deleted, on the host.
    Poststop,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [
        Kind::Prestart,
        Kind::CreateRuntime,
        Kind::CreateContainer,
        Kind::StartContainer,
        Kind::Poststart,
        Kind::Poststop,
    ];

    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Prestart => "prestart",
            Kind::CreateRuntime => "createRuntime",
            Kind::CreateContainer => "createContainer",
            Kind::StartContainer => "startContainer",
            Kind::Poststart => "poststart",
            Kind::Poststop => "poststop",
        }
    }
}

/// The hooks of one kind, in order.
pub fn list(hooks: &Hooks, kind: Kind) -> &[Hook] {
    let list = match kind {
        Kind::Prestart => hooks.prestart(),
        Kind::CreateRuntime => hooks.create_runtime(),
        Kind::CreateContainer => hooks.create_container(),
        Kind::StartContainer => hooks.start_container(),
        Kind::Poststart => hooks.poststart(),
        Kind::Poststop => hooks.poststop(),
    };
    list.as_deref().unwrap_or_default()
}

/// Runs those of `kind` in order, with `state` as their input, in the folder `cwd`; the first failure ends it.
pub fn run(hooks: Option<&Hooks>, kind: Kind, state: &[u8], cwd: &Path) -> Result<()> {
    let Some(hooks) = hooks else { return Ok(()) };
    list(hooks, kind)
        .iter()
        .try_for_each(|hook| one(hook, kind, state, cwd))
}

/// The same, but every one is run; returns the failures.
pub fn run_all(hooks: Option<&Hooks>, kind: Kind, state: &[u8], cwd: &Path) -> Vec<Error> {
    let all = hooks.map(|hooks| list(hooks, kind)).unwrap_or_default();
    all.iter()
        .filter_map(|hook| one(hook, kind, state, cwd).err())
        .collect()
}

fn one(hook: &Hook, kind: Kind, state: &[u8], cwd: &Path) -> Result<()> {
    let failed = |reason: String| Error::Hook {
        kind: kind.name(),
        path: hook.path().clone(),
        reason,
    };
    let args = hook.args().as_deref().unwrap_or_default();
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = args.split_first() {
        command.arg0(name).args(rest);
    }
    let env = hook.env().iter().flatten().filter_map(|entry| entry.split_once('='));
    command.env_clear().envs(env).current_dir(cwd).stdin(Stdio::piped());
    if kind != Kind::StartContainer {
        // The runtime's own output is for whoever called it.
        command.stdout(Stdio::null());
    }
    let seconds = hook
        .timeout()
        .map_or(MAX_SECONDS, |seconds| seconds.unsigned_abs().min(MAX_SECONDS));
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        // The state fits into a pipe; a hook that does not read it is none the worse.
        let _ = input.write_all(state);
    }
    match ended(&mut child, deadline) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(failed(status.to_string())),
        Ok(None) => Err(failed(format!("it took longer than {seconds} s"))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Its end; `None` if it had to be killed at the deadline.
fn ended(child: &mut Child, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::os::fd::AsFd;
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    if wire::wait_readable(pidfd.as_fd(), deadline)? {
        return child.wait().map(Some);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(kind: &str, list: serde_json::Value) -> Hooks {
        serde_json::from_value(serde_json::json!({ kind: list })).unwrap()
    }

    fn shell(script: &str) -> serde_json::Value {
        serde_json::json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=b=c"], "timeout": 5 })
    }

    #[test]
    fn they_get_state_environment_and_order() {
        let dir = tempfile::tempdir().unwrap();
        let all = hooks(
            "poststart",
            serde_json::json!([
                shell("cat > in; echo $A >> out"),
                shell("env | grep -c HOME >> out; exit 0")
            ]),
        );
        run(Some(&all), Kind::Poststart, b"the state", dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("in")).unwrap(), "the state");
        assert_eq!(std::fs::read_to_string(dir.path().join("out")).unwrap(), "b=c\n0\n");
        run(None, Kind::Poststart, b"", dir.path()).unwrap();
        run(Some(&all), Kind::Poststop, b"", dir.path()).unwrap();
    }

    #[test]
    fn failures_end_or_do_not_end_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let list = serde_json::json!([shell("exit 3"), shell("touch after"), { "path": "/no/such/program" }]);
        let all = hooks("createRuntime", list);
        let error = run(Some(&all), Kind::CreateRuntime, b"", dir.path()).unwrap_err();
        assert_eq!(error.to_string(), "createRuntime hook /bin/sh: exit status: 3");
        assert!(!dir.path().join("after").exists());
        assert_eq!(run_all(Some(&all), Kind::CreateRuntime, b"", dir.path()).len(), 2);
        assert!(dir.path().join("after").exists());
    }

    #[test]
    fn a_hook_that_does_not_end_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let hook = serde_json::json!([{ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }]);
        let all = hooks("prestart", hook);
        let error = run(Some(&all), Kind::Prestart, b"", dir.path()).unwrap_err();
        assert!(error.to_string().contains("longer than 1 s"), "{error}");
    }
}
