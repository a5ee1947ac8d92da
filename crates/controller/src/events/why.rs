//! `GET /paas/v1/apps/{guid}/why`: why an app is as it is, from the rows and from the last plan.

use crate::Control;
use crate::control::Explanation;
use crate::error::Failure;
use crate::feeds::rfc3339;
use model::id::{AppId, CellId, ProcessId, WorkId};
use model::resource::{App, AppState, Deployment, Process};
use model::work::{Wanted, Work, WorkKind, WorkState};
use scheduler::{IndexHistory, Slot};
use serde::Serialize;
use std::collections::HashMap;

/// The explanation of an app.
#[derive(Debug, Clone, Serialize)]
pub struct Why {
    pub app: AppId,
    pub state: AppState,
    pub processes: Vec<WhyProcess>,
    pub deployment: Option<WhyDeployment>,
    pub findings: Vec<Finding>,
}

/// A process of it.
#[derive(Debug, Clone, Serialize)]
pub struct WhyProcess {
    #[serde(rename = "type")]
    pub process_type: String,
    pub wanted: u32,
    pub running: usize,
    pub instances: Vec<WhyInstance>,
    pub unplaced: Vec<WhyUnplaced>,
}

/// An instance, live or waiting for its next start.
#[derive(Debug, Clone, Serialize)]
pub struct WhyInstance {
    pub index: u32,
    pub state: &'static str,
    pub since: String,
    /// Why it is so, where that is not plain.
    pub cause: Option<String>,
    /// In a row, of the version that crashed last.
    pub crashes: u32,
    /// How the last of them ended.
    pub last_crash: Option<String>,
    pub next_try_at: Option<String>,
    pub cell: Option<CellId>,
    pub work: Option<WorkId>,
}

/// An instance that no cell takes.
#[derive(Debug, Clone, Serialize)]
pub struct WhyUnplaced {
    pub index: u32,
    pub reason: String,
    pub smallest_change: String,
}

/// The rollout under way.
#[derive(Debug, Clone, Serialize)]
pub struct WhyDeployment {
    pub deployment: model::id::DeploymentId,
    pub state: model::resource::DeploymentState,
    pub since: String,
}

/// Something a person should know, and what to do.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// `error`, `warning` or `info`.
    pub severity: &'static str,
    pub title: String,
    pub cause: String,
    pub remedy: String,
}

/// Explains the app; `None` where there is none.
///
/// # Errors
/// Where the database fails.
pub async fn why(control: &Control, app: AppId) -> Result<Option<Why>, Failure> {
    let store = &control.context.store;
    let Some(app) = store.app_fetch(app).await.map_err(Failure::from)? else {
        return Ok(None);
    };
    let processes = store.processes_of_app(app.id).await.map_err(Failure::from)?;
    let works = store.works_of_apps(&[app.id]).await.map_err(Failure::from)?;
    let mut deployment = None;
    for process in &processes {
        deployment = deployment.or(store.deployment_active(process.id).await.map_err(Failure::from)?);
    }
    let explanation = control.explanation();
    let processes: Vec<WhyProcess> = processes
        .iter()
        .map(|process| explain(&app, process, &works, &explanation))
        .collect();
    Ok(Some(Why {
        app: app.id,
        state: app.state,
        findings: findings(&app, &processes, deployment.as_ref()),
        processes,
        deployment: deployment.map(|deployment| WhyDeployment {
            deployment: deployment.id,
            state: deployment.state,
            since: rfc3339(deployment.created_at),
        }),
    }))
}

fn explain(app: &App, process: &Process, works: &[Work], explanation: &Explanation) -> WhyProcess {
    let wanted = if app.state == AppState::Started {
        process.instances
    } else {
        0
    };
    let crashes = counts(process.id, explanation);
    let mut instances: Vec<WhyInstance> = works
        .iter()
        .filter_map(|work| live(process.id, work, &crashes))
        .collect();
    instances.extend(
        explanation
            .waiting
            .iter()
            .filter(|waiting| waiting.process == process.id)
            .map(|waiting| WhyInstance {
                index: waiting.index,
                state: if waiting.until.is_some() { "CRASHED" } else { "GIVEN_UP" },
                since: crashes
                    .get(&waiting.index)
                    .map(|crashes| rfc3339(crashes.last.at))
                    .unwrap_or_default(),
                cause: Some(waiting.cause.to_string()),
                crashes: waiting.crashes,
                last_crash: Some(waiting.cause.to_string()),
                next_try_at: waiting.until.map(rfc3339),
                cell: None,
                work: None,
            }),
    );
    instances.sort_by_key(|instance| instance.index);
    let unplaced = explanation.unplaced.iter().filter_map(|unplaced| match unplaced.slot {
        Slot::Instance { process: of, index, .. } if of == process.id => Some(WhyUnplaced {
            index,
            reason: unplaced.reason(),
            smallest_change: unplaced.smallest_change(),
        }),
        Slot::Instance { .. } | Slot::Job(_) => None,
    });
    WhyProcess {
        process_type: process.process_type.to_string(),
        wanted,
        running: instances.iter().filter(|instance| instance.state == "RUNNING").count(),
        unplaced: unplaced.collect(),
        instances,
    }
}

