//! Parsers of this crate that have no way in from outside, for the fuzz targets. Not for use.

use std::os::fd::AsFd;

use crate::record::{Record, valid_id};
use crate::wire::{self, Answer, Ask, Command, Order, Reply, Report};
use crate::{ExecSpec, Exit, Spec, check};

/// One message as each receiver would read it, and what goes in files and anonymous memory.
pub fn message(bytes: &[u8]) {
    as_message::<Ask>(bytes);
    as_message::<Answer>(bytes);
    as_message::<Order>(bytes);
    as_message::<Report>(bytes);
    as_message::<Command>(bytes);
    as_message::<Reply>(bytes);
    if let Ok(spec) = serde_json::from_slice::<Spec>(bytes) {
        let _ = check::spec(&spec);
    }
    if let Ok(spec) = serde_json::from_slice::<ExecSpec>(bytes) {
        let _ = check::exec("any", &spec);
    }
    let _ = serde_json::from_slice::<Exit>(bytes);
    if let Ok(record) = serde_json::from_slice::<Record>(bytes) {
        let _ = valid_id(&record.id) && valid_id(record.seat());
    }
}

/// Over a real socket, as the length of a message is the kernel's to tell.
fn as_message<T: serde::de::DeserializeOwned>(bytes: &[u8]) {
    let Ok((ours, theirs)) = wire::pair() else { return };
    if rustix::io::write(&ours, bytes).is_ok() {
        drop(ours);
        let _ = wire::receive::<T>(theirs.as_fd());
    }
}

/// One of each message.
pub fn message_seeds() -> Vec<Vec<u8>> {
    let id = || "one".to_owned();
    let ended = wire::Ended {
        code: Some(1),
        signal: None,
    };
    let failed = || ("stage".to_owned(), 5, true);
    let (stage, errno, program) = failed();
    let mut seeds = Vec::new();
    let mut add = |value: serde_json::Result<Vec<u8>>| seeds.extend(value);
    add(serde_json::to_vec(&Ask::Hello {
        protocol: wire::PROTOCOL,
    }));
    add(serde_json::to_vec(&Ask::Status { id: id() }));
    add(serde_json::to_vec(&Ask::Retire));
    add(serde_json::to_vec(&Answer::Created { pid: 7 }));
    add(serde_json::to_vec(&Answer::Status {
        known: true,
        ended: Some(ended),
    }));
    add(serde_json::to_vec(&Order::Take));
    add(serde_json::to_vec(&Order::Share {
        sidecar: 0,
        peak: true,
        event: false,
    }));
    add(serde_json::to_vec(&Report::Ready { steps: vec![(id(), 2)] }));
    add(serde_json::to_vec(&Report::Failed { stage, errno, program }));
    add(serde_json::to_vec(&Command::Signal { signal: 15 }));
    add(serde_json::to_vec(&Reply::Ended(ended)));
    let (stage, errno, program) = failed();
    add(serde_json::to_vec(&Reply::Failed { stage, errno, program }));
    add(serde_json::to_vec(&exit()));
    seeds
}

fn exit() -> Exit {
    Exit {
        code: None,
        signal: Some(9),
        oom: Some(crate::Oom {
            limit_bytes: 1,
            peak_bytes: 2,
        }),
        started_ns: 1,
        ended_ns: 2,
        pids_refused: 3,
        sidecar: None,
    }
}
