//! A droplet as one tgz, and what its layer of bills of materials holds.

use super::guard::Guarded;
use super::{Error, header, plain};
use blobstore::{Blobstore, Kind};
use flate2::{Compression, GzBuilder};
use futures_util::TryStreamExt as _;
use model::resource::Droplet;
use model::staging::DropletLayer;
use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tar::{Builder, EntryType};
use tempfile::NamedTempFile;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Largest layer, uncompressed.
const LAYER_BYTES: u64 = 8 << 30;
/// Largest bill of materials, and most of them.
const SBOM_BYTES: u64 = 64 << 20;
const SBOMS: usize = 1000;
/// Name of the layer that the lifecycle gathers bills of materials in, and its folder.
const SBOM_LAYER: &str = "sbom:files";
const SBOM_FOLDER: &str = "layers/sbom/files";

/// The droplet as Cloud Foundry downloads it. The same droplet gives the same bytes.
///
/// # Errors
/// A layer is missing or damaged, or there is no room for the archive.
pub async fn archive(blobs: &Blobstore, droplet: &Droplet) -> Result<NamedTempFile, Error> {
    let file = blobs.temporary().map_err(|source| Error::Blob {
        subject: format!("droplet {}", droplet.id),
        source: Box::new(source),
    })?;
    let (blobs, droplet) = (blobs.clone(), droplet.clone());
    blocking(move || {
        let output = io::BufWriter::with_capacity(256 << 10, file.reopen().map_err(Error::Scratch)?);
        let gzip = GzBuilder::new().mtime(0).write(output, Compression::fast());
        let mut builder = Builder::new(gzip);
        let mut seen = HashSet::new();
        // The uppermost first: where two have a file of one name, it is that one's.
        for layer in &droplet.layers {
            read_layer(&blobs, layer, |entry| copy(entry, &mut builder, &mut seen))?;
        }
        finish(builder, &droplet).map_err(Error::Scratch)?;
        Ok(file)
    })
    .await
}

/// Contents of the droplet's bills of materials in CycloneDX, by path.
///
/// # Errors
/// The layer is missing or damaged.
pub async fn sboms(blobs: &Blobstore, droplet: &Droplet) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let (blobs, droplet) = (blobs.clone(), droplet.clone());
    blocking(move || {
        let mut found = Vec::new();
        for layer in droplet.layers.iter().filter(|layer| layer.name == SBOM_LAYER) {
            read_layer(&blobs, layer, |entry| {
                let path = entry.path()?.into_owned();
                let is_one = path.starts_with(SBOM_FOLDER) && path.ends_with("sbom.cdx.json");
                if is_one && entry.header().entry_type() == EntryType::Regular && found.len() < SBOMS {
                    let mut text = Vec::new();
                    entry.take(SBOM_BYTES).read_to_end(&mut text)?;
                    found.push((path.display().to_string(), text));
                }
                Ok(())
            })?;
        }
        Ok(found)
    })
    .await
}

/// Hands every entry of a layer to `each`, and verifies the layer.
fn read_layer(
    blobs: &Blobstore,
    layer: &DropletLayer,
    mut each: impl FnMut(&mut tar::Entry<'_, &mut dyn Read>) -> io::Result<()>,
) -> Result<(), Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Blob {
        subject: format!("layer {}", layer.digest),
        source,
    };
    let blob = tokio::runtime::Handle::current().block_on(blobs.get(Kind::Layer, &layer.digest));
    let stream = blob.map_err(|error| failed(Box::new(error)))?.stream;
    let compressed = SyncIoBridge::new(StreamReader::new(stream.map_err(io::Error::other)));
    let decoder = zstd::stream::read::Decoder::new(compressed).map_err(|error| failed(Box::new(error)))?;
    let mut reader = Guarded::new(decoder, LAYER_BYTES, &Rc::new(Cell::new(u64::MAX)));
    {
        let mut archive = tar::Archive::new(&mut reader as &mut dyn Read);
        let entries = archive.entries().map_err(|error| failed(Box::new(error)))?;
        for entry in entries {
            let mut entry = entry.map_err(|error| failed(Box::new(error)))?;
            each(&mut entry).map_err(|error| failed(Box::new(error)))?;
        }
    }
    io::copy(&mut reader, &mut io::sink()).map_err(|error| failed(Box::new(error)))?;
    let found = reader.digest();
    if found != layer.digest {
        return Err(failed(format!("its digest is {found}").into()));
    }
    Ok(())
}

/// Where an entry of a layer lies in the archive; `None` for the folders above.
fn place(path: &Path) -> Option<PathBuf> {
    let path = plain(path)?;
    let home = path.strip_prefix("home/vcap").map(Path::to_owned);
    let placed = match home {
        Ok(below) => below,
        Err(_) if path.starts_with("layers") => path,
        Err(_) => return None,
    };
    (!placed.as_os_str().is_empty()).then_some(placed)
}

fn copy<W: Write>(
    entry: &mut tar::Entry<'_, &mut dyn Read>,
    builder: &mut Builder<W>,
    seen: &mut HashSet<PathBuf>,
) -> io::Result<()> {
    let Some(placed) = place(&entry.path()?) else {
        return Ok(());
    };
    if !seen.insert(placed.clone()) {
        return Ok(());
    }
    let name = Path::new(".").join(&placed);
    let mut header = header(entry.header().entry_type(), entry.header().mode()?, entry.size());
    match entry.header().entry_type() {
        EntryType::Directory => builder.append_data(&mut header, name.join(""), io::empty()),
        EntryType::Symlink => {
            let target = entry.link_name()?.unwrap_or_default().into_owned();
            builder.append_link(&mut header, name, target)
        }
        EntryType::Link => {
            let target = entry.link_name()?.unwrap_or_default().into_owned();
            let target = place(&target).unwrap_or(target);
            builder.append_link(&mut header, name, Path::new(".").join(target))
        }
        _ => builder.append_data(&mut header, name, entry),
    }
}

/// The folders and the description that every droplet of Cloud Foundry has.
fn finish<W: Write>(mut builder: Builder<flate2::write::GzEncoder<W>>, droplet: &Droplet) -> io::Result<()> {
    for folder in ["./logs/", "./tmp/"] {
        builder.append_data(&mut header(EntryType::Directory, 0o755, 0), folder, io::empty())?;
    }
    let detected: Vec<&str> = droplet.buildpacks.iter().map(|used| used.detected.as_str()).collect();
    let web = droplet.processes.iter().find(|process| process.process_type == "web");
    let text = serde_json::json!({
        "detected_buildpack": detected.join(", "),
        "start_command": web.map_or("", |web| web.command.as_str()),
        "config": {"entrypoint_prefix": ""},
    })
    .to_string();
    let mut about = header(EntryType::Regular, 0o644, text.len() as u64);
    builder.append_data(&mut about, "./staging_info.yml", text.as_bytes())?;
    builder.into_inner()?.finish()?.flush()
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Scratch(io::Error::other(error))))
}
