//! Work: what the scheduler placed, and what cells observed of it.

use crate::engine::Db;
use crate::error::{Result, StoreError};
use crate::notify::Topic;
use crate::sql::{Arg, Query, Row, json, word};
use crate::tx::Tx;
use model::Timestamp;
use model::id::{AppId, CellId, WorkId};
use model::work::{Observation, Wanted, Work, WorkKind, WorkSpec, WorkState};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// A decision to run something on a cell.
#[derive(Debug, Clone)]
pub struct Placement {
    pub id: WorkId,
    pub cell: CellId,
    /// Fences off what an earlier holder of the place says. At least 1.
    pub epoch: u64,
    pub spec: WorkSpec,
}

/// An observation that changed something.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The state before.
    pub before: WorkState,
    /// Whether requests could be sent to it before.
    pub was_routable: bool,
    /// The row as it is now.
    pub work: Work,
}

/// Most specs that one statement reads: they are sealed and not small.
const SPECS: usize = 500;

/// All but the spec.
const STANDING: &str = "t.id, t.cell_id, t.epoch, t.wanted, t.state, t.routable, t.address, t.since_at, t.created_at";

fn work(db: &Db, row: &Row) -> Result<Work> {
    let (_, spec) = spec(db, row)?;
    with_spec(row, spec)
}

fn spec(db: &Db, row: &Row) -> Result<(WorkId, Arc<WorkSpec>)> {
    let id: WorkId = row.id("id")?;
    let spec = db.keys.open_json(id.0, &row.get::<Vec<u8>>("spec_sealed")?)?;
    Ok((id, Arc::new(spec)))
}

fn with_spec(row: &Row, spec: Arc<WorkSpec>) -> Result<Work> {
    Ok(Work {
        id: row.id("id")?,
        cell: row.id("cell_id")?,
        epoch: row.int("epoch")?,
        wanted: row.word("wanted")?,
        spec,
        state: row.json("state")?,
        routable: row.get("routable")?,
        address: row.parse_opt("address")?,
        since: row.time("since_at")?,
        created_at: row.time("created_at")?,
    })
}

/// What of a spec is found by queries.
struct Indexed {
    kind: &'static str,
    subject: Uuid,
    version: Option<Uuid>,
    process_type: String,
    index: u32,
    port: Option<u16>,
}

fn indexed(spec: &WorkSpec) -> Indexed {
    let plain = |kind, subject| Indexed {
        kind,
        subject,
        version: None,
        process_type: String::new(),
        index: 0,
        port: None,
    };
    match &spec.kind {
        WorkKind::Instance(instance) => Indexed {
            version: Some(instance.version.0),
            process_type: instance.process_type.to_string(),
            index: instance.index,
            port: instance.port,
            ..plain("instance", instance.process.0)
        },
        WorkKind::Task(task) => plain("task", task.task.0),
        WorkKind::Build(build) => plain("build", build.build.0),
    }
}

impl Db {
    async fn works(&self, operation: &'static str, tail: Query) -> Result<Vec<Work>> {
        let mut query = tail.headed(&format!("SELECT {STANDING}, t.spec_sealed FROM works t WHERE "));
        query.operation = operation;
        self.map(query, work).await
    }

    /// All work that has not ended.
    pub async fn works_live(&self) -> Result<Vec<Work>> {
        let tail = Query::new("works_live", "all", "t.rank < 5 ORDER BY t.created_at, t.id");
        self.works("works_live", tail).await
    }

    /// The same where most of it was read before: specs never change, and those in `known` are neither read nor opened
    /// again.
    pub async fn works_live_beside(&self, known: &HashMap<WorkId, Work>) -> Result<Vec<Work>> {
        if known.is_empty() {
            return self.works_live().await;
        }
        let query = Query::new("works_live_beside", "all", "").push(&format!(
            "SELECT {STANDING} FROM works t WHERE t.rank < 5 ORDER BY t.created_at, t.id"
        ));
        let rows = self.all(query).await?;
        let mut ids = Vec::with_capacity(rows.len());
        for row in &rows {
            ids.push(row.id::<WorkId>("id")?);
        }
        let new: Vec<WorkId> = ids.iter().filter(|id| !known.contains_key(id)).copied().collect();
        let mut specs = self.specs(&new).await?;
        let mut works = Vec::with_capacity(rows.len());
        for (id, row) in ids.into_iter().zip(&rows) {
            let spec = known
                .get(&id)
                .map(|work| work.spec.clone())
                .or_else(|| specs.remove(&id));
            // Without one it was removed in between.
            if let Some(spec) = spec {
                works.push(with_spec(row, spec)?);
            }
        }
        Ok(works)
    }

