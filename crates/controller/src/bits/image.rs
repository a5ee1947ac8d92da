//! A droplet as an image: a layout with its layers as they are kept, and what says how they are run.
//!
//! The same droplet gives the same digests: nothing of a layout depends on when or where it was made. What a droplet of
//! buildpacks lacks to run, a stack below it, whoever exports it adds: controllers have none.

use super::droplet::blocking;
use super::guard::Guarded;
use super::{Error, header};
use blobstore::{Blobstore, Kind};
use futures_util::TryStreamExt as _;
use image::config::RootFs;
use image::document::LAYER_ZSTD;
use image::layout::{Documents, blob_path};
use image::{ARCHITECTURE, Config, Descriptor, Settings};
use model::Digest;
use model::image::ImageConfig;
use model::resource::Droplet;
use model::staging::DropletLayer;
use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tar::{Builder, EntryType};
use tempfile::NamedTempFile;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Largest layer, uncompressed.
const LAYER_BYTES: u64 = 8 << 30;
/// Fastest level that still halves the size of programs.
const LEVEL: i32 = 1;
/// Where the launcher is in an image, as in sandboxes.
const LAUNCHER: &str = ".paas/lifecycle";
/// Folders that launched processes expect, and to whom they belong.
const FOLDERS: [(&str, bool); 6] = [
    (".paas", false),
    ("home", false),
    ("home/vcap", true),
    ("home/vcap/deps", true),
    ("home/vcap/logs", true),
    ("home/vcap/tmp", true),
];
/// The port that apps are told to listen on.
const PORT: u16 = 8080;

/// A layer of the image that is written.
struct Part {
    diff_id: Digest,
    blob: Descriptor,
    from: From,
}

enum From {
    Store,
    File(NamedTempFile),
}

/// The droplet of the app `name` as an archive of a layout. `launcher` is the program that starts its processes, which
/// an image of its own does without.
///
/// # Errors
/// A layer is missing or damaged, or there is no room for the archive.
pub async fn layout(blobs: &Blobstore, droplet: &Droplet, name: &str, launcher: &Path) -> Result<NamedTempFile, Error> {
    let temporary = || {
        blobs.temporary().map_err(|source| Error::Blob {
            subject: format!("droplet {}", droplet.id),
            source: Box::new(source),
        })
    };
    let (file, spare) = (temporary()?, temporary()?);
    let (blobs, droplet, name, launcher) = (blobs.clone(), droplet.clone(), name.to_owned(), launcher.to_owned());
    blocking(move || {
        let parts = parts(&blobs, &droplet, &launcher, spare)?;
        let mut config = match &droplet.image {
            Some(image) => own_config(image),
            None => launched_config(&droplet),
        };
        config.config.labels.extend(labels(&droplet, &name));
        config.rootfs = RootFs {
            kind: "layers".to_owned(),
            diff_ids: parts.iter().map(|part| part.diff_id.clone()).collect(),
        };
        let descriptors: Vec<Descriptor> = parts.iter().map(|part| part.blob.clone()).collect();
        let documents = Documents::of(&config, &descriptors, Some(&name));
        let documents = documents.map_err(|error| Error::Scratch(io::Error::other(error)))?;
        write(&blobs, &file, &documents, &parts)?;
        Ok(file)
    })
    .await
}

/// The layers, the lowest first, each read once and verified.
fn parts(blobs: &Blobstore, droplet: &Droplet, launcher: &Path, spare: NamedTempFile) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    if droplet.image.is_none() {
        parts.push(launcher_layer(launcher, spare).map_err(Error::Scratch)?);
    }
    for layer in droplet.layers.iter().rev() {
        parts.push(Part {
            diff_id: layer.digest.clone(),
            blob: measured(blobs, layer)?,
            from: From::Store,
        });
    }
    Ok(parts)
}

/// What the blob of a layer is, compressed; verifies what it holds.
fn measured(blobs: &Blobstore, layer: &DropletLayer) -> Result<Descriptor, Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Blob {
        subject: format!("layer {}", layer.digest),
        source,
    };
    let unbounded = Rc::new(Cell::new(u64::MAX));
    let mut compressed = Counting {
        inner: open(blobs, &layer.digest)?,
        hash: sha2::Digest::new(),
        bytes: 0,
    };
    let found = {
        let decoder = zstd::stream::read::Decoder::new(&mut compressed).map_err(|error| failed(Box::new(error)))?;
        let mut plain = Guarded::new(decoder, LAYER_BYTES, &unbounded);
        io::copy(&mut plain, &mut io::sink()).map_err(|error| failed(Box::new(error)))?;
        plain.digest()
    };
    if found != layer.digest {
        return Err(failed(format!("its digest is {found}").into()));
    }
    io::copy(&mut compressed, &mut io::sink()).map_err(|error| failed(Box::new(error)))?;
    let digest = Digest::from_sha256(sha2::Digest::finalize(compressed.hash).into());
    Ok(Descriptor::new(LAYER_ZSTD, digest, compressed.bytes))
}

