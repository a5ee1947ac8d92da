//! Apps that are images: taken from a registry, or from a layout that was pushed, layer by layer as they are.
//!
//! What layers hold is not looked at here, nor run: they go to the cell compressed anew, in the one form in which layers
//! are kept, under the digest of what they hold. A layer that the app's last build had is not fetched again.

use crate::cnb::environment::Environment;
use crate::{Error, Paths, ui};
use buildpack_kit::Variables;
use buildpack_kit::http;
use image::layout::Layout;
use image::registry::{Client, Credentials};
use image::{Image, Layer, Reference};
use model::Digest;
use model::image::{ImageConfig, ImageSource, RegistryImage};
use model::staging::{BuildInput, BuildResult, CachedLayer, DropletLayer, LayerKind, LayerTypes, ProcessTemplate};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::Path;

/// Who has an image's layers in the cache; no buildpack may have this id.
const OWNER: &str = "image";
/// Registries that are spoken to without TLS, with commas between: the operator's setting.
const INSECURE: &str = "PAAS_INSECURE_REGISTRIES";
/// Most bytes of a layer, uncompressed: what cells unpack.
const LAYER_BYTES: u64 = 8 << 30;
/// Largest window that a compressed layer may ask for, as a power of two.
const WINDOW_LOG: u32 = 27;
/// Fastest level that still halves the size of code.
const LEVEL: i32 = 1;
/// Threads that compress.
const THREADS: u32 = 2;

/// Where the layers of an image come from.
enum Source {
    Registry(Box<Client>, Reference),
    Layout(Layout),
}

impl Source {
    fn layer(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, image::Error> {
        match self {
            Self::Registry(client, reference) => client.layer(reference, layer),
            Self::Layout(layout) => layout.layer(layer),
        }
    }
}

/// Takes the image from where `source` says.
///
/// # Errors
/// Where it cannot be had or is not what its digests say.
pub fn take(
    paths: &Paths,
    input: &BuildInput,
    source: &ImageSource,
    environment: &Environment,
) -> Result<BuildResult, Error> {
    let name = match source {
        ImageSource::Registry(image) => image.reference.clone(),
        ImageSource::Package => "that was pushed".to_owned(),
    };
    ui::headline(&format!("Image {name}"));
    let failed = |source: image::Error| Error::Image {
        reference: name.clone(),
        source: Box::new(source),
    };
    let (source, image, reference) = match source {
        ImageSource::Registry(wanted) => from_registry(wanted, environment).map_err(failed)?,
        ImageSource::Package => from_package(&paths.app).map_err(failed)?,
    };
    ui::detail(&format!("It is {reference}, {} layers", image.layers.len()));
    std::fs::create_dir_all(&paths.out).map_err(Error::file("create folder", &paths.out))?;
    let runs = image.config.runs(reference);
    let layers = fetch(paths, input, &source, &image, &name)?;
    summarise(&runs, &layers);
    Ok(BuildResult {
        cache: layers.iter().map(cached).collect(),
        processes: process(&runs),
        image: Some(runs),
        // The lowest comes first in an image, and the uppermost in a droplet.
        layers: layers.into_iter().rev().collect(),
        ..BuildResult::default()
    })
}

fn from_registry(wanted: &RegistryImage, environment: &Environment) -> Result<(Source, Image, String), image::Error> {
    let reference: Reference = wanted.reference.parse()?;
    let unusable = |reason: String| image::Error::Unreachable {
        registry: reference.registry.clone(),
        source: io::Error::other(reason),
    };
    let http = http::Client::new(&Variables(environment.0.clone())).map_err(|failure| unusable(failure.cause))?;
    let credentials = match (&wanted.username, &wanted.password) {
        (Some(username), Some(password)) => Some(Credentials {
            username: username.clone(),
            password: password.clone(),
        }),
        _ => None,
    };
    let insecure = environment
        .get(INSECURE)
        .and_then(|text| text.to_str())
        .unwrap_or_default();
    let insecure: Vec<String> = insecure.split(',').map(|one| one.trim().to_owned()).collect();
    let client = Client::new(http.agent(), reference.address(), credentials, &insecure);
    let image = client.image(&reference)?;
    let pinned = reference.pinned(image.digest.clone()).to_string();
    Ok((Source::Registry(Box::new(client), reference), image, pinned))
}

fn from_package(app: &Path) -> Result<(Source, Image, String), image::Error> {
    let (layout, image) = Layout::open(app)?;
    let reference = format!("layout@{}", image.digest);
    Ok((Source::Layout(layout), image, reference))
}

/// The layers of the image, the lowest first; those that are not known are in files then.
fn fetch(
    paths: &Paths,
    input: &BuildInput,
    source: &Source,
    image: &Image,
    name: &str,
) -> Result<Vec<DropletLayer>, Error> {
    let known = |digest: &Digest| {
        let mut own = input.restored.iter().filter(|layer| layer.buildpack == OWNER);
        own.find(|layer| layer.digest == *digest)
    };
    let mut layers: Vec<DropletLayer> = Vec::new();
    for layer in &image.layers {
        let number = layers.len();
        let before = layers.iter().position(|before| before.digest == layer.diff_id);
        let (size_bytes, file) = match (before, known(&layer.diff_id)) {
            // The same layer twice is one file; as for an empty one that many tools write.
            (Some(before), _) => (layers[before].size_bytes, layers[before].file.clone()),
            (None, Some(known)) => (known.size_bytes, None),
            (None, None) => {
                let file = format!("{number}.tar.zst");
                let opened = source.layer(layer).map_err(|source| Error::Image {
                    reference: name.to_owned(),
                    source: Box::new(source),
                })?;
                let size = keep(opened, &paths.out.join(&file), &layer.diff_id);
                let size = size.map_err(|source| Error::ImageLayer {
                    reference: name.to_owned(),
                    digest: layer.diff_id.clone(),
                    source,
                })?;
                ui::detail(&format!("{} {}", layer.diff_id, crate::build::megabytes(size)));
                (size, Some(file))
            }
        };
        layers.push(DropletLayer {
            digest: layer.diff_id.clone(),
            size_bytes,
            kind: LayerKind::Image,
            name: format!("image:{number}"),
            file,
        });
    }
    Ok(layers)
}

/// Writes a layer, compressed anew, and says how large it is. Both its digests have been checked then.
fn keep(compressed: impl Read + Send + 'static, file: &Path, diff_id: &Digest) -> io::Result<u64> {
    let mut from = decoded(compressed)?;
    let output = BufWriter::with_capacity(256 * 1024, File::create(file)?);
    let mut encoder = zstd::Encoder::new(output, LEVEL)?;
    encoder.multithread(THREADS)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        total += read as u64;
        if total > LAYER_BYTES {
            return Err(invalid(format!("it unpacks to more than {LAYER_BYTES} bytes")));
        }
        hash.update(&chunk[..read]);
        encoder.write_all(&chunk[..read])?;
    }
    let found = Digest::from_sha256(hash.finalize().into());
    if found != *diff_id {
        return Err(invalid(format!("what it holds has the digest {found}")));
    }
    encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(std::fs::metadata(file)?.len())
}

