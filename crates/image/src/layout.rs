//! Images as folders: the layout of the image specification, and what `docker save` writes, which older versions wrote
//! without an index.

use crate::config::Config;
use crate::document::{self, CONFIG, Descriptor, Document, INDEX, Index, MANIFEST, Manifest, Platform, parse};
use crate::verify::Verified;
use crate::{BLOB_BYTES, DEPTH, DOCUMENT_BYTES, Error, Image, Layer, digest};
use model::Digest;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Says that a folder is a layout.
pub const MARK: &str = "oci-layout";
/// What it says.
pub const MARK_TEXT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The index of a layout.
pub const INDEX_FILE: &str = "index.json";
/// The list of images in what `docker save` writes.
const SAVED: &str = "manifest.json";
/// Annotation with the name of an image in an index.
const NAME: &str = "org.opencontainers.image.ref.name";

/// Where a layout keeps the blob.
#[must_use]
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A folder with an image.
#[derive(Debug)]
pub struct Layout {
    dir: PathBuf,
    /// Files of layers that have no blob, by the digest of what they hold.
    files: HashMap<Digest, PathBuf>,
}

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    layers: Vec<String>,
}

impl Layout {
    /// The image for this machine in the folder `dir`.
    ///
    /// # Errors
    /// Where there is none, or it is not what its digests say.
    pub fn open(dir: &Path) -> Result<(Self, Image), Error> {
        let (layout, image) = Self::open_as(dir, false)?;
        Ok((layout, image.for_here()?))
    }

    /// The image in the folder `dir`, which is the only one, for whatever machine it is.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_only(dir: &Path) -> Result<(Self, Image), Error> {
        Self::open_as(dir, true)
    }

    fn open_as(dir: &Path, only: bool) -> Result<(Self, Image), Error> {
        let mut layout = Self {
            dir: dir.to_owned(),
            files: HashMap::new(),
        };
        let image = if dir.join(INDEX_FILE).is_file() {
            layout.indexed(only)?
        } else if dir.join(SAVED).is_file() {
            layout.saved()?
        } else {
            return Err(Error::invalid(format!(
                "there is neither {INDEX_FILE} nor {SAVED}: it is no image layout"
            )));
        };
        Ok((layout, image))
    }

    /// The bytes of a layer as they are kept, verified while they are read. Those of a file without a blob are to be
    /// verified by what they hold.
    ///
    /// # Errors
    /// Where the file is missing.
    pub fn layer(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, Error> {
        if let Some(path) = self.files.get(&layer.diff_id) {
            let file = File::open(path).map_err(Error::file("read", path.display()))?;
            return Ok(Box::new(file.take(BLOB_BYTES)));
        }
        let blob = self.file(&layer.blob.digest)?;
        Ok(Box::new(Verified::new(blob, layer.blob.digest.clone(), BLOB_BYTES)))
    }

    fn indexed(&self, only: bool) -> Result<Image, Error> {
        let mut index: Index = parse("index", &self.read(INDEX_FILE)?)?;
        for _ in 0..DEPTH {
            let chosen = match index.manifests.as_slice() {
                [one] if only => one.digest.clone(),
                _ => index.choose()?.digest.clone(),
            };
            match Document::parse(&self.document(&chosen)?)? {
                Document::Index(inner) => index = inner,
                Document::Manifest(manifest) => {
                    let config = Config::parse(&self.document(&manifest.config.digest)?)?;
                    return Image::new(chosen, &manifest, config);
                }
            }
        }
        Err(Error::TooMuch {
            what: "indices within each other",
            limit: DEPTH as u64,
        })
    }

    fn saved(&mut self) -> Result<Image, Error> {
        let mut all: Vec<Saved> = parse(SAVED, &self.read(SAVED)?)?;
        let (Some(saved), true) = (all.pop(), all.is_empty()) else {
            return Err(Error::invalid("it has to hold exactly one image"));
        };
        let text = self.read(&saved.config)?;
        let (config, id) = (Config::parse(&text)?, digest(&text));
        let mut manifest = Manifest {
            schema_version: 2,
            media_type: String::new(),
            config: Descriptor::new(CONFIG, id.clone(), text.len() as u64),
            layers: Vec::new(),
            annotations: BTreeMap::new(),
        };
        for (name, diff_id) in saved.layers.iter().zip(&config.rootfs.diff_ids) {
            let path = self.inside(name)?;
            let size = path.metadata().map_err(Error::file("read", name))?.len();
            manifest
                .layers
                .push(Descriptor::new(document::LAYER, diff_id.clone(), size));
            self.files.insert(diff_id.clone(), path);
        }
        Image::new(id, &manifest, config)
    }

    /// A document among the blobs.
    fn document(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        let file = self.file(digest)?;
        let read = file.take(DOCUMENT_BYTES + 1).read_to_end(&mut text);
        read.map_err(Error::file("read", blob_path(digest)))?;
        let found = crate::digest(&text);
        if found != *digest {
            return Err(Error::Digest {
                expected: digest.clone(),
                found,
            });
        }
        Ok(text)
    }

    fn file(&self, digest: &Digest) -> Result<File, Error> {
        let name = blob_path(digest);
        File::open(self.inside(&name)?).map_err(Error::file("read", name))
    }

    /// The file that holds a layer as it is kept.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn layer_file(&self, layer: &Layer) -> Result<PathBuf, Error> {
        match self.files.get(&layer.diff_id) {
            Some(path) => Ok(path.clone()),
            None => self.inside(&blob_path(&layer.blob.digest)),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        let file = File::open(self.inside(name)?).map_err(Error::file("read", name))?;
        let read = file.take(DOCUMENT_BYTES + 1).read_to_end(&mut text);
        read.map_err(Error::file("read", name))?;
        Ok(text)
    }

    /// The file `name`, which must be in the layout, whatever links lead to it.
    fn inside(&self, name: &str) -> Result<PathBuf, Error> {
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        let outside = || Error::invalid(format!("its file {name:?} is not in the layout"));
        if !Path::new(name).components().all(plain) {
            return Err(outside());
        }
        let real = self.dir.join(name).canonicalize().map_err(Error::file("find", name))?;
        let dir = self
            .dir
            .canonicalize()
            .map_err(Error::file("find", self.dir.display()))?;
        if !real.starts_with(dir) || !real.is_file() {
            return Err(outside());
        }
        Ok(real)
    }
}

