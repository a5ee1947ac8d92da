//! How fast a sandbox may talk: what can be limited, and the queues that limit bandwidth. The rules for connections
//! and packets are put in place by `firewall.rs`.
//!
//! Bandwidth is limited where packets leave: what the sandbox sends at its own end of the pair (the kernel's namespace
//! owner is the host, so it cannot be changed from inside), what it gets at the host's end. Both are queues, so a
//! sender is slowed rather than its packets lost.

use serde::{Deserialize, Serialize};

use super::{
    error::{Error, Result},
    link,
    netlink::{Message, REPLACE, Socket},
};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TBF_PARAMETERS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
const ROOT: u32 = u32::MAX;
const HANDLE: u32 = 1 << 16;
/// `tc_ratespec.linklayer`: ethernet, for which the kernel needs no table.
const ETHERNET: u8 = 1;
/// Least bytes that may pass at once: a few full packets.
const LEAST_BURST: u64 = 16 << 10;
/// Bytes that wait at least and at most.
const QUEUE: (u64, u64) = (64 << 10, 4 << 20);
/// Slowest bandwidth: below it even one packet takes too long.
const LEAST_BANDWIDTH: u64 = 8 << 10;

/// What a sandbox may send and get; what is missing is not limited beyond what holds for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Bytes per second to the sandbox, packet headers included; at least 8 KiB.
    pub bytes_in: Option<u64>,
    /// Bytes per second from the sandbox.
    pub bytes_out: Option<u64>,
    /// Packets per second from the sandbox; as many may come at once.
    pub packets_out: Option<u32>,
    /// New connections per second to elsewhere; as many may come at once.
    pub connections_per_second: Option<u32>,
    /// Connections to elsewhere at once, at most [`super::MAX_CONNECTIONS`]. A change counts those opened after it.
    pub connections: Option<u32>,
}

impl Rates {
    /// An error naming the first figure that cannot work.
    pub fn check(&self) -> Result<()> {
        let slow = |rate: Option<u64>| rate.is_some_and(|rate| rate < LEAST_BANDWIDTH);
        let zero = |rate: Option<u32>| rate == Some(0);
        let reason = if slow(self.bytes_in) || slow(self.bytes_out) {
            format!("a bandwidth below {LEAST_BANDWIDTH} bytes per second")
        } else if zero(self.packets_out) || zero(self.connections_per_second) || zero(self.connections) {
            "a rate of nothing; use a policy that allows nothing".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Policy { reason })
    }

    /// Rules about new connections to elsewhere; `refuse` is the chain that answers refused packets.
    pub(super) fn connection_rules(&self, refuse: &str) -> Vec<String> {
        let speed = self
            .connections_per_second
            .map(|rate| format!("limit rate over {rate}/second burst {rate} packets goto {refuse}"));
        let count = self
            .connections
            .map(|count| format!("ct count over {count} goto {refuse}"));
        speed.into_iter().chain(count).collect()
    }

    /// Rules about every packet.
    pub(super) fn packet_rules(&self) -> Vec<String> {
        let drop = |rate: u32| format!("limit rate over {rate}/second burst {rate} packets drop");
        self.packets_out.map(drop).into_iter().collect()
    }
}

/// Lets at most `rate` bytes per second leave by the interface called `name`; any number if there is none.
pub(super) fn shape(socket: &mut Socket, name: &str, rate: Option<u64>) -> Result<()> {
    let failed = |source| Error::Netlink {
        operation: "limit the bandwidth of",
        target: name.to_owned(),
        source,
    };
    let Some(interface) = link::interface(socket, name)? else {
        return Err(failed(std::io::ErrorKind::NotFound.into()));
    };
    let message = match rate {
        Some(rate) => Message::new(RTM_NEWQDISC, REPLACE, &header(interface.index, HANDLE), |a| {
            a.text(TCA_KIND, "tbf").nested(TCA_OPTIONS, &[], |a| {
                a.bytes(TBF_PARAMETERS, &parameters(rate));
                if rate > u64::from(u32::MAX) {
                    a.bytes(TBF_RATE64, &rate.to_ne_bytes());
                }
                a.u32(TBF_BURST, clamped(burst(rate)));
            });
        }),
        // There is none to delete where there was no limit.
        None => {
            Message::new(RTM_DELQDISC, 0, &header(interface.index, 0), |_| {}).tolerate(&[libc::ENOENT, libc::EINVAL])
        }
    };
    socket.execute(&[message]).map_err(failed)
}

/// `struct tcmsg` of the root queue.
fn header(index: u32, handle: u32) -> [u8; 20] {
    let mut header = [0; 20];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&handle.to_ne_bytes());
    header[12..16].copy_from_slice(&ROOT.to_ne_bytes());
    header
}

/// `struct tc_tbf_qopt`: rate, no peak rate, bytes that wait.
fn parameters(rate: u64) -> [u8; 36] {
    let mut parameters = [0; 36];
    parameters[1] = ETHERNET;
    parameters[8..12].copy_from_slice(&clamped(rate).to_ne_bytes());
    let waiting = (rate / 10).clamp(QUEUE.0, QUEUE.1);
    parameters[24..28].copy_from_slice(&clamped(waiting).to_ne_bytes());
    parameters
}

/// 20 ms of the rate: enough for timers that are late, too little to be felt.
fn burst(rate: u64) -> u64 {
    (rate / 50).max(LEAST_BURST)
}

fn clamped(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_nothing_are_refused_and_no_rates_make_no_rules() {
        assert!(Rates::default().check().is_ok());
        assert!(Rates::default().connection_rules("refuse").is_empty() && Rates::default().packet_rules().is_empty());
        let refused = [
            Rates {
                bytes_in: Some(100),
                ..Rates::default()
            },
            Rates {
                bytes_out: Some(0),
                ..Rates::default()
            },
            Rates {
                packets_out: Some(0),
                ..Rates::default()
            },
            Rates {
                connections: Some(0),
                ..Rates::default()
            },
        ];
        assert!(refused.iter().all(|rates| rates.check().is_err()));
        let rates = Rates {
            connections_per_second: Some(5),
            connections: Some(9),
            ..Rates::default()
        };
        assert_eq!(
            rates.connection_rules("refuse"),
            [
                "limit rate over 5/second burst 5 packets goto refuse",
                "ct count over 9 goto refuse"
            ]
        );
    }

    #[test]
    fn queues_hold_a_few_packets_at_least_and_fast_rates_do_not_overflow() {
        assert_eq!(burst(10_000), LEAST_BURST);
        assert_eq!(clamped(u64::MAX), u32::MAX);
        let waiting = u32::from_ne_bytes(*parameters(1 << 40)[24..].first_chunk().expect("four bytes"));
        assert_eq!(u64::from(waiting), QUEUE.1);
    }
}
