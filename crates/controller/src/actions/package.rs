//! Packages: made empty, filled once by an upload.

use super::{By, fresh};
use crate::context::Context;
use crate::error::{Answer, Failure};
use api::error::Code;
use api::v3::PackageUpdate;
use blobstore::pack::{self, Compression, Entry, Mode, PackageIndex, Place, TreeLimits};
use model::Secret;
use model::id::PackageId;
use model::image::{MAX_CREDENTIAL_BYTES, RegistryImage};
use model::resource::{App, AppLifecycle, Metadata, Package, PackageState, Space};
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use store::{Carrier, PackageFile, Scope};

/// Files of one request, named or uploaded.
pub const MAX_RESOURCES: usize = 200_000;

/// A new package: empty, or an image, which is ready at once.
pub async fn create(
    context: &Context,
    app: &App,
    space: &Space,
    image: Option<RegistryImage>,
    metadata: Metadata,
    by: &By,
) -> Answer<Package> {
    // An image's layout is bits, which an app that is an image takes as well.
    if image.is_some() && app.lifecycle == AppLifecycle::Buildpack {
        return Err(Failure::refused("Cannot create Docker package for a buildpack app."));
    }
    let package = Package {
        id: fresh::<PackageId>(),
        app: app.id,
        state: if image.is_some() {
            PackageState::Ready
        } else {
            PackageState::AwaitingUpload
        },
        digest: None,
        size_bytes: 0,
        error: None,
        image,
        metadata,
        created_at: by.now,
        updated_at: by.now,
    };
    let tx = context.store.begin().await?;
    tx.package_create(&package).await?;
    tx.event(by.app_event("audit.app.package.create", app, space, json!({"package": package.id})));
    tx.commit().await?;
    Ok(package)
}

/// Refuses credentials beyond their limits, and halves of them.
pub fn check_credentials(image: &RegistryImage) -> Answer<()> {
    let long = |text: &str| text.len() > MAX_CREDENTIAL_BYTES;
    let username = image.username.as_deref().unwrap_or_default();
    let password = image.password.as_ref().map(Secret::expose).unwrap_or_default();
    if long(username) || long(password) {
        return Err(Failure::refused(format!(
            "Credentials of a registry have at most {MAX_CREDENTIAL_BYTES} bytes"
        )));
    }
    if username.contains(':') {
        return Err(Failure::refused("The user name of a registry cannot contain a colon"));
    }
    Ok(())
}

/// Other credentials or metadata.
pub async fn update(
    context: &Context,
    mut package: Package,
    app: &App,
    space: &Space,
    change: PackageUpdate,
    by: &By,
) -> Answer<Package> {
    super::manifest::merge(&mut package.metadata, &change.metadata.unwrap_or_default())?;
    let credentials = change.username.is_some() || change.password.is_some();
    package.updated_at = by.now;
    let tx = context.store.begin().await?;
    if credentials {
        let image = package.image.as_mut();
        let image = image.ok_or_else(|| Failure::refused("Cannot update Docker credentials for a buildpack app."))?;
        image.username = change.username.or_else(|| image.username.take());
        image.password = change.password.or_else(|| image.password.take());
        check_credentials(image)?;
        tx.package_image_set(&package).await?;
    }
    tx.metadata_set(Carrier::Package, package.id.0, &package.metadata)
        .await?;
    tx.event(by.app_event("audit.app.package.update", app, space, json!({"package": package.id})));
    tx.commit().await?;
    Ok(package)
}

/// A package with the files of another, whose blobs they share.
pub async fn copy(
    context: &Context,
    source: &Package,
    app: &App,
    space: &Space,
    metadata: Metadata,
    by: &By,
) -> Answer<Package> {
    if source.state != PackageState::Ready {
        return Err(Failure::refused("Source package is not ready").hint("Upload its files first"));
    }
    let package = Package {
        id: fresh::<PackageId>(),
        app: app.id,
        metadata,
        created_at: by.now,
        updated_at: by.now,
        ..source.clone()
    };
    let empty = Package {
        state: PackageState::AwaitingUpload,
        digest: None,
        size_bytes: 0,
        ..package.clone()
    };
    if package.image.is_some() && app.lifecycle == AppLifecycle::Buildpack {
        return Err(Failure::refused("Cannot create Docker package for a buildpack app."));
    }
    let files = context.store.package_files(source.id).await?;
    let tx = context.store.begin().await?;
    tx.package_create(&empty).await?;
    tx.package_update(&package, PackageState::AwaitingUpload).await?;
    tx.package_files_insert(package.id, &files).await?;
    let data = json!({"package": package.id, "source": source.id});
    tx.event(by.app_event("audit.app.package.create", app, space, data));
    tx.commit().await?;
    Ok(package)
}

/// A file that the client did not send because it is known.
#[derive(Debug, Clone)]
pub struct Known {
    pub path: String,
    pub mode: u32,
    pub sha1: [u8; 20],
    pub size: u64,
}

/// Which of these contents need no upload, by what the caller may read. Empty files never do.
pub async fn matching(
    context: &Context,
    scope: Scope,
    contents: &[([u8; 20], u64)],
) -> Answer<HashMap<([u8; 20], u64), Option<PackageFile>>> {
    let empty = empty_sha1();
    let ask: Vec<_> = contents
        .iter()
        .copied()
        .filter(|content| *content != (empty, 0))
        .collect();
    let files = context.store.package_files_matching(&ask, scope).await?;
    let mut found: HashMap<_, _> = files
        .into_iter()
        .map(|file| ((file.sha1, file.size_bytes), Some(file)))
        .collect();
    if ask.len() < contents.len() {
        found.insert((empty, 0), None);
    }
    Ok(found)
}