/// Crashes in a row with the last of them, by index; of the version that crashed last.
fn counts(process: ProcessId, explanation: &Explanation) -> HashMap<u32, &IndexHistory> {
    let mut counts: HashMap<u32, &IndexHistory> = HashMap::new();
    for ((of, _), history) in &explanation.history {
        if *of != process {
            continue;
        }
        for (index, crashes) in &history.indices {
            let entry = counts.entry(*index).or_insert(crashes);
            if crashes.last.at > entry.last.at {
                *entry = crashes;
            }
        }
    }
    counts
}

fn live(process: ProcessId, work: &Work, crashes: &HashMap<u32, &IndexHistory>) -> Option<WhyInstance> {
    let WorkKind::Instance(instance) = &work.spec.kind else {
        return None;
    };
    if instance.process != process {
        return None;
    }
    let (state, cause) = match (&work.state, work.wanted) {
        (WorkState::Exited(_), _) => return None,
        (_, Wanted::Stop) | (WorkState::Stopping, _) => ("STOPPING", None),
        (_, Wanted::Drain) => ("DRAINING", Some("requests in flight are waited for")),
        (WorkState::Placed, _) => ("PLACED", Some("its cell has not begun")),
        (WorkState::Preparing, _) => ("PREPARING", Some("its layers are fetched and unpacked")),
        (WorkState::Starting, _) => ("STARTING", Some("its health check has not passed yet")),
        (WorkState::Running, _) if work.routable => ("RUNNING", None),
        (WorkState::Running, _) => ("RUNNING", Some("it is not ready for requests")),
    };
    Some(WhyInstance {
        index: instance.index,
        state,
        since: rfc3339(work.since),
        cause: cause.map(str::to_owned),
        crashes: crashes.get(&instance.index).map_or(0, |crashes| crashes.count),
        last_crash: crashes
            .get(&instance.index)
            .map(|crashes| crashes.last.cause.to_string()),
        next_try_at: None,
        cell: Some(work.cell),
        work: Some(work.id),
    })
}

fn findings(app: &App, processes: &[WhyProcess], deployment: Option<&Deployment>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if app.state == AppState::Stopped {
        findings.push(Finding {
            severity: "info",
            title: format!("{} is stopped", app.name),
            cause: "somebody stopped it, or it was never started".to_owned(),
            remedy: format!("paas start {}", app.name),
        });
        return findings;
    }
    for process in processes {
        about_process(app, process, &mut findings);
    }
    if let Some(deployment) = deployment {
        findings.push(Finding {
            severity: "info",
            title: "a rollout is under way".to_owned(),
            cause: format!("version {} takes the place of the one before", deployment.version),
            remedy: "wait; the version before goes on serving".to_owned(),
        });
    }
    findings
}

fn about_process(app: &App, process: &WhyProcess, findings: &mut Vec<Finding>) {
    for unplaced in &process.unplaced {
        findings.push(Finding {
            severity: "error",
            title: format!(
                "instance {} of {} can't be placed",
                unplaced.index, process.process_type
            ),
            cause: unplaced.reason.clone(),
            remedy: unplaced.smallest_change.clone(),
        });
    }
    for instance in process.instances.iter().filter(|instance| instance.work.is_none()) {
        let when = instance.next_try_at.as_ref();
        findings.push(Finding {
            severity: "error",
            title: format!("instance {} of {} keeps crashing", instance.index, process.process_type),
            cause: instance.cause.clone().unwrap_or_default(),
            remedy: match when {
                Some(at) => format!("look at paas logs {} --recent; it starts again at {at}", app.name),
                None => format!("look at paas logs {} --recent, mend it and push again", app.name),
            },
        });
    }
    let crashed = |instance: &&WhyInstance| instance.work.is_some() && instance.state != "STOPPING";
    for instance in process.instances.iter().filter(crashed) {
        if let Some(cause) = &instance.last_crash {
            findings.push(Finding {
                severity: "warning",
                title: format!(
                    "instance {} of {} was started again after {} crash(es)",
                    instance.index, process.process_type, instance.crashes
                ),
                cause: cause.clone(),
                remedy: format!("look at paas logs {} --recent", app.name),
            });
        }
    }
    if process.wanted == 0 {
        findings.push(Finding {
            severity: "info",
            title: format!("{} is scaled to 0 instances", process.process_type),
            cause: "nobody asked for instances of it".to_owned(),
            remedy: format!("paas scale {} -i 1", app.name),
        });
    }
}
