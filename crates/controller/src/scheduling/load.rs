//! Turns rows into the planner's input. Reads only; what is not stored (leases, acknowledgements) comes from the feeds.

use super::{CycleError, Loop, failed};
use model::Timestamp;
use model::canary::Canary;
use model::id::{CellId, ProcessId, SpaceId, TaskId, WorkId};
use model::isolation;
use model::resource::{Buildpack, Cell, Deployment, DeploymentState, Droplet, Task, TaskState};
use model::work::{Outcome, Owner, Wanted, Work, WorkKind, WorkState};
use scheduler::{CellView, Desired, Job, JobRef, Needs, Observed, Process, Slot};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use store::{DesiredProcess, PendingBuild};

/// Isolation segments by space, where they are other than the shared one.
type Segments = HashMap<SpaceId, String>;

/// A task with what its work is made of.
pub(super) struct PendingTask {
    pub task: Task,
    pub owner: Owner,
    pub droplet: Droplet,
    pub app: model::resource::App,
}

/// What an earlier look read.
#[derive(Default)]
pub(super) struct Seen {
    pub works: HashMap<WorkId, Work>,
    pub versions: store::KnownVersions,
}

impl Seen {
    fn of(works: &[Work], processes: &[DesiredProcess]) -> Self {
        let versions = processes.iter().flat_map(|process| &process.versions);
        Self {
            works: works.iter().map(|work| (work.id, work.clone())).collect(),
            versions: versions.map(|of| (of.version.id, of.clone())).collect(),
        }
    }
}

/// The planner's input, and the rows that executing its output needs.
pub(super) struct Loaded {
    pub now: Timestamp,
    pub desired: Desired,
    pub observed: Observed,
    pub cells: Vec<CellView>,
    /// Cells whose instances move away, with how many at once.
    pub draining: BTreeMap<CellId, u32>,
    pub processes: HashMap<ProcessId, DesiredProcess>,
    pub deployments: Vec<Deployment>,
    pub builds: Vec<PendingBuild>,
    pub buildpacks: Vec<Buildpack>,
    pub tasks: HashMap<TaskId, PendingTask>,
    pub works: HashMap<WorkId, Work>,
}

/// Whether routers send requests to instances of the process.
pub(crate) fn is_routable(process: &model::resource::Process) -> bool {
    process.process_type.as_str() == "web" || !matches!(process.health.probe, model::health::Probe::Process)
}

impl Loop {
    pub(super) async fn load(&mut self) -> Result<Loaded, CycleError> {
        let store = self.control.context.store.clone();
        // Before the processes: a deployment of which the process is not wanted later was of an app that was stopped.
        let deployments = store.deployments_active().await.map_err(failed("read deployments"))?;
        let processes = store
            .processes_desired_beside(&self.seen.versions)
            .await
            .map_err(failed("read desired processes"))?;
        let deployments = deployments_of(deployments, &processes);
        let builds = store.builds_pending().await.map_err(failed("read pending builds"))?;
        let buildpacks = store.buildpack_list().await.map_err(failed("read buildpacks"))?;
        let buildpacks = crate::actions::buildpack::merged(&self.control.context, buildpacks);
        let tasks = self.tasks().await?;
        let cells = store.cell_list().await.map_err(failed("read cells"))?;
        let works = store
            .works_live_beside(&self.seen.works)
            .await
            .map_err(failed("read work"))?;
        // After the work: whatever was seen routable is in this table, or nothing leads to it.
        let table = store.route_table().await.map_err(failed("read the route table"))?;
        self.control.edge.refresh(table);
        let now = self.control.context.now();
        self.histories.look(&store, &works, &self.policy.crash, now).await?;
        let wanted: HashSet<ProcessId> = processes.iter().map(|process| process.process.id).collect();
        self.histories.retain(&wanted);
        let segments = store
            .segments_by_space()
            .await
            .map_err(failed("read isolation segments"))?;
        let segments = segments
            .iter()
            .map(|(space, name)| (*space, isolation::key(name)))
            .collect();
        let jobs = self.jobs(&builds, &tasks, &segments).await?;
        self.remember(&works, now);
        self.seen = Seen::of(&works, &processes);
        let observed = Observed {
            works: works.iter().map(|work| self.work(work)).collect(),
            history: self.histories.of.clone(),
        };
        let desired = Desired {
            processes: desired_processes(&processes, &deployments, &segments),
            deployments: deployments.iter().map(desired_deployment).collect(),
            jobs,
        };
        let known: HashSet<WorkId> = works.iter().map(|work| work.id).collect();
        self.control.edge.retain(&known);
        Ok(Loaded {
            now,
            desired,
            observed,
            cells: cells.iter().map(|cell| self.cell(cell, now)).collect(),
            draining: draining(&cells),
            processes: processes
                .into_iter()
                .map(|process| (process.process.id, process))
                .collect(),
            deployments,
            builds,
            buildpacks,
            tasks: tasks.into_iter().map(|task| (task.task.id, task)).collect(),
            works: works.into_iter().map(|work| (work.id, work)).collect(),
        })
    }

