//! Packages, and the index of their files by content.

use crate::common::{Carrier, Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Arg, Query, Row, word};
use crate::tx::Tx;
use model::Digest;
use model::id::{AppId, OrgId, PackageId, SpaceId};
use model::resource::{Package, PackageState};

/// Which packages a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct PackageFilter {
    pub ids: Option<Vec<PackageId>>,
    pub apps: Option<Vec<AppId>>,
    pub spaces: Option<Vec<SpaceId>>,
    pub orgs: Option<Vec<OrgId>>,
    pub states: Option<Vec<PackageState>>,
    /// Only images, or only those that are none.
    pub images: Option<bool>,
    pub common: Common,
}

/// A file of a package: what it is, and where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    pub path: String,
    pub sha1: [u8; 20],
    pub sha256: Digest,
    pub size_bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// The blob that holds its bytes.
    pub pack: Digest,
    pub pack_offset: u64,
    /// Bytes that it takes there, compressed or not.
    pub pack_length: u64,
    /// How it is compressed there, in the blob store's words.
    pub compression: String,
}

const PACKAGE: &str =
    "t.id, t.app_id, t.state, t.digest, t.size_bytes, t.error, t.image_sealed, t.metadata, t.created_at, t.updated_at";
const FILE: &str =
    "f.path, f.sha1, f.sha256, f.size_bytes, f.mode, f.pack, f.pack_offset, f.pack_length, f.compression";

