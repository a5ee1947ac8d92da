//! Shapes of answers about hosts that join; see `wire`.

use super::wire::resource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

resource! {
    /// A token that a host joins with.
    JoinToken {
        id: String,
        #[serde(default)]
        role: String,
        #[serde(default)]
        label: String,
        #[serde(default)]
        valid_until: String,
        #[serde(default)]
        used_at: Option<String>,
        #[serde(default)]
        machine: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
    }
    /// Several.
    JoinTokens {
        tokens: Vec<JoinToken>,
    }
    /// A host that joined.
    Machine {
        id: String,
        role: String,
        #[serde(default)]
        name: String,
        #[serde(default)]
        label: String,
        #[serde(default)]
        joined_at: String,
        #[serde(default)]
        certificate_until: String,
        #[serde(default)]
        revoked_at: Option<String>,
    }
    /// Several.
    Machines {
        machines: Vec<Machine>,
    }
}
