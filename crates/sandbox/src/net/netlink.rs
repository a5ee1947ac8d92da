//! The smallest netlink client that serves this module: messages with nested attributes, batches whose
//! every message is acknowledged, dumps. It knows the wire form only; what is asked for is in `link.rs`,
//! `rates.rs`, `conntrack.rs` and `told.rs`.
//! A socket belongs to the network namespace its opening thread was in, for ever.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
    netlink::SocketAddrNetlink,
    sockopt::{self, Timeout},
};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
/// Set on attributes that hold attributes.
const NLA_F_NESTED: u16 = 0x8000;
/// The kernel answers within the send call; this only bounds a lost answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Larger than any single datagram of a dump.
const RECEIVE_BYTES: usize = 64 * 1024;

/// Create, and fail if it exists.
pub(super) const CREATE: u16 = 0x400 | 0x200;
/// Create, or replace what exists.
pub(super) const REPLACE: u16 = 0x400 | 0x100;

/// A list of attributes under construction.
#[derive(Debug, Default, Clone)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// The list as it travels.
    #[cfg(test)]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends raw bytes, padded to four.
    pub(super) fn bytes(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let length = u16::try_from(payload.len() + 4).expect("attributes here are tiny");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(payload);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    pub(super) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A NUL-terminated string.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut terminated = value.as_bytes().to_vec();
        terminated.push(0);
        self.bytes(kind, &terminated)
    }

    /// Attributes within an attribute, after `prefix` bytes that some kinds begin with.
    pub(super) fn nested(&mut self, kind: u16, prefix: &[u8], fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self(prefix.to_vec());
        fill(&mut inner);
        self.bytes(kind | NLA_F_NESTED, &inner.0)
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
    tolerated: &'static [i32],
}

impl Message {
    /// A request of `kind` with the fixed `header` of its family and attributes.
    pub(super) fn new(kind: u16, flags: u16, header: &[u8], fill: impl FnOnce(&mut Attributes)) -> Self {
        let mut attributes = Attributes(header.to_vec());
        fill(&mut attributes);
        Self {
            kind,
            flags,
            body: attributes.0,
            tolerated: &[],
        }
    }

    /// Error numbers that count as success, such as EEXIST for "make sure it is there".
    pub(super) fn tolerate(mut self, errors: &'static [i32]) -> Self {
        self.tolerated = errors;
        self
    }

    fn encode(&self, extra_flags: u16, sequence: u32, into: &mut Vec<u8>) {
        let length = u32::try_from(HEADER + self.body.len()).expect("messages here are tiny");
        into.extend_from_slice(&length.to_ne_bytes());
        into.extend_from_slice(&self.kind.to_ne_bytes());
        into.extend_from_slice(&(self.flags | NLM_F_REQUEST | extra_flags).to_ne_bytes());
        into.extend_from_slice(&sequence.to_ne_bytes());
        into.extend_from_slice(&0u32.to_ne_bytes());
        into.extend_from_slice(&self.body);
        into.resize(into.len().next_multiple_of(4), 0);
    }
}

/// A message received from the kernel: its kind and everything after the netlink header.
pub(super) struct Answer {
    pub(super) kind: u16,
    pub(super) body: Vec<u8>,
}

