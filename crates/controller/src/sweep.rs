//! Removes what nobody needs any more: old events, jobs, ended work, logs, and blobs that nothing refers to.

use crate::Control;
use crate::context::Context;
use crate::error::Failure;
use blobstore::Kind;
use blobstore::pack::{PackageIndex, TreeLimits};
use model::Digest;
use std::collections::HashSet;
use std::time::Duration;
use store::Retention;
use tokio_util::sync::CancellationToken;

/// Time between two sweeps.
const EVERY: Duration = Duration::from_secs(600);
/// A blob younger than this may belong to something that is being written.
const GRACE: Duration = Duration::from_secs(3600);
const KEEP_EVENTS: Duration = Duration::from_secs(31 * 24 * 3600);
const KEEP_JOBS: Duration = Duration::from_secs(2 * 24 * 3600);
const KEEP_WORK: Duration = Duration::from_secs(24 * 3600);
/// Of each app, beside what is in use; CF's figures.
const KEEP_PER_APP: Retention = Retention {
    packages: 5,
    droplets: 5,
    builds: 100,
    deployments: 100,
    versions: 20,
};

/// Sweeps now and then until `shutdown`.
/// Where several controllers share a database, the elected one sweeps.
pub(crate) async fn run(control: Control, shutdown: CancellationToken) {
    let context = control.context.clone();
    if let Err(error) = context.blobs.sweep_temporaries().await {
        tracing::warn!(cause = telemetry::chain(&error), "temporary blobs were not swept");
    }
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        // Every controller signs tokens: with the newest key, whoever made it.
        if let Err(error) = context.tokens.reload(&context.store).await {
            tracing::warn!(
                cause = telemetry::chain(&error),
                "the keys that sign tokens were not read again"
            );
        }
        if !control.lead.is_here() {
            continue;
        }
        if let Err(failure) = sweep(&context).await {
            tracing::warn!(?failure, "a sweep came to nothing; the next tries again");
        }
    }
}

async fn sweep(context: &Context) -> Result<(), Failure> {
    let now = context.now();
    let age = context.config.limits.key_age;
    if context
        .tokens
        .age(&context.store, now, age)
        .await
        .map_err(Failure::internal)?
    {
        tracing::info!("a new key signs access tokens from now on");
    }
    let tx = context.store.begin().await?;
    tx.events_prune(now - KEEP_EVENTS).await?;
    tx.usage_prune(now - KEEP_EVENTS).await?;
    tx.jobs_prune(now - KEEP_JOBS).await?;
    tx.works_prune(now - KEEP_WORK).await?;
    tx.superseded_prune(&KEEP_PER_APP, now - GRACE).await?;
    tx.commit().await?;
    let (logs, now_ns) = (
        context.logs.clone(),
        i64::try_from(now.unix_timestamp_nanos()).unwrap_or(i64::MAX),
    );
    tokio::task::spawn_blocking(move || logs.sweep(now_ns))
        .await
        .map_err(Failure::internal)?
        .map_err(Failure::internal)?;
    sweep_logs(context).await?;
    sweep_blobs(context).await
}

/// Logs of apps that were deleted go; cells may have shipped some after the deletion.
async fn sweep_logs(context: &Context) -> Result<(), Failure> {
    for name in context.logs.apps() {
        let gone = match crate::logs::owner_of(&name) {
            Some(app) => context.store.app_fetch(app).await?.is_none(),
            None => true,
        };
        if gone {
            let logs = context.logs.clone();
            let removed = tokio::task::spawn_blocking(move || logs.remove(&name)).await;
            removed.map_err(Failure::internal)?.map_err(Failure::internal)?;
        }
    }
    Ok(())
}

/// Everything that a row refers to stays; of the rest, what is old goes.
async fn sweep_blobs(context: &Context) -> Result<(), Failure> {
    let packages: HashSet<Digest> = context.store.package_digests().await?.into_iter().collect();
    let mut packs = HashSet::new();
    for digest in &packages {
        match PackageIndex::load(&context.blobs, digest, &TreeLimits::default()).await {
            Ok(index) => packs.extend(index.packs().into_iter().cloned()),
            // Not knowing what it needs, nothing may go.
            Err(error) => return Err(Failure::internal(error)),
        }
    }
    let layers: HashSet<Digest> = context.store.layer_digests().await?.into_iter().collect();
    let buildpacks: HashSet<Digest> = context.store.buildpack_digests().await?.into_iter().collect();
    for (kind, reachable) in [
        (Kind::Package, packages),
        (Kind::Pack, packs),
        (Kind::Layer, layers),
        (Kind::Buildpack, buildpacks),
    ] {
        let swept = context
            .blobs
            .retain(kind, &reachable, GRACE)
            .await
            .map_err(Failure::internal)?;
        if swept.blobs > 0 {
            tracing::info!(%kind, blobs = swept.blobs, bytes = swept.bytes, "removed blobs that nothing refers to");
        }
    }
    Ok(())
}
