//! Gets an app's files to the server: asks which it has, packs the others, uploads them; again where the connection breaks.

use super::follow::Follow;
use super::{Cx, blocking};
use crate::client::Client;
use crate::client::wire::{App, Checksum, Package, Resource};
use crate::errors::Error;
use crate::manifest::Image;
use crate::source::{File, Sha1Hex, Tree, zip};
use crate::ui::{Phase, format};
use model::Secret;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Times that an upload is begun anew after its connection broke.
const TRIES: u32 = 3;
/// How often the bar is brought up to date.
const REDRAW: Duration = Duration::from_millis(100);

/// What was sent.
pub struct Sent {
    /// Guid of the package, ready to be staged.
    pub package: String,
    pub files: u64,
    pub bytes: u64,
}

/// The parts of an upload.
struct Cargo {
    known: Vec<Resource>,
    zip: Option<(std::fs::File, u64)>,
    files: usize,
}

/// Sends what the server lacks; returns once the package can be staged.
///
/// # Errors
/// Where it can't be sent, or the server can't use it.
pub async fn send(
    cx: &Cx,
    client: &Client,
    app: &App,
    tree: &Tree,
    digests: &[Sha1Hex],
    follow: &mut Follow,
) -> Result<Sent, Error> {
    let since = follow.elapsed();
    let phase = cx.ui.phase("upload", "asking which files are new");
    let resources: Vec<Resource> = tree
        .files
        .iter()
        .zip(digests)
        .map(|(file, sha1)| resource(file, sha1))
        .collect();
    let (known, package) = tokio::try_join!(client.match_resources(&resources), client.create_package(&app.guid))?;
    let cargo = load(tree, resources, &known).await?;
    let bytes = cargo.zip.as_ref().map_or(0, |zip| zip.1);
    let package = upload(client, &package.guid, app, &cargo, &phase).await?;
    follow.package_ready(&package).await?;
    let text = if cargo.files == 0 {
        "no file is new".to_owned()
    } else {
        let all = format::count(tree.files.len(), "file", "files");
        format!("{} of {all} new, {}", cargo.files, format::bytes(bytes))
    };
    let took = phase.done(&text);
    follow.track_mut().local("upload", since, took);
    Ok(Sent {
        package: package.guid,
        files: cargo.files as u64,
        bytes,
    })
}

/// Names an image, which the platform gets by itself.
///
/// # Errors
/// Where the server can't use it.
pub async fn image(client: &Client, app: &App, image: &Image, password: Option<&Secret>) -> Result<Sent, Error> {
    if image.username.is_some() && password.is_none() {
        return Err(Error::Usage {
            message: "there is a name at the image's registry and no password".into(),
            hint: Some("set CF_DOCKER_PASSWORD".into()),
        });
    }
    let package = client.create_image_package(&app.guid, image, password).await?;
    Ok(Sent {
        package: package.guid,
        files: 0,
        bytes: 0,
    })
}

fn resource(file: &File, sha1: &Sha1Hex) -> Resource {
    Resource {
        path: file.path.clone(),
        mode: format!("{:o}", file.mode),
        checksum: Checksum { value: sha1.clone() },
        size_in_bytes: file.stamp.bytes,
    }
}

/// Divides the files into those that the server has and those that are packed.
async fn load(tree: &Tree, resources: Vec<Resource>, known: &HashSet<(String, u64)>) -> Result<Cargo, Error> {
    let has = |resource: &Resource| known.contains(&(resource.checksum.value.clone(), resource.size_in_bytes));
    let new: Vec<File> = tree
        .files
        .iter()
        .zip(&resources)
        .filter(|(_, resource)| !has(resource))
        .map(|(file, _)| file.clone())
        .collect();
    let known: Vec<Resource> = resources.into_iter().filter(has).collect();
    let (links, folders) = (tree.links.clone(), tree.empty_folders.clone());
    let files = new.len();
    let zip = if new.is_empty() && links.is_empty() && folders.is_empty() {
        None
    } else {
        Some(blocking(move || zip::pack(&new.iter().collect::<Vec<_>>(), &links, &folders)).await?)
    };
    Ok(Cargo { known, zip, files })
}

/// Uploads, and after a broken connection finds out what came of it before it tries again.
async fn upload(client: &Client, package: &str, app: &App, cargo: &Cargo, phase: &Phase) -> Result<Package, Error> {
    let mut guid = package.to_owned();
    let mut tries = 0;
    loop {
        tries += 1;
        let error = match upload_once(client, &guid, cargo, phase).await {
            Ok(package) => return Ok(package),
            Err(error) if error.is_away() && tries < TRIES => error,
            Err(error) => return Err(error),
        };
        let package = client.package(&guid).await?;
        match package.state.as_str() {
            "READY" | "PROCESSING_UPLOAD" => return Ok(package),
            "AWAITING_UPLOAD" => {}
            // A package takes one upload; this one was spoilt halfway.
            "FAILED" | "EXPIRED" => guid = client.create_package(&app.guid).await?.guid,
            _ => return Err(error),
        }
        phase.status("the connection broke; uploading again");
    }
}

async fn upload_once(client: &Client, package: &str, cargo: &Cargo, phase: &Phase) -> Result<Package, Error> {
    let sent = Arc::new(AtomicU64::new(0));
    let total = cargo.zip.as_ref().map(|zip| zip.1);
    if let Some(total) = total {
        phase.measure(total);
    }
    let counter = Arc::clone(&sent);
    let progress = Arc::new(move |bytes| counter.store(bytes, Ordering::Relaxed));
    let zip = cargo.zip.as_ref().map(|(file, length)| (file, *length));
    let upload = client.upload(package, &cargo.known, zip, progress);
    tokio::pin!(upload);
    let mut redraw = tokio::time::interval(REDRAW);
    loop {
        tokio::select! {
            outcome = &mut upload => return outcome,
            _ = redraw.tick() => phase.position(sent.load(Ordering::Relaxed)),
        }
    }
}