fn package(db: &Db, row: &Row) -> Result<Package> {
    let id: PackageId = row.id("id")?;
    let sealed: Option<Vec<u8>> = row.get("image_sealed")?;
    Ok(Package {
        id,
        app: row.id("app_id")?,
        state: row.word("state")?,
        digest: row.parse_opt("digest")?,
        size_bytes: row.int("size_bytes")?,
        error: row.text_opt("error")?,
        image: sealed.map(|sealed| db.keys.open_json(id.0, &sealed)).transpose()?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn file(_: &Db, row: &Row) -> Result<PackageFile> {
    let sha1: Vec<u8> = row.get("sha1")?;
    Ok(PackageFile {
        path: row.text("path")?,
        sha1: sha1
            .try_into()
            .map_err(|_| crate::StoreError::corrupt("sha1", "not 20 bytes"))?,
        sha256: row.parse("sha256")?,
        size_bytes: row.int("size_bytes")?,
        mode: row.int("mode")?,
        pack: row.parse("pack")?,
        pack_offset: row.int("pack_offset")?,
        pack_length: row.int("pack_length")?,
        compression: row.text("compression")?,
    })
}

impl Db {
    /// A package by id.
    pub async fn package_fetch(&self, id: PackageId) -> Result<Option<Package>> {
        let query = Query::new("package_fetch", id, "")
            .push(&format!("SELECT {PACKAGE} FROM packages t WHERE t.id = "))
            .push_arg(id);
        self.find(query, package).await
    }

    /// Packages of apps within `scope`.
    pub async fn package_list(
        &self,
        filter: &PackageFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Package>> {
        let query = Query::new(
            "package_list",
            "a list",
            "FROM packages t JOIN apps a ON a.id = t.app_id WHERE 1 = 1",
        );
        let query = scope
            .spaces(query, "a.space_id")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.app_id", filter.apps.as_deref())
            .and_in_some("a.space_id", filter.spaces.as_deref())
            .and_in_orgs("a.space_id", filter.orgs.as_deref())
            .and_words_some("t.state", filter.states.as_deref())?;
        let query = match filter.images {
            Some(true) => query.push(" AND t.image_sealed IS NOT NULL"),
            Some(false) => query.push(" AND t.image_sealed IS NULL"),
            None => query,
        };
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(PACKAGE, query, &order.sql(None, true), page, package).await
    }

    /// Digests of all packages: what keeps their blobs.
    pub async fn package_digests(&self) -> Result<Vec<Digest>> {
        let query = Query::new(
            "package_digests",
            "all",
            "SELECT DISTINCT digest FROM packages WHERE digest IS NOT NULL",
        );
        self.map(query, |_, row| row.parse("digest")).await
    }

    /// The files of a package, by path.
    pub async fn package_files(&self, id: PackageId) -> Result<Vec<PackageFile>> {
        let query = Query::new("package_files", id, "")
            .push(&format!("SELECT {FILE} FROM package_files f WHERE f.package_id = "))
            .push_arg(id)
            .push(" ORDER BY f.path");
        self.map(query, file).await
    }

    /// One file for each of `contents` (SHA-1 and size) that a ready package of an app within `scope` holds.
    pub async fn package_files_matching(&self, contents: &[([u8; 20], u64)], scope: Scope) -> Result<Vec<PackageFile>> {
        let mut found = std::collections::HashMap::new();
        for batch in contents.chunks(self.batch(1)) {
            let query = Query::new("package_files_matching", contents.len(), "").push(&format!(
                "SELECT {FILE} FROM package_files f JOIN packages p ON p.id = f.package_id \
                 JOIN apps a ON a.id = p.app_id WHERE p.state = 'READY'"
            ));
            let query = scope
                .spaces(query, "a.space_id")
                .and_in("f.sha1", batch.iter().map(|(sha1, _)| sha1.to_vec()));
            for file in self.map(query, file).await? {
                found.insert((file.sha1, file.size_bytes), file);
            }
        }
        let asked: std::collections::HashSet<_> = contents.iter().copied().collect();
        Ok(found
            .into_iter()
            .filter(|(content, _)| asked.contains(content))
            .map(|(_, file)| file)
            .collect())
    }
}

impl Tx {
    /// A new package.
    pub async fn package_create(&self, package: &Package) -> Result<()> {
        let query = Query::new(
            "package_create",
            package.id,
            "INSERT INTO packages (id, app_id, state, digest, size_bytes, error, created_at, updated_at, image_sealed) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .arg(package.id)
        .arg(package.app)
        .arg(word(&package.state)?)
        .arg(package.digest.as_ref().map(ToString::to_string))
        .arg(package.size_bytes)
        .arg(package.error.clone())
        .arg(package.created_at)
        .arg(package.updated_at)
        .arg(self.image_sealed(package)?);
        self.execute(query).await?;
        self.metadata_keep(Carrier::Package, package.id.0, &package.metadata)
            .await
    }

    /// Another image or other credentials for it.
    pub async fn package_image_set(&self, package: &Package) -> Result<bool> {
        let query = Query::new(
            "package_image_set",
            package.id,
            "UPDATE packages SET image_sealed = $1, updated_at = $2 WHERE id = $3",
        )
        .arg(self.image_sealed(package)?)
        .arg(package.updated_at)
        .arg(package.id);
        Ok(self.execute(query).await? > 0)
    }

    /// The image with its credentials, as it is kept.
    fn image_sealed(&self, package: &Package) -> Result<Option<Vec<u8>>> {
        let image = package.image.as_ref();
        image.map(|image| self.keys.seal_json(package.id.0, image)).transpose()
    }

    /// State, digest, size and error as given, where the package is still in state `from`.
    pub async fn package_update(&self, package: &Package, from: PackageState) -> Result<bool> {
        let query = Query::new(
            "package_update",
            package.id,
            "UPDATE packages SET state = $1, digest = $2, size_bytes = $3, error = $4, updated_at = $5 \
             WHERE id = $6 AND state = $7",
        )
        .arg(word(&package.state)?)
        .arg(package.digest.as_ref().map(ToString::to_string))
        .arg(package.size_bytes)
        .arg(package.error.clone())
        .arg(package.updated_at)
        .arg(package.id)
        .arg(word(&from)?);
        self.touch(Topic::Events);
        Ok(self.execute(query).await? > 0)
    }

    /// Records the files of a package.
    pub async fn package_files_insert(&self, id: PackageId, files: &[PackageFile]) -> Result<()> {
        for batch in files.chunks(self.batch(10)) {
            let rows = batch.iter().map(|file| -> Vec<Arg> {
                vec![
                    id.into(),
                    file.path.as_str().into(),
                    file.sha1.to_vec().into(),
                    (&file.sha256).into(),
                    file.size_bytes.into(),
                    file.mode.into(),
                    file.pack.to_string().into(),
                    file.pack_offset.into(),
                    file.pack_length.into(),
                    file.compression.as_str().into(),
                ]
            });
            let query = Query::new(
                "package_files_insert",
                id,
                "INSERT INTO package_files (package_id, path, sha1, sha256, size_bytes, mode, pack, pack_offset, \
                 pack_length, compression) VALUES ",
            )
            .push_rows(rows);
            self.execute(query).await?;
        }
        Ok(())
    }

    /// Removes a package.
    pub async fn package_delete(&self, id: PackageId) -> Result<bool> {
        let query = Query::new("package_delete", id, "DELETE FROM packages WHERE id = $1").arg(id);
        Ok(self.execute(query).await? > 0)
    }
}
