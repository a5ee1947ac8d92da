//! The second half of a start: a seat is told what to be, is put under its limits and its policy, and its app runs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::Steps;
use super::{Clock, Inside, Made, Seat};
use crate::cgroup::share::Share;
use crate::error::Context;
use crate::inside::{self, Outside};
use crate::net::Lease;
use crate::record::{self, Record};
use crate::runtime::Inner;
use crate::sandbox::Sandbox;
use crate::spec::fill_address;
use crate::wire::{self, Order, Report};
use crate::{Error, IoLimits, Limits, Network, Process, Result, Spec, unprivileged};

/// From the fork of an init to the app's own program, or to its being parked.
const START_SECONDS: u64 = 30;

impl Inner {
    /// Tells a seat what to be and waits until the app runs. The seat's folder is the
    /// sandbox's by now.
    pub(in crate::runtime) fn go(
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
        let told = match &seat.told {
            Some(told) => told.clone(),
            None => self.told(spec, seat.lease.as_ref())?,
        };
        let mut steps = Vec::new();
        if !seat.informed {
            // It reads, and waits to be let go.
            unless_gone(wire::send_large(seat.program.as_fd(), &told.process), id)?;
            clock.step("app told");
        }
        if let Some(inside) = &seat.inside {
            self.fit(seat, inside, &told, before)?;
            clock.step("files and name");
            self.bound(seat, spec, before)?;
            clock.step("limits and policy");
        } else {
            if seat.told.is_none() {
                unless_gone(wire::send_large(seat.socket.as_fd(), &told), id)?;
                clock.step("told");
            }
            // While init raises the root.
            self.bound(seat, spec, before)?;
            clock.step("limits and policy");
            if made == Made::Anew && seat.told.is_none() {
                await_laid(seat, id)?;
            }
        }
        // Before anything can start processes.
        let shares = self.divide(seat, &told)?;
        let gate = if seat.inside.is_some() {
            &seat.program
        } else {
            &seat.socket
        };
        unless_gone(wire::send(gate.as_fd(), &Order::Go, &[]), id)?;
        clock.step("app may go");
        // Whoever finds no record, or one of a parked sandbox, knows that nobody was told of this one.
        let record = self.record(seat, id, Some(spec), clock.asked_ns);
        record::write_in(&seat.dir, &record)?;
        clock.step("recorded");
        // Whatever goes wrong ends it, and nothing that is said before needs this thread: to be woken by it would only take
        // a processor from the app.
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
        wire::wait_closed(seat.program.as_fd(), deadline).on("start", id)?;
        if seat.inside.is_none() {
            steps = await_ready(seat, id)?;
        }
        steps.extend(await_program(seat, spec)?);
        if seat.inside.is_some() {
            // Init has only to watch, and would have been in the app's way before.
            unless_gone(wire::send_large(seat.socket.as_fd(), &told), id)?;
        }
        if !told.sidecars.is_empty() {
            let_go_beside(seat, id, &shares)?;
        }
        Ok((record, steps))
    }

    /// Groups for those sidecars that have memory limits of their own, each by its number.
    fn divide(&self, seat: &Seat, spec: &Spec) -> Result<Vec<(usize, Share)>> {
        let limits = spec.sidecars.iter().enumerate();
        let limits = limits.filter_map(|(at, sidecar)| Some((at, sidecar.memory_bytes?)));
        let wanted: Vec<(usize, u64)> = limits.collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let made = self.groups.divide(&seat.name, spec.limits.memory_bytes, &wanted)?;
        Ok(wanted.into_iter().map(|(at, _)| at).zip(made).collect())
    }

    /// Tells the app's process of a seat that has a root, before anything else is done: it has to wake and to become
    /// the app's user, which takes longer than what is left to do here.
    pub(in crate::runtime) fn inform(&self, seat: &mut Seat, spec: &Spec) -> Result<()> {
        if seat.inside.is_none() {
            return Ok(());
        }
        let process = self.told_process(spec, seat.lease.as_ref());
        seat.inform(&process, &spec.id)
    }

    /// What the app's process of `spec` is told.
    fn told_process(&self, spec: &Spec, lease: Option<&Lease>) -> Process {
        let mut process = spec.process.clone();
        if self.confined {
            unprivileged::bound(&mut process, &spec.limits);
        }
        if let Some(lease) = lease {
            fill_address(&mut process.env, lease.address);
        }
        process
    }

    /// What is to be told of `spec`: with what only its host knows.
    pub(super) fn told(&self, spec: &Spec, lease: Option<&Lease>) -> Result<Spec> {
        let mut told = spec.clone();
        told.process = self.told_process(spec, lease);
        if let Some(lease) = lease {
            told.files.extend(self.resolvers(spec)?);
            for sidecar in &mut told.sidecars {
                fill_address(&mut sidecar.env, lease.address);
            }
            self.lock_adopted().insert(spec.id.clone());
        }
        Ok(told)
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
            (Network::Isolated { policy }, Some(lease)) => self.admit(&spec.id, lease, policy),
            _ => Ok(()),
        }
    }
}

/// Has init start what runs beside the app, each in its group if it has one.
fn let_go_beside(seat: &Seat, id: &str, shares: &[(usize, Share)]) -> Result<()> {
    for (sidecar, share) in shares {
        let order = Order::Share {
            sidecar: *sidecar,
            peak: share.peak.is_some(),
            event: share.event.is_some(),
        };
        unless_gone(wire::send(seat.socket.as_fd(), &order, &share.fds()), id)?;
    }
    unless_gone(wire::send(seat.socket.as_fd(), &Order::Go, &[]), id)
}

/// Waits until init, which did not know what it would be, has done what needs no knowledge of that.
fn await_laid(seat: &Seat, id: &str) -> Result<()> {
    match next_report(&seat.socket, id, "")? {
        (Report::Parked, _) => Ok(()),
        _ => Err(io::ErrorKind::InvalidData).on("start", id),
    }
}

/// Waits until init has let the app go.
fn await_ready(seat: &Seat, id: &str) -> Result<Steps> {
    match next_report(&seat.socket, id, "")? {
        (Report::Ready { steps }, _) => Ok(steps),
        _ => Err(io::ErrorKind::InvalidData).on("start", id),
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

/// An init that does not take its orders any more has said why, and is heard.
pub fn unless_gone(sent: io::Result<()>, id: &str) -> Result<()> {
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
pub fn next_report(socket: &OwnedFd, id: &str, program: &str) -> Result<(Report, Vec<OwnedFd>)> {
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