/// The uncompressed bytes of something, by how it begins. What is left behind them is read too: it belongs to the digest.
pub(crate) fn decoded(compressed: impl Read + Send + 'static) -> io::Result<Box<dyn Read>> {
    let mut buffered = BufReader::with_capacity(256 * 1024, compressed);
    let start = std::io::BufRead::fill_buf(&mut buffered)?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(Drained::new(flate2::bufread::MultiGzDecoder::new(buffered))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
            decoder.window_log_max(WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => Box::new(buffered),
    })
}

/// Reads on after the end of a compressed stream, to where whoever verifies its bytes sees them all.
struct Drained<R: Read> {
    decoder: flate2::bufread::MultiGzDecoder<BufReader<R>>,
}

impl<R: Read> Drained<R> {
    fn new(decoder: flate2::bufread::MultiGzDecoder<BufReader<R>>) -> Self {
        Self { decoder }
    }
}

impl<R: Read> Read for Drained<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            io::copy(self.decoder.get_mut(), &mut io::sink())?;
        }
        Ok(read)
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// A layer for the next build, which needs to know only that it is there.
fn cached(layer: &DropletLayer) -> CachedLayer {
    CachedLayer {
        buildpack: OWNER.to_owned(),
        layer: layer.digest.hex(),
        digest: layer.digest.clone(),
        size_bytes: layer.size_bytes,
        types: LayerTypes {
            launch: true,
            ..LayerTypes::default()
        },
        metadata: serde_json::Value::Null,
        contents: false,
    }
}

fn process(image: &ImageConfig) -> Vec<ProcessTemplate> {
    let command = image.command();
    let web = ProcessTemplate {
        process_type: "web".to_owned(),
        source: "ENTRYPOINT and CMD of the image".to_owned(),
        default: true,
        memory_mb: None,
        command,
    };
    vec![web]
}

fn summarise(image: &ImageConfig, layers: &[DropletLayer]) {
    let command = image.command();
    if command.is_empty() {
        ui::alert("The image has neither ENTRYPOINT nor CMD: give a start command when you push (-c).");
    } else {
        ui::detail(&format!("web: {command}"));
    }
    if image.ports.is_empty() {
        ui::detail("It exposes no port: it has to listen on 8080, or on what PORT says.");
    }
    let new = layers.iter().filter(|layer| layer.file.is_some()).count();
    ui::headline(&format!("Layers: {new} new, {} known", layers.len() - new));
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
