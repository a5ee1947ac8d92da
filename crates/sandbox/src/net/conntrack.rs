//! The kernel's table of connections: which of them one sandbox opened, and the end of those that it may not have any
//! more. Rules see every packet that a sandbox sends; this is for what only the other side sends.

use std::{collections::HashSet, io, net::Ipv4Addr};

use super::{
    error::{Error, Result},
    netlink::{Attributes, Message, Socket, attributes},
    rule::Flow,
};

/// Subsystem of connections, in the upper byte of a message's kind.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// `struct nfgenmsg`: IPv4.
const HEADER: [u8; 4] = [2, 0, 0, 0];

const TUPLE_ORIG: u16 = 1;
const ID: u16 = 12;
const FILTER: u16 = 25;
const FILTER_ORIG: u16 = 1;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
/// The bit that says that the kernel is to compare the opener's address.
const COMPARE_SOURCE: u32 = 1;

/// A connection as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) source: Ipv4Addr,
    pub(super) flow: Flow,
    /// The opener's tuple, as the kernel wrote it.
    tuple: Vec<u8>,
    id: Vec<u8>,
}

/// The connections that sandboxes opened. The kernel walks its whole table for each question, so many sandboxes are
/// asked about at once.
pub(super) fn opened_by(socket: &mut Socket, addresses: &[Ipv4Addr]) -> Result<Vec<Entry>> {
    let question = Message::new(GET, 0, &HEADER, |a| {
        if let [address] = addresses {
            a.nested(TUPLE_ORIG, &[], |a| {
                a.nested(TUPLE_IP, &[], |a| {
                    a.bytes(1, &address.octets());
                });
            });
            a.nested(FILTER, &[], |a| {
                a.u32(FILTER_ORIG, COMPARE_SOURCE);
            });
        }
    });
    let answers = socket
        .dump(&question)
        .map_err(failed("list the connections of", addresses))?;
    let wanted: HashSet<Ipv4Addr> = addresses.iter().copied().collect();
    let entries = answers.iter().filter_map(|answer| parse(answer.body.get(4..)?));
    // A kernel that does not know the filter lists everybody's too.
    Ok(entries.filter(|entry| wanted.contains(&entry.source)).collect())
}

/// Ends connections: what still comes belongs to none.
pub(super) fn end(socket: &mut Socket, entries: &[&Entry]) -> Result<()> {
    let message = |entry: &&Entry| {
        let fill = |a: &mut Attributes| {
            a.nested(TUPLE_ORIG, &entry.tuple, |_| {}).bytes(ID, &entry.id);
        };
        Message::new(DELETE, 0, &HEADER, fill).tolerate(&[libc::ENOENT])
    };
    for part in entries.chunks(64) {
        let messages: Vec<Message> = part.iter().map(message).collect();
        let whose: Vec<Ipv4Addr> = part.iter().map(|entry| entry.source).collect();
        socket
            .execute(&messages)
            .map_err(failed("end connections of", &whose))?;
    }
    Ok(())
}

fn failed(operation: &'static str, addresses: &[Ipv4Addr]) -> impl FnOnce(io::Error) -> Error {
    let first = addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
    let target = match addresses.len() {
        0 | 1 => first.to_string(),
        count => format!("{first} and {} others", count - 1),
    };
    move |source| Error::Netlink {
        operation,
        target,
        source,
    }
}

fn parse(body: &[u8]) -> Option<Entry> {
    let listed = attributes(body);
    let find = |list: &[(u16, &[u8])], wanted: u16| Some(list.iter().find(|(kind, _)| *kind == wanted)?.1.to_vec());
    let tuple = find(&listed, TUPLE_ORIG)?;
    let parts = attributes(&tuple);
    let (ip, proto) = (find(&parts, TUPLE_IP)?, find(&parts, TUPLE_PROTO)?);
    let (ip, proto) = (attributes(&ip), attributes(&proto));
    let address = |kind| Some(Ipv4Addr::from(*find(&ip, kind)?.first_chunk::<4>()?));
    let byte = |kind| find(&proto, kind).and_then(|value| value.first().copied());
    let port = find(&proto, 3).and_then(|value| Some(u16::from_be_bytes(*value.first_chunk::<2>()?)));
    let flow = Flow {
        destination: address(2)?,
        protocol: byte(1)?,
        port: port.unwrap_or(0),
        icmp: (byte(5).unwrap_or(0), byte(6).unwrap_or(0)),
    };
    let (source, id) = (address(1)?, find(&listed, ID)?);
    drop(parts);
    Some(Entry {
        source,
        flow,
        tuple,
        id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_and_what_is_torn_is_none() {
        let mut list = Attributes::default();
        list.nested(TUPLE_ORIG, &[], |a| {
            a.nested(TUPLE_IP, &[], |a| {
                a.bytes(1, &[10, 99, 0, 2]).bytes(2, &[203, 0, 113, 80]);
            });
            a.nested(TUPLE_PROTO, &[], |a| {
                a.u8(1, 6).bytes(2, &[4, 0]).bytes(3, &[0x1f, 0x90]);
            });
        });
        list.u32(ID, 7);
        let bytes = list.as_bytes().to_vec();
        let entry = parse(&bytes).expect("whole");
        assert_eq!((entry.source, entry.flow.port), (Ipv4Addr::new(10, 99, 0, 2), 8080));
        assert_eq!(entry.flow.destination, Ipv4Addr::new(203, 0, 113, 80));
        for end in 0..bytes.len() {
            // Never a panic, and nothing without its identity.
            assert_eq!(parse(&bytes[..end]), None);
        }
    }
}
