//! Starts a process inside: the app itself, or a further one. Whatever it is, it ends up
//! with the same lack of privileges.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Resource};
use rustix::pty::OpenptFlags;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

use super::layout::{self, OOM_SCORE};
use super::{Failure, Stage};
use crate::sys::{self, Forked};
use crate::{Rlimit, RlimitKind, users};

const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What to start.
pub struct Launch<'a> {
    pub argv: &'a [String],
    pub env: &'a [(String, String)],
    pub cwd: &'a Path,
    pub uid: u32,
    pub gid: u32,
    pub rlimits: &'a [Rlimit],
    pub stdio: [BorrowedFd<'a>; 3],
    /// Whether standard input becomes its controlling terminal.
    pub terminal: bool,
    /// The list of a group to join, where it is not to stay in init's.
    pub group: Option<BorrowedFd<'a>>,
}

/// Starts it; returns when its program runs, with its pid and pidfd.
pub fn launch(launch: &Launch<'_>) -> Result<(i32, OwnedFd), Failure> {
    let image = Image::new(launch.argv, launch.env)?;
    let (result, errors) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).stage("make pipe")?;
    // SAFETY: init has one thread.
    match unsafe { sys::fork() }.stage("start a process")? {
        Forked::Child => {
            let Err(failure) = become_it(launch, &image);
            let text = format!("{} {} {}", failure.errno(), u8::from(failure.program), failure.stage);
            let _ = rustix::io::write(&errors, text.as_bytes());
            sys::exit_now(127)
        }
        Forked::Parent(pid, _) => {
            drop(errors);
            // It is not reaped before this returns, so the pid cannot mean another process.
            let pidfd = Pid::from_raw(pid)
                .ok_or(rustix::io::Errno::SRCH)
                .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
                .stage("watch a process")?;
            started(&result)?;
            Ok((pid, pidfd))
        }
    }
}

/// Waits for the exec (end of file) or for the failure's description.
fn started(result: &OwnedFd) -> Result<(), Failure> {
    let mut buffer = [0; 512];
    let length = loop {
        match rustix::io::read(result, &mut buffer[..]) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.stage("start a process")?,
        }
    };
    if length == 0 {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&buffer[..length]);
    let mut parts = text.splitn(3, ' ');
    let errno = parts.next().and_then(|p| p.parse().ok()).unwrap_or(libc::EIO);
    let program = parts.next() == Some("1");
    let stage = parts.next().unwrap_or("start a process").to_owned();
    Err(Failure {
        stage,
        error: io::Error::from_raw_os_error(errno),
        program,
    })
}

/// Everything in the form the kernel takes, made before the fork.
pub struct Image {
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Image {
    pub fn new(argv: &[String], env: &[(String, String)]) -> Result<Image, Failure> {
        let text = |s: &str| CString::new(s).stage("read command (it contains a NUL)");
        let Some(program) = argv.first().filter(|p| !p.is_empty()) else {
            return Err(io::ErrorKind::InvalidInput).stage("read command (it is empty)");
        };
        let programs = if program.contains('/') {
            vec![text(program)?]
        } else {
            let path = env
                .iter()
                .find(|(k, _)| k == "PATH")
                .map_or(DEFAULT_PATH, |(_, v)| v.as_str());
            let folders = path.split(':').filter(|folder| !folder.is_empty());
            folders
                .map(|folder| text(&format!("{folder}/{program}")))
                .collect::<Result<_, _>>()?
        };
        let argv = argv.iter().map(|word| text(word)).collect::<Result<_, _>>()?;
        let env = env.iter().map(|(name, value)| text(&format!("{name}={value}")));
        let env = env.collect::<Result<_, _>>()?;
        Ok(Image { programs, argv, env })
    }

    /// Tries every candidate; like a shell, a program that may not be run beats one that is
    /// not there.
    pub fn exec(&self) -> io::Error {
        let mut worst = io::Error::from_raw_os_error(libc::ENOENT);
        for program in &self.programs {
            let error = sys::exec(program, &self.argv, &self.env);
            if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) {
                worst = error;
            }
        }
        worst
    }
}

/// In the child: becomes the program.
fn become_it(launch: &Launch<'_>, image: &Image) -> Result<std::convert::Infallible, Failure> {
    if let Some(group) = launch.group {
        rustix::io::write(group, b"0").stage("join its group")?;
    }
    sys::reset_signals().stage("reset signals")?;
    rustix::process::setsid().stage("start a session")?;
    score_for_oom().stage("raise OOM score")?;
    narrow(launch)?;
    Err(Failure {
        stage: "execute".to_owned(),
        error: image.exec(),
        program: true,
    })
}

