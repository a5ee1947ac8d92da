//! Who decides about calls that a filter does not: the descriptor on which they are told goes to the socket that the
//! configuration names, with the container's state. What is decided there is not this runtime's affair.

use std::os::fd::OwnedFd;

use oci_spec::runtime::{ContainerState as Status, Spec};
use serde_json::{Value, json};

use super::console;
use super::error::{Context, Error, Result};
use super::state::Record;

/// Sends the descriptor of the process `pid`, the only one of `fds`.
pub fn hand_over(spec: &Spec, record: &Record, pid: i32, fds: Vec<OwnedFd>) -> Result<()> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let path = profile.and_then(|profile| profile.listener_path().as_ref());
    let (Some(path), [fd]) = (path, fds.as_slice()) else {
        let what = format!("container {}: a listener that nobody asked for", record.id);
        return Err(Error::Unsupported { what });
    };
    let metadata = profile.and_then(|profile| profile.listener_metadata().as_deref());
    let text = message(record, pid, metadata.unwrap_or_default()).to_string();
    console::send_with(path, text.as_bytes(), fd).at("send the listener to", path)
}

fn message(record: &Record, pid: i32, metadata: &str) -> Value {
    let state = record.state(Status::Creating);
    json!({
        "ociVersion": state.version(),
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": metadata,
        "state": state,
    })
}
