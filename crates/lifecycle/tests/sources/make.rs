//! Archives and images of buildpacks, made by code.

use sha2::{Digest as _, Sha256};
use std::io::{Cursor, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A `bin/detect` that says yes.
pub const DETECTS: &str = "#!/bin/sh\nexit 0\n";

/// A file or link of an archive.
pub struct File {
    name: String,
    content: Vec<u8>,
    mode: u32,
    is_link: bool,
}

pub type Files = Vec<File>;

impl From<(&str, &str, u32)> for File {
    fn from((name, content, mode): (&str, &str, u32)) -> Self {
        Self {
            name: name.to_owned(),
            content: content.as_bytes().to_vec(),
            mode,
            is_link: false,
        }
    }
}

impl File {
    pub fn link(name: &str, target: &str) -> Self {
        Self {
            is_link: true,
            ..Self::from((name, target, 0o777))
        }
    }
}

/// A buildpack of scripts below `prefix`.
pub fn scripts(prefix: &str, build: &str) -> Files {
    let toml = "api = '0.10'\n[buildpack]\nid = 'test/mine'\nversion = '1.0.0'\n";
    vec![
        (format!("{prefix}buildpack.toml").as_str(), toml, 0o644).into(),
        (format!("{prefix}bin/detect").as_str(), DETECTS, 0o755).into(),
        (
            format!("{prefix}bin/build").as_str(),
            format!("#!/bin/sh\nset -eu\n{build}\n").as_str(),
            0o755,
        )
            .into(),
    ]
}

/// Writes files below `folder`.
pub fn write(folder: &Path, files: &[File]) {
    for file in files {
        let path = folder.join(&file.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &file.content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file.mode)).unwrap();
    }
}

pub fn zip(files: &[File]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut names = std::collections::BTreeSet::new();
    for file in files.iter().rev() {
        // A later file of the same name replaces the earlier, as in a tar.
        if !names.insert(&file.name) {
            continue;
        }
        let options = zip::write::SimpleFileOptions::default().unix_permissions(file.mode);
        if file.is_link {
            let target = String::from_utf8(file.content.clone()).unwrap();
            zip.add_symlink(&file.name, target, options).unwrap();
        }
    }
    for file in files.iter().rev().filter(|file| !file.is_link) {
        if names.remove(&file.name) {
            let options = zip::write::SimpleFileOptions::default().unix_permissions(file.mode);
            zip.start_file(&file.name, options).unwrap();
            zip.write_all(&file.content).unwrap();
        }
    }
    zip.finish().unwrap().into_inner()
}

pub fn tar(files: &[File]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode);
        // Names that the safe setter would refuse.
        header.as_gnu_mut().unwrap().name[..file.name.len()].copy_from_slice(file.name.as_bytes());
        header.set_size(file.content.len() as u64);
        header.set_cksum();
        builder.append(&header, &file.content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// In what an image is not what it says.
pub enum Lie {
    None,
    /// A blob has other bytes.
    Digest,
    /// A blob is not there.
    Missing,
    /// It is for another machine.
    Architecture,
}

/// An image layout of these layers, as an archive.
pub fn image(layers: &[Files], lie: &Lie) -> Vec<u8> {
    let mut files: Files = vec![("oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#, 0o644).into()];
    let mut blob = |kind: &str, bytes: Vec<u8>, lie: &Lie| -> serde_json::Value {
        let hex: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut size = bytes.len();
        if !matches!(lie, Lie::Missing) {
            let mut file = File::from((format!("blobs/sha256/{hex}").as_str(), "", 0o644));
            file.content = bytes;
            if matches!(lie, Lie::Digest) {
                file.content.push(0);
                size += 1;
            }
            files.push(file);
        }
        let kind = format!("application/vnd.oci.image.{kind}");
        serde_json::json!({"mediaType": kind, "digest": format!("sha256:{hex}"), "size": size})
    };
    let described: Vec<_> = layers
        .iter()
        .map(|layer| blob("layer.v1.tar+gzip", gzip(&tar(layer)), lie))
        .collect();
    let machine = match lie {
        Lie::Architecture => "s390x",
        _ => lifecycle::cnb::descriptor::ARCH,
    };
    let diffs: Vec<_> = layers
        .iter()
        .map(|layer| {
            let digest = Sha256::digest(tar(layer));
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{hex}")
        })
        .collect();
    let config = serde_json::json!({
        "os": "linux", "architecture": machine, "rootfs": {"type": "layers", "diff_ids": diffs},
    });
    let config = blob("config.v1+json", config.to_string().into_bytes(), &Lie::None);
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": described});
    let mut manifest = blob("manifest.v1+json", manifest.to_string().into_bytes(), &Lie::None);
    let mut elsewhere = manifest.clone();
    elsewhere["digest"] = format!("sha256:{}", "0".repeat(64)).into();
    elsewhere["platform"] = serde_json::json!({"os": "windows", "architecture": machine});
    manifest["platform"] = serde_json::json!({"os": "linux", "architecture": machine});
    let nested = serde_json::json!({"schemaVersion": 2, "manifests": [elsewhere, manifest]});
    let nested = blob("index.v1+json", nested.to_string().into_bytes(), &Lie::None);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [nested]});
    files.push(("index.json", index.to_string().as_str(), 0o644).into());
    tar(&files)
}
