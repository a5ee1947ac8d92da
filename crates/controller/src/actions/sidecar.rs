//! What runs beside the processes of an app: made and changed by users, brought along by droplets.
//!
//! Like a command it takes effect with the next version of the processes: at a restart or a deployment.

use super::{By, app as apps, fresh};
use crate::context::Context;
use crate::error::{Answer, Failure};
use model::id::{AppId, SidecarId};
use model::resource::{App, Droplet, Process, Space};
use model::sidecar::{self, MAX_COMMAND, MAX_NAME, MAX_OF_APP, MAX_OF_TYPE, Origin, Sidecar};
use model::staging::SidecarTemplate;
use serde_json::json;
use store::Tx;

/// What is said of a sidecar; `None`: nothing, what is there stays.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub name: Option<String>,
    pub command: Option<String>,
    pub process_types: Option<Vec<String>>,
    /// `Some(None)`: it has no part of the memory to itself.
    pub memory_mb: Option<Option<u32>>,
}

/// A new sidecar of a user.
pub async fn create(context: &Context, app: AppId, space: &Space, change: Change, by: &By) -> Answer<Sidecar> {
    let tx = context.store.begin().await?;
    let app = apps::locked(&tx, app).await?;
    let there = tx.sidecars_of_app(app.id).await?;
    let made = create_on(&tx, &app, space, change, &there, by).await?;
    tx.commit().await?;
    Ok(made)
}

async fn create_on(tx: &Tx, app: &App, space: &Space, change: Change, there: &[Sidecar], by: &By) -> Answer<Sidecar> {
    let check_memory = change.memory_mb.is_some();
    let what = SidecarTemplate {
        name: change.name.unwrap_or_default(),
        command: change.command.unwrap_or_default(),
        process_types: in_order(change.process_types.unwrap_or_default()),
        memory_mb: change.memory_mb.flatten(),
    };
    let others: Vec<_> = there.iter().map(|other| other.what.clone()).collect();
    if check_memory {
        leaves_memory(&tx.processes_of_app(app.id).await?, &what, &others)?;
    }
    check(&what, &others)?;
    let made = made(app, what, Origin::User, by);
    tx.sidecar_create(&made).await?;
    tx.event(by.app_event("audit.app.sidecar.create", app, space, about(&made)));
    Ok(made)
}

fn made(app: &App, what: SidecarTemplate, origin: Origin, by: &By) -> Sidecar {
    Sidecar {
        id: fresh::<SidecarId>(),
        app: app.id,
        what,
        origin,
        created_at: by.now,
        updated_at: by.now,
    }
}

/// Commands may hold what is secret, so events do without.
fn about(sidecar: &Sidecar) -> serde_json::Value {
    let what = &sidecar.what;
    json!({"sidecar": sidecar.id, "name": what.name, "process_types": what.process_types, "memory_in_mb": what.memory_mb})
}

fn in_order(mut types: Vec<String>) -> Vec<String> {
    types.sort_unstable();
    types.dedup();
    types
}

/// Changes one, whoever wanted it.
pub async fn update(context: &Context, id: SidecarId, space: &Space, change: Change, by: &By) -> Answer<Sidecar> {
    let tx = context.store.begin().await?;
    let missing = || Failure::not_found("Sidecar");
    let app = tx.sidecar_fetch(id).await?.ok_or_else(missing)?.app;
    let app = apps::locked(&tx, app).await?;
    let there = tx.sidecars_of_app(app.id).await?;
    let known = there.iter().find(|one| one.id == id).ok_or_else(missing)?;
    let changed = update_on(&tx, &app, space, known.clone(), change, &there, by).await?;
    tx.commit().await?;
    Ok(changed)
}

