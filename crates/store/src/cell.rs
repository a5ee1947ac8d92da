//! Cells: who they are, whether they live, and what is assigned to them.

use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::sql::{Query, Row, json};
use crate::tx::Tx;
use model::Timestamp;
use model::id::CellId;
use model::resource::{Cell, CellInfo};
use model::work::{Assignment, WorkState};
use std::sync::Arc;

const CELL: &str = "SELECT info, cordoned, draining, lease_until, revision FROM cells";

fn cell(_: &Db, row: &Row) -> Result<Cell> {
    Ok(Cell {
        info: row.json("info")?,
        cordoned: row.get("cordoned")?,
        draining: row.int("draining")?,
        lease_until: row.time("lease_until")?,
        revision: row.int("revision")?,
    })
}

impl Db {
    /// All cells, in the order of their joining.
    pub async fn cell_list(&self) -> Result<Vec<Cell>> {
        self.map(
            Query::new("cell_list", "all", CELL).push(" ORDER BY created_at, id"),
            cell,
        )
        .await
    }

    /// A cell by id.
    pub async fn cell_fetch(&self, id: CellId) -> Result<Option<Cell>> {
        let query = Query::new("cell_fetch", id, CELL).push(" WHERE id = ").push_arg(id);
        self.find(query, cell).await
    }

    /// Revision of the cell's assignment set, and the set: all of its work that has not ended.
    ///
    /// The set may be newer than the revision, never older. `None` where there is no such cell.
    pub async fn cell_assignments(&self, id: CellId) -> Result<Option<(u64, Vec<Assignment>)>> {
        let query = Query::new("cell_assignments", id, "SELECT revision FROM cells WHERE id = $1").arg(id);
        let Some(revision) = self.find(query, |_, row| row.int("revision")).await? else {
            return Ok(None);
        };
        let works = self.works_of_cell(id).await?;
        let assignments = works
            .into_iter()
            .filter(|work| !matches!(work.state, WorkState::Exited(_)))
            .map(|work| Assignment {
                work: work.id,
                epoch: work.epoch,
                wanted: work.wanted,
                spec: Arc::unwrap_or_clone(work.spec),
            })
            .collect();
        Ok(Some((revision, assignments)))
    }
}

impl Tx {
    /// A cell joins, or describes itself anew. Cordon and revision of a known one stay.
    pub async fn cell_register(&self, info: &CellInfo, now: Timestamp, lease_until: Timestamp) -> Result<Cell> {
        let query = Query::new(
            "cell_register",
            info.id,
            "INSERT INTO cells (id, info, cordoned, lease_until, revision, created_at) VALUES ($1, $2, $3, $4, 1, $5) \
             ON CONFLICT (id) DO UPDATE SET info = excluded.info, lease_until = excluded.lease_until \
             RETURNING info, cordoned, draining, lease_until, revision",
        )
        .arg(info.id)
        .arg(json(info)?)
        .arg(false)
        .arg(lease_until)
        .arg(now);
        self.touch(Topic::Desired);
        cell(self, &self.one(query).await?)
    }

    /// Renews a cell's lease; the revision of its set. `None` where the cell is not known and has to register.
    ///
    /// Tells nobody: that a cell goes on living is no change.
    pub async fn cell_renew(&self, id: CellId, lease_until: Timestamp) -> Result<Option<u64>> {
        let query = Query::new(
            "cell_renew",
            id,
            "UPDATE cells SET lease_until = $1 WHERE id = $2 RETURNING revision",
        )
        .arg(lease_until)
        .arg(id);
        self.find(query, |_, row| row.int("revision")).await
    }

    /// Takes a cell out of placement, or back in. Its instances stay where they are from now on.
    pub async fn cell_cordon(&self, id: CellId, cordoned: bool) -> Result<bool> {
        let query = Query::new(
            "cell_cordon",
            id,
            "UPDATE cells SET cordoned = $1, draining = 0 WHERE id = $2",
        )
        .arg(cordoned)
        .arg(id);
        self.touch(Topic::Desired);
        Ok(self.execute(query).await? > 0)
    }

    /// Takes a cell out of placement, and moves its instances away, so many at once.
    pub async fn cell_drain(&self, id: CellId, at_once: u32) -> Result<bool> {
        let query = Query::new(
            "cell_drain",
            id,
            "UPDATE cells SET cordoned = $1, draining = $2 WHERE id = $3",
        )
        .arg(true)
        .arg(at_once)
        .arg(id);
        self.touch(Topic::Desired);
        Ok(self.execute(query).await? > 0)
    }

    /// Forgets a cell that is gone for good.
    pub async fn cell_delete(&self, id: CellId) -> Result<bool> {
        let query = Query::new("cell_delete", id, "DELETE FROM cells WHERE id = $1").arg(id);
        self.touch(Topic::Desired);
        Ok(self.execute(query).await? > 0)
    }
}
