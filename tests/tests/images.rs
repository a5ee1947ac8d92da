//! An image through the whole platform: pushed as a layout, answering, scaled, restarted, exported and pushed again; and
//! a droplet of source as an image, which runs by hand under another runtime.

use image::config::RootFs;
use image::document::LAYER;
use image::layout::{Documents, Layout, blob_path};
use image::{ARCHITECTURE, Config, Descriptor, Settings};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use tar::EntryType;
use tests::{Platform, app};

fn busybox() -> Vec<u8> {
    let found = std::fs::read("/usr/bin/busybox").or_else(|_| std::fs::read("/bin/busybox"));
    found.expect("busybox-static is installed")
}

/// A small system, as a layer: a shell and what it needs.
fn system(greeting: &str) -> Vec<u8> {
    let program = busybox();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |kind: EntryType, name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        if kind == EntryType::Symlink {
            header.set_size(0);
            let target = std::str::from_utf8(bytes).expect("a target");
            builder.append_link(&mut header, name, target).expect("appended");
        } else {
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, bytes).expect("appended");
        }
    };
    add(EntryType::Directory, "bin/", b"");
    add(EntryType::Regular, "bin/busybox", &program);
    for applet in ["sh", "httpd", "echo", "mkdir", "id"] {
        add(EntryType::Symlink, &format!("bin/{applet}"), b"busybox");
    }
    for folder in ["proc/", "sys/", "dev/", "tmp/", "www/"] {
        add(EntryType::Directory, folder, b"");
    }
    add(EntryType::Regular, "www/index.html", greeting.as_bytes());
    builder.into_inner().expect("finished")
}

/// Writes a layout with one layer.
fn write_layout(dir: &Path, layer: &[u8]) {
    let config = Config {
        architecture: ARCHITECTURE.to_owned(),
        os: "linux".to_owned(),
        config: Settings {
            entrypoint: vec!["/bin/httpd".to_owned()],
            cmd: ["-f", "-p", "9000", "-h", "/www"].map(str::to_owned).to_vec(),
            exposed_ports: [("9000/tcp".to_owned(), json!({}))].into(),
            user: "1000".to_owned(),
            ..Settings::default()
        },
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: vec![image::digest(layer)],
        },
        ..Config::default()
    };
    let blob = Descriptor::new(LAYER, image::digest(layer), layer.len() as u64);
    let documents = Documents::of(&config, std::slice::from_ref(&blob), None).expect("made");
    std::fs::create_dir_all(dir.join("blobs/sha256")).expect("made");
    for (name, text) in documents.files() {
        std::fs::write(dir.join(name), text).expect("written");
    }
    std::fs::write(dir.join(blob_path(&blob.digest)), layer).expect("written");
}

#[test]
fn an_image_is_pushed_run_and_exported_and_a_droplet_becomes_one() {
    let platform = Platform::start();
    let scratch = tempfile::tempdir().expect("a folder");
    let at = |name: &str| scratch.path().join(name).to_str().expect("UTF-8").to_owned();
    write_layout(Path::new(&at("layout")), &system("hello from the image\n"));
    let push = |name: &str, layout: &str| {
        platform.paas(["push", "-n", name, "--image-layout", layout, "-m", "64M", "-k", "64M"])
    };
    let refused = push("shop", &at("layout"));
    assert!(
        refused.code != 0 && refused.stderr.contains("Feature Disabled: diego_docker"),
        "{}",
        refused.stderr
    );
    let _ = platform.paas(["enable-feature-flag", "diego_docker"]).ok();
    let _ = push("shop", &at("layout")).ok();
    let greeting = |name: &str| platform.get(&format!("{name}.localhost"), "/index.html");
    assert_eq!(greeting("shop"), (200, "hello from the image\n".to_owned()));
    let _ = platform.paas(["scale", "shop", "-i", "2"]).ok();
    let _ = platform.paas(["restart", "shop"]).ok();
    assert_eq!(greeting("shop"), (200, "hello from the image\n".to_owned()));
    let shown = platform.paas(["exec", "shop", "--", "id", "-u"]).ok().stdout;
    assert_eq!(shown.trim(), "1000");
    let again = push("shop", &at("layout")).ok();
    assert!(again.stderr.contains("no file is new"), "{}", again.stderr);

    // Out, the same each time, and in again.
    let export = |app: &str, to: &str, base: &[&str]| {
        let words = ["--json", "droplet", "export", app, "--output", to];
        platform.paas(words.iter().chain(base)).ok().json()["digest"].clone()
    };
    let digest = export("shop", &at("first.tar"), &[]);
    assert_eq!(digest, export("shop", &at("second"), &[]));
    let _ = push("copy", &at("first.tar")).ok();
    assert_eq!(greeting("copy"), (200, "hello from the image\n".to_owned()));

    // A droplet of source on a base of its own runs here, and under a runtime that knows nothing of this platform.
    let folder = app("procfile-shell");
    std::fs::write(
        folder.path().join("Procfile"),
        "web: mkdir -p /home/vcap/tmp/www && echo from source > /home/vcap/tmp/www/index.html && \
         exec httpd -f -p $PORT -h /home/vcap/tmp/www\nhello: echo hello $HOME\n",
    )
    .expect("written");
    let _ = platform
        .paas([
            "push",
            folder.path().to_str().expect("UTF-8"),
            "-n",
            "source",
            "--no-start",
        ])
        .ok();
    let missing = platform.paas(["droplet", "export", "source", "--output", &at("none")]);
    assert!(
        missing.code == 2 && missing.stderr.contains("--base"),
        "{}",
        missing.stderr
    );
    let _ = export("source", &at("source"), &["--base", &at("layout")]);
    let _ = push("exported", &at("source")).ok();
    assert_eq!(greeting("exported"), (200, "from source\n".to_owned()));
    assert_eq!(
        by_hand(Path::new(&at("source")), scratch.path(), "hello"),
        "hello /home/vcap/app\n"
    );
}

/// Unpacks a layout into a bundle, and what a process of it says under `runc`.
fn by_hand(layout: &Path, scratch: &Path, process: &str) -> String {
    let bundle = scratch.join("bundle");
    let root = bundle.join("rootfs");
    std::fs::create_dir_all(&root).expect("made");
    let (layout, image) = Layout::open(layout).expect("a layout");
    for layer in &image.layers {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut layout.layer(layer).expect("there"), &mut bytes).expect("verified");
        if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            bytes = zstd::decode_all(&bytes[..]).expect("compressed");
        }
        let mut archive = tar::Archive::new(&bytes[..]);
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(true);
        archive.unpack(&root).expect("unpacked");
    }
    let runc = |arguments: &[&str]| {
        let output = Command::new("runc").current_dir(&bundle).args(arguments).output();
        output.expect("runc is installed")
    };
    assert!(runc(&["spec"]).status.success());
    let path = bundle.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("written")).expect("JSON");
    let mut words = image.config.config.entrypoint.clone();
    words.push(process.to_owned());
    spec["process"]["args"] = json!(words);
    spec["process"]["env"] = json!(image.config.config.env);
    spec["process"]["cwd"] = json!(image.config.config.working_dir);
    spec["process"]["user"] = json!({"uid": 2000, "gid": 2000});
    spec["process"]["terminal"] = json!(false);
    // This machine may lack the right to raise limits, and groups are nothing to this test.
    spec["process"].as_object_mut().expect("a process").remove("rlimits");
    spec["linux"].as_object_mut().expect("linux").remove("resources");
    std::fs::write(&path, spec.to_string()).expect("written");
    let name = format!("paas-export-{}", std::process::id());
    let output = runc(&["run", &name]);
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
