//! What comes of builds and tasks that ended: droplet and cache, or a failure in words.

use super::load::Loaded;
use super::{CycleError, Loop, failed};
use crate::events::record;
use model::Digest;
use model::id::{BuildId, DropletId, TaskId};
use model::resource::{BuildCache, BuildState, Droplet, TaskState};
use model::staging::{BuildFailure, BuildResult, FailureClass};
use model::work::{Cause, Outcome, WorkState};
use scheduler::{JobRef, Settled, Verdict};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use store::{PendingBuild, Tx};
use uuid::Uuid;

impl Loop {
    pub(super) async fn settle(&self, tx: &Tx, settled: &Settled, loaded: &Loaded) -> Result<(), CycleError> {
        let outcome = match &settled.verdict {
            Verdict::Ended(work) => {
                let work = tx.work_fetch(*work).await.map_err(failed("read ended work"))?;
                match work.map(|work| work.state) {
                    Some(WorkState::Exited(outcome)) => Some(outcome),
                    _ => return Ok(()),
                }
            }
            Verdict::GivenUp { cause, .. } => Some(Outcome {
                cause: cause.clone(),
                at: loaded.now,
                build: None,
            }),
            Verdict::Canceled => None,
        };
        match settled.job {
            JobRef::Build(id) => self.settle_build(tx, id, outcome, loaded).await,
            JobRef::Task(id) => self.settle_task(tx, id, outcome, loaded).await,
        }
    }

    async fn settle_build(
        &self,
        tx: &Tx,
        id: BuildId,
        outcome: Option<Outcome>,
        loaded: &Loaded,
    ) -> Result<(), CycleError> {
        let Some(pending) = loaded.builds.iter().find(|pending| pending.build.id == id) else {
            return Ok(());
        };
        let outcome = outcome.unwrap_or(Outcome {
            cause: Cause::Stopped { killed: false },
            at: loaded.now,
            build: None,
        });
        match judge(outcome) {
            Ok(result) => self.staged(tx, pending, result, loaded).await,
            Err(failure) => self.fail_build(tx, id, failure, loaded).await,
        }
    }

    async fn staged(
        &self,
        tx: &Tx,
        pending: &PendingBuild,
        result: BuildResult,
        loaded: &Loaded,
    ) -> Result<(), CycleError> {
        let droplet = droplet(pending, &result, loaded.now);
        let mut build = pending.build.clone();
        build.state = BuildState::Staged;
        build.droplet = Some(droplet.id);
        build.updated_at = loaded.now;
        tx.droplet_create(&droplet).await.map_err(failed("create a droplet"))?;
        if !tx.build_finish(&build).await.map_err(failed("end a build"))? {
            // It has ended otherwise; a droplet that nothing refers to is collected.
            return Ok(());
        }
        let cache = BuildCache {
            layers: result.cache,
            store: result.store,
        };
        tx.build_cache_set(build.app, &build.stack, &cache, loaded.now)
            .await
            .map_err(failed("keep a build's cache"))?;
        for phase in &result.phases {
            let data = json!({"build": build.id, "name": phase.name, "duration_ms": phase.duration_ms});
            tx.event(record::event(&pending.owner, "build.phase", data, loaded.now));
        }
        let data = json!({"build": build.id, "droplet": droplet.id, "reused": false});
        tx.event(record::event(&pending.owner, "build.staged", data, loaded.now));
        Ok(())
    }

    pub(super) async fn fail_build(
        &self,
        tx: &Tx,
        id: BuildId,
        failure: BuildFailure,
        loaded: &Loaded,
    ) -> Result<(), CycleError> {
        let Some(pending) = loaded.builds.iter().find(|pending| pending.build.id == id) else {
            return Ok(());
        };
        let mut build = pending.build.clone();
        build.state = BuildState::Failed;
        build.error = Some(failure.clone());
        build.updated_at = loaded.now;
        if tx.build_finish(&build).await.map_err(failed("end a build"))? {
            let data = json!({"build": id, "error": failure});
            tx.event(record::event(&pending.owner, "build.failed", data, loaded.now));
        }
        Ok(())
    }

    async fn settle_task(
        &self,
        tx: &Tx,
        id: TaskId,
        outcome: Option<Outcome>,
        loaded: &Loaded,
    ) -> Result<(), CycleError> {
        let Some(pending) = loaded.tasks.get(&id) else {
            return Ok(());
        };
        let mut task = pending.task.clone();
        task.updated_at = loaded.now;
        task.failure = match outcome.map(|outcome| outcome.cause) {
            Some(Cause::Exited { code: 0 }) => None,
            Some(cause) => Some(cause.to_string()),
            None => Some("task was cancelled".to_owned()),
        };
        task.state = if task.failure.is_none() {
            TaskState::Succeeded
        } else {
            TaskState::Failed
        };
        if tx.task_step(&task).await.map_err(failed("end a task"))? {
            let data = json!({"task": id, "state": task.state, "failure": task.failure});
            tx.event(record::event(&pending.owner, "task.finished", data, loaded.now));
        }
        Ok(())
    }
}