/// In the child: takes its streams, limits, user and folder, and gives up the last privileges.
fn narrow(launch: &Launch<'_>) -> Result<(), Failure> {
    take_streams(launch.stdio, launch.terminal)?;
    set_limits(launch.rlimits)?;
    become_user(launch.uid, launch.gid)?;
    enter(launch.cwd)
}

/// In the child: these streams are its own, and no other descriptor outlives an execution.
pub fn take_streams(stdio: [BorrowedFd<'_>; 3], terminal: bool) -> Result<(), Failure> {
    for (at, fd) in stdio.into_iter().enumerate() {
        redirect(fd, at).stage("redirect standard streams")?;
    }
    sys::cloexec_from(3).stage("close descriptors")?;
    if terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).stage("take the terminal")?;
    }
    Ok(())
}

/// In a child: the user inside, without any privilege.
pub fn become_user(uid: u32, gid: u32) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if !users::single() {
        // Where there is one id, the kernel lets nobody change groups.
        rustix::thread::set_thread_groups(&[]).stage("drop groups")?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid).stage("change group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).stage("change user")?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    rustix::thread::set_capabilities(None, sets).stage("drop capabilities")
}

fn redirect(fd: BorrowedFd<'_>, at: usize) -> io::Result<()> {
    match at {
        0 => rustix::stdio::dup2_stdin(fd)?,
        1 => rustix::stdio::dup2_stdout(fd)?,
        _ => rustix::stdio::dup2_stderr(fd)?,
    }
    Ok(())
}

/// The score belongs to whoever may look into the process, which nobody may with init; the
/// change of user below closes that door again.
pub fn score_for_oom() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    std::fs::write("/proc/self/oom_score_adj", OOM_SCORE.to_string())?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// In a child: what it may have, as far as this host lets it have that.
pub fn set_limits(wanted: &[Rlimit]) -> Result<(), Failure> {
    limit(wanted).stage("set resource limits")
}

fn limit(wanted: &[Rlimit]) -> io::Result<()> {
    for limit in layout::rlimits(wanted) {
        let resource = match limit.resource {
            RlimitKind::Nofile => Resource::Nofile,
            RlimitKind::Core => Resource::Core,
            RlimitKind::Nproc => Resource::Nproc,
            RlimitKind::Stack => Resource::Stack,
            RlimitKind::Memlock => Resource::Memlock,
            RlimitKind::Fsize => Resource::Fsize,
            RlimitKind::As => Resource::As,
        };
        // Raising a hard limit takes a privilege that even the host's root may lack.
        let ceiling = rustix::process::getrlimit(resource).maximum;
        let clamp = |value: u64| match (value, ceiling) {
            (u64::MAX, ceiling) => ceiling,
            (value, Some(ceiling)) => Some(value.min(ceiling)),
            (value, None) => Some(value),
        };
        let (soft, hard) = (clamp(limit.soft.min(limit.hard)), clamp(limit.hard));
        rustix::process::setrlimit(
            resource,
            rustix::process::Rlimit {
                current: soft,
                maximum: hard,
            },
        )?;
    }
    Ok(())
}

/// Changes the folder and makes sure that it is one within the root.
pub fn enter(cwd: &Path) -> Result<(), Failure> {
    let entered = std::env::set_current_dir(cwd).and_then(|()| std::env::current_dir());
    let inside = entered.and_then(|here| match here.as_os_str().as_bytes().first() {
        Some(b'/') => Ok(()),
        _ => Err(io::ErrorKind::NotFound.into()),
    });
    inside.stage(format!("enter {}", cwd.display()))
}

/// Makes something that belongs to `uid`. As the saved user is still root, the way back is
/// open.
fn as_user<T>(uid: u32, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if users::single() {
        // There is nobody else to be.
        return make();
    }
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::from_raw(uid), Uid::ROOT)?;
    let made = make();
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    made
}

/// A pipe for output: init's end, which does not block, and the process's, which it may open
/// again as /dev/stdout.
pub fn pipe(uid: u32, bytes: usize) -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = as_user(uid, || Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?))?;
    // Refused once the user has many of them; a small one serves as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&ours, bytes);
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// A new terminal that belongs to `uid`: init's end and the process's end.
pub fn terminal(uid: u32, rows: u16, columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let ours = as_user(uid, || Ok(rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?))?;
    rustix::pty::unlockpt(&ours)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(ours.as_fd(), size)?;
    Ok((ours, theirs))
}
