//! Layouts written and read back, and those that are not what they say.

use super::*;
use crate::document::LAYER;
use crate::{ARCHITECTURE, Settings};
use std::fs;

fn config(layer: &[u8]) -> Config {
    Config {
        architecture: ARCHITECTURE.to_owned(),
        os: "linux".to_owned(),
        config: Settings {
            cmd: vec!["/bin/sh".to_owned()],
            ..Settings::default()
        },
        rootfs: crate::config::RootFs {
            kind: "layers".to_owned(),
            diff_ids: vec![digest(layer)],
        },
        ..Config::default()
    }
}

fn write(dir: &Path, layer: &[u8]) -> Documents {
    let blob = Descriptor::new(LAYER, digest(layer), layer.len() as u64);
    let documents = Documents::of(&config(layer), &[blob], Some("shop")).expect("made");
    fs::create_dir_all(dir.join("blobs/sha256")).expect("folder");
    for (name, text) in documents.files() {
        fs::write(dir.join(name), text).expect("written");
    }
    fs::write(dir.join(blob_path(&digest(layer))), layer).expect("written");
    documents
}

#[test]
fn what_was_written_is_read_and_the_same_image_is_the_same_bytes() {
    let dir = tempfile::tempdir().expect("folder");
    let documents = write(dir.path(), b"layer");
    let (layout, image) = Layout::open(dir.path()).expect("opens");
    assert_eq!(image.digest, documents.manifest.0.digest);
    assert_eq!(image.config.config.cmd, ["/bin/sh"]);
    let mut bytes = Vec::new();
    let mut reader = layout.layer(&image.layers[0]).expect("there");
    reader.read_to_end(&mut bytes).expect("verified");
    assert_eq!(bytes, b"layer");
    let other = tempfile::tempdir().expect("folder");
    assert_eq!(write(other.path(), b"layer").index, documents.index);
}

#[test]
fn an_index_in_an_index_is_followed_but_not_for_ever() {
    let dir = tempfile::tempdir().expect("folder");
    let documents = write(dir.path(), b"layer");
    let mut inner = documents.index;
    for depth in 1..=DEPTH {
        let descriptor = Descriptor::new(INDEX, digest(&inner), inner.len() as u64);
        fs::write(dir.path().join(blob_path(&descriptor.digest)), &inner).expect("written");
        inner = written(&Index {
            schema_version: 2,
            media_type: INDEX.to_owned(),
            manifests: vec![descriptor],
        })
        .expect("made");
        fs::write(dir.path().join(INDEX_FILE), &inner).expect("written");
        let opened = Layout::open(dir.path());
        assert_eq!(opened.is_ok(), depth < DEPTH, "{depth}: {:?}", opened.err());
    }
}

#[test]
fn what_docker_save_wrote_is_read() {
    let dir = tempfile::tempdir().expect("folder");
    let text = written(&config(b"layer")).expect("made");
    fs::create_dir(dir.path().join("abc")).expect("folder");
    fs::write(dir.path().join("abc/layer.tar"), "layer").expect("written");
    fs::write(dir.path().join("config.json"), &text).expect("written");
    let saved = r#"[{"Config":"config.json","RepoTags":["x:1"],"Layers":["abc/layer.tar"]}]"#;
    fs::write(dir.path().join(SAVED), saved).expect("written");
    let (layout, image) = Layout::open(dir.path()).expect("opens");
    assert_eq!((image.digest.clone(), image.layers.len()), (digest(&text), 1));
    let mut bytes = Vec::new();
    let mut reader = layout.layer(&image.layers[0]).expect("there");
    reader.read_to_end(&mut bytes).expect("read");
    assert_eq!(bytes, b"layer");
    for layer in ["../outside", "/etc/passwd", "link"] {
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap_or_default();
        let saved = format!(r#"[{{"Config":"config.json","Layers":["{layer}"]}}]"#);
        fs::write(dir.path().join(SAVED), saved).expect("written");
        assert!(Layout::open(dir.path()).is_err(), "{layer}");
    }
}

#[test]
fn what_is_not_what_it_says_is_refused() {
    let dir = tempfile::tempdir().expect("folder");
    let documents = write(dir.path(), b"layer");
    let (layout, image) = Layout::open(dir.path()).expect("opens");
    fs::write(dir.path().join(blob_path(&digest(b"layer"))), "other").expect("written");
    let mut reader = layout.layer(&image.layers[0]).expect("there");
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    fs::write(dir.path().join(blob_path(&documents.config.0.digest)), "{}").expect("written");
    assert!(matches!(Layout::open(dir.path()), Err(Error::Digest { .. })));
    fs::remove_file(dir.path().join(blob_path(&documents.manifest.0.digest))).expect("removed");
    assert!(Layout::open(dir.path()).is_err());
    fs::remove_file(dir.path().join(INDEX_FILE)).expect("removed");
    let error = Layout::open(dir.path()).expect_err("no layout").to_string();
    assert!(error.contains("no image layout"), "{error}");
}
