//! The last steps: waits for the start, gives up what the configuration does not grant, executes the program.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerPolicy as Policy, Process};
use rustix::fs::Mode;
use rustix::net::{SocketFlags, accept_with};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

use super::run_hooks;
use crate::inside::{Failure, Stage};
use crate::oci::capabilities::{self, Sets};
use crate::oci::descriptors;
use crate::oci::filter::Filter;
use crate::oci::hooks::Kind;
use crate::oci::link::{Ask, Tell};
use crate::oci::plan::Plan;
use crate::sys;
use crate::wire;

/// Where programs without a path are looked for, unless the environment says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Highest capability number tried; those the kernel does not know are skipped.
const CAPABILITIES: u32 = 63;

/// Waits until somebody connects and says so; returns only if it failed, which that one is told.
pub fn wait_and_execute(plan: &Plan, listener: &OwnedFd, state: &[u8]) {
    loop {
        let Ok(caller) = accept_with(listener, SocketFlags::CLOEXEC) else {
            return;
        };
        // Who hangs up has started nothing.
        let Ok(Some((Tell::Start, _))) = wire::receive::<Tell>(caller.as_fd()) else {
            continue;
        };
        let Err(failure) = execute(plan, state, &caller);
        let errno = failure.error.raw_os_error().unwrap_or(libc::EIO);
        let stage = failure.stage;
        let _ = wire::send(caller.as_fd(), &Ask::Failed { stage, errno }, &[]);
        return;
    }
}

fn execute(plan: &Plan, state: &[u8], caller: &OwnedFd) -> Result<std::convert::Infallible, Failure> {
    run_hooks(plan, Kind::StartContainer, state)?;
    let process = plan.spec.process().as_ref().ok_or(io::ErrorKind::InvalidInput);
    let linux = plan.spec.linux().as_ref();
    become_program(&Given {
        process: process.stage("start without a process")?,
        filter: plan.filter.as_ref(),
        personality: linux.and_then(|linux| linux.personality().as_ref()),
        preserve: &plan.preserve,
        socket: caller.as_fd(),
    })
}

/// What a program in the container is executed with.
pub struct Given<'a> {
    /// Its user, privileges, arguments.
    pub process: &'a Process,
    /// The container's filter.
    pub filter: Option<&'a Filter>,
    /// The container's personality.
    pub personality: Option<&'a LinuxPersonality>,
    /// Descriptors that it keeps besides its standard streams.
    pub preserve: &'a [RawFd],
    /// To the runtime.
    pub socket: BorrowedFd<'a>,
}

/// Gives up what is not granted and executes the program.
pub fn become_program(given: &Given<'_>) -> Result<std::convert::Infallible, Failure> {
    let process = given.process;
    let image = Image::new(process)?;
    sys::reset_signals().stage("reset signals")?;
    give_streams(process);
    scheduling(process)?;
    if let Some(wanted) = given.personality {
        const LINUX32: u64 = 8;
        let is_32 = wanted.domain() == LinuxPersonalityDomain::PerLinux32;
        sys::set_personality(if is_32 { LINUX32 } else { 0 }).stage("set personality")?;
    }
    let early = chdir(process.cwd());
    let (bounded, granted) = (process.no_new_privileges() == Some(true), sets(process));
    bound(granted).stage("bound capabilities")?;
    if !bounded {
        // Without the promise below it takes a privilege that is about to go.
        filter(given)?;
    }
    become_user(process)?;
    grant(granted)?;
    match early {
        // What root of a user namespace may not enter its user may.
        Err(_) => chdir(process.cwd()),
        ok => ok,
    }
    .stage(format!("enter {}", process.cwd().display()))?;
    let program = image.find()?;
    if bounded {
        rustix::thread::set_no_new_privs(true).stage("forbid new privileges")?;
    }
    descriptors::keep_only(given.preserve).stage("close descriptors")?;
    if bounded {
        filter(given)?;
    }
    Err(Failure {
        stage: format!("execute {}", program.to_string_lossy()),
        error: sys::exec(&program, &image.argv, &image.env),
        program: true,
    })
}

/// Puts a stream in place of standard input, output or error.
pub fn redirect(fd: BorrowedFd<'_>, at: usize) -> io::Result<()> {
    match at {
        0 => rustix::stdio::dup2_stdin(fd)?,
        1 => rustix::stdio::dup2_stdout(fd)?,
        _ => rustix::stdio::dup2_stderr(fd)?,
    }
    Ok(())
}

/// Pipes and sockets that the container was given belong to its user, who may open them again by name.
fn give_streams(process: &Process) {
    use rustix::fs::FileType;
    let uid = Uid::from_raw(process.user().uid());
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let kind = rustix::fs::fstat(stream).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if matches!(kind, Ok(FileType::Fifo | FileType::Socket)) {
            // Not possible for what belongs to nobody inside.
            let _ = rustix::fs::fchown(stream, Some(uid), None);
        }
    }
}

