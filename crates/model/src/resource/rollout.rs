//! What an app ran and runs: deployments from one version to the next, and revisions to go back to.

use super::Metadata;
use crate::Timestamp;
use crate::canary::Canary;
use crate::id::{AppId, DeploymentId, DropletId, ProcessId, RevisionId, UserId, VersionId};
use crate::name::ProcessType;
use crate::secret::SecretEnv;
use crate::staging::SidecarTemplate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far a deployment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DeploymentState {
    /// New instances come up, old ones leave.
    Deploying,
    /// A step of a canary is reached, and nothing moves until a user says so.
    Paused,
    /// All instances are of the new version.
    Deployed,
    /// The old version is being restored.
    Canceling,
    /// It was restored: by a user, or because the new version did not become healthy.
    Canceled,
    /// A newer deployment took over.
    Superseded,
}

impl DeploymentState {
    /// Each of them.
    pub const ALL: [Self; 6] = [
        Self::Deploying,
        Self::Paused,
        Self::Deployed,
        Self::Canceling,
        Self::Canceled,
        Self::Superseded,
    ];

    /// Whether it is under way.
    #[must_use]
    pub const fn is_active(self) -> bool {
        match self {
            Self::Deploying | Self::Paused | Self::Canceling => true,
            Self::Deployed | Self::Canceled | Self::Superseded => false,
        }
    }
}

/// A rollout of a version of the web process.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub id: DeploymentId,
    pub app: AppId,
    pub state: DeploymentState,
    pub droplet: DropletId,
    pub previous_droplet: Option<DropletId>,
    pub process: ProcessId,
    pub version: VersionId,
    /// To return to; `None` where nothing ran before.
    pub previous_version: Option<VersionId>,
    pub max_in_flight: u32,
    /// Its steps, where it is to stop for a look.
    pub canary: Option<Canary>,
    /// The revision that it deploys: its id, and its number in the app.
    pub revision: Option<(RevisionId, u32)>,
    pub metadata: Metadata,
    /// Why it was cancelled by the platform.
    pub error: Option<String>,
    pub created_by: UserId,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What an app ran: it can be rolled back to while its droplet is kept.
#[derive(Debug, Clone)]
pub struct Revision {
    pub id: RevisionId,
    pub app: AppId,
    /// Counted per app, from 1.
    pub version: u32,
    pub droplet: DropletId,
    pub env: SecretEnv,
    /// The app's own command by process type; `None` is the droplet's.
    pub commands: BTreeMap<ProcessType, Option<String>>,
    /// What was new.
    /// What ran beside them.
    pub sidecars: Vec<SidecarTemplate>,
    pub description: String,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}
