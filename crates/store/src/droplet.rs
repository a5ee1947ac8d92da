//! Droplets: what staging made.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, json};
use crate::tx::Tx;
use model::Digest;
use model::id::{AppId, DropletId, OrgId, PackageId, SpaceId};
use model::resource::{BuildCache, Droplet};
use model::staging::DropletLayer;
use model::work::WorkKind;

/// Which droplets a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct DropletFilter {
    pub ids: Option<Vec<DropletId>>,
    pub apps: Option<Vec<AppId>>,
    pub spaces: Option<Vec<SpaceId>>,
    pub orgs: Option<Vec<OrgId>>,
    pub packages: Option<Vec<PackageId>>,
    pub common: Common,
}

const DROPLET: &str = "t.id, t.app_id, t.package_id, t.build_id, t.digest, t.layers, t.processes, t.buildpacks, \
                       t.sidecars, t.image_sealed, t.stack, t.input_digest, t.metadata, t.created_at";

fn droplet(db: &Db, row: &Row) -> Result<Droplet> {
    let id: DropletId = row.id("id")?;
    let sealed: Option<Vec<u8>> = row.get("image_sealed")?;
    Ok(Droplet {
        id,
        app: row.id("app_id")?,
        package: row.id_opt("package_id")?,
        build: row.id_opt("build_id")?,
        digest: row.parse("digest")?,
        layers: row.json("layers")?,
        processes: row.json("processes")?,
        buildpacks: row.json("buildpacks")?,
        sidecars: row.json("sidecars")?,
        image: sealed.map(|sealed| db.keys.open_json(id.0, &sealed)).transpose()?,
        stack: row.parse("stack")?,
        input_digest: row.parse_opt("input_digest")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
    })
}

impl Db {
    /// A droplet by id.
    pub async fn droplet_fetch(&self, id: DropletId) -> Result<Option<Droplet>> {
        let query = Query::new("droplet_fetch", id, "")
            .push(&format!("SELECT {DROPLET} FROM droplets t WHERE t.id = "))
            .push_arg(id);
        self.find(query, droplet).await
    }

    /// Droplets by ids, in no order.
    pub async fn droplets_by_ids(&self, ids: &[DropletId]) -> Result<Vec<Droplet>> {
        let mut droplets = Vec::with_capacity(ids.len());
        for ids in ids.chunks(self.batch(1)) {
            let query = Query::new("droplets_by_ids", ids.len(), "")
                .push(&format!("SELECT {DROPLET} FROM droplets t WHERE 1 = 1"))
                .and_in("t.id", ids.iter().copied());
            droplets.extend(self.map(query, droplet).await?);
        }
        Ok(droplets)
    }

    /// Digests of all layers of droplets, of build caches and of live work: what keeps their blobs.
    pub async fn layer_digests(&self) -> Result<Vec<Digest>> {
        let mut digests = std::collections::BTreeSet::new();
        let query = Query::new("layer_digests", "droplets", "SELECT DISTINCT layers FROM droplets");
        for layers in self
            .map(query, |_, row| row.json::<Vec<DropletLayer>>("layers"))
            .await?
        {
            digests.extend(layers.into_iter().map(|layer| layer.digest));
        }
        let query = Query::new("layer_digests", "caches", "SELECT cache FROM build_caches");
        for cache in self.map(query, |_, row| row.json::<BuildCache>("cache")).await? {
            digests.extend(cache.layers.into_iter().map(|layer| layer.digest));
        }
        for work in self.works_live().await? {
            match &work.spec.kind {
                WorkKind::Instance(instance) => {
                    digests.extend(instance.layers.iter().map(|layer| layer.digest.clone()))
                }
                WorkKind::Task(task) => digests.extend(task.layers.iter().map(|layer| layer.digest.clone())),
                WorkKind::Build(build) => {
                    digests.extend(build.input.restored.iter().map(|layer| layer.digest.clone()));
                }
            }
        }
        Ok(digests.into_iter().collect())
    }

    /// The app's newest droplet that came of the same input.
    pub async fn droplet_by_input(&self, app: AppId, input: &Digest) -> Result<Option<Droplet>> {
        let query = Query::new("droplet_by_input", app, "")
            .push(&format!("SELECT {DROPLET} FROM droplets t WHERE t.app_id = "))
            .push_arg(app)
            .push(" AND t.input_digest = ")
            .push_arg(input)
            .push(" ORDER BY t.created_at DESC LIMIT 1");
        self.find(query, droplet).await
    }

    /// Droplets of apps within `scope`.
    pub async fn droplet_list(
        &self,
        filter: &DropletFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Droplet>> {
        let query = Query::new(
            "droplet_list",
            "a list",
            "FROM droplets t JOIN apps a ON a.id = t.app_id WHERE 1 = 1",
        );
        let query = scope
            .spaces(query, "a.space_id")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.app_id", filter.apps.as_deref())
            .and_in_some("a.space_id", filter.spaces.as_deref())
            .and_in_orgs("a.space_id", filter.orgs.as_deref())
            .and_in_some("t.package_id", filter.packages.as_deref());
        let query = self.narrowed(query, &filter.common, Has::NoUpdate);
        self.list(DROPLET, query, &order.sql(None, false), page, droplet).await
    }
}

impl Tx {
    /// A new droplet.
    pub async fn droplet_create(&self, droplet: &Droplet) -> Result<()> {
        let query = Query::new(
            "droplet_create",
            droplet.id,
            "INSERT INTO droplets (id, app_id, package_id, build_id, digest, layers, processes, buildpacks, \
             sidecars, stack, input_digest, created_at, image_sealed) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .arg(droplet.id)
        .arg(droplet.app)
        .arg(droplet.package)
        .arg(droplet.build)
        .arg(droplet.digest.to_string())
        .arg(json(&droplet.layers)?)
        .arg(json(&droplet.processes)?)
        .arg(json(&droplet.buildpacks)?)
        .arg(json(&droplet.sidecars)?)
        .arg(droplet.stack.as_str())
        .arg(droplet.input_digest.as_ref().map(ToString::to_string))
        .arg(droplet.created_at)
        .arg(
            droplet
                .image
                .as_ref()
                .map(|image| self.keys.seal_json(droplet.id.0, image))
                .transpose()?,
        );
        self.execute(query).await.map(drop)
    }

    /// Gives a droplet that awaits its upload layers and processes; says whether it still did.
    pub async fn droplet_fill(&self, droplet: &Droplet) -> Result<bool> {
        let query = Query::new(
            "droplet_fill",
            droplet.id,
            "UPDATE droplets SET digest = $2, layers = $3, processes = $4 WHERE id = $1 AND layers = '[]'",
        )
        .arg(droplet.id)
        .arg(droplet.digest.to_string())
        .arg(json(&droplet.layers)?)
        .arg(json(&droplet.processes)?);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes a droplet.
    pub async fn droplet_delete(&self, id: DropletId) -> Result<bool> {
        let query = Query::new("droplet_delete", id, "DELETE FROM droplets WHERE id = $1").arg(id);
        Ok(self.execute(query).await? > 0)
    }
}