    async fn tasks(&self) -> Result<Vec<PendingTask>, CycleError> {
        let store = &self.control.context.store;
        let mut pending = Vec::new();
        for task in store.tasks_live().await.map_err(failed("read tasks"))? {
            let owner = store.app_owner(task.app).await.map_err(failed("read a task's owner"))?;
            let app = store.app_fetch(task.app).await.map_err(failed("read a task's app"))?;
            let droplet = store
                .droplet_fetch(task.droplet)
                .await
                .map_err(failed("read a task's droplet"))?;
            if let (Some(owner), Some(app), Some(droplet)) = (owner, app, droplet) {
                pending.push(PendingTask {
                    task,
                    owner,
                    droplet,
                    app,
                });
            }
        }
        Ok(pending)
    }

    async fn jobs(
        &self,
        builds: &[PendingBuild],
        tasks: &[PendingTask],
        segments: &Segments,
    ) -> Result<Vec<Job>, CycleError> {
        let mut jobs = Vec::with_capacity(builds.len() + tasks.len());
        for pending in builds {
            let build = &pending.build;
            jobs.push(Job {
                id: JobRef::Build(build.id),
                app: build.app,
                needs: Needs {
                    memory_mb: build.limits.memory_mb,
                    disk_mb: build.limits.disk_mb,
                    stack: build.stack.clone(),
                    segment: segments.get(&pending.owner.space).cloned(),
                    layers: pending.cache.layers.iter().map(|layer| layer.digest.clone()).collect(),
                },
                cancel: false,
                tries: self.tries(build.id.0).await?,
                created_at: build.created_at,
            });
        }
        for PendingTask {
            task, droplet, owner, ..
        } in tasks
        {
            jobs.push(Job {
                id: JobRef::Task(task.id),
                app: task.app,
                needs: Needs {
                    memory_mb: task.limits.memory_mb,
                    disk_mb: task.limits.disk_mb,
                    stack: droplet.stack.clone(),
                    segment: segments.get(&owner.space).cloned(),
                    layers: droplet.layers.iter().map(|layer| layer.digest.clone()).collect(),
                },
                cancel: task.state == TaskState::Canceling,
                tries: self.tries(task.id.0).await?,
                created_at: task.created_at,
            });
        }
        Ok(jobs)
    }

    async fn tries(&self, subject: uuid::Uuid) -> Result<Vec<(WorkId, model::work::Cause)>, CycleError> {
        let store = &self.control.context.store;
        let ended = store
            .work_history(subject, Timestamp::UNIX_EPOCH)
            .await
            .map_err(failed("read earlier tries"))?;
        let tries = ended.into_iter().filter_map(|work| match work.state {
            WorkState::Exited(Outcome { cause, .. }) => Some((work.id, cause)),
            _ => None,
        });
        Ok(tries.collect())
    }

    /// Notes since when something is wanted: rows don't say.
    fn remember(&mut self, works: &[Work], now: Timestamp) {
        let mut wanted = HashMap::with_capacity(works.len());
        for work in works {
            let since = match self.wanted.get(&work.id) {
                Some((before, since)) if *before == work.wanted => *since,
                _ if work.wanted == Wanted::Run => work.created_at,
                _ => now,
            };
            wanted.insert(work.id, (work.wanted, since));
        }
        self.wanted = wanted;
    }

