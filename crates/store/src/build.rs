//! Builds, and what the next build of an app gets from the last.

use crate::common::{Carrier, Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, json, word};
use crate::tx::Tx;
use model::Timestamp;
use model::id::{AppId, BuildId, PackageId};
use model::name::StackName;
use model::resource::{Build, BuildCache, BuildState};

/// Which builds a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct BuildFilter {
    pub apps: Option<Vec<AppId>>,
    pub packages: Option<Vec<PackageId>>,
    pub states: Option<Vec<BuildState>>,
    pub common: Common,
}

pub(crate) const BUILD: &str = "t.id, t.app_id, t.package_id, t.state, t.error, t.droplet_id, t.lifecycle, t.buildpacks, t.stack, \
                                t.limits, t.input_digest, t.created_by, t.metadata, t.created_at, t.updated_at";

pub(crate) fn build(_: &Db, row: &Row) -> Result<Build> {
    Ok(Build {
        id: row.id("id")?,
        app: row.id("app_id")?,
        package: row.id("package_id")?,
        state: row.word("state")?,
        error: row.json_opt("error")?,
        droplet: row.id_opt("droplet_id")?,
        lifecycle: row.word("lifecycle")?,
        buildpacks: row.json("buildpacks")?,
        stack: row.parse("stack")?,
        limits: row.json("limits")?,
        input_digest: row.parse_opt("input_digest")?,
        created_by: row.id("created_by")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

impl Db {
    /// A build by id.
    pub async fn build_fetch(&self, id: BuildId) -> Result<Option<Build>> {
        let query = Query::new("build_fetch", id, "")
            .push(&format!("SELECT {BUILD} FROM builds t WHERE t.id = "))
            .push_arg(id);
        self.find(query, build).await
    }

    /// Builds of apps within `scope`.
    pub async fn build_list(
        &self,
        filter: &BuildFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Build>> {
        let query = Query::new(
            "build_list",
            "a list",
            "FROM builds t JOIN apps a ON a.id = t.app_id WHERE 1 = 1",
        );
        let query = scope
            .spaces(query, "a.space_id")
            .and_in_some("t.app_id", filter.apps.as_deref())
            .and_in_some("t.package_id", filter.packages.as_deref())
            .and_words_some("t.state", filter.states.as_deref())?;
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(BUILD, query, &order.sql(None, true), page, build).await
    }

    /// What the app's last build on this stack left; empty at first.
    pub async fn build_cache_fetch(&self, app: AppId, stack: &StackName) -> Result<BuildCache> {
        let query = Query::new(
            "build_cache_fetch",
            app,
            "SELECT cache FROM build_caches WHERE app_id = $1 AND stack = $2",
        )
        .arg(app)
        .arg(stack.as_str());
        let cache = self.find(query, |_, row| row.json("cache")).await?;
        Ok(cache.unwrap_or_default())
    }
}

impl Tx {
    /// A new build.
    pub async fn build_create(&self, build: &Build) -> Result<()> {
        let query = Query::new(
            "build_create",
            build.id,
            "INSERT INTO builds (id, app_id, package_id, state, error, droplet_id, buildpacks, stack, limits, \
             input_digest, created_by, created_at, updated_at, lifecycle) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .arg(build.id)
        .arg(build.app)
        .arg(build.package)
        .arg(word(&build.state)?)
        .arg(build.error.as_ref().map(json).transpose()?)
        .arg(build.droplet)
        .arg(json(&build.buildpacks)?)
        .arg(build.stack.as_str())
        .arg(json(&build.limits)?)
        .arg(build.input_digest.as_ref().map(ToString::to_string))
        .arg(build.created_by)
        .arg(build.created_at)
        .arg(build.updated_at)
        .arg(word(&build.lifecycle)?);
        self.touch(Topic::Desired);
        self.execute(query).await?;
        self.usage_of_build(build, Some(build.created_at)).await?;
        self.metadata_keep(Carrier::Build, build.id.0, &build.metadata).await
    }

    /// State, error and droplet as given, where the build is still staging. False where it has ended already.
    pub async fn build_finish(&self, build: &Build) -> Result<bool> {
        let query = Query::new(
            "build_finish",
            build.id,
            "UPDATE builds SET state = $1, error = $2, droplet_id = $3, updated_at = $4 \
             WHERE id = $5 AND state = 'STAGING'",
        )
        .arg(word(&build.state)?)
        .arg(build.error.as_ref().map(json).transpose()?)
        .arg(build.droplet)
        .arg(build.updated_at)
        .arg(build.id);
        self.touch(Topic::Desired);
        let done = self.execute(query).await? > 0;
        if done {
            self.usage_of_build(build, Some(build.updated_at)).await?;
        }
        Ok(done)
    }

    /// What the next build of the app on this stack gets.
    pub async fn build_cache_set(
        &self,
        app: AppId,
        stack: &StackName,
        cache: &BuildCache,
        now: Timestamp,
    ) -> Result<()> {
        let query = Query::new(
            "build_cache_set",
            app,
            "INSERT INTO build_caches (app_id, stack, cache, updated_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (app_id, stack) DO UPDATE SET cache = excluded.cache, updated_at = excluded.updated_at",
        )
        .arg(app)
        .arg(stack.as_str())
        .arg(json(cache)?)
        .arg(now);
        self.execute(query).await.map(drop)
    }

    /// Forgets what earlier builds of the app left. True where there was anything.
    pub async fn build_cache_clear(&self, app: AppId) -> Result<bool> {
        let query = Query::new("build_cache_clear", app, "DELETE FROM build_caches WHERE app_id = $1").arg(app);
        Ok(self.execute(query).await? > 0)
    }
}
