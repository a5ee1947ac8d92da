//! One start: the seat is laid (groups, private layer, network, an init that waits), then it is
//! told what to be. A parked sandbox is a seat that was laid before it was needed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Inner;
use crate::disk::{DiskPlan, Layer};
use crate::error::Context;
use crate::inside::{self, Outside, Plan};
use crate::net::Lease;
use crate::record::{self, CONTROL, LOG, Record, SCRATCH};
use crate::sandbox::Sandbox;
use crate::spec::fill_address;
use crate::wire::{self, Answer, Ask, Order, Report};
use crate::{
    Error, IoLimits, Limits, Network, ParkSpec, ParkedRoot, Phase, Result, Spec, StartReport, sys, unprivileged,
};

/// From the fork of an init to the app's own program, or to its being parked.
const START_SECONDS: u64 = 30;

/// An init that waits to be told what to be, and all it has.
#[derive(Debug)]
pub struct Seat {
    /// Name of its groups.
    pub name: String,
    pub dir: PathBuf,
    pub uid_base: u32,
    pub pidfd: OwnedFd,
    pub lease: Option<Lease>,
    pid: i32,
    start_ticks: u64,
    /// Its private layer, once it has one.
    layer: Option<OwnLayer>,
    /// Orders of init; if this closes before the last of them, it ends.
    socket: OwnedFd,
    /// Those of the app's first process.
    program: OwnedFd,
    /// What it takes to finish a root that is up, once it is parked.
    inside: Option<Inside>,
}

/// A private layer that init has.
#[derive(Debug)]
struct OwnLayer {
    plan: DiskPlan,
    upper: OwnedFd,
    /// Whether the spawner has the descriptor too, for a later agent.
    kept: bool,
}

/// What is known of a sandbox when its seat is laid.
#[derive(Clone, Debug)]
pub struct Ground {
    limits: Limits,
    networked: bool,
    uid: u32,
    /// Bytes and files of its private layer.
    disk: Option<(u64, u64)>,
    root: Option<ParkedRoot>,
}

/// Limits that a blank waits under: of memory about ten times what it takes.
const BLANK: Limits = Limits {
    memory_bytes: 16 << 20,
    cpu_weight: 100,
    cpu_quota: None,
    pids: 16,
    io: IoLimits {
        weight: None,
        read_bps: None,
        write_bps: None,
        read_iops: None,
        write_iops: None,
    },
};

