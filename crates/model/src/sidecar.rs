//! Processes that run beside others in the same instance: which do, and whether they leave it memory. Pure.

use crate::Timestamp;
use crate::id::{AppId, SidecarId};
use crate::staging::SidecarTemplate;
use serde::{Deserialize, Serialize};

/// Most sidecars beside one process type: as many as a sandbox has streams for.
pub const MAX_OF_TYPE: usize = 8;
/// Most sidecars of an app.
pub const MAX_OF_APP: usize = 50;
/// Longest name, and longest process type that one names.
pub const MAX_NAME: usize = 255;
/// Longest command.
pub const MAX_COMMAND: usize = 4096;

/// Who wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A user, through the API or a manifest.
    User,
    /// A buildpack of the app's droplet: it goes with the droplet.
    Buildpack,
}

/// A process beside others of an app.
#[derive(Debug, Clone, PartialEq)]
pub struct Sidecar {
    pub id: SidecarId,
    pub app: AppId,
    /// Its process types in order, each once.
    pub what: SidecarTemplate,
    pub origin: Origin,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Those of `all` that run beside the process type.
#[must_use]
pub fn beside(all: &[SidecarTemplate], process_type: &str) -> Vec<SidecarTemplate> {
    all.iter()
        .filter(|sidecar| runs_beside(sidecar, process_type))
        .cloned()
        .collect()
}

/// Whether it runs beside the process type.
#[must_use]
pub fn runs_beside(sidecar: &SidecarTemplate, process_type: &str) -> bool {
    sidecar.process_types.iter().any(|wanted| wanted == process_type)
}

/// MiB that those of `all` which run beside the process type keep of its memory.
#[must_use]
pub fn reserved_mb(all: &[SidecarTemplate], process_type: &str) -> u64 {
    let beside = all.iter().filter(|sidecar| runs_beside(sidecar, process_type));
    beside.filter_map(|sidecar| sidecar.memory_mb).map(u64::from).sum()
}

/// Whether two lists ask for the same things to run. What they may use is of no matter here, as in Cloud Foundry.
#[must_use]
pub fn same(one: &[SidecarTemplate], other: &[SidecarTemplate]) -> bool {
    let sorted = |all: &[SidecarTemplate]| {
        let mut all: Vec<_> = all
            .iter()
            .map(|one| (one.name.clone(), one.command.clone(), one.process_types.clone()))
            .collect();
        all.sort_unstable();
        all
    };
    sorted(one) == sorted(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(name: &str, types: &[&str], memory_mb: Option<u32>) -> SidecarTemplate {
        SidecarTemplate {
            name: name.to_owned(),
            command: "./agent".to_owned(),
            process_types: types.iter().map(|&t| t.to_owned()).collect(),
            memory_mb,
        }
    }

    #[test]
    fn they_run_beside_the_types_they_name_and_take_their_memory() {
        let all = [
            sidecar("both", &["web", "worker"], Some(16)),
            sidecar("worker", &["worker"], Some(8)),
            sidecar("free", &["worker"], None),
        ];
        let names =
            |process_type| -> Vec<String> { beside(&all, process_type).into_iter().map(|one| one.name).collect() };
        assert_eq!(names("web"), ["both"]);
        assert_eq!(names("worker"), ["both", "worker", "free"]);
        assert!(names("task").is_empty());
        assert_eq!(["web", "worker", "task"].map(|t| reserved_mb(&all, t)), [16, 24, 0]);
    }

    #[test]
    fn lists_are_the_same_whatever_their_order_and_memory() {
        let one = [sidecar("a", &["web"], Some(1)), sidecar("b", &["web"], None)];
        let other = [sidecar("b", &["web"], Some(9)), sidecar("a", &["web"], None)];
        assert!(same(&one, &other));
        assert!(!same(&one, &other[..1]));
        assert!(!same(
            &one,
            &[sidecar("a", &["web"], None), sidecar("b", &["worker"], None)]
        ));
    }
}
