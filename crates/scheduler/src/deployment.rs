//! Judges deployments: which version a process aims at, and whether a rollout failed.

use crate::Planner;
use crate::crash::Crash;
use crate::input::{Deployment, Process};
use crate::output::Finished;
use model::id::VersionId;
use model::work::Cause;

/// What the instances of a process are to become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim {
    /// The version that every index is to run.
    pub target: VersionId,
    /// The version that keeps its indices until the target serves there, crashes included.
    pub fallback: Option<VersionId>,
    /// New instances that may be on their way in place of ones that serve.
    pub budget: usize,
    /// Crashes of the target before do not count.
    pub since: Option<model::Timestamp>,
    /// How many indices the target takes for now; those after them are the fallback's.
    pub reach: u32,
    /// The index at which the fallback stays beside the target, so that a canary takes nothing from what served before.
    pub beside: Option<u32>,
}

impl Aim {
    /// The version that is to serve at the index.
    pub(crate) fn lead(&self, index: u32) -> VersionId {
        match self.fallback {
            Some(fallback) if index >= self.reach => fallback,
            _ => self.target,
        }
    }

    /// Whether an instance of the version stays at the index, whatever serves there.
    pub(crate) fn wants(&self, index: u32, version: VersionId) -> bool {
        version == self.lead(index) || (self.beside == Some(index) && self.fallback == Some(version))
    }

    /// Whether it goes only as far as a canary does.
    pub(crate) const fn is_canary(&self) -> bool {
        self.reach != u32::MAX
    }
}

impl Planner<'_> {
    /// What the process aims at; `None` where nothing of it is to run.
    ///
    /// A deployment that failed is finished here, and the process aims at its previous version from this plan on.
    pub(crate) fn aim(&mut self, process: &Process, deployment: Option<&Deployment>) -> Option<Aim> {
        let Some(deployment) = deployment else {
            return process.version.map(|version| settled(process, version));
        };
        if process.instances > 0 && !deployment.canceling {
            let Some(error) = self.failure(deployment) else {
                return Some(rolling(process, deployment));
            };
            let version = deployment.previous.unwrap_or(deployment.version);
            self.finish(deployment, version, Some(error));
            return Some(settled(process, version));
        }
        if let (true, Some(previous)) = (deployment.canceling, deployment.previous) {
            return Some(Aim {
                target: previous,
                fallback: None,
                budget: deployment.max_in_flight.max(1) as usize,
                since: None,
                reach: u32::MAX,
                beside: None,
            });
        }
        // Taken back with nothing to return to: what there is stays wanted.
        if deployment.canceling {
            self.finish(deployment, deployment.version, Some("canceled on request".to_owned()));
            return Some(settled(process, deployment.version));
        }
        Some(rolling(process, deployment))
    }

    /// Why the deployment can't succeed, if so.
    fn failure(&self, deployment: &Deployment) -> Option<String> {
        let history = self.observed.history.get(&(deployment.process, deployment.version))?;
        let crashes: Vec<&Crash> = history
            .recent
            .iter()
            .filter(|crash| crash.at >= deployment.created_at)
            .collect();
        let hopeless = crashes.iter().find(|crash| {
            matches!(
                crash.cause,
                Cause::StartTimeout { .. } | Cause::NotStarted { retryable: false, .. }
            )
        });
        if let Some(crash) = hopeless {
            return Some(format!("instance {}: {}", crash.index, crash.cause));
        }
        let last = crashes.last()?;
        (crashes.len() >= self.policy.deployment_crashes).then(|| {
            format!(
                "instances of the new version crashed {} times; the last, instance {}: {}",
                crashes.len(),
                last.index,
                last.cause
            )
        })
    }

    pub(crate) fn finish(&mut self, deployment: &Deployment, version: VersionId, canceled: Option<String>) {
        self.plan.finished.push(Finished {
            deployment: deployment.id,
            process: deployment.process,
            version,
            canceled,
        });
    }
}

fn rolling(process: &Process, deployment: &Deployment) -> Aim {
    let fallback = deployment.previous.filter(|previous| *previous != deployment.version);
    // Where nothing ran before there is nothing to compare with, and so nothing to wait for.
    let canary = deployment.canary.filter(|_| fallback.is_some());
    let reach = canary.map_or(u32::MAX, |share| share.of(process.instances));
    Aim {
        target: deployment.version,
        fallback,
        budget: deployment.max_in_flight.max(1) as usize,
        since: Some(deployment.created_at),
        reach,
        beside: canary
            .filter(|share| !share.is_whole())
            .map(|_| reach.saturating_sub(1)),
    }
}

/// Without a deployment: routed instances are replaced one by one, others all at once.
fn settled(process: &Process, version: VersionId) -> Aim {
    Aim {
        target: version,
        fallback: None,
        budget: if process.routable { 1 } else { usize::MAX },
        since: None,
        reach: u32::MAX,
        beside: None,
    }
}
