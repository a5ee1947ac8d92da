//! What the scheduler plans by: the desired state in a few wide queries.

use crate::build::{BUILD, build};
use crate::engine::Db;
use crate::error::Result;
use crate::process::{PROCESS, process};
use crate::sql::{Query, Row};
use model::Digest;
use model::id::{AppId, VersionId};
use model::image::RegistryImage;
use model::resource::{App, Build, BuildCache, Deployment, Droplet, Process, ProcessVersion};
use model::work::Owner;
use std::collections::HashMap;
use std::sync::Arc;

/// A process of a started app, with the versions that its instances may be of.
#[derive(Debug, Clone)]
pub struct DesiredProcess {
    pub owner: Owner,
    /// `process.version` is what it is to end up with.
    pub process: Process,
    /// `process.version`, and during a deployment also the version before.
    pub versions: Vec<Arc<DesiredVersion>>,
    /// The deployment under way.
    pub deployment: Option<Deployment>,
    /// Addresses (`host.domain/path`) that lead to the app.
    pub uris: Vec<String>,
}

/// A version with the droplet it runs.
#[derive(Debug, Clone)]
pub struct DesiredVersion {
    pub version: ProcessVersion,
    pub droplet: Droplet,
}

/// Versions by id. Neither they nor what of their droplets is used here ever changes.
pub type KnownVersions = HashMap<VersionId, Arc<DesiredVersion>>;

/// A build that has not ended, with what its work is made of.
#[derive(Debug, Clone)]
pub struct PendingBuild {
    pub build: Build,
    pub app: App,
    pub owner: Owner,
    /// Of the package's index; `None` of an image in a registry.
    pub package_digest: Option<Digest>,
    /// The image that the package is.
    pub image: Option<RegistryImage>,
    /// What the app's last build on this stack left.
    pub cache: BuildCache,
}

impl Db {
    /// Every process of a started app that has a version, with all that its instances need.
    pub async fn processes_desired(&self) -> Result<Vec<DesiredProcess>> {
        self.processes_desired_beside(&KnownVersions::new()).await
    }

    /// The same where most of it was read before: versions in `known` are neither read nor opened again.
    pub async fn processes_desired_beside(&self, known: &KnownVersions) -> Result<Vec<DesiredProcess>> {
        let query = Query::new("processes_desired", "all", "").push(&format!(
            "SELECT {PROCESS} FROM processes t JOIN apps a ON a.id = t.app_id \
             WHERE a.state = 'STARTED' AND t.version_id IS NOT NULL ORDER BY t.created_at, t.id"
        ));
        let processes = self.map(query, process).await?;
        let owners = self.owners().await?;
        let uris = self.uris_by_app().await?;
        let mut deployments: HashMap<_, _> = self
            .deployments_active()
            .await?
            .into_iter()
            .map(|deployment| (deployment.process, deployment))
            .collect();
        let mut versions: Vec<VersionId> = processes.iter().filter_map(|process| process.version).collect();
        versions.extend(
            deployments
                .values()
                .flat_map(|d| d.previous_version.into_iter().chain([d.version])),
        );
        versions.sort_unstable();
        versions.dedup();
        versions.retain(|version| !known.contains_key(version));
        let new = self.desired_versions(&versions).await?;
        let version = |id: &VersionId| known.get(id).or_else(|| new.get(id)).cloned();
        Ok(processes
            .into_iter()
            .filter_map(|process| {
                let deployment = deployments.remove(&process.id);
                let mut wanted: Vec<VersionId> = process.version.into_iter().collect();
                if let Some(deployment) = &deployment {
                    wanted.extend([deployment.version].into_iter().chain(deployment.previous_version));
                }
                wanted.sort_unstable();
                wanted.dedup();
                Some(DesiredProcess {
                    owner: owners.get(&process.app)?.clone(),
                    versions: wanted.iter().filter_map(version).collect(),
                    deployment,
                    uris: uris.get(&process.app).cloned().unwrap_or_default(),
                    process,
                })
            })
            .collect())
    }

    async fn desired_versions(&self, ids: &[VersionId]) -> Result<KnownVersions> {
        let versions = self.versions_by_ids(ids).await?;
        let mut droplets: Vec<_> = versions.iter().map(|version| version.droplet).collect();
        droplets.sort_unstable();
        droplets.dedup();
        let droplets: HashMap<_, _> = self
            .droplets_by_ids(&droplets)
            .await?
            .into_iter()
            .map(|droplet| (droplet.id, droplet))
            .collect();
        Ok(versions
            .into_iter()
            .filter_map(|version| {
                let droplet = droplets.get(&version.droplet)?.clone();
                Some((version.id, Arc::new(DesiredVersion { version, droplet })))
            })
            .collect())
    }

    async fn owners(&self) -> Result<HashMap<AppId, Owner>> {
        let query = Query::new(
            "owners",
            "all",
            "SELECT a.id, a.name, s.id AS space_id, s.name AS space_name, o.id AS org_id, o.name AS org_name \
             FROM apps a JOIN spaces s ON s.id = a.space_id JOIN orgs o ON o.id = s.org_id",
        );
        let owners = self.map(query, owner).await?;
        Ok(owners.into_iter().map(|owner| (owner.app, owner)).collect())
    }

    /// Builds that have not ended, oldest first.
    pub async fn builds_pending(&self) -> Result<Vec<PendingBuild>> {
        let query = Query::new("builds_pending", "all", "").push(&format!(
            "SELECT {BUILD} FROM builds t WHERE t.state = 'STAGING' ORDER BY t.created_at, t.id"
        ));
        let mut pending = Vec::new();
        for build in self.map(query, build).await? {
            let (Some(app), Some(owner)) = (self.app_fetch(build.app).await?, self.app_owner(build.app).await?) else {
                continue;
            };
            let Some(package) = self.package_fetch(build.package).await? else {
                continue;
            };
            if package.digest.is_none() && package.image.is_none() {
                continue;
            }
            pending.push(PendingBuild {
                cache: self.build_cache_fetch(build.app, &build.stack).await?,
                build,
                app,
                owner,
                package_digest: package.digest,
                image: package.image,
            });
        }
        Ok(pending)
    }
}

pub(crate) fn owner(_: &Db, row: &Row) -> Result<Owner> {
    Ok(Owner {
        app: row.id("id")?,
        app_name: row.parse("name")?,
        space: row.id("space_id")?,
        space_name: row.text("space_name")?,
        org: row.id("org_id")?,
        org_name: row.text("org_name")?,
    })
}
