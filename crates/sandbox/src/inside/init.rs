//! PID 1 of a sandbox at work: one thread, one loop, no wait but the one for events.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::WaitOptions;

use super::beside::{self, Beside};
use super::bud::Bud;
use super::control::{Connection, MAX_CONNECTIONS, Next};
use super::launch;
use super::meters::Meters;
use super::shares::Shares;
use super::{Failure, Stage, ordered};
use crate::log::{Pump, Source};
use crate::record::EXIT;
use crate::wire::{self, Ended, Order, Report, timespec};
use crate::{Exit, Oom, Spec, sys};

/// After the app's end, what it left behind must be gone by then.
const END_SECONDS: u64 = 5;
/// How long the counter may lag behind the news that memory ran out.
const OOM_DOUBT: Duration = Duration::from_secs(2);
/// Refused forks are told at most this often.
const PIDS_PAUSE: Duration = Duration::from_secs(10);
/// Where nothing announces refused forks they are looked for when init is awake anyway, at most
/// this often.
const PIDS_LOOK: Duration = Duration::from_secs(1);
/// And this often in any case: a thousand sandboxes at rest cost the host nothing noticeable.
const PIDS_LOOK_AT_REST: Duration = Duration::from_secs(20);
const TERMINAL_SIZE: (u16, u16) = (24, 80);

/// What init holds when it starts to work.
pub struct Hands {
    /// The log folder.
    pub log: OwnedFd,
    /// Where the agent connects.
    pub control: OwnedFd,
    /// Where the agent gives its orders and waits for reports.
    pub agent: OwnedFd,
    /// When the steps up to here were done, if somebody waits to hear that all is ready for the app.
    pub steps: Option<Vec<(String, u64)>>,
    /// Figures of the groups.
    pub meters: Meters,
    /// The app to be.
    pub bud: Bud,
}

struct Init {
    spec: Spec,
    app: i32,
    beside: Vec<Beside>,
    /// Which of them ended first, if one did before it was told to.
    broken: Option<String>,
    /// Told to end: from here on only the app's end counts.
    stopping: bool,
    started_ns: u64,
    pump: Pump,
    sources: Vec<Source>,
    log: OwnedFd,
    control: OwnedFd,
    connections: Vec<Connection>,
    signals: SignalFd,
    meters: Meters,
    shares: Shares,
    /// Figures of a kill for memory, once it is told.
    oom: Option<Oom>,
    oom_doubt: Option<Instant>,
    pids_told: u64,
    pids_pause: Option<Instant>,
}

/// Which of init's descriptors are ready.
struct Ready {
    signals: bool,
    control: bool,
    memory: bool,
    pids: bool,
    sources: Vec<bool>,
    connections: Vec<bool>,
}

/// Stays with the app to the end.
pub fn run(spec: Spec, hands: Hands) -> Result<(), Failure> {
    SigSet::all().thread_block().stage("block signals")?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&SigSet::all(), flags).stage("watch signals")?;
    let log_copy = hands.log.try_clone().stage("open log")?;
    let pump = Pump::new(log_copy, &spec.log, sys::now_ns());
    let started_ns = sys::now_ns();
    let mut bud = hands.bud;
    let terminal = if spec.process.terminal {
        let (ours, theirs) = open_terminal(spec.process.uid).stage("open a terminal")?;
        bud.sources = vec![Source::new(ours, b'O')];
        Some(theirs)
    } else {
        None
    };
    if let Some(mut steps) = hands.steps {
        steps.push(("ready".to_owned(), sys::monotonic_ns()));
        if ordered(&hands.agent, &Order::Go)?.is_none() {
            return Ok(());
        }
        bud.let_go(terminal.as_ref()).stage("let the app go")?;
        // If the agent is gone by now, it is the next one's.
        let _ = wire::send(hands.agent.as_fd(), &Report::Ready { steps }, &[]);
    }
    drop(terminal);
    let (app, sources) = bud.into_parts();
    let shares = if spec.sidecars.is_empty() {
        Shares::default()
    } else {
        // They come after the app: an end of theirs before its start would be nobody's.
        Shares::receive(&hands.agent, &spec)?
    };
    drop(hands.agent);
    let mut init = Init {
        spec,
        app,
        beside: Vec::new(),
        broken: None,
        stopping: false,
        started_ns,
        pump,
        sources,
        log: hands.log,
        control: hands.control,
        connections: Vec::new(),
        signals,
        meters: hands.meters,
        shares,
        oom: None,
        oom_doubt: None,
        pids_told: 0,
        pids_pause: None,
    };
    let ended = match init.start_beside() {
        Ok(()) => init.work(),
        Err(ended) => ended,
    };
    init.end(ended);
    Ok(())
}

