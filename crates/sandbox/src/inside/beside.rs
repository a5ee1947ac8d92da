//! Processes beside the app's: init starts them when it goes to work, and ends with the first of them that ends.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};

use super::bud::PIPE_BYTES;
use super::launch::{self, Launch};
use super::{Failure, Stage};
use crate::log::{SIDECAR_TAGS, Source};
use crate::wire::Ended;
use crate::{Sidecar, Spec};

/// One that runs.
pub struct Beside {
    pub name: String,
    pub pid: i32,
}

/// Starts the one at `at` in its list, in its own group if it has one; with its output.
pub fn start(
    spec: &Spec,
    at: usize,
    sidecar: &Sidecar,
    group: Option<BorrowedFd<'_>>,
) -> Result<(Beside, Vec<Source>), Failure> {
    let (uid, gid) = (spec.process.uid, spec.process.gid);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty()).stage("open null")?;
    let mut sources = Vec::new();
    let mut streams = Vec::new();
    for tag in SIDECAR_TAGS {
        let (ours, theirs) = launch::pipe(uid, PIPE_BYTES).stage("make pipe")?;
        // There are few enough for their tags: that is checked before a sandbox is made.
        sources.push(Source::new(ours, tag + at as u8));
        streams.push(theirs);
    }
    let (pid, _) = launch::launch(&Launch {
        argv: &sidecar.argv,
        env: &sidecar.env,
        cwd: &sidecar.cwd,
        uid,
        gid,
        rlimits: &spec.process.rlimits,
        stdio: [null.as_fd(), streams[0].as_fd(), streams[1].as_fd()],
        terminal: false,
        group,
    })?;
    let name = sidecar.name.clone();
    Ok((Beside { name, pid }, sources))
}

/// What the log says when one ends by itself.
pub fn epitaph(name: &str, ended: Ended) -> String {
    let how = match (ended.code, ended.signal) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    format!("sidecar {name} {how}: the app instance ends with it")
}
