//! Init gives up everything it does not need, in the order that permits the next step.

use std::io;
use std::os::fd::OwnedFd;

use nix::sched::CloneFlags;
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, Gid, Uid};

use super::{Failure, Plan, Stage, seccomp};
use crate::{sys, users};

/// Scopes came with this version of Landlock; quiet domains with the next.
pub const LANDLOCK_SCOPES: u32 = 6;

/// Highest capability number tried, as far as the kernel knows them.
const CAPABILITIES: u32 = 63;

/// Lets go of what the spawner has as standard streams: its listening socket among them,
/// which would seem alive for as long as a sandbox is.
pub fn standard_streams() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}

/// What can only be set as the host's root: the root of what it sees of control groups. That is where this process is
/// now, so it comes after joining.
pub fn groups() -> io::Result<()> {
    Ok(nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP)?)
}

/// The rest that can only be set as the host's root: keyring, loopback, domain.
pub fn own(plan: &Plan) -> io::Result<()> {
    sys::new_session_keyring()?;
    if !plan.networked {
        sys::loopback_up()?;
    }
    domain(sys::landlock_version())
}

/// Makes the sandbox one Landlock domain, where the kernel can: nothing in it signals, traces or connects by an
/// abstract name to what is not in it, whatever may become of its namespaces. It begins before the app's process
/// is there, so that all its processes are in the same one. It says nothing about files: a domain that did would
/// have to begin after the last mount, and read-only mounts hold them already.
fn domain(version: u32) -> io::Result<()> {
    const ABSTRACT_SOCKETS: u64 = 1;
    const SIGNALS: u64 = 2;
    // Refusals are the app's doing, and could flood the host's log.
    const QUIET: u32 = 1 | 4;
    if version < LANDLOCK_SCOPES {
        return Ok(());
    }
    let flags = if version > LANDLOCK_SCOPES { QUIET } else { 0 };
    sys::landlock_scope(ABSTRACT_SOCKETS | SIGNALS, flags)
}

/// Becomes root of the sandbox's user namespace, which is nobody on the host.
pub fn give_up_root(userns: &OwnedFd) -> io::Result<()> {
    nix::sched::setns(userns, CloneFlags::CLONE_NEWUSER)?;
    // Where there is one id it is the app's, and this process has it already.
    if !users::single() {
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
        rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

/// Keeps three capabilities (to become the app's user and to signal it) that nothing started
/// from here can ever have, and puts the system call filter in force for all of it.
pub fn restrict() -> Result<(), Failure> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).stage("hide memory")?;
    let bits = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
    rustix::thread::set_capabilities_secure_bits(bits).stage("set secure bits")?;
    rustix::thread::clear_ambient_capability_set().stage("clear ambient capabilities")?;
    for number in 0..=CAPABILITIES {
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // The kernel knows no further ones.
            Err(rustix::io::Errno::INVAL) => break,
            Err(e) => return Err(e).stage("bound capabilities"),
        }
    }
    let kept = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::KILL;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).stage("drop capabilities")?;
    rustix::thread::set_no_new_privs(true).stage("forbid new privileges")?;
    sys::seccomp_load(seccomp::program()).stage("filter system calls")
}