/// Hashes and counts what is read.
struct Counting<R> {
    inner: R,
    hash: sha2::Sha256,
    bytes: u64,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        sha2::Digest::update(&mut self.hash, &buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

fn open(blobs: &Blobstore, digest: &Digest) -> Result<impl Read, Error> {
    let blob = tokio::runtime::Handle::current().block_on(blobs.get(Kind::Layer, digest));
    let stream = blob.map_err(|error| Error::Blob {
        subject: format!("layer {digest}"),
        source: Box::new(error),
    })?;
    Ok(SyncIoBridge::new(StreamReader::new(
        stream.stream.map_err(io::Error::other),
    )))
}

/// The launcher and the folders that it expects, as a layer below all others.
fn launcher_layer(launcher: &Path, spare: NamedTempFile) -> io::Result<Part> {
    let program = std::fs::read(launcher)?;
    let mut builder = Builder::new(Vec::new());
    for (folder, users) in FOLDERS {
        let mut header = owned(EntryType::Directory, 0, users);
        builder.append_data(&mut header, format!("{folder}/"), io::empty())?;
    }
    let mut header = owned(EntryType::Regular, program.len() as u64, false);
    builder.append_data(&mut header, LAUNCHER, program.as_slice())?;
    let plain = builder.into_inner()?;
    let packed = zstd::encode_all(plain.as_slice(), LEVEL)?;
    std::fs::write(spare.path(), &packed)?;
    Ok(Part {
        diff_id: image::digest(&plain),
        blob: Descriptor::new(LAYER_ZSTD, image::digest(&packed), packed.len() as u64),
        from: From::File(spare),
    })
}

fn owned(kind: EntryType, size: u64, users: bool) -> tar::Header {
    let mut header = header(kind, 0o755, size);
    if !users {
        header.set_uid(0);
        header.set_gid(0);
    }
    header
}

/// How a droplet of buildpacks is run: by the launcher, which takes the process type as its argument.
fn launched_config(droplet: &Droplet) -> Config {
    // What serves on this platform serves elsewhere; where nothing does, what the buildpack says.
    let web = droplet
        .processes
        .iter()
        .find(|process| process.process_type.as_str() == "web");
    let default = web.or_else(|| droplet.processes.iter().find(|process| process.default));
    let default = default.map_or("web", |process| process.process_type.as_str());
    let env = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=en_US.UTF-8",
        "HOME=/home/vcap/app",
        "USER=vcap",
        "TMPDIR=/home/vcap/tmp",
        "DEPS_DIR=/home/vcap/deps",
        "VCAP_APPLICATION={}",
        "VCAP_SERVICES={}",
    ];
    let mut settings = Settings {
        user: "2000:2000".to_owned(),
        env: env.map(str::to_owned).to_vec(),
        entrypoint: vec![format!("/{LAUNCHER}"), "launch".to_owned(), "--process".to_owned()],
        cmd: vec![default.to_owned()],
        working_dir: "/home/vcap/app".to_owned(),
        ..Settings::default()
    };
    settings.env.push(format!("PORT={PORT}"));
    settings
        .exposed_ports
        .insert(format!("{PORT}/tcp"), serde_json::json!({}));
    here(settings)
}

/// How an image is run: as it came.
fn own_config(image: &ImageConfig) -> Config {
    let ports = image
        .ports
        .iter()
        .map(|port| (format!("{port}/tcp"), serde_json::json!({})));
    here(Settings {
        user: image.user.clone(),
        exposed_ports: ports.collect(),
        env: image
            .env
            .expose()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        entrypoint: image.entrypoint.clone(),
        cmd: image.cmd.clone(),
        working_dir: image.workdir.clone(),
        ..Settings::default()
    })
}

fn here(config: Settings) -> Config {
    Config {
        architecture: ARCHITECTURE.to_owned(),
        os: "linux".to_owned(),
        config,
        ..Config::default()
    }
}

fn labels(droplet: &Droplet, name: &str) -> Vec<(String, String)> {
    let mut labels = vec![
        ("org.opencontainers.image.title".to_owned(), name.to_owned()),
        ("paas.droplet".to_owned(), droplet.digest.to_string()),
    ];
    match &droplet.image {
        Some(image) => labels.push(("org.opencontainers.image.base.name".to_owned(), image.reference.clone())),
        None => labels.push(("paas.stack".to_owned(), droplet.stack.to_string())),
    }
    labels
}

fn write(blobs: &Blobstore, file: &NamedTempFile, documents: &Documents, parts: &[Part]) -> Result<(), Error> {
    let output = io::BufWriter::with_capacity(256 << 10, file.reopen().map_err(Error::Scratch)?);
    let mut builder = Builder::new(output);
    for (name, text) in documents.files() {
        let mut header = owned(EntryType::Regular, text.len() as u64, false);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, text).map_err(Error::Scratch)?;
    }
    let mut written = HashSet::new();
    for part in parts {
        if !written.insert(part.blob.digest.clone()) {
            continue;
        }
        let mut header = owned(EntryType::Regular, part.blob.size, false);
        header.set_mode(0o644);
        let name = PathBuf::from(blob_path(&part.blob.digest));
        let appended = match &part.from {
            From::Store => {
                let blob = open(blobs, &part.diff_id)?.take(part.blob.size);
                builder.append_data(&mut header, name, blob)
            }
            From::File(file) => {
                let file = file.reopen().map_err(Error::Scratch)?;
                builder.append_data(&mut header, name, file)
            }
        };
        appended.map_err(Error::Scratch)?;
    }
    let mut output = builder.into_inner().map_err(Error::Scratch)?;
    io::Write::flush(&mut output).map_err(Error::Scratch)
}
