//! Usage events: what apps and services took when, for whoever bills by it. Pure; field names are Cloud Foundry's.

use crate::id::{AppId, OrgId, ProcessId, ServiceInstanceId, SpaceId, TaskId};
use serde::{Deserialize, Serialize};

/// What is, and what was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<T> {
    pub current: T,
    pub previous: T,
}

/// Something by guid and name; both `None` where there is no such thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named<T> {
    pub guid: Option<T>,
    pub name: Option<String>,
}

impl<T> Named<T> {
    /// Nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self { guid: None, name: None }
    }

    /// This one.
    #[must_use]
    pub fn of(guid: T, name: impl Into<String>) -> Self {
        Self {
            guid: Some(guid),
            name: Some(name.into()),
        }
    }
}

/// A process by guid and type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typed {
    pub guid: Option<ProcessId>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfOrg {
    pub guid: OrgId,
}

/// What of apps was in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppUsage {
    pub state: Change<String>,
    pub app: Named<AppId>,
    pub process: Typed,
    pub space: Named<SpaceId>,
    pub organization: OfOrg,
    /// Names alone: buildpacks that apps bring along have no guid here.
    pub buildpack: Named<String>,
    pub task: Named<TaskId>,
    pub memory_in_mb_per_instance: Change<u32>,
    pub instance_count: Change<u32>,
}

/// What of services was in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceUsage {
    /// `CREATED`, `UPDATED` or `DELETED`.
    pub state: String,
    pub space: Named<SpaceId>,
    pub organization: OfOrg,
    pub service_instance: Instance,
    pub service_plan: Named<String>,
    pub service_offering: Named<String>,
    pub service_broker: Named<String>,
}

/// A service instance; its type is `managed_service_instance` or `user_provided_service_instance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub guid: ServiceInstanceId,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// What a process that runs takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub process: ProcessId,
    pub process_type: String,
    pub app: Named<AppId>,
    pub space: Named<SpaceId>,
    pub organization: OfOrg,
    pub buildpack: Named<String>,
    pub memory_mb: u32,
    pub instances: u32,
}

/// A process is on or off for whoever bills.
const STARTED: &str = "STARTED";
const STOPPED: &str = "STOPPED";

/// What is to be told of a process that was told to run as `before`, and runs as `now`. Names alone are no news.
#[must_use]
pub fn news(before: Option<&Running>, now: Option<&Running>) -> Option<AppUsage> {
    let told = |of: &Running, was: &Running, state: &str, previous: &str| AppUsage {
        state: Change {
            current: state.to_owned(),
            previous: previous.to_owned(),
        },
        app: of.app.clone(),
        process: Typed {
            guid: Some(of.process),
            kind: Some(of.process_type.clone()),
        },
        space: of.space.clone(),
        organization: of.organization.clone(),
        buildpack: of.buildpack.clone(),
        task: Named::none(),
        memory_in_mb_per_instance: Change {
            current: of.memory_mb,
            previous: was.memory_mb,
        },
        instance_count: Change {
            current: of.instances,
            previous: was.instances,
        },
    };
    match (before, now) {
        (None, None) => None,
        (None, Some(now)) => Some(told(now, now, STARTED, STOPPED)),
        (Some(before), None) => Some(told(before, before, STOPPED, STARTED)),
        (Some(before), Some(now)) => {
            let same = (before.memory_mb, before.instances) == (now.memory_mb, now.instances);
            (!same).then(|| told(now, before, STARTED, STARTED))
        }
    }
}

/// How a process that runs is told when all is told anew: it was and is.
#[must_use]
pub fn anew(now: &Running) -> Option<AppUsage> {
    let mut told = news(None, Some(now))?;
    told.state.previous.clone_from(&told.state.current);
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn running(memory_mb: u32, instances: u32) -> Running {
        Running {
            process: Uuid::from_u128(1).into(),
            process_type: "web".to_owned(),
            app: Named::of(Uuid::from_u128(2).into(), "shop"),
            space: Named::of(Uuid::from_u128(3).into(), "dev"),
            organization: OfOrg {
                guid: Uuid::from_u128(4).into(),
            },
            buildpack: Named::none(),
            memory_mb,
            instances,
        }
    }

    fn told(before: Option<&Running>, now: Option<&Running>) -> Option<[String; 4]> {
        let news = news(before, now)?;
        let figures = |of: &Change<u32>| format!("{}<{}", of.current, of.previous);
        Some([
            news.state.current.clone(),
            news.state.previous.clone(),
            figures(&news.memory_in_mb_per_instance),
            figures(&news.instance_count),
        ])
    }

    #[test]
    fn starts_stops_and_other_sizes_are_news() {
        let (one, other) = (running(64, 1), running(32, 3));
        assert_eq!(told(None, None), None);
        assert_eq!(
            told(None, Some(&one)).expect("news"),
            ["STARTED", "STOPPED", "64<64", "1<1"]
        );
        assert_eq!(
            told(Some(&one), Some(&other)).expect("news"),
            ["STARTED", "STARTED", "32<64", "3<1"]
        );
        assert_eq!(
            told(Some(&one), None).expect("news"),
            ["STOPPED", "STARTED", "64<64", "1<1"]
        );
        let mut renamed = one.clone();
        renamed.app.name = Some("store".to_owned());
        assert_eq!(told(Some(&one), Some(&renamed)), None);
        let again = anew(&one).expect("told");
        assert_eq!(
            (again.state.current.as_str(), again.state.previous.as_str()),
            ("STARTED", "STARTED")
        );
    }
}