impl Ground {
    /// Nothing but whether it has an address.
    pub fn blank(networked: bool) -> Ground {
        Ground {
            limits: BLANK,
            networked,
            uid: 0,
            disk: None,
            root: None,
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl From<&ParkSpec> for Ground {
    fn from(spec: &ParkSpec) -> Ground {
        Ground {
            limits: spec.limits,
            networked: spec.networked,
            uid: spec.uid,
            disk: Some((spec.disk_bytes, spec.inodes)),
            root: spec.root.clone(),
        }
    }
}

/// What a start was made out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    Anew,
    Blank,
    Parked,
}

/// Descriptors of a parked sandbox's own.
#[derive(Debug)]
struct Inside {
    root: OwnedFd,
    uts: OwnedFd,
}

/// What there is of a sandbox, or of a part of one, that has to go.
#[derive(Debug)]
pub struct Remains {
    /// Name of the groups.
    pub seat: String,
    pub dir: PathBuf,
    pub uid_base: Option<u32>,
    pub address: Option<std::net::Ipv4Addr>,
}

impl Remains {
    /// Of what is in `dir`, by its record if it has one.
    pub fn of(record: Option<&Record>, name: &str, dir: PathBuf) -> Remains {
        Remains {
            seat: record.map_or(name, Record::seat).to_owned(),
            dir,
            uid_base: record.map(|record| record.uid_base),
            address: record.and_then(|record| record.address),
        }
    }
}

/// Names of steps, with when each was done in monotonic nanoseconds.
type Steps = Vec<(String, u64)>;

/// When the steps of a start were done.
#[derive(Debug)]
pub struct Clock {
    /// Unix nanoseconds.
    asked_ns: u64,
    began: u64,
    steps: Steps,
}

impl Clock {
    pub fn start() -> Clock {
        Clock {
            asked_ns: sys::now_ns(),
            began: sys::monotonic_ns(),
            steps: Vec::with_capacity(24),
        }
    }

    pub fn step(&mut self, name: &str) {
        self.steps.push((name.to_owned(), sys::monotonic_ns()));
    }

    /// The report, with the steps that init took since the start began.
    fn report(mut self, made: Made, inside: Steps) -> StartReport {
        let inside = inside.into_iter().filter(|(_, at)| *at >= self.began);
        self.steps
            .extend(inside.map(|(name, at)| (format!("init: {name}"), at)));
        self.steps.sort_by_key(|(_, at)| *at);
        let began = self.began;
        let phases = self.steps.into_iter().map(|(name, at)| Phase {
            name,
            at: Duration::from_nanos(at - began),
        });
        StartReport {
            parked: made == Made::Parked,
            blank: made == Made::Blank,
            phases: phases.collect(),
        }
    }
}

impl Inner {
    /// Lays a seat in the folder `dir`, which exists. On failure nothing is left but the folder's
    /// name, which is the caller's.
    pub(super) fn lay(&self, name: &str, dir: &Path, ground: &Ground, clock: &mut Clock) -> Result<Seat> {
        let mut remains = Remains {
            seat: name.to_owned(),
            dir: dir.to_owned(),
            uid_base: None,
            address: None,
        };
        self.lay_in(&mut remains, ground, clock)
            .inspect_err(|_| self.clear_or_tell(&remains))
    }

    fn lay_in(&self, remains: &mut Remains, ground: &Ground, clock: &mut Clock) -> Result<Seat> {
        let (name, dir) = (remains.seat.clone(), remains.dir.clone());
        let uid_base = self.take_range()?;
        remains.uid_base = Some(uid_base);
        let log = dir.join(LOG);
        std::fs::create_dir(&log).at("make folder", &log)?;
        std::os::unix::fs::chown(&log, Some(uid_base), Some(uid_base)).at("own folder", &log)?;
        std::fs::create_dir(dir.join(SCRATCH)).at("make folder", dir.join(SCRATCH))?;
        clock.step("folders");
        self.groups.create(&name, &ground.limits)?;
        clock.step("groups");
        let lease = if ground.networked {
            Some(self.lease(&name)?)
        } else {
            None
        };
        remains.address = lease.as_ref().map(|lease| lease.address);
        let ready = match ground.disk {
            Some(size) => self.ready_layer(size, &dir)?,
            None => None,
        };
        let (ours, theirs) = wire::pair().on("make socket", &name)?;
        let (program, its_program) = wire::pair().on("make socket", &name)?;
        let plan = Plan {
            dir: dir.clone(),
            uid_base,
            uid: ground.uid,
            groups: self.groups.plan(&name),
            limits: ground.limits,
            networked: ground.networked,
            root: ground.root.clone(),
        };
        clock.step("plan");
        let upper = ready.as_ref().map(|layer| layer.upper.as_fd());
        let (pid, pidfd) = self.bear(&plan, &name, (theirs, its_program), lease.as_ref(), upper)?;
        clock.step("init born");
        let mut seat = Seat {
            start_ticks: record::start_ticks(pid).unwrap_or(0),
            name,
            dir,
            uid_base,
            pidfd,
            lease,
            pid,
            layer: None,
            socket: ours,
            program,
            inside: None,
        };
        match (ready, ground.disk) {
            (Some(layer), _) => {
                self.furnish(&mut seat, layer)?;
                seat.layer.iter_mut().for_each(|layer| layer.kept = true);
            }
            (None, Some(size)) => self.make_layer(&mut seat, size)?,
            (None, None) => return Ok(seat),
        }
        clock.step("private layer");
        Ok(seat)
    }

    /// A private layer that was kept ready, now in the folder `dir`.
    fn ready_layer(&self, size: (u64, u64), dir: &Path) -> Result<Option<Layer>> {
        let ready = self.pool.take_disk(size);
        ready.map(|disk| self.pool.move_disk(disk, dir)).transpose()
    }

    fn make_layer(&self, seat: &mut Seat, (bytes, inodes): (u64, u64)) -> Result<()> {
        let layer = Layer::make(&*self.disk, &seat.dir, bytes, inodes)?;
        self.furnish(seat, layer)
    }

    /// Gives a seat its private layer.
    fn furnish(&self, seat: &mut Seat, layer: Layer) -> Result<()> {
        layer.own(seat.uid_base).on("own the private layer", &seat.name)?;
        let sent = wire::send(seat.socket.as_fd(), &Order::Take, &[layer.mount.as_fd()]);
        unless_gone(sent, &seat.name)?;
        seat.layer = Some(OwnLayer {
            plan: layer.plan,
            upper: layer.upper,
            kept: false,
        });
        Ok(())
    }

    /// The private layer of a blank one, whose folder is the sandbox's by now.
    pub(super) fn furnish_blank(&self, seat: &mut Seat, size: (u64, u64), clock: &mut Clock) -> Result<()> {
        let dir = seat.dir.clone();
        let furnished = match self.ready_layer(size, &dir) {
            Ok(Some(layer)) => self.furnish(seat, layer),
            Ok(None) => self.make_layer(seat, size),
            Err(error) => Err(error),
        };
        clock.step("private layer");
        furnished.inspect_err(|_| self.clear_or_tell(&seat.remains()))
    }

    /// Has the spawner fork an init.
    fn bear(
        &self,
        plan: &Plan,
        name: &str,
        (report, program): (OwnedFd, OwnedFd),
        lease: Option<&Lease>,
        upper: Option<std::os::fd::BorrowedFd<'_>>,
    ) -> Result<(i32, OwnedFd)> {
        let control = wire::listen(&plan.dir, CONTROL).on("make control socket", name)?;
        let plan_fd = wire::to_memfd(plan).on("write plan", name)?;
        let group = self.groups.entry(name)?;
        let mut fds = vec![plan_fd.as_fd(), report.as_fd(), control.as_fd(), program.as_fd()];
        fds.extend(group.as_ref().map(AsFd::as_fd));
        fds.extend(lease.map(|lease| lease.netns.as_fd()));
        fds.extend(upper);
        let ask = Ask::Create {
            id: name.to_owned(),
            uid_base: plan.uid_base,
            uid: plan.uid,
            group: group.is_some(),
            netns: lease.is_some(),
            upper: upper.is_some(),
        };
        let answer = self.spawner.ask(&ask, &fds);
        if self.spawner.take_started() {
            self.settle_spawner()?;
        }
        let (Answer::Created { pid }, mut fds) = answer? else {
            return Err(io::ErrorKind::InvalidData).on("start", name);
        };
        let pidfd = fds.pop().ok_or(io::ErrorKind::InvalidData).on("start", name)?;
        Ok((pid, pidfd))
    }

    /// Leaves the private layer's root with the spawner, for a later agent.
    fn keep(&self, seat: &Seat) {
        let Some(layer) = seat.layer.as_ref().filter(|layer| !layer.kept) else {
            return;
        };
        let keep = Ask::Keep { id: seat.name.clone() };
        if let Err(error) = self.spawner.ask(&keep, &[layer.upper.as_fd()]) {
            tracing::warn!(sandbox = %seat.name, %error, "the private layer will not be readable after a restart of the agent");
        }
    }

    /// Waits until a seat is laid as far as it goes.
    pub(super) fn settle_seat(&self, seat: &mut Seat) -> Result<()> {
        let (Report::Parked, mut fds) = next_report(&seat.socket, &seat.name, "")? else {
            return Err(io::ErrorKind::InvalidData).on("park", &seat.name);
        };
        if let Some(root) = fds.pop() {
            let uts = format!("/proc/{}/ns/uts", seat.pid);
            let uts = std::fs::File::open(&uts).at("open", uts)?.into();
            seat.inside = Some(Inside { root, uts });
        }
        record::write_in(&seat.dir, &self.record(seat, &seat.name, None, sys::now_ns()))
    }

    fn record(&self, seat: &Seat, id: &str, spec: Option<&Spec>, asked_ns: u64) -> Record {
        Record {
            id: id.to_owned(),
            seat: seat.name.clone(),
            parked: spec.is_none(),
            uid_base: seat.uid_base,
            boot: self.boot.clone(),
            pid: Some(seat.pid),
            start_ticks: seat.start_ticks,
            created_ns: asked_ns,
            limits: spec.map_or(
                Limits {
                    memory_bytes: 0,
                    cpu_weight: 0,
                    cpu_quota: None,
                    pids: 0,
                    io: IoLimits::default(),
                },
                |spec| spec.limits,
            ),
            disk: seat.layer.as_ref().map(|layer| layer.plan.clone()),
            address: seat.lease.as_ref().map(|lease| lease.address),
        }
    }

    /// Tells a seat what to be and waits until the app runs. The seat's folder is the
    /// sandbox's by now.
    pub(super) fn go(
        self: &Arc<Inner>,
        seat: Seat,
        before: &Limits,
        spec: &Spec,
        made: Made,
        mut clock: Clock,
    ) -> Result<Sandbox> {
        let remains = seat.remains();
        let started = self.tell(&seat, before, spec, made, &mut clock);
        match started {
            Ok((record, inside)) => {
                clock.step("app runs");
                // Whatever nobody waits for comes after that.
                self.keep(&seat);
                let report = clock.report(made, inside);
                let Seat {
                    pidfd, layer, lease, ..
                } = seat;
                let upper = layer.map(|layer| layer.upper);
                Ok(Sandbox::new(self.clone(), record, pidfd, upper, lease).with_report(report))
            }
            Err(error) => {
                // Closes the socket, so that an init that only waits ends by itself.
                drop(seat);
                self.lock_adopted().remove(&spec.id);
                self.clear_or_tell(&remains);
                Err(error)
            }
        }
    }

    fn tell(
        &self,
        seat: &Seat,
        before: &Limits,
        spec: &Spec,
        made: Made,
        clock: &mut Clock,
    ) -> Result<(Record, Steps)> {
        let id = &spec.id;
        let mut told = spec.clone();
        unprivileged::bound(&mut told);
        if let Some(lease) = &seat.lease {
            told.files.extend(self.resolvers(spec)?);
            fill_address(&mut told.process.env, lease.address);
            self.lock_adopted().insert(id.clone());
        }
        let mut steps = Vec::new();
        if let Some(inside) = &seat.inside {
            self.fit(seat, inside, &told, before)?;
            clock.step("files and name");
            self.bound(seat, spec, before)?;
            clock.step("limits and policy");
            unless_gone(wire::send_large(seat.program.as_fd(), &told.process), id)?;
        } else {
            unless_gone(wire::send_large(seat.socket.as_fd(), &told), id)?;
            clock.step("told");
            // While init raises the root.
            self.bound(seat, spec, before)?;
            clock.step("limits and policy");
            let (init, terminal) = await_ready(seat, id, made)?;
            steps = init;
            unless_gone(wire::send_large(seat.program.as_fd(), &told.process), id)?;
            if let Some(terminal) = terminal {
                unless_gone(wire::send(seat.program.as_fd(), &Order::Take, &[terminal.as_fd()]), id)?;
            }
        }
        clock.step("app told");
        // Whoever finds no record, or one of a parked sandbox, knows that nobody was told of this one.
        let record = self.record(seat, id, Some(spec), clock.asked_ns);
        record::write_in(&seat.dir, &record)?;
        clock.step("recorded");
        steps.extend(await_program(seat, spec)?);
        if seat.inside.is_some() {
            // Init has only to watch, and would have been in the app's way before.
            unless_gone(wire::send_large(seat.socket.as_fd(), &told), id)?;
        }
        Ok((record, steps))
    }

    fn fit(&self, seat: &Seat, inside: &Inside, spec: &Spec, before: &Limits) -> Result<()> {
        let outside = Outside {
            root: inside.root.as_fd(),
            uid_base: seat.uid_base,
            uts: inside.uts.as_fd(),
            home_uts: self.uts.as_fd(),
        };
        inside::fit_from_outside(&outside, spec, before).map_err(|failure| Error::Start {
            id: spec.id.clone(),
            stage: failure.stage,
            source: failure.error,
        })
    }

    /// Puts a seat under the limits and the policy of `spec`.
    fn bound(&self, seat: &Seat, spec: &Spec, before: &Limits) -> Result<()> {
        let laid = Limits {
            io: IoLimits::default(),
            ..*before
        };
        if spec.limits != laid {
            let devices = if spec.limits.io == laid.io {
                Vec::new()
            } else {
                self.devices(seat.layer.as_ref().map(|layer| &layer.upper))
            };
            self.groups.update(&seat.name, &laid, &spec.limits, &devices)?;
        }
        match (&spec.network, &seat.lease) {
            (Network::Isolated { policy }, Some(lease)) => self.admit(&spec.id, lease.address, policy),
            _ => Ok(()),
        }
    }
}

/// Waits until init has done everything but the app; the app's terminal, if it has one.
fn await_ready(seat: &Seat, id: &str, made: Made) -> Result<(Steps, Option<OwnedFd>)> {
    let mut waits_for_parked = made == Made::Anew;
    loop {
        match next_report(&seat.socket, id, "")? {
            (Report::Ready { steps }, mut fds) => return Ok((steps, fds.pop())),
            (Report::Parked, _) if waits_for_parked => waits_for_parked = false,
            _ => return Err(io::ErrorKind::InvalidData).on("start", id),
        }
    }
}

/// Waits until the app's process has become its program.
fn await_program(seat: &Seat, spec: &Spec) -> Result<Steps> {
    let program = spec.process.argv.first().map_or("", String::as_str);
    let mut known = Vec::new();
    loop {
        match report(&seat.program, &spec.id, program)? {
            Some((Report::Steps { steps }, _)) => known = steps,
            Some(_) => return Err(io::ErrorKind::InvalidData).on("start", &spec.id),
            // The descriptor is closed by the execution.
            None if !known.is_empty() => return Ok(known),
            None => return Err(killed(&spec.id)),
        }
    }
}

impl Seat {
    /// Whether its init has ended.
    pub fn is_gone(&self) -> bool {
        wire::wait_readable(self.pidfd.as_fd(), Instant::now()).unwrap_or(true)
    }

    /// Follows its folder to `dir`.
    pub fn moved(self, dir: PathBuf) -> Seat {
        let layer = self.layer.map(|layer| OwnLayer {
            plan: layer.plan.moved(&dir),
            ..layer
        });
        Seat { dir, layer, ..self }
    }

    /// What there would be of it without its init.
    pub fn remains(&self) -> Remains {
        Remains {
            seat: self.name.clone(),
            dir: self.dir.clone(),
            uid_base: Some(self.uid_base),
            address: self.lease.as_ref().map(|lease| lease.address),
        }
    }
}

/// An init that does not take its orders any more has said why, and is heard.
fn unless_gone(sent: io::Result<()>, id: &str) -> Result<()> {
    match sent {
        Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
        other => other.on("start", id),
    }
}

fn killed(id: &str) -> Error {
    // Most likely for memory.
    Error::Start {
        id: id.to_owned(),
        stage: "it was killed before its app ran (is its memory limit too small?)".to_owned(),
        source: io::ErrorKind::UnexpectedEof.into(),
    }
}

/// What init says next; its failures and its silence as errors.
fn next_report(socket: &OwnedFd, id: &str, program: &str) -> Result<(Report, Vec<OwnedFd>)> {
    report(socket, id, program)?.ok_or_else(|| killed(id))
}

/// The same, but the other end may be gone.
fn report(socket: &OwnedFd, id: &str, program: &str) -> Result<Option<(Report, Vec<OwnedFd>)>> {
    let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
    let mut received = wire::receive_until::<Report>(socket.as_fd(), deadline);
    if matches!(&received, Err(e) if e.kind() == io::ErrorKind::ConnectionReset) {
        // It ended without reading all orders; what it said before comes after this error.
        received = wire::receive_until(socket.as_fd(), deadline);
    }
    match received {
        Err(e) if e.kind() == io::ErrorKind::TimedOut => {
            let (operation, seconds) = ("start", START_SECONDS);
            Err(Error::Deadline {
                operation,
                id: id.to_owned(),
                seconds,
                detail: String::new(),
            })
        }
        Ok(Some((
            Report::Failed {
                stage,
                errno,
                program: own,
            },
            _,
        ))) => {
            let (id, source) = (id.to_owned(), io::Error::from_raw_os_error(errno));
            Err(if own {
                Error::Program {
                    id,
                    program: program.to_owned(),
                    source,
                }
            } else {
                Error::Start { id, stage, source }
            })
        }
        other => other.on("start", id),
    }
}
