//! Takes a droplet in that was downloaded here or from a Cloud Foundry: one tgz becomes layers.

use super::droplet::blocking;
use super::guard::{Guarded, HEADER_BYTES};
use super::{Error, header, plain};
use blobstore::{Blobstore, Kind};
use flate2::read::MultiGzDecoder;
use model::Digest;
use model::staging::{DropletLayer, LayerKind, ProcessTemplate};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tar::{Builder, EntryType};
use tempfile::NamedTempFile;

/// Most that a droplet may unpack to, and most entries of it.
const TOTAL_BYTES: u64 = 8 << 30;
const ENTRIES: usize = 1_000_000;
/// Longest description that is read.
const TEXT_BYTES: u64 = 4 << 20;
const METADATA: &str = "layers/config/metadata.toml";

/// What a droplet is made of.
#[derive(Debug, Default)]
pub struct Uploaded {
    /// Uppermost first; their blobs are stored.
    pub layers: Vec<DropletLayer>,
    pub processes: Vec<ProcessTemplate>,
}

/// Makes layers of `archive` and stores them. `commands` by process type replace what the archive says.
///
/// # Errors
/// [`Error::Refused`] where it is no droplet; else the blob store failed.
pub async fn take_in(blobs: &Blobstore, archive: File, commands: BTreeMap<String, String>) -> Result<Uploaded, Error> {
    let scratch = blobs.clone();
    let mut read = blocking(move || {
        let mut reading = Reading::new(scratch);
        reading.read(archive)?;
        reading.finish(&commands)
    })
    .await?;
    let mut uploaded = Uploaded {
        processes: std::mem::take(&mut read.processes),
        ..Uploaded::default()
    };
    for piece in read.pieces {
        let failed = |source| Error::Blob {
            subject: format!("layer {}", piece.digest),
            source: Box::new(source),
        };
        let stored = blobs.put_temporary(Kind::Layer, &piece.digest, piece.file).await;
        let size_bytes = stored.map_err(failed)?.size_bytes;
        uploaded.layers.push(DropletLayer {
            digest: piece.digest,
            size_bytes,
            kind: piece.kind,
            name: piece.name,
            file: None,
        });
    }
    Ok(uploaded)
}

struct Taken {
    pieces: Vec<Piece>,
    processes: Vec<ProcessTemplate>,
}

/// A layer as written.
struct Piece {
    name: String,
    kind: LayerKind,
    digest: Digest,
    file: NamedTempFile,
}

/// A layer being written.
struct Open {
    kind: LayerKind,
    builder: Builder<Hashing>,
    made: HashSet<PathBuf>,
}

struct Hashing {
    inner: zstd::stream::write::Encoder<'static, io::BufWriter<NamedTempFile>>,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What launches read; see the lifecycle.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Metadata {
    #[serde(default)]
    processes: Vec<Process>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Process {
    #[serde(rename = "type")]
    process_type: String,
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    direct: bool,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    source: String,
}

#[derive(Debug, Default, Deserialize)]
struct StagingInfo {
    #[serde(default)]
    start_command: String,
}

struct Reading {
    blobs: Blobstore,
    open: BTreeMap<&'static str, Open>,
    info: StagingInfo,
    metadata: Option<Metadata>,
}

impl Reading {
    fn new(blobs: Blobstore) -> Self {
        Self {
            blobs,
            open: BTreeMap::new(),
            info: StagingInfo::default(),
            metadata: None,
        }
    }

