//! Parked sandboxes: what can be built before anybody knows which app it is for, and how long
//! the steps of a start took. Plain data; the building is `runtime/pool.rs`'s.
//! `docs/adr/0013-parked-sandboxes.md` has why, and what one may hold.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Bind, Limits, Network, Spec};

/// How much a runtime keeps ready, in [`crate::Config`]. A parked sandbox has an init that
/// waits, groups, a private layer and perhaps a network, but no app: it belongs to nobody and
/// ends with its agent. `docs/benchmarks.md` has what one costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parking {
    /// Most parked sandboxes at once, of all shapes together; 0 switches parking off.
    pub max: usize,
    /// Private layers kept ready for starts that find nothing parked, of the sizes last asked for.
    pub disks: usize,
    /// Blank sandboxes kept ready for starts that find nothing parked: each an init in its groups
    /// and namespaces, without a private layer and a root, that fits whatever is asked for.
    pub blanks: usize,
}

/// What a parked sandbox is built for. A start takes it if disk and network fit, and the root
/// if there is one; other limits are set when it is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParkSpec {
    /// Hard size limit of the private layer in bytes.
    pub disk_bytes: u64,
    /// Most files and folders in it.
    pub inodes: u64,
    /// Limits it waits under; it costs a little to change them.
    pub limits: Limits,
    /// Whether it has an address.
    pub networked: bool,
    /// The app's user inside.
    pub uid: u32,
    /// Its root, if that is known; otherwise it is mounted when it is taken, which takes longer.
    pub root: Option<ParkedRoot>,
}

/// The root of a parked sandbox, as in [`Spec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParkedRoot {
    /// Folders rooted at `/`, uppermost first.
    pub layers: Vec<PathBuf>,
    /// Host folders or files shown inside.
    pub binds: Vec<Bind>,
}

impl ParkSpec {
    /// What fits `spec` and whatever differs from it in its root.
    pub fn shape(spec: &Spec) -> ParkSpec {
        ParkSpec {
            disk_bytes: spec.disk_bytes,
            inodes: spec.inodes,
            limits: spec.limits,
            networked: matches!(spec.network, Network::Isolated { .. }),
            uid: spec.process.uid,
            root: None,
        }
    }

    /// Whether what is built for this serves `wanted` too.
    pub(crate) fn suits(&self, wanted: &ParkSpec) -> bool {
        let own = (self.disk_bytes, self.inodes, self.networked, self.uid, &self.root);
        own == (
            wanted.disk_bytes,
            wanted.inodes,
            wanted.networked,
            wanted.uid,
            &wanted.root,
        )
    }

    /// What fits `spec` and others with the same root.
    pub fn whole(spec: &Spec) -> ParkSpec {
        let (layers, binds) = (spec.layers.clone(), spec.binds.clone());
        ParkSpec {
            root: Some(ParkedRoot { layers, binds }),
            ..ParkSpec::shape(spec)
        }
    }
}

/// How a start went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartReport {
    /// Whether it took a parked sandbox.
    pub parked: bool,
    /// Whether it took a blank one, see [`Parking::blanks`].
    pub blank: bool,
    /// Its steps in order of time, those of the host and (named `init: …`) those inside, which
    /// run at the same time.
    pub phases: Vec<Phase>,
}

/// A step of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Which.
    pub name: String,
    /// When it was done, since [`crate::Runtime::create`] was called.
    pub at: Duration,
}
