//! Turns folders into layers: normalised tars, compressed, addressed by the digest of the uncompressed bytes.
//!
//! A layer that is as it was restored is reported by its digest and not read again.

pub mod archive;
pub mod fingerprint;
pub mod slices;

use crate::cnb::layers::Layer;
use crate::paths::{APP_IN_ARCHIVE, LAYERS_IN_ARCHIVE, escape_id};
use crate::{Error, Paths};
use archive::Archived;
use fingerprint::Fingerprint;
use model::digest::Digest;
use model::staging::{BuildInput, CachedLayer, DropletLayer, LayerKind};
use slices::Slices;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most bytes of a layer's files, most entries of a layer, and most folders in each other: what cells unpack.
const LAYER_BYTES: u64 = 7 << 30;
const LAYER_ENTRIES: usize = 900_000;
const LAYER_DEPTH: usize = 100;

/// Layers as they were restored, seen before any buildpack ran: by buildpack and layer.
pub type Restored = BTreeMap<(String, String), Fingerprint>;

/// Takes the fingerprints of all layers whose contents were restored, at once.
#[must_use]
pub fn remember(paths: &Paths, input: &BuildInput) -> Restored {
    let layers: Vec<&CachedLayer> = input.restored.iter().filter(|layer| layer.contents).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = layers
            .into_iter()
            .map(|layer| {
                let dir = paths.buildpack_layers(&layer.buildpack).join(&layer.layer);
                let thread = scope.spawn(move || Fingerprint::of(&dir));
                ((layer.buildpack.clone(), layer.layer.clone()), thread)
            })
            .collect();
        threads
            .into_iter()
            // Whatever could not be read is simply exported anew.
            .filter_map(|(key, thread)| Some((key, thread.join().ok()?.ok()?)))
            .collect()
    })
}

/// What the cell is told of layers.
#[derive(Debug, Default)]
pub struct Exported {
    /// Layers of the droplet, uppermost first.
    pub droplet: Vec<DropletLayer>,
    /// Layers to offer to the next build.
    pub cache: Vec<CachedLayer>,
    /// Those of them that are not in the droplet and were written by this build.
    pub cache_files: Vec<DropletLayer>,
}

/// A folder of the droplet that is no layer of a Cloud Native Buildpack.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Where it is.
    pub dir: PathBuf,
    /// Where it goes, relative to `/`.
    pub prefix: String,
    /// What it holds.
    pub kind: LayerKind,
    /// For people.
    pub name: String,
}

/// A folder to be written.
struct Job<'a> {
    dir: PathBuf,
    prefix: String,
    kind: LayerKind,
    name: String,
    layer: Option<&'a Layer>,
    /// Of the app: the slices, and which of them this is.
    slice: Option<(&'a Slices, Option<usize>)>,
}

impl Job<'_> {
    fn write(&self, file: &Path) -> std::io::Result<Archived> {
        match self.slice {
            Some((slices, slice)) => archive::write(&self.dir, &self.prefix, file, &|path| slices.holds(slice, path)),
            None => archive::write(&self.dir, &self.prefix, file, &|_| true),
        }
    }
}

/// Exports the app, the launch metadata, `folders`, and `layers`, those of the first buildpack first. What `patterns` name of
/// the app goes into layers of its own.
///
/// # Errors
/// [`Error::File`] where something cannot be read or written.
pub fn export(
    paths: &Paths,
    input: &BuildInput,
    restored: &Restored,
    folders: &[Folder],
    patterns: &[Vec<String>],
    layers: &[Layer],
) -> Result<Exported, Error> {
    std::fs::create_dir_all(&paths.out).map_err(Error::file("create folder", &paths.out))?;
    let mut exported = Exported::default();
    let slices = Slices::find(&paths.app, patterns).map_err(Error::file("list", &paths.app))?;
    let app = |slice: Option<usize>| Job {
        dir: paths.app.clone(),
        prefix: APP_IN_ARCHIVE.to_owned(),
        kind: LayerKind::App,
        name: slice.map_or_else(|| "app".to_owned(), |slice| format!("app:{}", slice + 1)),
        layer: None,
        slice: Some((&slices, slice)),
    };
    let mut jobs = vec![
        app(None),
        Job {
            dir: paths.layers.join("config"),
            prefix: format!("{LAYERS_IN_ARCHIVE}/config"),
            kind: LayerKind::Config,
            name: "config".to_owned(),
            layer: None,
            slice: None,
        },
    ];
    jobs.extend(slices.used().into_iter().map(|slice| app(Some(slice))));
    jobs.extend(folders.iter().map(|folder| Job {
        dir: folder.dir.clone(),
        prefix: folder.prefix.clone(),
        kind: folder.kind,
        name: folder.name.clone(),
        layer: None,
        slice: None,
    }));
    let mut reused = Vec::new();
    for layer in layers.iter().rev() {
        match previous(layer, input, restored)? {
            Some(previous) => reused.push((layer, previous)),
            None if layer.dir.is_dir() => jobs.push(job(layer)),
            None if layer.toml.types.launch || layer.toml.types.cache => return Err(missing(layer)),
            None => {}
        }
    }
    for (job, written) in write_all(&paths.out, &jobs)? {
        add(&mut exported, job, written, input);
    }
    for (layer, previous) in reused {
        let entry = DropletLayer {
            digest: previous.digest.clone(),
            size_bytes: previous.size_bytes,
            kind: kind(&layer.name),
            name: format!("{}:{}", layer.buildpack, layer.name),
            file: None,
        };
        place(&mut exported, layer, entry);
    }
    Ok(exported)
}