async fn update_on(
    tx: &Tx,
    app: &App,
    space: &Space,
    mut sidecar: Sidecar,
    change: Change,
    there: &[Sidecar],
    by: &By,
) -> Answer<Sidecar> {
    let before = sidecar.what.clone();
    let check_memory = change.memory_mb.is_some() || change.process_types.is_some();
    let what = &mut sidecar.what;
    what.name = change.name.unwrap_or_else(|| before.name.clone());
    what.command = change.command.unwrap_or_else(|| before.command.clone());
    what.process_types = change
        .process_types
        .map_or_else(|| before.process_types.clone(), in_order);
    what.memory_mb = change.memory_mb.unwrap_or(before.memory_mb);
    if *what == before {
        return Ok(sidecar);
    }
    let others = there.iter().filter(|other| other.id != sidecar.id);
    let others: Vec<_> = others.map(|other| other.what.clone()).collect();
    if check_memory {
        leaves_memory(&tx.processes_of_app(app.id).await?, what, &others)?;
    }
    check(what, &others)?;
    sidecar.updated_at = by.now;
    tx.sidecar_update(&sidecar).await?;
    tx.event(by.app_event("audit.app.sidecar.update", app, space, about(&sidecar)));
    Ok(sidecar)
}

/// Removes one.
pub async fn delete(context: &Context, sidecar: &Sidecar, app: &App, space: &Space, by: &By) -> Answer<()> {
    let tx = context.store.begin().await?;
    if !tx.sidecar_delete(sidecar.id).await? {
        return Err(Failure::not_found("Sidecar"));
    }
    tx.event(by.app_event("audit.app.sidecar.delete", app, space, about(sidecar)));
    tx.commit().await?;
    Ok(())
}

/// Those of a manifest: what is there by name is changed, what is not mentioned stays.
pub async fn apply_on(tx: &Tx, app: &App, space: &Space, wanted: &[SidecarTemplate], by: &By) -> Answer<()> {
    for wanted in wanted {
        let there = tx.sidecars_of_app(app.id).await?;
        let change = Change {
            name: Some(wanted.name.clone()),
            command: Some(wanted.command.clone()),
            process_types: Some(wanted.process_types.clone()),
            memory_mb: wanted.memory_mb.map(Some),
        };
        match there.iter().find(|known| known.what.name == wanted.name) {
            Some(known) => update_on(tx, app, space, known.clone(), change, &there, by).await?,
            None => create_on(tx, app, space, change, &there, by).await?,
        };
    }
    Ok(())
}

/// Gives the app what its droplet's buildpacks want beside its processes, in place of what another's did.
pub async fn follow_droplet(tx: &Tx, app: &App, droplet: &Droplet, by: &By) -> Answer<()> {
    let there = tx.sidecars_of_app(app.id).await?;
    let of = |origin: Origin| {
        there
            .iter()
            .filter(move |one| one.origin == origin)
            .map(|one| &one.what)
    };
    let mut all: Vec<SidecarTemplate> = of(Origin::User).cloned().collect();
    let before: Vec<SidecarTemplate> = of(Origin::Buildpack).cloned().collect();
    let wanted: Vec<SidecarTemplate> = droplet.sidecars.iter().cloned().map(ordered).collect();
    if before == wanted {
        return Ok(());
    }
    tx.sidecars_delete(app.id, Origin::Buildpack).await?;
    let processes = tx.processes_of_app(app.id).await?;
    for what in wanted {
        let name = &what.name;
        if of(Origin::User).any(|user| user.name == *name) {
            return Err(Failure::refused(format!(
                "Buildpack defined sidecar '{name}' conflicts with an existing user-defined sidecar. Consider \
                 renaming '{name}'."
            )));
        }
        leaves_memory(&processes, &what, &all)?;
        check(&what, &all)?;
        all.push(what.clone());
        tx.sidecar_create(&made(app, what, Origin::Buildpack, by)).await?;
    }
    Ok(())
}

fn ordered(what: SidecarTemplate) -> SidecarTemplate {
    SidecarTemplate {
        process_types: in_order(what.process_types),
        ..what
    }
}

