//! The spawner's own loop.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SocketFlags, accept_with};

use super::spares::Spares;
use crate::inside::{self, Birth};
use crate::sys::{self, Forked};
use crate::users;
use crate::wire::{self, Answer, Ask, Ended, PROTOCOL, Program, timespec};

const MAX_CONNECTIONS: usize = 16;
/// After a fork, and after any other request, before anything is made that nobody has asked for. Of the end of a start
/// the spawner hears, as a rule; it would only be in its way before.
const CALM: (Duration, Duration) = (Duration::from_millis(12), Duration::from_millis(1));

/// What is kept per sandbox.
struct Kept {
    pidfd: OwnedFd,
    upper: Option<OwnedFd>,
    ended: Option<Ended>,
}

struct Server {
    program: Program,
    spares: Spares,
    /// The last that was asked for was a fork.
    starting: bool,
    userns: HashMap<u32, OwnedFd>,
    kept: HashMap<String, Kept>,
    /// Inits to be reaped whose status nobody wants.
    forgotten: Vec<OwnedFd>,
}

/// A request that cannot be carried out: where it failed and why.
type Refused = (&'static str, io::Error);

/// Becomes the spawner: goes to the background, then serves the socket on standard input.
pub fn serve() -> io::Result<()> {
    // Whatever an agent inherited from whoever started it must not live on here.
    // SAFETY: the program has opened nothing yet.
    unsafe { sys::close_all_except(3, &[]) }?;
    let listener = io::stdin().as_fd().try_clone_to_owned()?;
    // SAFETY: nothing has started a thread.
    if let Forked::Parent(..) = unsafe { sys::fork() }? {
        return Ok(());
    }
    rustix::process::setsid()?;
    rustix::thread::set_name(c"paas-spawner")?;
    raise_open_files();
    private_mounts()?;
    inside::warm_up();
    // For all that come from here: what the agent was started with, and what this program's runtime has set.
    sys::reset_signals()?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let program = Program::of(Path::new("/proc/self/exe"))?;
    let mut server = Server {
        program,
        spares: Spares::new()?,
        starting: false,
        userns: HashMap::new(),
        kept: HashMap::new(),
        forgotten: Vec::new(),
    };
    server.run(&listener, &children)
}

fn raise_open_files() {
    let resource = rustix::process::Resource::Nofile;
    let mut limit = rustix::process::getrlimit(resource);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(resource, limit);
}

/// Mounts of the host keep appearing here (layers may be mounts), none of ours appears there.
fn private_mounts() -> io::Result<()> {
    use rustix::mount::{MountPropagationFlags, mount_change};
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    Ok(mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?)
}

impl Server {
    fn run(&mut self, listener: &OwnedFd, children: &SignalFd) -> io::Result<()> {
        let mut connections: Vec<OwnedFd> = Vec::new();
        loop {
            // What nobody waits for is done when nobody asks for anything.
            let calm = if self.starting { CALM.0 } else { CALM.1 };
            let patience = self.spares.wants_more().then_some(calm);
            let Some(ready) = wait(listener, children, &connections, patience)? else {
                self.spares.make();
                continue;
            };
            if ready[1] {
                while children.read_signal()?.is_some() {}
                self.reap();
            }
            let mut closed = Vec::new();
            for (at, connection) in connections.iter().enumerate().filter(|(at, _)| ready[at + 2]) {
                match self.serve_one(connection.as_fd()) {
                    Ok(Some(true)) => {}
                    Ok(Some(false)) => return Ok(()),
                    Ok(None) | Err(_) => closed.push(at),
                }
            }
            for at in closed.into_iter().rev() {
                connections.remove(at);
            }
            if ready[0]
                && let Ok(connection) = accept_with(listener, SocketFlags::CLOEXEC)
            {
                if connections.len() >= MAX_CONNECTIONS {
                    connections.remove(0);
                }
                connections.push(connection);
            }
        }
    }

    /// One message; `None` at the end of the connection, `false` to end.
    fn serve_one(&mut self, connection: BorrowedFd<'_>) -> io::Result<Option<bool>> {
        let Some((ask, fds)) = wire::receive::<Ask>(connection)? else {
            return Ok(None);
        };
        let retire = matches!(ask, Ask::Retire);
        self.starting = matches!(ask, Ask::Create { .. });
        match self.answer(ask, fds) {
            Ok((answer, fds)) => {
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                wire::send(connection, &answer, &fds)?;
            }
            Err((stage, error)) => {
                let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
                wire::send(
                    connection,
                    &Answer::Failed {
                        stage: stage.to_owned(),
                        errno,
                    },
                    &[],
                )?;
            }
        }
        Ok(Some(!retire))
    }

    fn answer(&mut self, ask: Ask, mut fds: Vec<OwnedFd>) -> Result<(Answer, Vec<OwnedFd>), Refused> {
        match ask {
            Ask::Hello { .. } => {
                let pid = std::process::id() as i32;
                Ok((
                    Answer::Hello {
                        protocol: PROTOCOL,
                        pid,
                        program: self.program,
                    },
                    Vec::new(),
                ))
            }
            Ask::Create {
                id,
                uid_base,
                uid,
                group,
                netns,
                upper,
            } => {
                let (pid, fds) = self.create(id, (uid_base, uid), (group, netns, upper), fds)?;
                Ok((Answer::Created { pid }, fds.into()))
            }
            Ask::Keep { id } => {
                if let Some(kept) = self.kept.get_mut(&id) {
                    kept.upper = fds.pop();
                }
                Ok((Answer::Done, Vec::new()))
            }
            Ask::Upper { id } => {
                let upper = self.kept.get(&id).and_then(|kept| kept.upper.as_ref());
                let copy = upper
                    .map(OwnedFd::try_clone)
                    .transpose()
                    .map_err(|e| ("copy a descriptor", e))?;
                Ok((Answer::Done, copy.into_iter().collect()))
            }
            Ask::Status { id } => {
                self.reap();
                let kept = self.kept.get(&id);
                Ok((
                    Answer::Status {
                        known: kept.is_some(),
                        ended: kept.and_then(|k| k.ended),
                    },
                    Vec::new(),
                ))
            }
            Ask::Forget { id } => {
                self.reap();
                let Some(kept) = self.kept.remove(&id) else {
                    return Ok((Answer::Done, Vec::new()));
                };
                if kept.ended.is_none() {
                    self.forgotten.push(kept.pidfd);
                }
                // Closing the last one takes the layer's file system down, which takes milliseconds:
                // the agent's time, not that of who wants to start something.
                Ok((Answer::Done, kept.upper.into_iter().collect()))
            }
            Ask::Retire => Ok((Answer::Done, Vec::new())),
        }
    }

    fn create(
        &mut self,
        id: String,
        (uid_base, uid): (u32, u32),
        (group, netns, upper): (bool, bool, bool),
        fds: Vec<OwnedFd>,
    ) -> Result<(i32, [OwnedFd; 2]), Refused> {
        let mut fds = fds.into_iter();
        let mut next = |wanted: bool| if wanted { fds.next() } else { None };
        let (plan, report, control) = (next(true), next(true), next(true));
        let (program, release) = (next(true), next(true));
        let (group_fd, netns_fd, upper) = (next(group), next(netns), next(upper));
        let (Some(plan), Some(report), Some(control), Some(program), Some(release)) =
            (plan, report, control, program, release)
        else {
            return Err(("take descriptors", io::ErrorKind::InvalidInput.into()));
        };
        let userns = self.userns(uid_base, uid)?;
        let told_userns = userns.try_clone().map_err(|e| ("copy a descriptor", e))?;
        let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        let spare = if netns { None } else { self.spares.take() };
        let (spare, sys) = spare.map_or((None, None), |spare| (Some(spare.netns), spare.sys));
        let netns = netns_fd.or(spare);
        match &netns {
            Some(netns) => self.spares.visit(netns).map_err(|e| ("enter network namespace", e))?,
            None => namespaces |= libc::CLONE_NEWNET,
        }
        // SAFETY: the spawner has one thread.
        let forked = unsafe { sys::clone_process(namespaces as u64, group_fd.as_ref().map(AsFd::as_fd)) };
        if let Ok(Forked::Child) = forked {
            inside::live(Birth {
                plan,
                report,
                control,
                program,
                release,
                userns,
                sys,
            });
        }
        if netns.is_some() {
            self.spares.go_home();
        }
        match forked.map_err(|e| ("fork", e))? {
            Forked::Parent(pid, Some(pidfd)) => {
                let copy = pidfd.try_clone().map_err(|e| ("copy a descriptor", e))?;
                self.kept.insert(
                    id,
                    Kept {
                        pidfd,
                        upper,
                        ended: None,
                    },
                );
                Ok((pid, [told_userns, copy]))
            }
            _ => Err(("fork", io::ErrorKind::Other.into())),
        }
    }

    /// The user namespace of a range, made once and used by one sandbox after another. What all sandboxes have in
    /// common is no range: there each has its own, in which the kernel counts its processes.
    fn userns(&mut self, uid_base: u32, uid: u32) -> Result<OwnedFd, Refused> {
        if uid_base == 0 {
            return make_userns(uid_base, uid).map_err(|e| ("make user namespace", e));
        }
        if let Some(userns) = self.userns.get(&uid_base) {
            return userns.try_clone().map_err(|e| ("copy a descriptor", e));
        }
        let userns = make_userns(uid_base, uid).map_err(|e| ("make user namespace", e))?;
        let copy = userns.try_clone().map_err(|e| ("copy a descriptor", e))?;
        self.userns.insert(uid_base, userns);
        Ok(copy)
    }

    fn reap(&mut self) {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        for kept in self.kept.values_mut().filter(|kept| kept.ended.is_none()) {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            if let Ok(Some(status)) = waitid(WaitId::PidFd(kept.pidfd.as_fd()), options) {
                kept.ended = Some(Ended {
                    code: status.exit_status(),
                    signal: status.terminating_signal(),
                });
            }
        }
        self.forgotten.retain(|pidfd| {
            !matches!(
                waitid(
                    WaitId::PidFd(pidfd.as_fd()),
                    WaitIdOptions::EXITED | WaitIdOptions::NOHANG
                ),
                Ok(Some(_))
            )
        });
    }
}

/// A user namespace for the range from `uid_base` on, which owns it where the host's root makes it.
fn make_userns(uid_base: u32, uid: u32) -> io::Result<OwnedFd> {
    let map = users::map(uid_base, uid);
    users::make(&map, &map, (!users::confined()).then_some(uid_base))
}

/// Which of listener, signals and connections can be read, in that order; `None` if nothing
/// comes for as long as `patience`.
fn wait(
    listener: &OwnedFd,
    children: &SignalFd,
    connections: &[OwnedFd],
    patience: Option<Duration>,
) -> io::Result<Option<Vec<bool>>> {
    let mut fds = vec![
        PollFd::new(listener, PollFlags::IN),
        PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN),
    ];
    fds.extend(connections.iter().map(|c| PollFd::new(c, PollFlags::IN)));
    let limit = patience.map(timespec);
    loop {
        match poll(&mut fds, limit.as_ref()) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(fds.iter().map(|fd| !fd.revents().is_empty()).collect())),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