fn missing(layer: &Layer) -> Error {
    Error::Contract {
        buildpack: layer.buildpack.clone(),
        file: format!("{}.toml", layer.name),
        reason: "it declares a layer that has no contents, and that the last build did not have either".to_owned(),
    }
}

/// Refuses a layer that no cell would take, before it is read.
fn measure(job: &Job<'_>) -> Result<(), Error> {
    let refuse = |what: String| Error::Contract {
        buildpack: job
            .layer
            .map_or(job.name.as_str(), |layer| layer.buildpack.as_str())
            .to_owned(),
        file: job.dir.display().to_string(),
        reason: format!("it holds more than {what}, the most that a layer may have"),
    };
    let (mut bytes, mut entries) = (0_u64, 0_usize);
    for entry in walkdir::WalkDir::new(&job.dir) {
        let entry = entry
            .map_err(std::io::Error::from)
            .map_err(Error::file("read layer", &job.dir))?;
        if entry.file_type().is_file() {
            let found = entry.metadata().map_err(std::io::Error::from);
            bytes += found.map_err(Error::file("read layer", &job.dir))?.len();
        }
        entries += 1;
        if bytes > LAYER_BYTES {
            return Err(refuse(format!("{} MiB", LAYER_BYTES >> 20)));
        }
        if entries > LAYER_ENTRIES {
            return Err(refuse(format!("{LAYER_ENTRIES} files")));
        }
        if entry.depth() > LAYER_DEPTH {
            return Err(refuse(format!("{LAYER_DEPTH} folders in each other")));
        }
    }
    Ok(())
}

fn job(layer: &Layer) -> Job<'_> {
    Job {
        dir: layer.dir.clone(),
        prefix: format!("{LAYERS_IN_ARCHIVE}/{}/{}", escape_id(&layer.buildpack), layer.name),
        kind: kind(&layer.name),
        name: format!("{}:{}", layer.buildpack, layer.name),
        layer: Some(layer),
        slice: None,
    }
}

/// The layer of the last build that `layer` still is, if any.
fn previous<'a>(layer: &Layer, input: &'a BuildInput, restored: &Restored) -> Result<Option<&'a CachedLayer>, Error> {
    let is_same = |known: &&CachedLayer| known.buildpack == layer.buildpack && known.layer == layer.name;
    let Some(known) = input.restored.iter().find(is_same) else {
        return Ok(None);
    };
    if !layer.dir.is_dir() {
        // A launch layer whose contents stayed away is reused by declaring it again.
        return Ok((layer.toml.types.launch && !known.contents).then_some(known));
    }
    let Some(before) = restored.get(&(layer.buildpack.clone(), layer.name.clone())) else {
        return Ok(None);
    };
    let now = Fingerprint::of(&layer.dir).map_err(Error::file("read layer", &layer.dir))?;
    Ok((*before == now).then_some(known))
}

/// A job with its file in the output folder.
type Written<'a, 'b> = (&'a Job<'b>, (String, Archived));

/// Writes all jobs, two at a time: reading and hashing one while the other compresses.
fn write_all<'a, 'b>(out: &Path, jobs: &'a [Job<'b>]) -> Result<Vec<Written<'a, 'b>>, Error> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return };
            let file = format!("{index}.tar.zst");
            let result = measure(job).and_then(|()| {
                let written = job.write(&out.join(&file)).map_err(Error::file("export", &job.dir))?;
                Ok((file, written))
            });
            if let Ok(mut results) = results.lock() {
                results.push((index, result));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results
        .into_iter()
        .map(|(index, result)| {
            let job = &jobs[index];
            Ok((job, result?))
        })
        .collect()
}

fn add(exported: &mut Exported, job: &Job<'_>, (file, written): (String, Archived), input: &BuildInput) {
    let known = |digest: &Digest| {
        let layer = job.layer?;
        input
            .restored
            .iter()
            .find(|known| known.buildpack == layer.buildpack && known.layer == layer.name && known.digest == *digest)
    };
    let mut entry = DropletLayer {
        digest: written.digest,
        size_bytes: written.size_bytes,
        kind: job.kind,
        name: job.name.clone(),
        file: Some(file),
    };
    // Made anew with the same bytes: the cell has it already.
    if let Some(known) = known(&entry.digest) {
        entry.file = None;
        entry.size_bytes = known.size_bytes;
    }
    match job.layer {
        Some(layer) => place(exported, layer, entry),
        None => exported.droplet.push(entry),
    }
}

/// A layer goes into the droplet, into the cache, or both, by its types.
fn place(exported: &mut Exported, layer: &Layer, entry: DropletLayer) {
    let types = layer.toml.types;
    if types.cache || types.launch {
        exported.cache.push(CachedLayer {
            buildpack: layer.buildpack.clone(),
            layer: layer.name.clone(),
            digest: entry.digest.clone(),
            size_bytes: entry.size_bytes,
            types,
            metadata: serde_json::to_value(&layer.toml.metadata).unwrap_or_default(),
            contents: types.cache,
        });
    }
    if types.launch {
        exported.droplet.push(entry);
    } else if types.cache && entry.file.is_some() {
        exported.cache_files.push(entry);
    }
}

/// For people only, so a guess by the name is good enough.
fn kind(layer: &str) -> LayerKind {
    let words = ["dep", "module", "venv", "package", "gem", "vendor"];
    if words.iter().any(|word| layer.contains(word)) {
        LayerKind::Dependencies
    } else {
        LayerKind::Runtime
    }
}