fn droplet(pending: &PendingBuild, result: &BuildResult, now: model::Timestamp) -> Droplet {
    let build = &pending.build;
    let mut layers = result.layers.clone();
    let mut digest = Sha256::new();
    for layer in &mut layers {
        // A file of the staging sandbox, which is gone.
        layer.file = None;
        digest.update(layer.digest.as_bytes());
    }
    Droplet {
        id: DropletId(Uuid::now_v7()),
        app: build.app,
        package: Some(build.package),
        build: Some(build.id),
        digest: Digest::from_sha256(digest.finalize().into()),
        layers,
        processes: result.processes.clone(),
        buildpacks: result.buildpacks.clone(),
        sidecars: result.sidecars.clone(),
        image: result.image.clone(),
        stack: build.stack.clone(),
        input_digest: build.input_digest.clone(),
        metadata: model::resource::Metadata::default(),
        created_at: now,
    }
}

/// The result of a build that succeeded, or why it failed.
pub(crate) fn judge(outcome: Outcome) -> Result<BuildResult, BuildFailure> {
    const MIB: u64 = 1 << 20;
    let fail = |class, title: &str, cause: String, remedy: &str| {
        Err(BuildFailure {
            class,
            title: title.to_owned(),
            cause,
            remedy: remedy.to_owned(),
        })
    };
    let again = "push again; if it happens again, tell the operator of the platform";
    if let Some(error) = outcome.build.as_ref().and_then(|build| build.error.clone()) {
        return Err(error);
    }
    match (outcome.cause, outcome.build) {
        (Cause::Exited { code: 0 }, Some(result)) if !result.layers.is_empty() => Ok(*result),
        (
            Cause::OutOfMemory {
                limit_bytes,
                peak_bytes,
            },
            _,
        ) => fail(
            FailureClass::StagingOutOfMemory,
            "the build ran out of memory",
            format!(
                "it was killed at its limit of {} MiB (peak {} MiB)",
                limit_bytes / MIB,
                peak_bytes / MIB
            ),
            "raise the app's memory limit (paas push -m 2G): builds get at least 1 GiB, and more where the app has more",
        ),
        (Cause::TimedOut { seconds }, _) => fail(
            FailureClass::StagingTimeExpired,
            "the build took too long",
            format!("it was ended after {seconds} s, the time that a build may take"),
            "look in the staging log for the step that hangs, or do part of the work before the push",
        ),
        (cause @ Cause::NotStarted { .. }, _) => fail(
            FailureClass::StagingError,
            "the build could not be started",
            cause.to_string(),
            again,
        ),
        (Cause::CellLost, _) => fail(
            FailureClass::StagingError,
            "the build was lost",
            "the cell that it ran on went away, on every try".to_owned(),
            again,
        ),
        (Cause::Stopped { .. }, _) => fail(
            FailureClass::StagingError,
            "the build was stopped",
            "the platform stopped it before it ended".to_owned(),
            again,
        ),
        (cause, _) => fail(
            FailureClass::StagingError,
            "the build ended without a result",
            cause.to_string(),
            "look at the end of the staging log (paas logs --recent) for what ended it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(cause: Cause) -> Outcome {
        Outcome {
            cause,
            at: model::Timestamp::UNIX_EPOCH,
            build: None,
        }
    }

    #[test]
    fn failures_say_what_to_do() {
        let failure = judge(outcome(Cause::OutOfMemory {
            limit_bytes: 1 << 30,
            peak_bytes: 1 << 30,
        }))
        .unwrap_err();
        assert_eq!(failure.class, FailureClass::StagingOutOfMemory);
        assert!(failure.cause.contains("1024 MiB"), "{failure:?}");
        let failure = judge(outcome(Cause::TimedOut { seconds: 900 })).unwrap_err();
        assert_eq!(failure.class, FailureClass::StagingTimeExpired);
        assert!(failure.cause.contains("900 s"), "{failure:?}");
        for cause in [
            Cause::CellLost,
            Cause::Exited { code: 0 },
            Cause::Exited { code: 223 },
            Cause::Signalled { signal: 9 },
            Cause::Stopped { killed: true },
            Cause::NotStarted {
                detail: "no disk".to_owned(),
                retryable: true,
            },
        ] {
            let failure = judge(outcome(cause.clone())).unwrap_err();
            assert!(
                !failure.title.is_empty() && !failure.cause.is_empty() && !failure.remedy.is_empty(),
                "{cause:?}"
            );
        }
    }

    #[test]
    fn what_the_lifecycle_says_counts_first() {
        let error = BuildFailure {
            class: FailureClass::NoAppDetectedError,
            title: "no language was recognised".to_owned(),
            cause: "none matched".to_owned(),
            remedy: "name a buildpack".to_owned(),
        };
        let build = BuildResult {
            error: Some(error.clone()),
            ..BuildResult::default()
        };
        let outcome = Outcome {
            build: Some(Box::new(build)),
            ..outcome(Cause::Exited { code: 222 })
        };
        assert_eq!(judge(outcome).unwrap_err(), error);
    }
}
