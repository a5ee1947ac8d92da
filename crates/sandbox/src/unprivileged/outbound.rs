//! The way from a network namespace without root to the world: slirp4netns, a program that speaks TCP/IP with the
//! namespace and ordinary sockets with the host. It ends with us.

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::io::{FdFlags, fcntl_setfd};

/// The interface that it makes in the namespace.
pub const INTERFACE: &str = "tap0";
/// Where it answers DNS, from the host's resolvers.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
const PLACES: [&str; 3] = ["/usr/bin/slirp4netns", "/bin/slirp4netns", "/usr/local/bin/slirp4netns"];
/// The device that it makes interfaces by.
const TUN: &str = "/dev/net/tun";
/// For the interface to be there.
const READY: Duration = Duration::from_secs(10);
/// Of its complaint.
const MAX_COMPLAINT: usize = 4096;
const INSTALL: &str = "install slirp4netns (Debian package slirp4netns)";

/// While this lives there is a way out.
#[derive(Debug)]
pub struct Outbound {
    child: Child,
    /// When this closes, also because we were killed, the program ends.
    _alive: OwnedFd,
}

impl Outbound {
    /// For the namespaces of the process `pid`; else why there is none, and what would help.
    pub fn open(pid: i32) -> Result<Outbound, (String, String)> {
        let Some(program) = PLACES.iter().map(PathBuf::from).find(|path| path.is_file()) else {
            return Err(("slirp4netns is not installed".to_owned(), INSTALL.to_owned()));
        };
        if let Err(error) = File::options().read(true).write(true).open(TUN) {
            let remedy = format!("sudo sh -c 'modprobe tun; chmod 666 {TUN}'");
            return Err((format!("{TUN} cannot be opened: {error}"), remedy));
        }
        Self::start(&program, pid).map_err(|error| {
            let remedy = "see what it says, or sudo paasd dev".to_owned();
            (format!("{} does not work: {error}", program.display()), remedy)
        })
    }

    fn start(program: &Path, pid: i32) -> io::Result<Outbound> {
        let (ready, ready_theirs) = rustix::pipe::pipe()?;
        let (exit_theirs, alive) = rustix::pipe::pipe()?;
        for ours in [&ready, &alive] {
            fcntl_setfd(ours, FdFlags::CLOEXEC)?;
        }
        // A file in memory: a pipe that nobody empties would stop it one day.
        let complaint = File::from(rustix::fs::memfd_create("slirp4netns", MemfdFlags::CLOEXEC)?);
        let child = Command::new(program)
            .args(["--configure", "--mtu=1500", "--disable-host-loopback"])
            .arg(format!("--ready-fd={}", ready_theirs.as_raw_fd()))
            .arg(format!("--exit-fd={}", exit_theirs.as_raw_fd()))
            .arg(pid.to_string())
            .arg(INTERFACE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaint.try_clone()?)
            // The terminal's signals are not for it: it is there until all else has ended.
            .process_group(0)
            .spawn()?;
        drop((ready_theirs, exit_theirs));
        let mut outbound = Outbound { child, _alive: alive };
        let mut word = [0];
        let in_time = crate::wire::wait_readable(ready.as_fd(), Instant::now() + READY)?;
        // End of file means that it ended instead.
        if in_time && File::from(ready).read(&mut word)? == 1 {
            return Ok(outbound);
        }
        let _ = outbound.child.kill();
        let _ = outbound.child.wait();
        Err(io::Error::other(last_line(&complaint)))
    }
}

/// The last that it said.
fn last_line(complaint: &File) -> String {
    let mut said = vec![0; MAX_COMPLAINT];
    let length = complaint.read_at(&mut said, 0).unwrap_or(0);
    let said = String::from_utf8_lossy(&said[..length]);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or("it is not ready in time").trim().to_owned()
}

impl Drop for Outbound {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
