//! What the runtime and the container in the making tell each other.

use serde::{Deserialize, Serialize};

/// From the container.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// From the process between: it has this pid.
    Born { pid: i32 },
    /// It has left the control groups' and the clock's namespaces.
    Apart,
    /// It needs what is to be mounted as number `mount`, of which there may be several parts.
    Tree { mount: usize, part: usize },
    /// It needs a node of the host for number `device`.
    Node { device: usize },
    /// Its terminal, with the descriptor.
    Console,
    /// Who decides about some of its calls gets this descriptor.
    Listener,
    /// It is furnished; hooks may look at it.
    Furnished,
    /// It waits for its start.
    Ready,
    /// A step failed.
    Failed { stage: String, errno: i32 },
}

/// To the container.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tell {
    /// Go on. Descriptors: what was asked for, if anything was.
    Go,
    /// It cannot be had.
    Refused { stage: String, errno: i32 },
    /// Execute the program.
    Start,
}