/// The documents of an image: the same image gives the same bytes.
#[derive(Debug, Clone)]
pub struct Documents {
    /// The configuration.
    pub config: (Descriptor, Vec<u8>),
    /// The manifest.
    pub manifest: (Descriptor, Vec<u8>),
    /// `index.json`.
    pub index: Vec<u8>,
}

impl Documents {
    /// Of an image with these layers, the lowest first; `name` is a tag for people.
    ///
    /// # Errors
    /// Never for documents that were read or made here.
    pub fn of(config: &Config, layers: &[Descriptor], name: Option<&str>) -> Result<Self, Error> {
        let text = written(config)?;
        let config = (Descriptor::new(CONFIG, digest(&text), text.len() as u64), text);
        let text = written(&Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            config: config.0.clone(),
            layers: layers.to_vec(),
            annotations: BTreeMap::new(),
        })?;
        let mut manifest = Descriptor::new(MANIFEST, digest(&text), text.len() as u64);
        let manifest_text = text;
        let mut entry = manifest.clone();
        entry.platform = Some(Platform::here());
        if let Some(name) = name {
            entry.annotations.insert(NAME.to_owned(), name.to_owned());
        }
        manifest.platform = None;
        let index = written(&Index {
            schema_version: 2,
            media_type: INDEX.to_owned(),
            manifests: vec![entry],
        })?;
        Ok(Self {
            config,
            manifest: (manifest, manifest_text),
            index,
        })
    }

    /// Every file of a layout but its layers, by name.
    #[must_use]
    pub fn files(&self) -> Vec<(String, &[u8])> {
        vec![
            (MARK.to_owned(), MARK_TEXT),
            (INDEX_FILE.to_owned(), self.index.as_slice()),
            (blob_path(&self.manifest.0.digest), self.manifest.1.as_slice()),
            (blob_path(&self.config.0.digest), self.config.1.as_slice()),
        ]
    }
}

fn written(document: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(document).map_err(|error| Error::invalid(format!("a document cannot be written: {error}")))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
