//! Writes a plan: everything in one transaction, with its events, under the scheduler's lease.

use super::load::Loaded;
use super::{CycleError, Loop, failed, spec};
use crate::events::record;
use crate::services::{self, Group};
use model::SecretEnv;
use model::id::WorkId;
use model::resource::App;
use model::staging::BuildFailure;
use model::work::{Cause, Observation, Outcome, Wanted, Work, WorkKind, WorkSpec, WorkState};
use scheduler::{JobRef, Lost, Placement, Plan, Slot, Want};
use serde_json::json;
use store::{NewEvent, Tx};
use uuid::Uuid;

/// What comes of a placement.
enum Made {
    Work(Box<store::Placement>),
    /// The build can't be placed anywhere, ever.
    Failed(model::id::BuildId, BuildFailure),
    /// What it was for is gone.
    Nothing,
}

impl Loop {
    pub(super) async fn execute(&mut self, plan: Plan, loaded: &Loaded) -> Result<(), CycleError> {
        let context = self.control.context.clone();
        let mut made = Vec::with_capacity(plan.placements.len());
        for placement in &plan.placements {
            made.push(self.make(placement, loaded).await?);
        }
        let tx = context.store.begin().await.map_err(failed("begin a plan"))?;
        self.election.renew(&tx, &context).await?;
        for finished in &plan.finished {
            self.finish(&tx, finished, loaded).await?;
        }
        for paused in &plan.paused {
            self.pause(&tx, *paused, loaded).await?;
        }
        for settled in &plan.settled {
            self.settle(&tx, settled, loaded).await?;
        }
        self.lose(&tx, &plan.lost, loaded).await?;
        let placed = self.place(&tx, made, loaded).await?;
        self.want(&tx, &plan.wants, loaded).await?;
        tx.commit().await.map_err(failed("commit a plan"))?;
        for work in placed {
            self.histories.placed(work);
        }
        // Routers hear of what drains without waiting for the next cycle's look.
        if !plan.wants.is_empty() || !plan.lost.is_empty() {
            let table = context
                .store
                .route_table()
                .await
                .map_err(failed("read the route table"))?;
            self.control.edge.refresh(table);
        }
        tracing::debug!(
            placed = plan.placements.len(),
            wants = plan.wants.len(),
            lost = plan.lost.len(),
            finished = plan.finished.len(),
            settled = plan.settled.len(),
            "executed a plan"
        );
        Ok(())
    }

    /// Work whose cell is gone ends so.
    async fn lose(&self, tx: &Tx, lost: &[Lost], loaded: &Loaded) -> Result<(), CycleError> {
        for work in lost.iter().filter_map(|lost| loaded.works.get(&lost.work)) {
            let observation = ended(work, Cause::CellLost, loaded.now);
            tx.work_observe_batch(work.cell, &[observation])
                .await
                .map_err(failed("give up lost work"))?;
            self.control.cells.hold(work);
            if let Some(data) = record::about(work, &[]) {
                tx.event(record::event(&work.spec.owner, "instance.lost", data, loaded.now));
            }
        }
        Ok(())
    }

    async fn make(&self, placement: &Placement, loaded: &Loaded) -> Result<Made, CycleError> {
        let config = &self.control.context.config;
        let spec: Option<WorkSpec> = match placement.slot {
            Slot::Instance {
                process,
                version,
                index,
            } => loaded.processes.get(&process).and_then(|of| {
                let version = spec::version(of, version)?;
                Some(spec::instance(config, of, version, index))
            }),
            Slot::Job(JobRef::Build(id)) => match loaded.builds.iter().find(|pending| pending.build.id == id) {
                Some(of) => match spec::build(
                    &self.control.context,
                    &loaded.buildpacks,
                    of,
                    self.environment(&of.app, Group::Staging).await?,
                ) {
                    Ok(spec) => Some(spec),
                    Err(failure) => return Ok(Made::Failed(id, failure)),
                },
                None => None,
            },
            Slot::Job(JobRef::Task(id)) => match loaded.tasks.get(&id) {
                Some(of) => Some(spec::task(config, of, self.environment(&of.app, Group::Running).await?)),
                None => None,
            },
        };
        let before = placement.replaces.and_then(|work| loaded.works.get(&work));
        Ok(spec.map_or(Made::Nothing, |spec| {
            Made::Work(Box::new(store::Placement {
                id: WorkId(Uuid::now_v7()),
                cell: placement.cell,
                epoch: before.map_or(1, |work| work.epoch + 1),
                spec,
            }))
        }))
    }