    fn read(&mut self, archive: File) -> Result<(), Error> {
        let invalid = |error: io::Error| Error::refused(format!("it is no droplet, or damaged: {error}"));
        let allowance = Rc::new(Cell::new(HEADER_BYTES));
        let reader = Guarded::new(MultiGzDecoder::new(BufReader::new(archive)), TOTAL_BYTES, &allowance);
        let mut archive = tar::Archive::new(reader);
        for (at, entry) in archive.entries().map_err(invalid)?.enumerate() {
            let mut entry = entry.map_err(invalid)?;
            if at >= ENTRIES {
                return Err(Error::refused(format!("it has more than {ENTRIES} entries")));
            }
            // Its contents and their padding, and the next header.
            allowance.set(entry.size().saturating_add(HEADER_BYTES));
            let path = entry.path().map_err(invalid)?.into_owned();
            let plain = plain(&path).ok_or_else(|| leads_out(&path))?;
            self.entry(&mut entry, &plain).map_err(|error| match error {
                Error::Scratch(source) => Error::Scratch(source),
                other => other,
            })?;
        }
        if self.open.contains_key("app") {
            return Ok(());
        }
        Err(Error::refused("it has no folder ./app"))
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>, path: &Path) -> Result<(), Error> {
        let first = path.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
        let (name, prefix, kind) = match first {
            "" | "tmp" | "logs" => return Ok(()),
            "staging_info.yml" => {
                let text = text(entry)?;
                model::yaml::check(&text).map_err(|problem| Error::refused(format!("staging_info.yml {problem}")))?;
                self.info = serde_yaml::from_str(&text).unwrap_or_default();
                return Ok(());
            }
            "app" => ("app", "home/vcap", LayerKind::App),
            "deps" => ("deps", "home/vcap", LayerKind::Dependencies),
            "profile.d" => ("profile", "home/vcap", LayerKind::Config),
            "layers" => ("layers", "", LayerKind::Runtime),
            _ => ("home", "home/vcap", LayerKind::App),
        };
        if path == Path::new(METADATA) {
            let text = text(entry)?;
            let parsed = toml::from_str(&text);
            self.metadata =
                Some(parsed.map_err(|error| Error::refused(format!("{METADATA} can't be read: {}", error.message())))?);
            let open = self.open(name, kind)?;
            let mut header = header(EntryType::Regular, 0o644, text.len() as u64);
            open.parents(path).map_err(Error::Scratch)?;
            let added = open.builder.append_data(&mut header, path, text.as_bytes());
            return added.map_err(Error::Scratch);
        }
        let target = Path::new(prefix).join(path);
        let open = self.open(name, kind)?;
        open.add(entry, &target, Path::new(prefix))
    }

    fn open(&mut self, name: &'static str, kind: LayerKind) -> Result<&mut Open, Error> {
        if !self.open.contains_key(name) {
            let file = self.blobs.temporary().map_err(|source| Error::Blob {
                subject: "an uploaded droplet".to_owned(),
                source: Box::new(source),
            })?;
            let output = io::BufWriter::with_capacity(256 << 10, file);
            let encoder = zstd::stream::write::Encoder::new(output, 1).map_err(Error::Scratch)?;
            let builder = Builder::new(Hashing {
                inner: encoder,
                hash: Sha256::new(),
            });
            let made = HashSet::new();
            self.open.insert(name, Open { kind, builder, made });
        }
        self.open.get_mut(name).ok_or_else(|| Error::refused(name))
    }

    /// Ends all layers, after writing what launches read where the archive had nothing of the kind.
    fn finish(mut self, commands: &BTreeMap<String, String>) -> Result<Taken, Error> {
        let metadata = match self.metadata.take() {
            Some(metadata) if commands.is_empty() => metadata,
            found => self.describe(found, commands)?,
        };
        let mut pieces = Vec::new();
        for (name, open) in self.open {
            let Hashing { inner, hash } = open.builder.into_inner().map_err(Error::Scratch)?;
            let output = inner.finish().map_err(Error::Scratch)?;
            let file = output
                .into_inner()
                .map_err(|error| Error::Scratch(error.into_error()))?;
            pieces.push(Piece {
                name: name.to_owned(),
                kind: open.kind,
                digest: Digest::from_sha256(hash.finalize().into()),
                file,
            });
        }
        // Above what the archive has under the same name.
        pieces.sort_by_key(|piece| piece.name != "config");
        let processes = metadata.processes.into_iter().map(template).collect();
        Ok(Taken { pieces, processes })
    }