    async fn specs(&self, ids: &[WorkId]) -> Result<HashMap<WorkId, Arc<WorkSpec>>> {
        let mut specs = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(self.batch(1).min(SPECS)) {
            let query = Query::new(
                "work_specs",
                ids.len(),
                "SELECT t.id, t.spec_sealed FROM works t WHERE 1 = 1",
            )
            .and_in("t.id", ids.iter().copied());
            specs.extend(self.map(query, spec).await?);
        }
        Ok(specs)
    }

    /// All work of a cell that has not ended.
    pub async fn works_of_cell(&self, cell: CellId) -> Result<Vec<Work>> {
        let tail = Query::new(
            "works_of_cell",
            cell,
            "t.rank < 5 AND t.cell_id = $1 ORDER BY t.created_at, t.id",
        )
        .arg(cell);
        self.works("works_of_cell", tail).await
    }

    /// All work of apps that has not ended.
    pub async fn works_of_apps(&self, apps: &[AppId]) -> Result<Vec<Work>> {
        let tail = Query::new("works_of_apps", apps.len(), "t.rank < 5")
            .and_in("t.app_id", apps.iter().copied())
            .push(" ORDER BY t.created_at, t.id");
        self.works("works_of_apps", tail).await
    }

    /// Work by id, ended or not.
    pub async fn work_fetch(&self, id: WorkId) -> Result<Option<Work>> {
        let tail = Query::new("work_fetch", id, "t.id = $1").arg(id);
        Ok(self.works("work_fetch", tail).await?.pop())
    }

    /// Work by ids, ended or not, in no order.
    pub async fn works_by_ids(&self, ids: &[WorkId]) -> Result<Vec<Work>> {
        let mut works = Vec::with_capacity(ids.len());
        for ids in ids.chunks(self.batch(1)) {
            let tail = Query::new("works_by_ids", ids.len(), "1 = 1").and_in("t.id", ids.iter().copied());
            works.extend(self.works("works_by_ids", tail).await?);
        }
        Ok(works)
    }

    /// Work of a process, task or build (`subject` is its id) that ended after `since`, oldest first.
    pub async fn work_history(&self, subject: Uuid, since: Timestamp) -> Result<Vec<Work>> {
        let tail = Query::new(
            "work_history",
            subject,
            "t.rank = 5 AND t.subject_id = $1 AND t.since_at > $2 ORDER BY t.since_at, t.id",
        )
        .arg(subject)
        .arg(since);
        self.works("work_history", tail).await
    }

    /// All work that ended after `since`, oldest first: what a new scheduler learns crash counts from.
    pub async fn works_ended(&self, since: Timestamp) -> Result<Vec<Work>> {
        let tail = Query::new(
            "works_ended",
            "all",
            "t.rank = 5 AND t.since_at > $1 ORDER BY t.since_at, t.id",
        )
        .arg(since);
        self.works("works_ended", tail).await
    }
}

impl Tx {
    /// Writes placements. Cells learn of them with the commit.
    pub async fn work_insert_batch(&self, placements: &[Placement], now: Timestamp) -> Result<()> {
        for batch in placements.chunks(self.batch(18)) {
            let rows = batch
                .iter()
                .map(|placement| self.placement(placement, now))
                .collect::<Result<Vec<_>>>()?;
            let query = Query::new(
                "work_insert_batch",
                batch.len(),
                "INSERT INTO works (id, cell_id, epoch, kind, app_id, subject_id, version_id, process_type, instance, \
                 port, wanted, spec_sealed, rank, state, routable, address, since_at, created_at) VALUES ",
            )
            .taken("work id")
            .push_rows(rows);
            self.execute(query).await?;
        }
        for placement in placements {
            self.touch_cell(placement.cell);
        }
        Ok(())
    }

    fn placement(&self, placement: &Placement, now: Timestamp) -> Result<Vec<Arg>> {
        let of = indexed(&placement.spec);
        Ok(vec![
            placement.id.into(),
            placement.cell.into(),
            placement.epoch.into(),
            of.kind.into(),
            placement.spec.owner.app.into(),
            of.subject.into(),
            of.version.into(),
            of.process_type.into(),
            of.index.into(),
            of.port.into(),
            word(&Wanted::Run)?.into(),
            self.keys.seal_json(placement.id.0, &placement.spec)?.into(),
            WorkState::Placed.rank().into(),
            json(&WorkState::Placed)?.into(),
            false.into(),
            Option::<String>::None.into(),
            now.into(),
            now.into(),
        ])
    }

