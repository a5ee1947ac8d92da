//! Buildpacks that operators uploaded, and what they changed of built-in ones.

use crate::engine::Db;
use crate::error::Result;
use crate::sql::{Query, Row, json};
use crate::tx::Tx;
use model::Digest;
use model::id::BuildpackId;
use model::resource::Buildpack;
use model::staging::BuildpackSource;
use model::work::WorkKind;

const BUILDPACK: &str = "id, name, stack, position, enabled, locked, builtin, filename, digest, size_bytes, metadata, \
     created_at, updated_at";

fn buildpack(_: &Db, row: &Row) -> Result<Buildpack> {
    let stack = row.text("stack")?;
    Ok(Buildpack {
        id: row.id("id")?,
        name: row.text("name")?,
        stack: if stack.is_empty() {
            None
        } else {
            Some(row.parse("stack")?)
        },
        position: row.int("position")?,
        enabled: row.get("enabled")?,
        locked: row.get("locked")?,
        builtin: row.text_opt("builtin")?,
        filename: row.text_opt("filename")?,
        digest: row.parse_opt("digest")?,
        size_bytes: row.int("size_bytes")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

impl Db {
    /// All that have a row, in the order in which they are tried.
    pub async fn buildpack_list(&self) -> Result<Vec<Buildpack>> {
        let query = Query::new("buildpack_list", "all", "").push(&format!(
            "SELECT {BUILDPACK} FROM buildpacks ORDER BY position, created_at, id"
        ));
        self.map(query, buildpack).await
    }

    /// Archives that are needed: those of buildpacks, and those that live builds use.
    pub async fn buildpack_digests(&self) -> Result<Vec<Digest>> {
        let rows = self.buildpack_list().await?.into_iter();
        let mut digests: Vec<Digest> = rows.filter_map(|row| row.digest).collect();
        for work in self.works_live().await? {
            let WorkKind::Build(build) = &work.spec.kind else {
                continue;
            };
            let sources = build.input.buildpacks.iter().filter_map(|mount| mount.source.as_ref());
            digests.extend(sources.filter_map(|source| match source {
                BuildpackSource::Archive { digest, .. } => Some(digest.clone()),
                _ => None,
            }));
        }
        Ok(digests)
    }
}

impl Tx {
    /// Writes a buildpack, new or known. Taken: `buildpack name`.
    pub async fn buildpack_put(&self, buildpack: &Buildpack) -> Result<()> {
        let query = Query::new(
            "buildpack_put",
            buildpack.id,
            "INSERT INTO buildpacks (id, name, stack, position, enabled, locked, builtin, filename, digest, size_bytes, \
             metadata, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, stack = excluded.stack, position = excluded.position, \
             enabled = excluded.enabled, locked = excluded.locked, builtin = excluded.builtin, \
             filename = excluded.filename, digest = excluded.digest, size_bytes = excluded.size_bytes, \
             metadata = excluded.metadata, updated_at = excluded.updated_at",
        )
        .taken("buildpack name")
        .arg(buildpack.id)
        .arg(buildpack.name.as_str())
        .arg(buildpack.stack.as_ref().map_or("", |stack| stack.as_str()))
        .arg(buildpack.position)
        .arg(buildpack.enabled)
        .arg(buildpack.locked)
        .arg(buildpack.builtin.clone())
        .arg(buildpack.filename.clone())
        .arg(buildpack.digest.as_ref().map(ToString::to_string))
        .arg(buildpack.size_bytes)
        .arg(json(&buildpack.metadata)?)
        .arg(buildpack.created_at)
        .arg(buildpack.updated_at);
        self.execute(query).await.map(drop)
    }

    /// Removes a buildpack.
    pub async fn buildpack_delete(&self, id: BuildpackId) -> Result<bool> {
        let query = Query::new("buildpack_delete", id, "DELETE FROM buildpacks WHERE id = $1").arg(id);
        Ok(self.execute(query).await? > 0)
    }
}