/// Init's end, and that of the app.
fn open_terminal(uid: u32) -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (rows, columns) = TERMINAL_SIZE;
    let (ours, theirs) = launch::terminal(uid, rows, columns)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

impl Init {
    /// Starts what runs beside the app; an app of which a part is missing ends as if that had.
    fn start_beside(&mut self) -> Result<(), Ended> {
        for (at, sidecar) in self.spec.sidecars.iter().enumerate() {
            match beside::start(&self.spec, at, sidecar, self.shares.group(at)) {
                Ok((one, sources)) => {
                    self.beside.push(one);
                    self.sources.extend(sources);
                }
                Err(failure) => {
                    let name = &sidecar.name;
                    let text = format!(
                        "sidecar {name} could not be started: {}: {}",
                        failure.stage, failure.error
                    );
                    self.pump.say(&text, sys::now_ns());
                    self.broken = Some(name.clone());
                    return Err(Ended {
                        code: Some(127),
                        signal: None,
                    });
                }
            }
        }
        Ok(())
    }

    /// The process groups that a signal to the app is for, its own first.
    fn groups(&self) -> Vec<i32> {
        std::iter::once(self.app)
            .chain(self.beside.iter().map(|one| one.pid))
            .collect()
    }

    /// Until the app has ended.
    fn work(&mut self) -> Ended {
        loop {
            let Ok(ready) = self.wait() else {
                // Without events there is nothing left to do but to end.
                self.kill_all();
                return Ended {
                    code: None,
                    signal: Some(libc::SIGKILL),
                };
            };
            let now = sys::now_ns();
            self.pump_ready(&ready.sources, now);
            if ready.signals
                && let Some(ended) = self.take_signals()
            {
                return ended;
            }
            if ready.memory || self.oom_doubt.is_some() {
                self.check_memory(ready.memory);
            }
            if ready.pids || self.pids_due() {
                self.tell_pids();
            }
            self.serve(&ready.connections);
            if ready.control {
                self.accept();
            }
            self.pump.tell(now, false);
            self.pump.flush(now);
        }
    }