/// A netlink socket of one network namespace.
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        Self::of(None)
    }

    /// The same for connections and packet logs.
    pub(super) fn netfilter() -> io::Result<Self> {
        Self::of(Some(net::netlink::NETFILTER))
    }

    fn of(protocol: Option<net::Protocol>) -> io::Result<Self> {
        let fd = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        Ok(Self { fd, sequence: 1 })
    }

    /// Sends all messages at once and waits for every acknowledgement. The kernel goes on after a refused
    /// one; the first error that its message does not tolerate is returned.
    pub(super) fn execute(&mut self, messages: &[Message]) -> io::Result<()> {
        let first = self.sequence;
        let mut buffer = Vec::with_capacity(messages.len() * 128);
        for message in messages {
            message.encode(NLM_F_ACK, self.sequence, &mut buffer);
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.send(&buffer)?;
        let mut failure = None;
        let mut open = messages.len();
        while open > 0 {
            for (sequence, answer) in self.receive()? {
                let Some(message) = messages.get(sequence.wrapping_sub(first) as usize) else {
                    continue;
                };
                if answer.kind != NLMSG_ERROR {
                    continue;
                }
                open -= 1;
                let code = -read_i32(&answer.body);
                if code != 0 && !message.tolerated.contains(&code) && failure.is_none() {
                    failure = Some(io::Error::from_raw_os_error(code));
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Sends one question that is answered by one message.
    pub(super) fn ask(&mut self, message: &Message) -> io::Result<Answer> {
        self.collect(message, 0)?
            .pop()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// Asks for a listing.
    pub(super) fn dump(&mut self, message: &Message) -> io::Result<Vec<Answer>> {
        self.collect(message, NLM_F_DUMP)
    }

    fn collect(&mut self, message: &Message, flags: u16) -> io::Result<Vec<Answer>> {
        let wanted = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        let mut buffer = Vec::new();
        message.encode(flags, wanted, &mut buffer);
        self.send(&buffer)?;
        let mut answers = Vec::new();
        loop {
            for (sequence, answer) in self.receive()? {
                match answer.kind {
                    _ if sequence != wanted => {}
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => return Err(io::Error::from_raw_os_error(-read_i32(&answer.body))),
                    _ => answers.push(answer),
                }
            }
            if flags == 0 && !answers.is_empty() {
                return Ok(answers);
            }
        }
    }

    /// What the kernel says without being asked. `ErrorKind::WouldBlock`: nothing within `wait`.
    pub(super) fn hear(&mut self, wait: Duration) -> io::Result<Vec<Answer>> {
        sockopt::set_socket_timeout(&self.fd, Timeout::Recv, Some(wait))?;
        Ok(self.receive()?.into_iter().map(|(_, answer)| answer).collect())
    }

    fn send(&self, buffer: &[u8]) -> io::Result<()> {
        let sent = net::sendto(&self.fd, buffer, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        if sent == buffer.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    fn receive(&self) -> io::Result<Vec<(u32, Answer)>> {
        let mut buffer = vec![0u8; RECEIVE_BYTES];
        let (length, _) = loop {
            match net::recv(&self.fd, &mut buffer[..], RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        Ok(split(&buffer[..length]))
    }
}

fn split(mut rest: &[u8]) -> Vec<(u32, Answer)> {
    let mut answers = Vec::new();
    while rest.len() >= HEADER {
        let length = read_u32(rest) as usize;
        if length < HEADER || length > rest.len() {
            break;
        }
        let kind = u16::from_ne_bytes([rest[4], rest[5]]);
        answers.push((
            read_u32(&rest[8..]),
            Answer {
                kind,
                body: rest[HEADER..length].to_vec(),
            },
        ));
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    answers
}

/// The attributes in `bytes` as (kind, payload), nesting flags removed; stops at the first malformed one.
pub(super) fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        if length < 4 || length > bytes.len() {
            break;
        }
        found.push((u16::from_ne_bytes([bytes[2], bytes[3]]) & 0x3fff, &bytes[4..length]));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}

/// The first four bytes as a number of the machine's order, 0 if there are fewer.
pub(super) fn read_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_ne_bytes(*four))
}

fn read_i32(bytes: &[u8]) -> i32 {
    bytes.first_chunk().map_or(0, |four| i32::from_ne_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_encoding_with_padding_and_nesting() {
        let mut list = Attributes::default();
        list.text(3, "paas0").nested(18, &[], |inner| {
            inner.u8(1, 7).u32(2, 0xdead_beef);
        });
        let outer = attributes(&list.0);
        assert_eq!(outer[0], (3, &b"paas0\0"[..]));
        assert_eq!(outer[1].0, 18);
        let inner = attributes(outer[1].1);
        assert_eq!(inner[0], (1, &[7u8][..]));
        assert_eq!(read_u32(inner[1].1), 0xdead_beef);
    }

    #[test]
    fn malformed_input_ends_the_parse_and_never_panics() {
        assert!(attributes(&[9, 0, 1, 0, 1]).is_empty());
        assert!(attributes(&[2, 0, 1, 0]).is_empty());
        assert!(split(&[255; 40]).is_empty());
        assert_eq!(read_u32(&[1, 2]), 0);
    }

    #[test]
    fn a_refused_message_is_reported_and_a_tolerated_one_is_not() {
        let mut socket = Socket::open().expect("netlink socket");
        // Deleting an interface that does not exist.
        let delete = Message::new(17, 0, &[0; 16], |a| {
            a.text(3, "paasnone");
        });
        let refused = socket
            .execute(std::slice::from_ref(&delete))
            .expect_err("no such interface");
        assert!(
            matches!(refused.raw_os_error(), Some(libc::ENODEV | libc::EPERM)),
            "{refused}"
        );
        socket
            .execute(&[delete.tolerate(&[libc::ENODEV, libc::EPERM])])
            .expect("tolerated");
    }
}
