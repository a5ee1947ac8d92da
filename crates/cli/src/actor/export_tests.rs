//! An image on another, written in both ways.

use super::*;
use image::document::LAYER;
use image::{ARCHITECTURE, Config, Settings};

fn layout_with(layer: &[u8], env: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    fs::create_dir_all(dir.path().join("blobs/sha256")).expect("folder");
    let mut config = Config {
        architecture: ARCHITECTURE.to_owned(),
        os: "linux".to_owned(),
        config: Settings {
            env: env.iter().map(|&pair| pair.to_owned()).collect(),
            ..Settings::default()
        },
        ..Config::default()
    };
    config.rootfs.diff_ids.push(image::digest(layer));
    let blob = Descriptor::new(LAYER, image::digest(layer), layer.len() as u64);
    fs::write(dir.path().join(blob_path(&blob.digest)), layer).expect("written");
    let documents = Documents::of(&config, &[blob], None).expect("made");
    for (name, text) in documents.files() {
        fs::write(dir.path().join(name), text).expect("written");
    }
    dir
}

fn wanted(output: &Path, base: Option<&Path>) -> Wanted {
    Wanted {
        output: Some(output.to_owned()),
        to: None,
        base: base.map(|base| base.display().to_string()),
        username: None,
        password: None,
        insecure: Vec::new(),
        certificates: None,
        cwd: output.parent().expect("a folder").to_owned(),
    }
}

fn archived(layout: &Path, to: &Path) {
    let mut builder = tar::Builder::new(fs::File::create(to).expect("file"));
    builder.append_dir_all("", layout).expect("archived");
    builder.finish().expect("finished");
}

#[test]
fn an_image_is_put_on_another_and_the_same_is_the_same() {
    let (own, base) = (
        layout_with(b"app", &["PATH=/own", "A=1"]),
        layout_with(b"base", &["PATH=/base", "B=2"]),
    );
    let scratch = tempfile::tempdir().expect("folder");
    let archive = scratch.path().join("droplet.tar");
    archived(own.path(), &archive);
    let folder = make(&archive, &wanted(&scratch.path().join("out"), Some(base.path()))).expect("made");
    let (layout, image) = Layout::open(&scratch.path().join("out")).expect("a layout");
    assert_eq!((folder.layers, &folder.digest), (2, &image.digest));
    assert_eq!(image.config.config.env, ["B=2", "PATH=/own", "A=1"]);
    let mut text = String::new();
    for layer in &image.layers {
        io::Read::read_to_string(&mut layout.layer(layer).expect("there"), &mut text).expect("verified");
    }
    assert_eq!(text, "baseapp");
    let tar = make(&archive, &wanted(&scratch.path().join("out.tar"), Some(base.path()))).expect("made");
    let again = make(&archive, &wanted(&scratch.path().join("again.tar"), Some(base.path()))).expect("made");
    assert_eq!((&tar.digest, &again.digest), (&folder.digest, &folder.digest));
    let bytes = |name: &str| fs::read(scratch.path().join(name)).expect("there");
    assert_eq!(bytes("out.tar"), bytes("again.tar"));
    assert!(
        make(&archive, &wanted(&scratch.path().join("out.tar"), None)).is_err(),
        "it is there"
    );
}