    /// Processes that the uploader names, or else the start command of Cloud Foundry's own description.
    fn describe(&mut self, found: Option<Metadata>, commands: &BTreeMap<String, String>) -> Result<Metadata, Error> {
        let mut metadata = found.unwrap_or_default();
        let web = Some(("web".to_owned(), self.info.start_command.clone()));
        let named = commands.iter().map(|(name, command)| (name.clone(), command.clone()));
        let fallback = web.filter(|(_, command)| commands.is_empty() && !command.is_empty());
        for (process_type, command) in named.chain(fallback) {
            metadata
                .processes
                .retain(|process| process.process_type != process_type);
            metadata.processes.push(Process {
                default: process_type == "web",
                process_type,
                command: vec![command],
                args: Vec::new(),
                direct: false,
                source: "the uploaded droplet".to_owned(),
            });
        }
        let text = toml::to_string(&metadata).map_err(|error| Error::refused(error.to_string()))?;
        let open = self.open("config", LayerKind::Config)?;
        let path = Path::new(METADATA);
        open.parents(path).map_err(Error::Scratch)?;
        let mut header = header(EntryType::Regular, 0o644, text.len() as u64);
        let added = open.builder.append_data(&mut header, path, text.as_bytes());
        added.map_err(Error::Scratch)?;
        Ok(metadata)
    }
}

impl Open {
    fn add(&mut self, entry: &mut tar::Entry<'_, impl Read>, target: &Path, prefix: &Path) -> Result<(), Error> {
        let invalid = |error: io::Error| Error::refused(format!("entry {} can't be read: {error}", target.display()));
        let kind = entry.header().entry_type();
        let mode = entry.header().mode().map_err(invalid)?;
        let mut header = header(kind, mode, entry.size());
        self.parents(target).map_err(Error::Scratch)?;
        let added = match kind {
            EntryType::Directory if !self.made.insert(target.to_owned()) => Ok(()),
            EntryType::Directory => {
                header.set_mode(mode & 0o777 | 0o700);
                self.builder.append_data(&mut header, target.join(""), io::empty())
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(entry.size());
                self.builder.append_data(&mut header, target, entry)
            }
            EntryType::Symlink => {
                let link = entry.link_name().map_err(invalid)?.unwrap_or_default().into_owned();
                self.builder.append_link(&mut header, target, link)
            }
            EntryType::Link => {
                let link = entry.link_name().map_err(invalid)?.unwrap_or_default().into_owned();
                let link = plain(&link).ok_or_else(|| leads_out(&link))?;
                self.builder.append_link(&mut header, target, prefix.join(link))
            }
            _ => {
                return Err(Error::refused(format!(
                    "entry {} is a device or a pipe",
                    target.display()
                )));
            }
        };
        added.map_err(invalid)
    }

    /// Folders above `path` that were not written yet.
    fn parents(&mut self, path: &Path) -> io::Result<()> {
        let above: Vec<&Path> = path
            .ancestors()
            .skip(1)
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        for folder in above.into_iter().rev() {
            if self.made.insert(folder.to_owned()) {
                let mut header = header(EntryType::Directory, 0o755, 0);
                self.builder.append_data(&mut header, folder.join(""), io::empty())?;
            }
        }
        Ok(())
    }
}

fn template(process: Process) -> ProcessTemplate {
    let words: Vec<String> = process.command.into_iter().chain(process.args).collect();
    ProcessTemplate {
        process_type: process.process_type,
        command: words.join(" "),
        source: process.source,
        default: process.default,
        memory_mb: None,
    }
}

fn text(entry: &mut tar::Entry<'_, impl Read>) -> Result<String, Error> {
    let mut text = String::new();
    let read = entry.take(TEXT_BYTES).read_to_string(&mut text);
    read.map_err(|error| Error::refused(format!("its description can't be read: {error}")))?;
    Ok(text)
}

fn leads_out(path: &Path) -> Error {
    Error::refused(format!("entry {} leads out of it", path.display()))
}
