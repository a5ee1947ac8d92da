//! One start: the seat is laid (groups, private layer, network, an init that waits), then it is
//! told what to be. A parked sandbox is a seat that was laid before it was needed.

mod clock;
mod go;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Inner;
use crate::disk::{DiskPlan, Layer};
use crate::error::Context;
use crate::inside::Plan;
use crate::net::Lease;
use crate::record::{self, CONTROL, LOG, Record, SCRATCH};
use crate::wire::{self, Answer, Ask, Order, Report};
use crate::{IoLimits, Limits, ParkSpec, ParkedRoot, Result, Spec, sys};
pub use clock::Clock;
use go::{next_report, unless_gone};

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
        make_folders(&dir, uid_base)?;
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
        let missing = ground.disk.filter(|_| ready.is_none());
        let bear = || {
            let upper = ready.as_ref().map(|layer| layer.upper.as_fd());
            self.bear(&plan, &name, (theirs, its_program), lease.as_ref(), upper)
        };
        let folder = &dir;
        let (born, made) = meanwhile(bear, missing.map(|size| move || self.new_layer(folder, size)));
        let ((pid, pidfd), made) = (born?, made.transpose()?);
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
        let kept = ready.is_some();
        if let Some(layer) = ready.or(made) {
            self.furnish(&mut seat, layer)?;
            seat.layer.iter_mut().for_each(|layer| layer.kept = kept);
            clock.step("private layer");
        }
        Ok(seat)
    }

    /// A private layer that was kept ready, now in the folder `dir`.
    fn ready_layer(&self, size: (u64, u64), dir: &Path) -> Result<Option<Layer>> {
        let ready = self.pool.take_disk(size);
        ready.map(|disk| self.pool.move_disk(disk, dir)).transpose()
    }

    fn new_layer(&self, dir: &Path, (bytes, inodes): (u64, u64)) -> Result<Layer> {
        Layer::make(&*self.disk, dir, bytes, inodes)
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
        let layer = match self.ready_layer(size, &dir) {
            Ok(None) => self.new_layer(&dir, size),
            Ok(Some(layer)) => Ok(layer),
            Err(error) => Err(error),
        };
        let furnished = layer.and_then(|layer| self.furnish(seat, layer));
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
}

/// Folders of a sandbox in its own, `dir`.
fn make_folders(dir: &Path, uid_base: u32) -> Result<()> {
    let log = dir.join(LOG);
    std::fs::create_dir(&log).at("make folder", &log)?;
    std::os::unix::fs::chown(&log, Some(uid_base), Some(uid_base)).at("own folder", &log)?;
    std::fs::create_dir(dir.join(SCRATCH)).at("make folder", dir.join(SCRATCH))
}

/// Does `here` and, on another thread, `there`: the kernel keeps both waiting. Without another thread, one after
/// the other.
fn meanwhile<A, B: Send>(here: impl FnOnce() -> A, there: Option<impl Fn() -> B + Sync>) -> (A, Option<B>) {
    let Some(there) = &there else { return (here(), None) };
    std::thread::scope(|scope| {
        let other = std::thread::Builder::new()
            .name("sandbox-start".to_owned())
            .spawn_scoped(scope, there);
        let done = here();
        let other = match other.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(other)) => other,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_no_thread) => there(),
        };
        (done, Some(other))
    })
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
