//! What rules that tell have matched, as the kernel says it: the first packets of connections. Who is meant by an
//! address, and where it is written, is for the reader to say.

use std::{io, net::Ipv4Addr, time::Duration};

use super::{
    error::{Error, Result},
    netlink::{Answer, Message, Socket, attributes},
    rule::{ICMP, TCP, UDP},
};

/// Subsystem of packet logs, in the upper byte of a message's kind.
const SUBSYSTEM: u16 = 4 << 8;
const PACKET: u16 = SUBSYSTEM;
const CONFIGURE: u16 = SUBSYSTEM | 1;
const COMMAND: u16 = 1;
const MODE: u16 = 2;
const TIMEOUT: u16 = 4;
const BIND: u8 = 1;
/// Copy the packet's beginning.
const COPY_PACKET: u8 = 2;
/// Enough for the longest IPv4 header and the ports behind it.
const COPIED: u32 = 64;
/// How long the kernel gathers packets, in hundredths of a second.
const GATHER: u32 = 5;
const PAYLOAD: u16 = 9;

/// The first packet of a connection that a rule which tells has matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The sandbox.
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// As IP numbers it.
    pub protocol: u8,
    /// Of TCP and UDP: the source's and the destination's.
    pub ports: Option<(u16, u16)>,
    /// Of ICMP: type and code.
    pub icmp: Option<(u8, u8)>,
    /// Bytes of the whole packet.
    pub length: u16,
}

/// What one look found.
#[derive(Debug, Default)]
pub struct Heard {
    pub told: Vec<Told>,
    /// The kernel had more than it could keep.
    pub lost: bool,
}

/// A reader of one network's rules that tell.
pub struct RuleLog {
    socket: Socket,
}

impl std::fmt::Debug for RuleLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuleLog").finish_non_exhaustive()
    }
}

impl RuleLog {
    pub(super) fn open(group: u16) -> Result<Self> {
        let failed = |source| Error::Netlink {
            operation: "listen to the packet log of",
            target: format!("group {group}"),
            source,
        };
        let mut socket = Socket::netfilter().map_err(failed)?;
        let [high, low] = group.to_be_bytes();
        let header = [0, 0, high, low];
        let configure = |kind, payload: &[u8]| {
            Message::new(CONFIGURE, 0, &header, |a| {
                a.bytes(kind, payload);
            })
        };
        let mut mode = COPIED.to_be_bytes().to_vec();
        mode.extend([COPY_PACKET, 0]);
        let messages = [
            configure(COMMAND, &[BIND]),
            configure(MODE, &mode),
            configure(TIMEOUT, &GATHER.to_be_bytes()),
        ];
        socket.execute(&messages).map_err(failed)?;
        Ok(Self { socket })
    }

    /// Waits at most `wait` for something to be told.
    pub fn read(&mut self, wait: Duration) -> Result<Heard> {
        match self.socket.hear(wait) {
            Ok(answers) => Ok(Heard {
                told: answers.iter().filter_map(told).collect(),
                lost: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Heard::default()),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Heard {
                told: Vec::new(),
                lost: true,
            }),
            Err(source) => Err(Error::System {
                operation: "read the packet log",
                source,
            }),
        }
    }
}

fn told(answer: &Answer) -> Option<Told> {
    if answer.kind != PACKET {
        return None;
    }
    let listed = attributes(answer.body.get(4..)?);
    let (_, packet) = listed.iter().find(|(kind, _)| *kind == PAYLOAD)?;
    parse(packet)
}

/// The beginning of an IPv4 packet; what a sandbox sends may be anything.
fn parse(packet: &[u8]) -> Option<Told> {
    let first = *packet.first()?;
    let header = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || header < 20 {
        return None;
    }
    let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
    let number = |at: usize| Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk::<2>()?));
    let protocol = *packet.get(9)?;
    let carries = |wanted: &[u8]| wanted.contains(&protocol);
    Some(Told {
        source: address(12)?,
        destination: address(16)?,
        protocol,
        ports: number(header).zip(number(header + 2)).filter(|_| carries(&[TCP, UDP])),
        icmp: packet
            .get(header)
            .copied()
            .zip(packet.get(header + 1).copied())
            .filter(|_| carries(&[ICMP])),
        length: number(2)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_and_what_is_cut_off_is_none() {
        let mut packet = vec![0x45, 0, 0, 60, 0, 0, 0, 0, 64, TCP, 0, 0, 10, 99, 0, 2, 203, 0, 113, 80];
        packet.extend([4, 0, 0x1f, 0x90]);
        let found = parse(&packet).expect("whole");
        assert_eq!(
            (found.source, found.ports),
            (Ipv4Addr::new(10, 99, 0, 2), Some((1024, 8080)))
        );
        assert_eq!((found.destination, found.length), (Ipv4Addr::new(203, 0, 113, 80), 60));
        assert_eq!(parse(&packet[..20]).expect("without ports").ports, None);
        for end in 0..20 {
            assert_eq!(parse(&packet[..end]), None);
        }
        packet[0] = 0x61;
        assert_eq!(parse(&packet), None);
    }
}