    /// What an app's builds and tasks get; read when they are placed, not at every look.
    async fn environment(&self, app: &App, group: Group) -> Result<SecretEnv, CycleError> {
        let env = services::environment(&self.control.context.store, app, group).await;
        env.map_err(failed("read an app's services"))
    }

    async fn place(&self, tx: &Tx, made: Vec<Made>, loaded: &Loaded) -> Result<Vec<WorkId>, CycleError> {
        let mut placements = Vec::with_capacity(made.len());
        for made in made {
            match made {
                Made::Work(placement) => placements.push(*placement),
                Made::Failed(build, failure) => self.fail_build(tx, build, failure, loaded).await?,
                Made::Nothing => {}
            }
        }
        if placements.is_empty() {
            return Ok(Vec::new());
        }
        tx.work_insert_batch(&placements, loaded.now)
            .await
            .map_err(failed("write placements"))?;
        for placement in &placements {
            tx.event(placed_event(placement, loaded));
        }
        Ok(placements.iter().map(|placement| placement.id).collect())
    }

    async fn want(&mut self, tx: &Tx, wants: &[Want], loaded: &Loaded) -> Result<(), CycleError> {
        for wanted in [Wanted::Drain, Wanted::Stop] {
            let ids: Vec<WorkId> = wants
                .iter()
                .filter(|want| want.wanted == wanted)
                .map(|want| want.work)
                .collect();
            if ids.is_empty() {
                continue;
            }
            let changed = tx
                .work_want(&ids, wanted)
                .await
                .map_err(failed("write what is wanted"))?;
            for work in changed.iter().filter_map(|id| loaded.works.get(id)) {
                self.wanted.insert(work.id, (wanted, loaded.now));
                let kind = match (wanted, work.wanted) {
                    (Wanted::Drain, _) => "instance.draining",
                    (_, Wanted::Drain) => "instance.drained",
                    _ => continue,
                };
                if let Some(data) = record::about(work, &[]) {
                    tx.event(record::event(&work.spec.owner, kind, data, loaded.now));
                }
            }
        }
        Ok(())
    }
}

fn placed_event(placement: &store::Placement, loaded: &Loaded) -> NewEvent {
    let owner = &placement.spec.owner;
    let (kind, data) = match &placement.spec.kind {
        WorkKind::Instance(instance) => (
            "instance.placed",
            json!({
                "process": instance.process,
                "type": instance.process_type,
                "version": instance.version,
                "index": instance.index,
                "work": placement.id,
                "cell": placement.cell,
            }),
        ),
        WorkKind::Build(build) => (
            "build.placed",
            json!({"build": build.build, "work": placement.id, "cell": placement.cell}),
        ),
        WorkKind::Task(task) => (
            "task.placed",
            json!({"task": task.task, "work": placement.id, "cell": placement.cell}),
        ),
    };
    record::event(owner, kind, data, loaded.now)
}

/// The observation that nobody makes any more.
pub(crate) fn ended(work: &Work, cause: Cause, now: model::Timestamp) -> Observation {
    Observation {
        work: work.id,
        epoch: work.epoch,
        state: WorkState::Exited(Outcome {
            cause,
            at: now,
            build: None,
        }),
        routable: false,
        address: None,
        since: now,
        phases: Vec::new(),
    }
}
