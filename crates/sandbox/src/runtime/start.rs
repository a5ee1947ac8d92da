//! One start: the seat is laid (groups, private layer, network, an init that waits), then it is
//! told what to be. A parked sandbox is a seat that was laid before it was needed.

mod born;
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
use crate::record::{self, LOG, Record, SCRATCH};
use crate::wire::{self, Ask, Report};
use crate::{IoLimits, Limits, ParkSpec, ParkedRoot, Process, Result, Spec, sys};
use born::Cradle;
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
    /// Its user namespace.
    userns: OwnedFd,
    /// What it was told to be, if it was told when it was laid.
    told: Option<Spec>,
    /// Whether its app's process was told what to execute. Such a one is for nobody else any more.
    informed: bool,
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
    /// Lays a seat in the folder `dir`, which exists; one that is told at once what to be, if `spec` is known. On
    /// failure nothing is left but the folder's name, which is the caller's.
    pub(super) fn lay(
        &self,
        (name, dir): (&str, &Path),
        ground: &Ground,
        spec: Option<&Spec>,
        clock: &mut Clock,
    ) -> Result<Seat> {
        let mut remains = Remains {
            seat: name.to_owned(),
            dir: dir.to_owned(),
            uid_base: None,
            address: None,
        };
        self.lay_in(&mut remains, ground, spec, clock).inspect_err(|_| {
            if let Some(spec) = spec {
                self.lock_adopted().remove(&spec.id);
            }
            self.clear_or_tell(&remains);
        })
    }

    fn lay_in(&self, remains: &mut Remains, ground: &Ground, spec: Option<&Spec>, clock: &mut Clock) -> Result<Seat> {
        let (name, dir) = (remains.seat.clone(), remains.dir.clone());
        let uid_base = self.take_range()?;
        remains.uid_base = Some(uid_base);
        clock.step("folder");
        let grouped = self.groups.begin(&name, &ground.limits)?;
        clock.step("group");
        let lease = if ground.networked {
            Some(self.lease(&name)?)
        } else {
            None
        };
        remains.address = lease.as_ref().map(|lease| lease.address);
        let told = spec.map(|spec| self.told(spec, lease.as_ref())).transpose()?;
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
            waits: spec.is_none(),
        };
        clock.step("plan");
        let kept = ready.is_some();
        let (born, layer) = {
            let cradle = Cradle {
                plan: &plan,
                name: &name,
                ground,
                lease: lease.as_ref(),
                told: told.as_ref(),
                socket: ours.as_fd(),
                program: program.as_fd(),
            };
            self.bear_and_furnish(&cradle, (theirs, its_program), ready, grouped)?
        };
        clock.step("init born, private layer");
        Ok(Seat {
            start_ticks: record::start_ticks(born.pid).unwrap_or(0),
            name,
            dir,
            uid_base,
            pidfd: born.pidfd,
            userns: born.userns,
            lease,
            pid: born.pid,
            layer: layer.map(|layer| OwnLayer {
                plan: layer.plan,
                upper: layer.upper,
                kept,
            }),
            socket: ours,
            program,
            inside: None,
            informed: told.is_some(),
            told,
        })
    }

    /// A private layer that was kept ready, now in the folder `dir`.
    fn ready_layer(&self, size: (u64, u64), dir: &Path) -> Result<Option<Layer>> {
        let ready = self.pool.take_disk(size);
        ready.map(|disk| self.pool.move_disk(disk, dir)).transpose()
    }

    /// The private layer of a blank one, whose folder is the sandbox's by now, and what it is to be.
    pub(super) fn furnish_blank(&self, seat: &mut Seat, spec: &Spec, clock: &mut Clock) -> Result<()> {
        let furnished = self.furnish_seat(seat, spec);
        clock.step("private layer");
        furnished.inspect_err(|_| {
            self.lock_adopted().remove(&spec.id);
            self.clear_or_tell(&seat.remains());
        })
    }

    fn furnish_seat(&self, seat: &mut Seat, spec: &Spec) -> Result<()> {
        let told = self.told(spec, seat.lease.as_ref())?;
        seat.inform(&told.process, &spec.id)?;
        let size = (spec.disk_bytes, spec.inodes);
        let layer = match self.ready_layer(size, &seat.dir)? {
            Some(layer) => layer,
            None => self.new_layer(&seat.dir, size)?,
        };
        let place = (spec.id.as_str(), seat.socket.as_fd(), seat.uid_base);
        self.furnish(place, &layer, seat.userns.as_fd(), Some(&told))?;
        unless_gone(wire::send_large(seat.socket.as_fd(), &told), &spec.id)?;
        seat.layer = Some(OwnLayer {
            plan: layer.plan,
            upper: layer.upper,
            kept: false,
        });
        seat.told = Some(told);
        Ok(())
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

impl Seat {
    /// Whether its init has ended.
    pub fn is_gone(&self) -> bool {
        wire::wait_readable(self.pidfd.as_fd(), Instant::now()).unwrap_or(true)
    }

    /// Tells its app's process what to execute, once it is let go.
    pub fn inform(&mut self, process: &Process, id: &str) -> Result<()> {
        self.informed = true;
        unless_gone(wire::send_large(self.program.as_fd(), process), id)
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
