//! A runtime from a mirror folder: installed, used again, and not used where it is not what the index says.

use super::mirror::Mirror;
use super::*;
use crate::Variables;
use crate::http::Client;
use sha2::{Digest as _, Sha256};
use std::fs;

/// A mirror with the runtime `tool` in some versions.
fn mirror(versions: &[&str]) -> (tempfile::TempDir, Variables) {
    let folder = tempfile::tempdir().unwrap();
    let tool = folder.path().join("tool");
    fs::create_dir(&tool).unwrap();
    let entries: Vec<_> = versions
        .iter()
        .map(|version| {
            let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let mut tar = tar::Builder::new(gz);
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(version.len() as u64);
            tar.append_data(&mut header, "tool/bin/tool", version.as_bytes())
                .unwrap();
            let bytes = tar.into_inner().unwrap().finish().unwrap();
            let file = format!("tool-{version}.tar.gz");
            fs::write(tool.join(&file), &bytes).unwrap();
            serde_json::json!({ "version": version, "file": file, "sha256": hex::encode(Sha256::digest(&bytes)) })
        })
        .collect();
    let foreign = serde_json::json!({ "version": "99", "arch": "vax", "file": "x.zip", "sha256": "00".repeat(32) });
    let entries: Vec<_> = entries.into_iter().chain([foreign]).collect();
    fs::write(
        tool.join("index.json"),
        serde_json::json!({ "releases": entries }).to_string(),
    )
    .unwrap();
    let variables = Variables([(mirror::SETTING.into(), folder.path().into())].into());
    (folder, variables)
}

fn newest(releases: &[Release]) -> Result<Release> {
    let newest = releases.iter().max_by(|a, b| a.version.cmp(&b.version));
    newest.cloned().ok_or_else(|| Failure::new("none", "-"))
}

fn provided(layers: &Path, variables: &Variables) -> Result<Provided> {
    let context = BuildContext {
        app: layers.to_owned(),
        buildpack: layers.to_owned(),
        layers: layers.to_owned(),
        variables: variables.clone(),
    };
    let wanted = Wanted {
        layer: "tool",
        title: "Tool",
        text: "1",
        said_by: "default",
        types: Types::ALL,
        layout: "1",
    };
    let recipe = Recipe {
        choose: &newest,
        place: &|path| Some(path.to_owned()),
        finish: &|layer| layer.write("env.launch", "A.default", "1"),
    };
    let source = Mirror::configured(variables, "tool").unwrap();
    provide(&context, &wanted, &source, &recipe)
}

#[test]
fn a_runtime_is_installed_once() {
    let (folder, variables) = mirror(&["1.1", "1.2"]);
    let layers = tempfile::tempdir().unwrap();
    let first = provided(layers.path(), &variables).unwrap();
    assert_eq!(first.version, "1.2");
    assert_eq!(fs::read_to_string(first.layer.dir.join("bin/tool")).unwrap(), "1.2");
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(provided(layers.path(), &variables).unwrap().version, "1.2");
    let other = Variables([(mirror::SETTING.into(), "/elsewhere".into())].into());
    assert!(provided(layers.path(), &other).is_err(), "another source is asked");
}

#[test]
fn what_is_not_as_the_index_says_is_refused() {
    let (folder, variables) = mirror(&["1.1"]);
    fs::write(folder.path().join("tool/tool-1.1.tar.gz"), "damaged").unwrap();
    let layers = tempfile::tempdir().unwrap();
    let failure = provided(layers.path(), &variables).unwrap_err();
    assert!(failure.cause.contains("tool-1.1.tar.gz"), "{failure:?}");
    assert!(
        fs::metadata(layers.path().join("tool.toml")).is_err(),
        "the layer is not kept"
    );
    fs::write(folder.path().join("tool/index.json"), "[]").unwrap();
    let failure = provided(layers.path(), &variables).unwrap_err();
    assert!(failure.cause.contains("tool/index.json cannot be read"), "{failure:?}");
    fs::remove_dir_all(folder.path()).unwrap();
    assert!(
        provided(layers.path(), &variables)
            .unwrap_err()
            .remedy
            .contains("BP_MIRROR")
    );
}

#[test]
fn a_zip_is_unpacked_below_its_folder() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for name in ["go/bin/go", "go-1.dist-info/RECORD"] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(name.as_bytes()).unwrap();
    }
    let bytes = zip.finish().unwrap().into_inner();
    fs::write(folder.path().join("go.whl"), &bytes).unwrap();
    let release = Release {
        version: "1".to_owned(),
        url: format!("file://{}/go.whl", folder.path().display()),
        integrity: Integrity::Sha256(Sha256::digest(&bytes).to_vec()),
        form: Form::Zip,
        root: Root::Below("go".into()),
    };
    let client = Client::new(&Variables::default()).unwrap();
    let target = folder.path().join("target");
    unpack(&client, &release, folder.path(), &target, &|path| Some(path.to_owned())).unwrap();
    assert!(target.join("bin/go").exists() && fs::read_dir(&target).unwrap().count() == 1);
}