/// Gives the app the sidecars that a revision had of users; `of_buildpacks` are those that its droplet brings along.
pub async fn restore(
    tx: &Tx,
    app: &App,
    wanted: &[SidecarTemplate],
    of_buildpacks: &[SidecarTemplate],
    by: &By,
) -> Answer<()> {
    let brought = |name: &str| of_buildpacks.iter().any(|one| one.name == name);
    let wanted: Vec<_> = wanted.iter().filter(|one| !brought(&one.name)).collect();
    let there = tx.sidecars_of_app(app.id).await?;
    for known in there.iter().filter(|one| one.origin == Origin::User) {
        match wanted.iter().find(|wanted| wanted.name == known.what.name) {
            None => drop(tx.sidecar_delete(known.id).await?),
            Some(wanted) if **wanted == known.what => {}
            Some(wanted) => {
                let back = Sidecar {
                    what: (*wanted).clone(),
                    updated_at: by.now,
                    ..known.clone()
                };
                tx.sidecar_update(&back).await?;
            }
        }
    }
    for wanted in wanted {
        if there.iter().all(|known| known.what.name != wanted.name) {
            tx.sidecar_create(&made(app, wanted.clone(), Origin::User, by)).await?;
        }
    }
    Ok(())
}

/// What a process that is to be of `memory_mb` has to leave to those beside it.
pub async fn check_process(tx: &Tx, process: &Process) -> Answer<()> {
    let all = of_app(tx, process.app).await?;
    let reserved = sidecar::reserved_mb(&all, process.process_type.as_str());
    if reserved > 0 && reserved >= u64::from(process.limits.memory_mb) {
        return Err(Failure::refused(
            "The requested memory allocation is not large enough to run all of your sidecar processes",
        ));
    }
    Ok(())
}

/// All of an app, as versions and revisions keep them.
pub async fn of_app(tx: &Tx, app: AppId) -> store::Result<Vec<SidecarTemplate>> {
    let all = tx.sidecars_of_app(app).await?;
    Ok(all.into_iter().map(|one| one.what).collect())
}

fn leaves_memory(processes: &[Process], what: &SidecarTemplate, others: &[SidecarTemplate]) -> Answer<()> {
    for process in processes {
        let kind = process.process_type.as_str();
        let reserved = sidecar::reserved_mb(others, kind) + u64::from(what.memory_mb.unwrap_or(0));
        if sidecar::runs_beside(what, kind) && reserved >= u64::from(process.limits.memory_mb) {
            return Err(Failure::refused(format!(
                "The memory allocation defined is too large to run with the dependent \"{kind}\" process"
            )));
        }
    }
    Ok(())
}

fn check(what: &SidecarTemplate, others: &[SidecarTemplate]) -> Answer<()> {
    let too_long =
        |whose: &str, most: usize| Failure::refused(format!("{whose} is too long (maximum is {most} characters)"));
    if what.name.chars().count() > MAX_NAME {
        return Err(too_long("Name", MAX_NAME));
    }
    if what.command.chars().count() > MAX_COMMAND {
        return Err(too_long("Command", MAX_COMMAND));
    }
    if what.process_types.iter().any(|kind| kind.chars().count() > MAX_NAME) {
        return Err(too_long("Process type", MAX_NAME));
    }
    let texts = [&what.name, &what.command].into_iter().chain(&what.process_types);
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(Failure::refused("A sidecar can't contain a zero byte"));
    }
    if others.iter().any(|other| other.name == what.name) {
        let name = &what.name;
        return Err(Failure::refused(format!(
            "Sidecar with name '{name}' already exists for given app"
        )));
    }
    if others.len() >= MAX_OF_APP {
        return Err(Failure::refused(format!("An app has at most {MAX_OF_APP} sidecars")));
    }
    for kind in &what.process_types {
        let beside = others.iter().filter(|other| sidecar::runs_beside(other, kind));
        if beside.count() >= MAX_OF_TYPE {
            return Err(Failure::refused(format!(
                "At most {MAX_OF_TYPE} sidecars run beside a process, and \"{kind}\" has them"
            )));
        }
    }
    Ok(())
}
