//! Files in and out of a running sandbox: a child of init does it, as the app's user, in the
//! app's groups, from within. What is a link, a mount or forbidden is so for it as for the app,
//! and what it reads and writes is charged to the sandbox. The host sees bytes only, or one
//! descriptor of a plain file or a folder.

mod pack;
mod tree;
mod unpack;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::process::{Pid, PidfdFlags};

use super::{Failure, Stage, launch};
use crate::copy::{Copied, CopyOrder, Errand, OpenHow};
use crate::sys::{self, Forked};
use crate::{Rlimit, wire};

/// Why a copy ended early, in words that complete "copy …: ".
type Refused = String;

/// Starts a child that carries out `order` and reports to the socket `fds[0]`; `fds[1]` is the
/// stream. Its pid and pidfd.
pub fn start(order: CopyOrder, fds: Vec<OwnedFd>, rlimits: &[Rlimit]) -> Result<(i32, OwnedFd), Failure> {
    let mut fds = fds.into_iter();
    let report = fds
        .next()
        .ok_or(io::ErrorKind::InvalidInput)
        .stage("take descriptors")?;
    let stream = fds.next();
    // SAFETY: init has one thread.
    match unsafe { sys::fork() }.stage("start a copy")? {
        Forked::Child => {
            // A panic must not unwind into init's loop.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| run(&order, &report, stream, rlimits)));
            sys::exit_now(0)
        }
        Forked::Parent(pid, _) => {
            // It is not reaped before this returns, so the pid cannot mean another process.
            let pidfd = Pid::from_raw(pid)
                .ok_or(rustix::io::Errno::SRCH)
                .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
                .stage("watch a copy")?;
            Ok((pid, pidfd))
        }
    }
}

fn run(order: &CopyOrder, report: &OwnedFd, stream: Option<OwnedFd>, rlimits: &[Rlimit]) {
    let mut file = None;
    let copied = confine(order, report, stream.as_ref(), rlimits)
        .map_err(|failure| format!("{}: {}", failure.stage, failure.error))
        .and_then(|()| match (&order.errand, stream) {
            (Errand::Open(how), _) => {
                file = Some(open(order, *how)?);
                Ok(Copied::default())
            }
            (Errand::Out, Some(stream)) => pack::pack(order, stream),
            (Errand::In, Some(stream)) => unpack::unpack(order, stream),
            (Errand::Out | Errand::In, None) => Err("there is no stream".to_owned()),
        });
    let fds: Vec<_> = file.iter().map(AsFd::as_fd).collect();
    let _ = wire::send(report.as_fd(), &copied, &fds);
}

fn confine(order: &CopyOrder, report: &OwnedFd, stream: Option<&OwnedFd>, rlimits: &[Rlimit]) -> Result<(), Failure> {
    sys::reset_signals().stage("reset signals")?;
    rustix::process::setsid().stage("start a session")?;
    let keep: Vec<_> = std::iter::once(report).chain(stream).map(AsRawFd::as_raw_fd).collect();
    // SAFETY: this process never returns to init's code, which owned the others.
    unsafe { sys::close_all_except(3, &keep) }.stage("close descriptors")?;
    launch::score_for_oom().stage("raise OOM score")?;
    launch::set_limits(rlimits)?;
    launch::become_user(order.uid, order.uid)
}

/// Opens the plain file or the folder that the order names.
fn open(order: &CopyOrder, how: OpenHow) -> Result<OwnedFd, Refused> {
    let common = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = match how {
        OpenHow::Read => OFlags::RDONLY,
        OpenHow::Write => OFlags::WRONLY | OFlags::CREATE,
    };
    let mode = if how == OpenHow::Write { 0o644 } else { 0 };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = tree::root()?;
    let file = rustix::fs::openat2(&root, &order.path, flags | common, Mode::from_raw_mode(mode), resolve)
        .map_err(|e| io::Error::from(e).to_string())?;
    let stat = rustix::fs::fstat(&file).map_err(|e| io::Error::from(e).to_string())?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => Ok(file),
        _ => Err("it is neither a plain file nor a folder".to_owned()),
    }
}