    fn wait(&self) -> rustix::io::Result<Ready> {
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::new(&self.control, PollFlags::IN),
        ];
        let mut next = fds.len();
        let memory = next;
        match (self.meters.memory_event(), self.meters.memory_counter()) {
            _ if self.oom.is_some() => {}
            (Some(event), _) => fds.push(PollFd::new(event, PollFlags::IN)),
            (None, Some(counter)) => fds.push(PollFd::new(counter, PollFlags::PRI)),
            (None, None) => {}
        }
        if self.oom.is_none() {
            fds.extend(self.shares.events().map(|event| PollFd::new(event, PollFlags::IN)));
        }
        let memory = memory..fds.len();
        next = fds.len();
        let pids = self
            .meters
            .pids_counter()
            .filter(|_| self.pids_pause.is_none_or(|until| until <= Instant::now()));
        let has_pids = pids.is_some();
        fds.extend(pids.map(|counter| PollFd::new(counter, PollFlags::PRI)));
        let first_source = fds.len();
        fds.extend(
            self.sources
                .iter()
                .map(|s| PollFd::from_borrowed_fd(s.as_fd(), PollFlags::IN)),
        );
        let first_connection = fds.len();
        fds.extend(
            self.connections
                .iter()
                .map(|c| PollFd::from_borrowed_fd(c.as_fd(), PollFlags::IN)),
        );
        let timeout = self.timeout().map(timespec);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e),
        }
        let ready = |at: usize| !fds[at].revents().is_empty();
        Ok(Ready {
            signals: ready(0),
            control: ready(1),
            memory: memory.into_iter().any(ready),
            pids: has_pids && ready(next),
            sources: (first_source..first_connection).map(ready).collect(),
            connections: (first_connection..fds.len()).map(ready).collect(),
        })
    }

    fn timeout(&self) -> Option<Duration> {
        let pump = self.pump.due(sys::now_ns()).map(Duration::from_nanos);
        let doubt = self.oom_doubt.map(|_| Duration::from_millis(10));
        let rest = if self.meters.pids_counter().is_none() {
            PIDS_LOOK_AT_REST
        } else {
            Duration::ZERO
        };
        let pause = self
            .pids_pause
            .map(|until| until.saturating_duration_since(Instant::now()).max(rest));
        [pump, doubt, pause.filter(|p| !p.is_zero())]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether it is time to look for refused forks unannounced.
    fn pids_due(&self) -> bool {
        self.meters.pids_counter().is_none() && self.pids_pause.is_none_or(|until| until <= Instant::now())
    }

    fn pump_ready(&mut self, ready: &[bool], now: u64) {
        let mut at = 0;
        let pump = &mut self.pump;
        self.sources.retain_mut(|source| {
            at += 1;
            !ready[at - 1] || pump.drain(source, now)
        });
    }

    /// Reaps and forwards; the app's end if it has come.
    fn take_signals(&mut self) -> Option<Ended> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = info.ssi_signo as i32;
            if signal != libc::SIGCHLD {
                for group in self.groups() {
                    let _ = sys::kill(-group, signal);
                }
            }
        }
        let mut app_ended = None;
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let ended = Ended {
                code: status.exit_status(),
                signal: status.terminating_signal(),
            };
            if ended.signal == Some(libc::SIGKILL) {
                self.check_memory(false);
            }
            if pid == self.app {
                app_ended = Some(ended);
            } else if let Some(name) = self.lost(pid)
                && app_ended.is_none()
                && !self.stopping
            {
                self.pump.say(&beside::epitaph(&name, ended), sys::now_ns());
                self.broken = Some(name);
                app_ended = Some(ended);
            }
            self.connections.iter_mut().for_each(|c| c.notice(pid, ended));
        }
        app_ended
    }

    /// The name of the sidecar that `pid` was.
    fn lost(&mut self, pid: i32) -> Option<String> {
        let at = self.beside.iter().position(|one| one.pid == pid)?;
        Some(self.beside.swap_remove(at).name)
    }

    /// If the kernel has killed for memory, everything goes: an app of which a part is
    /// missing is neither alive nor dead.
    fn check_memory(&mut self, announced: bool) {
        if self.oom.is_some() {
            return;
        }
        if announced {
            self.meters.acknowledge();
            self.shares.acknowledge();
            // On v1 the news comes before the kill, on v2 with it.
            self.oom_doubt = self.meters.memory_event().map(|_| Instant::now() + OOM_DOUBT);
        }
        let killed = match self.shares.culprit() {
            Some((name, oom)) => Some((Some(name.to_owned()), oom)),
            None => self.meters.oom(self.shares.any_killed()).map(|oom| (None, oom)),
        };
        if let Some((sidecar, oom)) = killed {
            self.oom = Some(oom);
            self.oom_doubt = None;
            let who = sidecar
                .as_ref()
                .map_or("app instance".to_owned(), |name| format!("sidecar {name}"));
            let text = format!(
                "{who} exceeded its memory limit of {} bytes (peak {} bytes) and was killed",
                oom.limit_bytes, oom.peak_bytes
            );
            self.pump.say(&text, sys::now_ns());
            self.broken = sidecar;
            self.stopping = true;
            self.kill_all();
        } else if self.oom_doubt.is_some_and(|until| until < Instant::now()) {
            self.oom_doubt = None;
        }
    }

    fn tell_pids(&mut self) {
        let refused = self.meters.pids_refused();
        self.pids_pause = self.meters.pids_counter().is_none().then(|| Instant::now() + PIDS_LOOK);
        if refused > self.pids_told {
            let text = format!(
                "app instance reached its limit of {} processes and threads: {} could not be started",
                self.meters.pids_limit(),
                refused - self.pids_told
            );
            self.pump.say(&text, sys::now_ns());
            self.pids_told = refused;
            self.pids_pause = Some(Instant::now() + PIDS_PAUSE);
        }
    }

    fn serve(&mut self, ready: &[bool]) {
        let mut at = 0;
        let mut kill = false;
        let (groups, rlimits) = (self.groups(), &self.spec.process.rlimits);
        let stopping = &mut self.stopping;
        self.connections.retain_mut(|connection| {
            at += 1;
            if !ready[at - 1] {
                return true;
            }
            match connection.serve(&groups, rlimits) {
                Next::Stay => true,
                Next::Stopping => {
                    *stopping = true;
                    true
                }
                Next::Close => false,
                Next::KillAll => {
                    *stopping = true;
                    kill = true;
                    true
                }
            }
        });
        if kill {
            self.kill_all();
        }
    }

    fn accept(&mut self) {
        if let Ok(socket) = accept_with(&self.control, SocketFlags::CLOEXEC)
            && self.connections.len() < MAX_CONNECTIONS
        {
            self.connections.push(Connection::new(socket));
        }
    }

    /// Kills every process but init itself.
    fn kill_all(&self) {
        let _ = sys::kill(-1, libc::SIGKILL);
    }

    /// Clears up after the app, keeps the last of its output, writes the exit record.
    fn end(&mut self, ended: Ended) {
        let ended_ns = sys::now_ns();
        // What is killed now did not end by itself.
        self.stopping = true;
        self.clear_up();
        let now = sys::now_ns();
        for source in &mut self.sources {
            // Whoever could write is dead, so this ends with what the pipe held.
            for _ in 0..64 {
                if !self.pump.drain(source, now) {
                    break;
                }
            }
            self.pump.finish(source, now);
        }
        self.check_memory(false);
        self.tell_pids();
        self.pump.close(sys::now_ns());
        let exit = Exit {
            code: ended.code,
            signal: ended.signal,
            oom: self.oom,
            started_ns: self.started_ns,
            ended_ns,
            pids_refused: self.meters.pids_refused(),
            sidecar: self.broken.take(),
        };
        let _ = write_exit(&self.log, &exit);
    }

    fn clear_up(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(END_SECONDS);
        loop {
            self.kill_all();
            let _ = self.take_signals();
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => continue,
                Ok(None) if Instant::now() < deadline => {}
                _ => return,
            }
            let mut fds = [PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)];
            let _ = poll(&mut fds, Some(&timespec(Duration::from_millis(50))));
        }
    }
}

/// Whole or not at all.
fn write_exit(log: &OwnedFd, exit: &Exit) -> std::io::Result<()> {
    let draft = format!("{EXIT}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::openat(log, &draft, flags, Mode::from_raw_mode(0o644))?;
    std::io::Write::write_all(&mut std::fs::File::from(file), &serde_json::to_vec(exit)?)?;
    Ok(rustix::fs::renameat(log, &draft, log, EXIT)?)
}
