//! Shapes of answers about buildpacks, builds and stacks; see [`super::wire`].

use super::wire::resource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

resource! {
    /// A buildpack of the platform.
    Buildpack {
        guid: String,
        name: String,
        #[serde(default)]
        position: u32,
        #[serde(default)]
        stack: Option<String>,
        #[serde(default)]
        enabled: bool,
        #[serde(default)]
        locked: bool,
        #[serde(default)]
        state: String,
        #[serde(default)]
        filename: Option<String>,
    }
    /// What apps run on.
    Stack {
        guid: String,
        name: String,
        #[serde(default)]
        description: Option<String>,
        #[serde(default)]
        default: bool,
    }
    /// How a build went.
    BuildHistory {
        #[serde(default)]
        state: String,
        #[serde(default)]
        duration_ms: u64,
        #[serde(default)]
        phases: Vec<BuildPhase>,
        #[serde(default)]
        waiting: Option<BuildWaits>,
        #[serde(default)]
        lines: Vec<BuildLine>,
    }
    /// A step of a build.
    BuildPhase {
        name: String,
        duration_ms: u64,
    }
    /// What a build waits for.
    BuildWaits {
        reason: String,
        #[serde(default)]
        smallest_change: String,
    }
    /// What a build said.
    BuildLine {
        #[serde(default)]
        at: String,
        #[serde(default)]
        stream: String,
        text: String,
    }
}
