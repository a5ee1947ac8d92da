//! Droplets that are uploaded rather than staged, and downloads of either.

use super::{By, fresh};
use crate::bits::Uploaded;
use crate::context::Context;
use crate::error::{Answer, Failure};
use model::Digest;
use model::id::{DropletId, JobId};
use model::resource::{App, Droplet, Space};
use model::staging::ProcessTemplate;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Most process types of a droplet.
const PROCESS_TYPES: usize = 100;

/// A droplet that awaits its bits; `commands` by process type replace what these will say.
pub async fn create(
    context: &Context,
    app: &App,
    space: &Space,
    commands: BTreeMap<String, String>,
    by: &By,
) -> Answer<Droplet> {
    if commands.len() > PROCESS_TYPES {
        return Err(Failure::refused(format!("Process types: at most {PROCESS_TYPES}")));
    }
    let processes = commands.into_iter().map(|(process_type, command)| ProcessTemplate {
        default: process_type == "web",
        process_type,
        command,
        source: "the uploaded droplet".to_owned(),
        memory_mb: None,
    });
    let droplet = Droplet {
        id: fresh::<DropletId>(),
        app: app.id,
        package: None,
        build: None,
        digest: Digest::from_sha256(Sha256::digest([]).into()),
        layers: Vec::new(),
        processes: processes.collect(),
        buildpacks: Vec::new(),
        sidecars: Vec::new(),
        image: None,
        stack: app.stack.clone(),
        input_digest: None,
        metadata: model::resource::Metadata::default(),
        created_at: by.now,
    };
    let tx = context.store.begin().await?;
    tx.droplet_create(&droplet).await?;
    tx.event(by.app_event("audit.app.droplet.create", app, space, json!({"droplet": droplet.id})));
    tx.commit().await?;
    Ok(droplet)
}

/// Gives a droplet its layers, whose blobs are stored already.
pub async fn fill(
    context: &Context,
    droplet: Droplet,
    app: &App,
    space: &Space,
    uploaded: Uploaded,
    by: &By,
) -> Answer<(Droplet, JobId)> {
    let mut digest = Sha256::new();
    for layer in &uploaded.layers {
        digest.update(layer.digest.as_bytes());
    }
    let filled = Droplet {
        digest: Digest::from_sha256(digest.finalize().into()),
        layers: uploaded.layers,
        processes: uploaded.processes,
        ..droplet
    };
    let job = by.done_job("droplet.upload");
    let tx = context.store.begin().await?;
    if !tx.droplet_fill(&filled).await? {
        return Err(already_uploaded());
    }
    tx.event(by.app_event("audit.app.droplet.upload", app, space, json!({"droplet": filled.id})));
    tx.job_create(&job).await?;
    tx.commit().await?;
    Ok((filled, job.id))
}

/// The answer to a second upload.
#[must_use]
pub fn already_uploaded() -> Failure {
    Failure::refused("Bits may be uploaded only once. Create a new droplet to upload different bits.")
}

/// Notes that somebody took a droplet away.
pub async fn downloaded(context: &Context, droplet: &Droplet, app: &App, space: &Space, by: &By) -> Answer<()> {
    let tx = context.store.begin().await?;
    tx.event(by.app_event("audit.app.droplet.download", app, space, json!({"droplet": droplet.id})));
    Ok(tx.commit().await?)
}
