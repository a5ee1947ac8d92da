//! What operators see and do about cells: `/admin/v1/cells`. Whoever calls these has checked that the caller may.

use super::observe::rfc3339;
use crate::Control;
use crate::error::Failure;
use model::id::CellId;
use serde_json::{Value, json};

/// All cells with their standing and use, and the number of connected routers.
///
/// # Errors
/// Where the database fails.
pub async fn list_cells(control: &Control) -> Result<Value, Failure> {
    let now = control.context.now();
    let cells = control.context.store.cell_list().await.map_err(Failure::from)?;
    let mut list = Vec::with_capacity(cells.len());
    for cell in cells {
        let works = control
            .context
            .store
            .works_of_cell(cell.info.id)
            .await
            .map_err(Failure::from)?;
        let standing = control.cells.standing(&cell, now);
        let memory: u64 = works.iter().map(|work| u64::from(work.spec.limits.memory_mb)).sum();
        let disk: u64 = works.iter().map(|work| u64::from(work.spec.limits.disk_mb)).sum();
        list.push(json!({
            "id": cell.info.id,
            "name": cell.info.name,
            "zone": cell.info.zone,
            "tags": cell.info.tags,
            "stacks": cell.info.stacks,
            "cpus": cell.info.cpus,
            "version": cell.info.version,
            "isolation": cell.info.isolation,
            "alive": standing.lease_until > now,
            "synced": standing.synced,
            "lease_until": rfc3339(standing.lease_until),
            "cordoned": cell.cordoned,
            "work": works.len(),
            "max_work": cell.info.max_work,
            "memory_mb": cell.info.memory_mb,
            "memory_used_mb": memory + standing.held_memory_mb,
            "disk_mb": cell.info.disk_mb,
            "disk_used_mb": disk + standing.held_disk_mb,
        }));
    }
    Ok(json!({"cells": list, "routers_connected": control.edge.routers()}))
}

/// Takes a cell out of placement, or back in.
///
/// # Errors
/// Where there is no such cell, or the database fails.
pub async fn cordon(control: &Control, cell: CellId, cordoned: bool) -> Result<(), Failure> {
    let tx = control.context.store.begin().await.map_err(Failure::from)?;
    if !tx.cell_cordon(cell, cordoned).await.map_err(Failure::from)? {
        return Err(Failure::not_found("Cell"));
    }
    tx.commit().await.map_err(Failure::from)
}
