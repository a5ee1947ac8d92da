//! Where the platform runs: here, as root, or in namespaces of its own where it was started by somebody else. Decided
//! before anything else, as only a process of one thread can move.

use crate::config::Config;
use anyhow::Context as _;
use sandbox::unprivileged::{self, Entered, Lack};
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};

/// Sockets that people use. They belong to the network in which the program was started, wherever it moves.
pub struct Sockets {
    /// Of the API.
    pub api: TcpListener,
    /// Of the SSH server, where there is one.
    pub ssh: Option<TcpListener>,
    /// Of the router.
    pub edge: router::Sockets,
}

/// What a platform begins with.
pub struct Place {
    pub sockets: Sockets,
    /// The process that was started, if this is not it: it stands for this one on the host.
    pub caller: Option<u32>,
}

/// Which process this is after [`enter`].
pub enum Which<T> {
    /// The one that goes on; in namespaces of its own if there is a process that stands for it on the host.
    Daemon(T, Option<u32>),
    /// The one that stood for it; ended with this code.
    Caller(u8),
}

impl Sockets {
    /// Opens them.
    ///
    /// # Errors
    /// Where an address is taken.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let address = config.controller.listen;
        let api = TcpListener::bind(address).with_context(|| {
            format!("failed to listen on {address}: is another platform running? --set controller.listen=")
        })?;
        api.set_nonblocking(true).context("failed to set up the API's socket")?;
        let ssh = config.ssh.listen()?.map(listen_for_ssh).transpose()?;
        let edge = router::Sockets::open(config.router.addresses()?, config.router.threads())?;
        Ok(Self { api, ssh, edge })
    }
}

/// At this address, or where its port is taken at any other: clients ask where it is.
///
/// # Errors
/// Where the address is not this machine's.
pub fn listen_for_ssh(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = match TcpListener::bind(address) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => TcpListener::bind((address.ip(), 0)),
        other => other,
    };
    let listener = listener.with_context(|| format!("failed to listen on {address}: --set ssh.listen="))?;
    listener
        .set_nonblocking(true)
        .context("failed to set up the socket of the SSH server")?;
    Ok(listener)
}

/// Moves into namespaces, with what is `brought` along, unless this is root.
///
/// # Errors
/// Where the host doesn't permit that; the text says what would.
pub fn enter<T>(brought: T) -> anyhow::Result<Which<T>> {
    if nix::unistd::geteuid().is_root() {
        return Ok(Which::Daemon(brought, None));
    }
    match unprivileged::enter(brought).context("paasd can't run without root here")? {
        Entered::Inside(place, brought) => Ok(Which::Daemon(brought, Some(place.caller))),
        Entered::Ended(code) => Ok(Which::Caller(code)),
    }
}

/// What brings back all of it, and needs no mention with each.
const AS_ROOT: &str = "sudo paasd dev";

/// What is missing, for a person.
pub fn told(missing: &[Lack]) -> String {
    let mut text =
        "\nIt runs without root. Everything works, but apps are isolated less than with `sudo paasd dev`:".to_owned();
    for Lack { effect, remedy, .. } in missing {
        let _ = write!(text, "\n  - {effect}");
        if remedy != AS_ROOT {
            let _ = write!(text, "\n    To change that: {remedy}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox::unprivileged::Subject;

    #[test]
    fn what_is_missing_is_told_with_what_helps() {
        let lack = |effect: &str, remedy: &str| Lack {
            subject: Subject::Users,
            effect: effect.to_owned(),
            remedy: remedy.to_owned(),
        };
        let text = told(&[lack("no limits", "sudo paasd dev"), lack("no way out", "install it")]);
        assert!(
            text.contains("\n  - no limits\n  - no way out\n    To change that: install it"),
            "{text}"
        );
    }

    #[test]
    fn sockets_are_open_before_anything_runs() {
        let free = [
            "controller.listen=127.0.0.1:0",
            "router.listen=127.0.0.1:0",
            "router.workers=2",
            "ssh.listen=127.0.0.1:0",
        ];
        let mut config = crate::config::load(None, std::iter::empty(), &free.map(str::to_owned)).expect("sound");
        let sockets = Sockets::open(&config).expect("free");
        assert_eq!(sockets.edge.plain.len(), 2);
        let ports: Vec<u16> = sockets
            .edge
            .plain
            .iter()
            .map(|s| s.local_addr().expect("bound").port())
            .collect();
        assert_eq!(ports[0], ports[1]);
        let ssh = sockets.ssh.as_ref().expect("it is on").local_addr().expect("bound");
        let other = listen_for_ssh(ssh).expect("another port").local_addr().expect("bound");
        assert_ne!(ssh.port(), other.port(), "one that is taken is no hindrance");
        config.ssh.listen = "nonsense".to_owned();
        assert!(config.ssh.listen().is_err());
        config.ssh.listen = " ".to_owned();
        assert_eq!(config.ssh.listen().expect("off"), None);
        config.controller.listen = sockets.api.local_addr().expect("bound");
        let error = Sockets::open(&config).err().expect("taken");
        assert!(error.to_string().contains("--set controller.listen="), "{error}");
    }
}
