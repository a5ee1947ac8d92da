//! What operators see and do about cells: `/admin/v1/cells`. Whoever calls these has checked that the caller may.

use super::observe::rfc3339;
use crate::Control;
use crate::error::Failure;
use model::Timestamp;
use model::id::CellId;
use model::machine::{Machine, Role};
use model::resource::Cell;
use model::work::{Work, WorkKind};
use serde_json::{Value, json};

/// Most instances that move away from a cell at once.
const MAX_AT_ONCE: u32 = 1000;

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
        list.push(told(control, &cell, &works, now));
    }
    Ok(json!({"cells": list, "routers_connected": control.edge.routers()}))
}

fn told(control: &Control, cell: &Cell, works: &[Work], now: Timestamp) -> Value {
    let standing = control.cells.standing(cell, now);
    let memory: u64 = works.iter().map(|work| u64::from(work.spec.limits.memory_mb)).sum();
    let disk: u64 = works.iter().map(|work| u64::from(work.spec.limits.disk_mb)).sum();
    json!({
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
        "draining": cell.draining,
        "work": works.len(),
        "max_work": cell.info.max_work,
        "memory_mb": cell.info.memory_mb,
        "memory_used_mb": memory + standing.held_memory_mb,
        "disk_mb": cell.info.disk_mb,
        "disk_used_mb": disk + standing.held_disk_mb,
    })
}

/// One cell, with every piece of work that it has.
///
/// # Errors
/// Where there is no such cell, or the database fails.
pub async fn show_cell(control: &Control, cell: CellId) -> Result<Value, Failure> {
    let known = control.context.store.cell_fetch(cell).await.map_err(Failure::from)?;
    let known = known.ok_or_else(|| Failure::not_found("Cell"))?;
    let works = control.context.store.works_of_cell(cell).await.map_err(Failure::from)?;
    let mut shown = told(control, &known, &works, control.context.now());
    let works = works.iter().map(|work| {
        let (kind, process, index) = match &work.spec.kind {
            WorkKind::Instance(instance) => ("instance", Some(&instance.process_type), Some(instance.index)),
            WorkKind::Task(_) => ("task", None, None),
            WorkKind::Build(_) => ("build", None, None),
        };
        json!({
            "id": work.id,
            "app": work.spec.owner.app,
            "kind": kind,
            "process": process,
            "index": index,
            "wanted": work.wanted,
            "state": work.state,
            "memory_mb": work.spec.limits.memory_mb,
        })
    });
    shown["works"] = works.collect();
    Ok(shown)
}

/// Keeps new work away from a cell and moves its instances elsewhere, so many at once. Builds and tasks end by themselves.
///
/// # Errors
/// Where there is no such cell, the number makes no sense, or the database fails.
pub async fn drain(control: &Control, cell: CellId, at_once: u32) -> Result<(), Failure> {
    if !(1..=MAX_AT_ONCE).contains(&at_once) {
        return Err(Failure::refused(format!(
            "1 to {MAX_AT_ONCE} instances may move at once"
        )));
    }
    let tx = control.context.store.begin().await.map_err(Failure::from)?;
    if !tx.cell_drain(cell, at_once).await.map_err(Failure::from)? {
        return Err(Failure::not_found("Cell"));
    }
    tx.commit().await.map_err(Failure::from)?;
    control.context.wake.scheduler();
    tracing::info!(cell.id = %cell, at_once, "a cell is drained");
    Ok(())
}

/// Forgets a cell for good, and its certificate counts no more. One that is alive has to be empty; of one that is away
/// what it had is placed elsewhere.
///
/// # Errors
/// Where there is no such cell, it is alive and has work, or the database fails.
pub async fn remove(control: &Control, cell: CellId) -> Result<(), Failure> {
    let context = &control.context;
    let turn = control.cells.turn(cell);
    let _turn = turn.lock().await;
    let now = context.now();
    let tx = context.store.begin().await.map_err(Failure::from)?;
    let known = tx.cell_fetch(cell).await.map_err(Failure::from)?;
    let known = known.ok_or_else(|| Failure::not_found("Cell"))?;
    let left = tx.works_of_cell(cell).await.map_err(Failure::from)?.len();
    if left > 0 && control.cells.standing(&known, now).lease_until > now {
        return Err(
            Failure::refused(format!("The cell is alive and has {left} pieces of work")).hint(format!(
                "Move them away first: paas admin cells drain {}",
                known.info.name
            )),
        );
    }
    tx.cell_delete(cell).await.map_err(Failure::from)?;
    let machine = Machine {
        role: Role::Cell,
        id: cell.0,
    };
    // One that never joined with a token has no certificate.
    tx.machine_revoke(machine, now).await.map_err(Failure::from)?;
    tx.commit().await.map_err(Failure::from)?;
    control.cells.cut(cell);
    context.wake.scheduler();
    tracing::info!(cell.id = %cell, cell.name = known.info.name, "a cell was removed");
    Ok(())
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