fn scheduling(process: &Process) -> Result<(), Failure> {
    if let Some(priority) = process.io_priority() {
        let class = serde_json::to_value(priority.class()).ok();
        let class = match class.as_ref().and_then(|class| class.as_str()) {
            Some("IOPRIO_CLASS_RT") => 1,
            Some("IOPRIO_CLASS_BE") => 2,
            Some("IOPRIO_CLASS_IDLE") => 3,
            _ => 0,
        };
        let data = u16::try_from(priority.priority()).unwrap_or(0);
        sys::set_io_priority(class, data).stage("set I/O priority")?;
    }
    if let Some(scheduler) = process.scheduler() {
        let policy = match scheduler.policy() {
            Policy::SchedFifo => libc::SCHED_FIFO,
            Policy::SchedRr => libc::SCHED_RR,
            Policy::SchedBatch => libc::SCHED_BATCH,
            Policy::SchedIdle => libc::SCHED_IDLE,
            Policy::SchedDeadline => libc::SCHED_DEADLINE,
            _ => libc::SCHED_OTHER,
        };
        let attributes = sys::Scheduling {
            policy: policy as u32,
            nice: scheduler.nice().unwrap_or(0),
            priority: scheduler.priority().unwrap_or(0).max(0) as u32,
            runtime: scheduler.runtime().unwrap_or(0),
            deadline: scheduler.deadline().unwrap_or(0),
            period: scheduler.period().unwrap_or(0),
        };
        sys::set_scheduling(&attributes).stage("set scheduler")?;
    }
    Ok(())
}

/// Changes the folder and makes sure that it is one within the root.
fn chdir(cwd: &Path) -> io::Result<()> {
    std::env::set_current_dir(cwd)?;
    let here = std::env::current_dir()?;
    if here.as_os_str().as_bytes().first() == Some(&b'/') {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn sets(process: &Process) -> Sets {
    process
        .capabilities()
        .as_ref()
        .map(capabilities::sets)
        .unwrap_or_default()
}

/// What no program can ever gain.
fn bound(granted: Sets) -> io::Result<()> {
    for number in (0..=CAPABILITIES).filter(|number| granted.bounding & (1 << number) == 0) {
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn filter(given: &Given<'_>) -> Result<(), Failure> {
    let Some(filter) = given.filter else { return Ok(()) };
    if !filter.listened {
        return sys::seccomp_load_with(&filter.program, filter.flags).stage("filter system calls");
    }
    let listener = sys::seccomp_listen(&filter.program, filter.flags).stage("filter system calls")?;
    wire::send(given.socket, &Ask::Listener, &[listener.as_fd()]).stage("hand the listener over")
}

fn become_user(process: &Process) -> Result<(), Failure> {
    let user = process.user();
    let umask = user.umask().unwrap_or(0o022);
    rustix::process::umask(Mode::from_raw_mode(umask & 0o777));
    rustix::thread::set_keep_capabilities(true).stage("keep capabilities")?;
    let groups: Vec<Gid> = user
        .additional_gids()
        .iter()
        .flatten()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    match rustix::thread::set_thread_groups(&groups) {
        // A map may forbid it; then there are none to be dropped either.
        Err(rustix::io::Errno::PERM) if groups.is_empty() => {}
        other => other.stage("set groups")?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    rustix::thread::set_thread_res_gid(gid, gid, gid).stage("change group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).stage("change user")?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).stage("hide memory")
}

fn grant(granted: Sets) -> Result<(), Failure> {
    rustix::thread::set_keep_capabilities(false).stage("keep capabilities")?;
    rustix::thread::clear_ambient_capability_set().stage("clear ambient capabilities")?;
    // Capabilities that this kernel does not have, or that were not there to begin with, cannot be kept.
    let now = rustix::thread::capabilities(None)
        .stage("look at capabilities")?
        .permitted
        .bits();
    let permitted = granted.permitted & now;
    let set = CapabilitySet::from_bits_retain;
    let sets = CapabilitySets {
        effective: set(granted.effective & permitted),
        permitted: set(permitted),
        inheritable: set(granted.inheritable & now),
    };
    rustix::thread::set_capabilities(None, sets).stage("drop capabilities")?;
    let both = granted.ambient & permitted & granted.inheritable;
    for number in (0..=CAPABILITIES).filter(|number| both & (1 << number) != 0) {
        rustix::thread::configure_capability_in_ambient_set(set(1 << number), true).stage("grant capabilities")?;
    }
    Ok(())
}

/// The program in the form the kernel takes.
struct Image {
    candidates: Vec<PathBuf>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Image {
    fn new(process: &Process) -> Result<Image, Failure> {
        let text = |text: &String| CString::new(text.as_str()).stage("read process (it contains a NUL)");
        let args = process.args().as_deref().unwrap_or_default();
        let env = process.env().as_deref().unwrap_or_default();
        let program = args.first().map_or("", String::as_str);
        let candidates = if program.contains('/') {
            vec![PathBuf::from(program)]
        } else {
            let path = env
                .iter()
                .find_map(|entry| entry.strip_prefix("PATH="))
                .unwrap_or(DEFAULT_PATH);
            path.split(':').map(|folder| Path::new(folder).join(program)).collect()
        };
        Ok(Image {
            candidates,
            argv: args.iter().map(text).collect::<Result<_, _>>()?,
            env: env.iter().map(text).collect::<Result<_, _>>()?,
        })
    }

    /// The first that is there and may be run; like a shell, one that may not be run beats one that is not there.
    fn find(&self) -> Result<CString, Failure> {
        let mut worst = rustix::io::Errno::NOENT;
        for candidate in &self.candidates {
            match rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK) {
                Ok(()) if !candidate.is_dir() => {
                    let bytes = candidate.clone().into_os_string().into_vec();
                    return CString::new(bytes).stage("read process (it contains a NUL)");
                }
                Ok(()) => worst = rustix::io::Errno::ACCESS,
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(e) => worst = e,
            }
        }
        let name = self
            .argv
            .first()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Err(Failure {
            stage: format!("find {name}"),
            error: worst.into(),
            program: true,
        })
    }
}
