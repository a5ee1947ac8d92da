//! Images taken from layouts: compressed in each way, damaged in each way, and known from the build before.

use super::*;
use crate::errors::chain;
use image::document::{Descriptor, LAYER, LAYER_GZIP, LAYER_ZSTD};
use image::layout::{Documents, blob_path};
use image::{ARCHITECTURE, Config, Settings};
use std::fs;

/// An archive with one file.
fn tar(name: &str, text: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, name, text.as_bytes())
        .expect("appended");
    builder.into_inner().expect("finished")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("finished")
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("compressed")
}

/// A layout with these layers, the lowest first: uncompressed, and as it is kept.
fn layout(dir: &Path, layers: &[(&[u8], Vec<u8>, &str)]) -> Documents {
    fs::create_dir_all(dir.join("blobs/sha256")).expect("folder");
    let mut config = Config {
        architecture: ARCHITECTURE.to_owned(),
        os: "linux".to_owned(),
        config: Settings {
            entrypoint: vec!["/bin/server".to_owned()],
            exposed_ports: [("9000/tcp".to_owned(), serde_json::json!({}))].into(),
            ..Settings::default()
        },
        ..Config::default()
    };
    let mut blobs = Vec::new();
    for (plain, kept, kind) in layers {
        config.rootfs.diff_ids.push(image::digest(plain));
        let blob = Descriptor::new(kind, image::digest(kept), kept.len() as u64);
        fs::write(dir.join(blob_path(&blob.digest)), kept).expect("written");
        blobs.push(blob);
    }
    let documents = Documents::of(&config, &blobs, None).expect("made");
    for (name, text) in documents.files() {
        fs::write(dir.join(name), text).expect("written");
    }
    documents
}

struct World {
    dir: tempfile::TempDir,
    restored: Vec<CachedLayer>,
}

impl World {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("folder"),
            restored: Vec::new(),
        }
    }

    fn paths(&self) -> Paths {
        Paths::below(self.dir.path())
    }

    fn take(&self) -> Result<BuildResult, Error> {
        let input = BuildInput {
            app_name: "shop".to_owned(),
            stack: "host".to_owned(),
            buildpacks: Vec::new(),
            detect: true,
            env: model::SecretEnv::default(),
            memory_mb: 64,
            restored: self.restored.clone(),
            store: std::collections::BTreeMap::new(),
            image: Some(ImageSource::Package),
        };
        take(&self.paths(), &input, &ImageSource::Package, &Environment::default())
    }
}

#[test]
fn layers_of_every_kind_are_kept_in_one_form_and_the_uppermost_comes_first() {
    let mut world = World::new();
    let plain = [tar("a", "1"), tar("b", "2"), tar("c", "3")];
    let documents = layout(
        &world.paths().app,
        &[
            (&plain[0], plain[0].clone(), LAYER),
            (&plain[1], gzip(&plain[1]), LAYER_GZIP),
            (&plain[2], zstd_of(&plain[2]), LAYER_ZSTD),
            (&plain[0], gzip(&plain[0]), LAYER_GZIP),
        ],
    );
    let result = world.take().expect("taken");
    let image = result.image.as_ref().expect("an image");
    assert_eq!(image.reference, format!("layout@{}", documents.manifest.0.digest));
    assert_eq!(
        (image.command().as_str(), image.ports.as_slice()),
        ("/bin/server", &[9000][..])
    );
    assert_eq!(result.processes[0].command, "/bin/server");
    let digests: Vec<Digest> = result.layers.iter().map(|layer| layer.digest.clone()).collect();
    let expected: Vec<Digest> = [0, 2, 1, 0].map(|at: usize| image::digest(&plain[at])).to_vec();
    assert_eq!(digests, expected);
    for layer in &result.layers {
        let file = world.paths().out.join(layer.file.as_ref().expect("written"));
        let bytes = zstd::decode_all(File::open(file).expect("there")).expect("compressed");
        assert_eq!(
            (image::digest(&bytes), layer.kind),
            (layer.digest.clone(), LayerKind::Image)
        );
    }
    world.restored = result.cache;
    let again = world.take().expect("taken again");
    assert!(again.layers.iter().all(|layer| layer.file.is_none()), "all are known");
    assert_eq!(
        again
            .layers
            .iter()
            .map(|layer| layer.digest.clone())
            .collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn damaged_and_lying_layers_are_named() {
    let plain = tar("a", "1");
    let mut trailing = gzip(&plain);
    trailing.extend_from_slice(b"\0\0");
    for (what, claimed, kept) in [
        ("other contents", tar("a", "2"), gzip(&plain)),
        ("cut off", plain.clone(), gzip(&plain)[..40].to_vec()),
        ("no archive", plain.clone(), b"hello".to_vec()),
        (
            "a bomb's window",
            plain.clone(),
            vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00],
        ),
    ] {
        let world = World::new();
        layout(&world.paths().app, &[(&claimed, kept, LAYER_GZIP)]);
        let error = world.take().expect_err(what);
        let told = error.explain();
        assert!(matches!(error, Error::ImageLayer { .. }), "{what}: {}", chain(&error));
        assert!(told.title.contains("could not be had") && !told.remedy.is_empty());
    }
    let world = World::new();
    let documents = layout(&world.paths().app, &[(&plain, gzip(&plain), LAYER_GZIP)]);
    let blob = image::digest(&gzip(&plain));
    fs::write(world.paths().app.join(blob_path(&blob)), trailing).expect("written");
    let error = chain(&world.take().expect_err("not what the manifest names"));
    assert!(error.contains(&format!("the digest of blob {blob} is")), "{error}");
    fs::remove_file(world.paths().app.join(blob_path(&documents.manifest.0.digest))).expect("removed");
    assert!(matches!(world.take(), Err(Error::Image { .. })));
}

#[test]
fn what_is_no_layout_is_said() {
    let world = World::new();
    fs::create_dir_all(&world.paths().app).expect("folder");
    let failure = world.take().expect_err("nothing there").explain();
    assert!(failure.cause.contains("no image layout"), "{}", failure.cause);
}