fn empty_sha1() -> [u8; 20] {
    Sha1::digest([]).into()
}

/// Where the bytes of known files lie; refuses those that are not known (any more).
pub async fn resolve(context: &Context, scope: Scope, known: Vec<Known>) -> Answer<Vec<Entry>> {
    let contents: Vec<_> = known.iter().map(|known| (known.sha1, known.size)).collect();
    let found = matching(context, scope, &contents).await?;
    known
        .into_iter()
        .map(|known| {
            let invalid = |detail: String| {
                Failure::new(
                    Code::AppBitsUploadInvalid,
                    format!("The app upload is invalid: {detail}"),
                )
            };
            let file = found
                .get(&(known.sha1, known.size))
                .ok_or_else(|| invalid(format!("the file {:?} is not known and has to be uploaded", known.path)))?;
            let (sha256, place) = match file {
                None => (model::Digest::from_sha256(Sha256::digest([]).into()), None),
                Some(file) => (
                    file.sha256.clone(),
                    Some(place(file).ok_or_else(|| invalid("it refers to a damaged file".to_owned()))?),
                ),
            };
            Ok(Entry {
                path: known.path,
                mode: Mode::file(known.mode),
                size: known.size,
                sha1: known.sha1,
                sha256,
                place,
            })
        })
        .collect()
}

fn place(file: &PackageFile) -> Option<Place> {
    Some(Place {
        pack: file.pack.clone(),
        offset: file.pack_offset,
        length: file.pack_length,
        compression: match file.compression.as_str() {
            "raw" => Compression::Raw,
            "zstd" => Compression::Zstd,
            _ => return None,
        },
    })
}

fn row(entry: &Entry) -> Option<PackageFile> {
    let place = entry.place.as_ref()?;
    // Links are not offered: a client asks for files.
    entry.mode.is_file().then(|| PackageFile {
        path: entry.path.clone(),
        sha1: entry.sha1,
        sha256: entry.sha256.clone(),
        size_bytes: entry.size,
        mode: entry.mode.permissions(),
        pack: place.pack.clone(),
        pack_offset: place.offset,
        pack_length: place.length,
        compression: match place.compression {
            Compression::Raw => "raw",
            Compression::Zstd => "zstd",
        }
        .to_owned(),
    })
}

/// Makes the package of an archive and of known files: its blobs first, then, in one transaction, its row.
///
/// A crash in between leaves a package that still awaits its upload, and blobs that garbage collection finds.
pub async fn fill(
    context: &Context,
    package: Package,
    app: &App,
    space: &Space,
    archive: Option<std::fs::File>,
    known: Vec<Entry>,
    by: &By,
) -> Answer<Package> {
    let limits = TreeLimits::default();
    let stored = match archive {
        Some(archive) => pack::store_zip(&context.blobs, archive, known, &limits).await,
        None => store_known(context, known, &limits).await,
    };
    let index = stored.map_err(invalid_bits)?;
    if index.entries().is_empty() {
        return Err(Failure::new(
            Code::AppBitsUploadInvalid,
            "The app upload is invalid: it holds no files",
        )
        .hint("Push a folder with the app's source in it"));
    }
    let filled = Package {
        state: PackageState::Ready,
        digest: Some(index.digest().clone()),
        size_bytes: index.total_bytes(),
        updated_at: by.now,
        ..package
    };
    let files: Vec<PackageFile> = index.entries().iter().filter_map(row).collect();
    let tx = context.store.begin().await?;
    if !tx.package_update(&filled, PackageState::AwaitingUpload).await? {
        return Err(already_uploaded());
    }
    tx.package_files_insert(filled.id, &files).await?;
    let data = json!({"package": filled.id, "files": index.entries().len(), "size_bytes": filled.size_bytes});
    tx.event(by.app_event("audit.app.package.upload", app, space, data.clone()));
    tx.event(by.app_event("package.ready", app, space, data));
    tx.commit().await?;
    Ok(filled)
}

async fn store_known(context: &Context, known: Vec<Entry>, limits: &TreeLimits) -> Result<PackageIndex, pack::Error> {
    let index = PackageIndex::build(known, limits)?;
    index.save(&context.blobs).await?;
    Ok(index)
}

/// The answer to a second upload.
#[must_use]
pub fn already_uploaded() -> Failure {
    Failure::refused("Bits may be uploaded only once. Create a new package to upload different bits.")
}

fn invalid_bits(error: pack::Error) -> Failure {
    if error.is_callers() {
        let detail = format!("The app upload is invalid: {}", telemetry::chain(&error));
        Failure::new(Code::AppBitsUploadInvalid, detail)
    } else {
        Failure::internal(error)
    }
}

/// Notes that somebody took a package away.
pub async fn downloaded(context: &Context, package: &Package, app: &App, space: &Space, by: &By) -> Answer<()> {
    let tx = context.store.begin().await?;
    tx.event(by.app_event("audit.app.package.download", app, space, json!({"package": package.id})));
    Ok(tx.commit().await?)
}

/// Removes a package. Builds that use it go on.
pub async fn delete(
    context: &Context,
    package: &Package,
    app: &App,
    space: &Space,
    by: &By,
) -> Answer<model::id::JobId> {
    let job = by.done_job("package.delete");
    let tx = context.store.begin().await?;
    tx.package_delete(package.id).await?;
    tx.event(by.app_event("audit.app.package.delete", app, space, json!({"package": package.id})));
    tx.job_create(&job).await?;
    tx.commit().await?;
    Ok(job.id)
}
