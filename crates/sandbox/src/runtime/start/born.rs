//! The birth of an init, and what is made for it meanwhile: its groups, its private layer, its root. The order of what
//! it is told is the same however much of it was ready.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::Ground;
use super::go::unless_gone;
use super::make_folders;
use crate::disk::Layer;
use crate::error::Context;
use crate::inside::overlay::{self, Assembled};
use crate::inside::{Plan, dev};
use crate::net::Lease;
use crate::record::CONTROL;
use crate::runtime::Inner;
use crate::wire::{self, Answer, Ask, Order};
use crate::{Result, Spec};

/// What a seat is laid with.
pub struct Cradle<'a> {
    pub plan: &'a Plan,
    pub name: &'a str,
    pub ground: &'a Ground,
    pub lease: Option<&'a Lease>,
    pub told: Option<&'a Spec>,
    /// The agent's ends.
    pub socket: BorrowedFd<'a>,
    pub program: BorrowedFd<'a>,
}

/// An init that was just forked.
pub struct Born {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub userns: OwnedFd,
}

impl Inner {
    /// Has an init forked, and makes what it needs in the order in which it needs it: the rest of its groups, parts of
    /// its `/dev`, its private layer and its root. All on this thread: another would only take a processor from init.
    pub(super) fn bear_and_furnish(
        &self,
        cradle: &Cradle<'_>,
        sockets: (OwnedFd, OwnedFd),
        ready: Option<Layer>,
        grouped: bool,
    ) -> Result<(Born, Option<Layer>)> {
        let name = cradle.name;
        let upper = ready.as_ref().map(|layer| layer.upper.as_fd());
        let born = self.bear(cradle, sockets, upper, grouped)?;
        bring_dev(cradle)?;
        if let Some(told) = cradle.told {
            unless_gone(wire::send_large(cradle.program, &told.process), name)?;
            // It reads while its private layer is made.
            unless_gone(wire::send_large(cradle.socket, told), name)?;
        }
        let layer = match (ready, cradle.ground.disk) {
            (Some(layer), _) => layer,
            (None, Some(size)) => self.new_layer(&cradle.plan.dir, size)?,
            (None, None) => return Ok((born, None)),
        };
        let seat = (name, cradle.socket, cradle.plan.uid_base);
        self.furnish(seat, &layer, born.userns.as_fd(), cradle.told)?;
        Ok((born, Some(layer)))
    }

    /// Gives an init its private layer; if it is known what it is to be, with the root around it, where this kernel mounts
    /// that from here.
    pub(super) fn furnish(
        &self,
        (name, socket, uid_base): (&str, BorrowedFd<'_>, u32),
        layer: &Layer,
        userns: BorrowedFd<'_>,
        told: Option<&Spec>,
    ) -> Result<()> {
        layer.own(uid_base).on("own the private layer", name)?;
        let root = told.and_then(|spec| self.mount_root(spec, uid_base, userns, layer));
        let mut fds = vec![layer.mount.as_fd()];
        fds.extend(root.as_ref().map(|root| root.mount.as_fd()));
        unless_gone(wire::send(socket, &Order::Take, &fds), name)
    }

    /// The root of `spec`, attached nowhere. If it cannot be mounted here, init tries, and says why if it fails as well.
    fn mount_root(&self, spec: &Spec, uid_base: u32, userns: BorrowedFd<'_>, layer: &Layer) -> Option<Assembled> {
        if uid_base == 0 || !self.mounts_roots.load(Ordering::Relaxed) {
            return None;
        }
        let mounted = overlay::assemble(&spec.layers, userns, layer.mount.as_fd());
        if matches!(&mounted, Err(failure) if failure.error.raw_os_error() == Some(libc::EINVAL)) {
            self.mounts_roots.store(false, Ordering::Relaxed);
        }
        mounted.ok()
    }

    /// Has the spawner fork an init.
    fn bear(
        &self,
        cradle: &Cradle<'_>,
        (report, program): (OwnedFd, OwnedFd),
        upper: Option<BorrowedFd<'_>>,
        grouped: bool,
    ) -> Result<Born> {
        let Cradle { plan, name, lease, .. } = *cradle;
        let control = wire::socket().on("make control socket", name)?;
        let plan_fd = wire::to_memfd(plan).on("write plan", name)?;
        let group = self.groups.entry(name)?;
        let mut fds = vec![plan_fd.as_fd(), report.as_fd(), control.as_fd()];
        fds.extend([program.as_fd(), cradle.program]);
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
        let mut joined = Ok(());
        let answer = self
            .spawner
            .ask_and(&ask, &fds, || joined = self.settle(cradle, &control, grouped));
        if self.spawner.take_started() {
            self.settle_spawner()?;
        }
        let (Answer::Created { pid }, mut fds) = answer? else {
            return Err(io::ErrorKind::InvalidData).on("start", name);
        };
        let (Some(pidfd), Some(userns)) = (fds.pop(), fds.pop()) else {
            return Err(io::ErrorKind::InvalidData).on("start", name);
        };
        joined.map(|()| Born { pid, pidfd, userns })
    }

    /// Makes what an init needs, but not to be born: its folders, a name for the socket it listens on, and the groups it
    /// joins by itself, unless all are made. Tells it so.
    fn settle(&self, cradle: &Cradle<'_>, control: &OwnedFd, grouped: bool) -> Result<()> {
        let (name, plan) = (cradle.name, cradle.plan);
        // First, as the kernel makes no group while it starts a process in one.
        if !grouped {
            self.groups.create(name, &cradle.ground.limits)?;
        }
        make_folders(&plan.dir, plan.uid_base)?;
        wire::listen_at(control, &plan.dir, CONTROL).on("make control socket", name)?;
        unless_gone(wire::send(cradle.socket, &Order::Join, &[]), name)
    }
}

/// Gives an init the parts of its `/dev`, which are told before the private layer.
fn bring_dev(cradle: &Cradle<'_>) -> Result<()> {
    if !cradle.plan.brings_dev() {
        return Ok(());
    }
    let memory_bytes = cradle.ground.limits().memory_bytes;
    let parts = dev::Parts::make(cradle.plan.uid_base, memory_bytes).on("build /dev of", cradle.name)?;
    unless_gone(wire::send(cradle.socket, &Order::Dev, &parts.fds()), cradle.name)
}