    fn work(&self, work: &Work) -> scheduler::Work {
        scheduler::Work {
            id: work.id,
            slot: slot(&work.spec.kind),
            cell: work.cell,
            memory_mb: work.spec.limits.memory_mb,
            disk_mb: work.spec.limits.disk_mb,
            wanted: work.wanted,
            wanted_since: self.wanted.get(&work.id).map_or(work.created_at, |(_, since)| *since),
            state: work.state.clone(),
            routable: work.routable,
            routed: self.control.edge.is_routed(work.id),
            drained: self.control.edge.is_drained(work.id),
            created_at: work.created_at,
        }
    }

    fn cell(&self, cell: &Cell, now: Timestamp) -> CellView {
        let standing = self.control.cells.standing(cell, now);
        CellView {
            id: cell.info.id,
            name: cell.info.name.clone(),
            zone: cell.info.zone.clone(),
            stacks: cell.info.stacks.iter().cloned().collect(),
            segments: isolation::of_cell(&cell.info),
            memory_mb: cell.info.memory_mb,
            disk_mb: cell.info.disk_mb,
            max_work: cell.info.max_work,
            held_memory_mb: standing.held_memory_mb,
            held_disk_mb: standing.held_disk_mb,
            cordoned: cell.cordoned,
            synced: standing.synced,
            lease_until: standing.lease_until,
            layers: BTreeSet::new(),
        }
    }
}

pub(crate) fn slot(kind: &WorkKind) -> Slot {
    match kind {
        WorkKind::Instance(instance) => Slot::Instance {
            process: instance.process,
            version: instance.version,
            index: instance.index,
        },
        WorkKind::Task(task) => Slot::Job(JobRef::Task(task.task)),
        WorkKind::Build(build) => Slot::Job(JobRef::Build(build.build)),
    }
}

fn draining(cells: &[Cell]) -> BTreeMap<CellId, u32> {
    let draining = cells.iter().filter(|cell| cell.draining > 0);
    draining.map(|cell| (cell.info.id, cell.draining)).collect()
}

/// Deployments as they were read with their processes, and those of processes that are not wanted.
fn deployments_of(mut deployments: Vec<Deployment>, processes: &[DesiredProcess]) -> Vec<Deployment> {
    let wanted: HashSet<ProcessId> = processes.iter().map(|process| process.process.id).collect();
    deployments.retain(|deployment| !wanted.contains(&deployment.process));
    deployments.extend(processes.iter().filter_map(|process| process.deployment.clone()));
    deployments
}

fn desired_processes(processes: &[DesiredProcess], deployments: &[Deployment], segments: &Segments) -> Vec<Process> {
    let mut desired: Vec<Process> = processes
        .iter()
        .map(|of| Process {
            id: of.process.id,
            app: of.process.app,
            routable: is_routable(&of.process),
            instances: of.process.instances,
            version: of.process.version,
            needs: of
                .versions
                .iter()
                .map(|version| (version.version.id, needs(version, segments.get(&of.owner.space))))
                .collect(),
        })
        .collect();
    // A deployment of an app that was stopped meanwhile: nothing of it is to run, and it has to end.
    let known: HashSet<ProcessId> = desired.iter().map(|process| process.id).collect();
    desired.extend(
        deployments
            .iter()
            .filter(|deployment| !known.contains(&deployment.process))
            .map(|deployment| Process {
                id: deployment.process,
                app: deployment.app,
                routable: true,
                instances: 0,
                version: Some(deployment.version),
                needs: BTreeMap::new(),
            }),
    );
    desired
}

fn needs(version: &store::DesiredVersion, segment: Option<&String>) -> Needs {
    Needs {
        memory_mb: version.version.limits.memory_mb,
        disk_mb: version.version.limits.disk_mb,
        stack: version.droplet.stack.clone(),
        segment: segment.cloned(),
        layers: version
            .droplet
            .layers
            .iter()
            .map(|layer| layer.digest.clone())
            .collect(),
    }
}

fn desired_deployment(deployment: &Deployment) -> scheduler::Deployment {
    scheduler::Deployment {
        id: deployment.id,
        process: deployment.process,
        version: deployment.version,
        previous: deployment.previous_version,
        max_in_flight: deployment.max_in_flight,
        canary: deployment.canary.as_ref().and_then(Canary::share),
        paused: deployment.state == DeploymentState::Paused,
        canceling: deployment.state == DeploymentState::Canceling,
        created_at: deployment.created_at,
    }
}