    /// Sets what is wanted of work that has not ended. Never back: a stop stays a stop, a drain does not run again.
    ///
    /// Returns the ids that changed. Cells and routers learn of it with the commit.
    pub async fn work_want(&self, ids: &[WorkId], wanted: Wanted) -> Result<Vec<WorkId>> {
        let earlier: &[&str] = match wanted {
            Wanted::Run => return Ok(Vec::new()),
            Wanted::Drain => &["run"],
            Wanted::Stop => &["run", "drain"],
        };
        let mut changed = Vec::new();
        for ids in ids.chunks(self.batch(1)) {
            let query = Query::new("work_want", ids.len(), "UPDATE works SET wanted = $1 WHERE rank < 5")
                .arg(word(&wanted)?)
                .and_in("wanted", earlier.iter().copied())
                .and_in("id", ids.iter().copied())
                .push(" RETURNING id, cell_id");
            for row in self.all(query).await? {
                changed.push(row.id("id")?);
                self.touch_cell(row.id("cell_id")?);
            }
        }
        if !changed.is_empty() {
            self.touch(Topic::Routes);
        }
        Ok(changed)
    }

    /// Takes over what a cell observed, as far as it is of the epoch that was assigned and not older than what is
    /// known: a state of lower rank, and anything about ended work, is passed over.
    ///
    /// Returns what changed, in the order of `observations`.
    pub async fn work_observe_batch(&self, cell: CellId, observations: &[Observation]) -> Result<Vec<Observed>> {
        let mut changed = Vec::new();
        for batch in observations.chunks(self.batch(1)) {
            let tail = Query::new("work_observe_batch", cell, "t.cell_id = $1")
                .arg(cell)
                .and_in("t.id", batch.iter().map(|observation| observation.work))
                .push(" ORDER BY t.id")
                .push(self.for_update());
            let mut rows: std::collections::HashMap<WorkId, Work> = self
                .works("work_observe_batch", tail)
                .await?
                .into_iter()
                .map(|work| (work.id, work))
                .collect();
            for observation in batch {
                let Some(work) = rows.get_mut(&observation.work) else {
                    continue;
                };
                if let Some(observed) = self.work_observe(work, observation).await? {
                    changed.push(observed);
                }
            }
        }
        Ok(changed)
    }

    async fn work_observe(&self, work: &mut Work, observation: &Observation) -> Result<Option<Observed>> {
        let newer = observation.state.rank() >= work.state.rank() && !work.state.is_final();
        let routable = observation.routable && matches!(observation.state, WorkState::Running);
        let address = observation.address.or(work.address);
        let same =
            observation.state.rank() == work.state.rank() && routable == work.routable && address == work.address;
        if observation.epoch != work.epoch || !newer || same {
            return Ok(None);
        }
        let moved = observation.state.rank() != work.state.rank();
        let since = if moved { observation.since } else { work.since };
        let query = Query::new(
            "work_observe_batch",
            work.id,
            "UPDATE works SET rank = $1, state = $2, routable = $3, address = $4, since_at = $5 \
             WHERE id = $6 AND epoch = $7",
        )
        .arg(observation.state.rank())
        .arg(json(&observation.state)?)
        .arg(routable)
        .arg(address.map(|address| address.to_string()))
        .arg(since)
        .arg(work.id)
        .arg(work.epoch);
        if self.execute(query).await? != 1 {
            return Err(StoreError::corrupt("works.epoch", "changed under a lock"));
        }
        if routable != work.routable || (routable && address != work.address) {
            self.touch(Topic::Routes);
        }
        self.touch(Topic::Desired);
        if observation.state.is_final() {
            self.touch_cell(work.cell);
        }
        let before = std::mem::replace(&mut work.state, observation.state.clone());
        let was_routable = std::mem::replace(&mut work.routable, routable);
        work.address = address;
        work.since = since;
        Ok(Some(Observed {
            before,
            was_routable,
            work: work.clone(),
        }))
    }

    /// Removes work that ended before `before`.
    pub async fn works_prune(&self, before: Timestamp) -> Result<u64> {
        let query = Query::new(
            "works_prune",
            "ended work",
            "DELETE FROM works WHERE rank = 5 AND since_at < $1",
        )
        .arg(before);
        self.execute(query).await
    }
}
