//! Images for real: taken from a layout by the lifecycle, run with their own root, user, folder and port.

use crate::builds::{outcome, package};
use crate::controller::read_session;
use crate::kit::{Kit, until};
use crate::policies::bound;
use crate::world::World;
use image::config::RootFs;
use image::document::LAYER;
use image::layout::{Documents, blob_path};
use image::registry::{Client, Credentials};
use image::{ARCHITECTURE, Config, Descriptor, Settings};
use model::Digest;
use model::id::{BuildId, PackageId};
use model::image::{ImageSource, RegistryImage};
use model::security::{SecurityProtocol, SecurityRule, Use};
use model::staging::{BuildInput, BuildResult, FailureClass};
use model::work::{Assignment, BuildSpec, Cause, Observation, WorkKind};
use tar::EntryType;
use uuid::Uuid;

/// User of the image.
const USER: u64 = 1234;
const PASSWD: &str = "root:x:0:0::/root:/bin/sh\napp:x:1234:1234::/srv:/bin/sh\n";

/// Kind, name, contents or target, user.
type Entry<'a> = (EntryType, &'a str, &'a [u8], u64);

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, bytes, user) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(*user);
        header.set_gid(*user);
        if *kind == EntryType::Symlink {
            header.set_size(0);
            let target = std::str::from_utf8(bytes).expect("a target");
            builder.append_link(&mut header, name, target).expect("appended");
        } else {
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, *bytes).expect("appended");
        }
    }
    builder.into_inner().expect("finished")
}

/// A small system with a web server, and a layer over it that replaces and removes.
fn layers() -> Vec<Vec<u8>> {
    let busybox = std::fs::read("/usr/bin/busybox").or_else(|_| std::fs::read("/bin/busybox"));
    let busybox = busybox.expect("busybox-static is installed");
    let mut system: Vec<Entry<'_>> = vec![
        (EntryType::Directory, "bin/", b"", 0),
        (EntryType::Regular, "bin/busybox", &busybox, 0),
        (EntryType::Directory, "etc/", b"", 0),
        (EntryType::Regular, "etc/passwd", PASSWD.as_bytes(), 0),
        (EntryType::Directory, "srv/", b"", USER),
        (EntryType::Regular, "srv/index.html", b"lower\n", USER),
        (EntryType::Regular, "srv/gone", b"x", USER),
        (EntryType::Directory, "data/", b"", 0),
        (EntryType::Regular, "data/old", b"x", 0),
    ];
    for applet in ["bin/sh", "bin/id", "bin/ls", "bin/touch", "bin/grep", "bin/chown"] {
        system.push((EntryType::Symlink, applet, b"busybox", 0));
    }
    let app: Vec<Entry<'_>> = vec![
        (EntryType::Directory, "srv/", b"", USER),
        (EntryType::Regular, "srv/index.html", b"hello from the image\n", USER),
        (EntryType::Regular, "srv/.wh.gone", b"", 0),
        (EntryType::Directory, "data/", b"", 0),
        (EntryType::Regular, "data/.wh..wh..opq", b"", 0),
        (EntryType::Regular, "data/new", b"x", 0),
    ];
    vec![archive(&system), archive(&app)]
}

fn settings() -> Settings {
    Settings {
        user: "app".to_owned(),
        env: vec!["GREETING=from the image".to_owned()],
        entrypoint: vec!["/bin/busybox".to_owned()],
        cmd: ["httpd", "-f", "-p", "9000", "-h", "/srv"].map(str::to_owned).to_vec(),
        working_dir: "/srv".to_owned(),
        exposed_ports: [("9000/tcp".to_owned(), serde_json::json!({}))].into(),
        ..Settings::default()
    }
}

/// Stores a layout as a package.
async fn layout(kit: &Kit, layers: &[Vec<u8>], config: Settings) -> Digest {
    let config = Config {
        architecture: ARCHITECTURE.to_owned(),
        os: "linux".to_owned(),
        config,
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: layers.iter().map(|layer| image::digest(layer)).collect(),
        },
        ..Config::default()
    };
    let blobs = layers
        .iter()
        .map(|layer| Descriptor::new(LAYER, image::digest(layer), layer.len() as u64));
    let documents = Documents::of(&config, &blobs.collect::<Vec<_>>(), None).expect("made");
    let names: Vec<String> = layers.iter().map(|layer| blob_path(&image::digest(layer))).collect();
    let written = documents.files();
    let mut files: Vec<(&str, &[u8])> = written.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    files.extend(names.iter().map(String::as_str).zip(layers.iter().map(Vec::as_slice)));
    package(kit, &files).await
}

/// What the lifecycle is told: to take the package as an image.
fn input(last: Option<&BuildResult>) -> BuildInput {
    BuildInput {
        app_name: "shop".to_owned(),
        stack: "host".to_owned(),
        buildpacks: Vec::new(),
        detect: true,
        env: model::SecretEnv::default(),
        memory_mb: 256,
        restored: last.map(|last| last.cache.clone()).unwrap_or_default(),
        store: last.map(|last| last.store.clone()).unwrap_or_default(),
        image: Some(ImageSource::Package),
    }
}

async fn staged(kit: &Kit, layers: &[Vec<u8>], config: Settings, last: Option<&BuildResult>) -> (Cause, BuildResult) {
    let package_digest = layout(kit, layers, config).await;
    let mut assignment = kit.instance(&[], None);
    assignment.spec.limits.disk_mb = 256;
    assignment.spec.limits.memory_mb = 256;
    assignment.spec.kind = WorkKind::Build(Box::new(BuildSpec {
        build: BuildId(Uuid::new_v4()),
        package: PackageId(Uuid::new_v4()),
        package_digest: Some(package_digest),
        input: input(last),
        timeout_seconds: 60,
    }));
    kit.controller.assign(std::slice::from_ref(&assignment));
    outcome(kit, assignment.work).await
}

/// An instance of what was staged.
fn instance(kit: &Kit, result: &BuildResult, command: Option<&str>) -> Assignment {
    let mut work = kit.instance(&result.layers, command);
    let WorkKind::Instance(instance) = &mut work.spec.kind else {
        panic!("an instance")
    };
    instance.image.clone_from(&result.image);
    instance.port = Some(9000);
    work
}

async fn get(seen: &Observation, path: &str) -> String {
    let address = seen.address.expect("an address");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.get(format!("http://{address}:9000{path}")).send().await;
    answer.expect("answered").text().await.expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_taken_and_run_as_it_says() {
    let kit = Kit::start().await;
    let layers = layers();
    let (cause, result) = staged(&kit, &layers, settings(), None).await;
    assert_eq!(
        (cause, &result.error),
        (Cause::Exited { code: 0 }, &None),
        "{}",
        kit.agent_log()
    );
    let own = instance(&kit, &result, None);
    let check = "id -u; grep CapEff /proc/self/status; chown 5 /srv/index.html; exec httpd -f -p 9000 -h /srv";
    let mut root = instance(&kit, &result, Some(check.replace("httpd", "busybox httpd").as_str()));
    if let WorkKind::Instance(instance) = &mut root.spec.kind
        && let Some(image) = &mut instance.image
    {
        image.user.clear();
    }
    kit.controller.assign(&[own.clone(), root.clone()]);
    let seen = kit.running(own.work).await;
    assert_eq!(get(&seen, "/index.html").await, "hello from the image\n");
    let look = "id -u; id -g; pwd; echo $GREETING $HOME $USER $PORT; ls /srv /data; touch /srv/mine && echo wrote";
    let mut socket = kit.controller.exec(own.work, &[look], None).await;
    let (out, err, _) = read_session(&mut socket).await;
    assert_eq!(
        out, "1234\n1234\n/srv\nfrom the image /srv app 9000\n/data:\nnew\n\n/srv:\nindex.html\nwrote\n",
        "{err}"
    );
    // Its root is nobody in particular: a number without any capability.
    kit.running(root.work).await;
    kit.line(root.work, "CapEff:\t0000000000000000").await;
    assert!(kit.line(root.work, "Operation not permitted").await.err);
    kit.line(root.work, "0").await;
    let (_, again) = staged(&kit, &layers, settings(), Some(&result)).await;
    assert_eq!(
        again.layers, result.layers,
        "the same layers, and none of them written again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_is_refused_by_name() {
    let kit = Kit::start().await;
    let device = archive(&[(EntryType::Char, "dev/sda", b"", 0)]);
    let (_, result) = staged(&kit, &[device], settings(), None).await;
    let error = result.error.expect("refused");
    assert_eq!(error.class, FailureClass::StagingError);
    assert!(
        error.title.contains("layer was refused") && error.cause.contains("dev/sda"),
        "{error:?}"
    );
    let unknown = Settings {
        user: "nobody-knows".to_owned(),
        ..settings()
    };
    let (_, result) = staged(&kit, &layers(), unknown, None).await;
    let work = instance(&kit, &result, None);
    kit.controller.assign(std::slice::from_ref(&work));
    let Cause::NotStarted { detail, retryable } = kit.ended(work.work).await else {
        panic!("not started")
    };
    assert!(detail.contains("not in its /etc/passwd") && !retryable, "{detail}");
}

/// A registry in the world beyond the cell's uplink, gone when it is dropped.
struct Registry {
    process: std::process::Child,
    _dir: tempfile::TempDir,
}

/// `me` with the password `secret`.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
/// Where it listens.
const PORT: u16 = 5000;

impl Registry {
    fn start(world: &World) -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let file = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let passwords = file("htpasswd", HTPASSWD.to_owned());
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: ':{PORT}'}}\n\
             auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            dir.path().join("data").display(),
            passwords.display()
        );
        let config = file("config.yml", config);
        let mut process = world.command("docker-registry");
        process.arg("serve").arg(config).stdin(std::process::Stdio::null());
        process
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        Self {
            process: process.spawn().expect("docker-registry is installed"),
            _dir: dir,
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Pushes the image of the tests to `address`.
fn push(address: &str, dir: &std::path::Path) -> String {
    let reference: image::Reference = format!("{address}/team/shop:1").parse().expect("a reference");
    let agent = ureq::Agent::config_builder().proxy(None).build().into();
    let me = Credentials {
        username: "me".to_owned(),
        password: model::Secret::new("secret"),
    };
    let client = Client::new(agent, address, Some(me), &[address.to_owned()]);
    let layers = layers();
    let config = Config {
        architecture: ARCHITECTURE.to_owned(),
        os: "linux".to_owned(),
        config: settings(),
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: layers.iter().map(|layer| image::digest(layer)).collect(),
        },
        ..Config::default()
    };
    let mut blobs = Vec::new();
    for layer in &layers {
        let file = dir.join("layer");
        std::fs::write(&file, layer).expect("written");
        let blob = Descriptor::new(LAYER, image::digest(layer), layer.len() as u64);
        client.push_blob(&reference, &blob, &file).expect("pushed");
        blobs.push(blob);
    }
    let documents = Documents::of(&config, &blobs, None).expect("made");
    client.push_documents(&reference, &documents).expect("pushed");
    format!("{address}/team/shop@{}", documents.manifest.0.digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_from_a_registry_that_the_rules_of_staging_allow() {
    let kit = Kit::start_with_world().await;
    let world = kit.world.as_ref().expect("made");
    let address = format!("{}:{PORT}", world.far(8));
    let _registry = Registry::start(world);
    until("the registry listens", || {
        std::net::TcpStream::connect(&address).is_ok()
    })
    .await;
    let folder = tempfile::tempdir().expect("folder");
    let (to, dir) = (address.clone(), folder.path().to_owned());
    let pinned = tokio::task::spawn_blocking(move || push(&to, &dir))
        .await
        .expect("pushed");
    let staged = async |password: Option<&str>| {
        let mut assignment = kit.instance(&[], None);
        assignment.spec.limits.disk_mb = 256;
        assignment.spec.limits.memory_mb = 256;
        assignment.spec.env.set("PAAS_INSECURE_REGISTRIES", address.as_str());
        assignment.spec.kind = WorkKind::Build(Box::new(BuildSpec {
            build: BuildId(Uuid::new_v4()),
            package: PackageId(Uuid::new_v4()),
            package_digest: None,
            input: BuildInput {
                image: Some(ImageSource::Registry(RegistryImage {
                    reference: format!("{address}/team/shop:1"),
                    username: password.map(|_| "me".to_owned()),
                    password: password.map(model::Secret::new),
                })),
                ..input(None)
            },
            timeout_seconds: 60,
        }));
        kit.controller.assign(std::slice::from_ref(&assignment));
        outcome(&kit, assignment.work).await.1
    };
    kit.controller.tell_policies(bound(Use::Staging, Vec::new()));
    let closed = staged(Some("secret")).await.error.expect("closed");
    assert!(closed.cause.contains("cannot be reached"), "{closed:?}");
    let everything = SecurityRule::new(SecurityProtocol::All, "0.0.0.0/0");
    kit.controller.tell_policies(bound(Use::Staging, vec![everything]));
    let refused = staged(None).await.error.expect("refused");
    assert!(
        refused.cause.contains("unauthorized") && refused.remedy.contains("CF_DOCKER_PASSWORD"),
        "{refused:?}"
    );
    let result = staged(Some("secret")).await;
    assert_eq!(result.error, None);
    assert_eq!(result.image.as_ref().expect("an image").reference, pinned);
    let work = instance(&kit, &result, None);
    kit.controller.assign(std::slice::from_ref(&work));
    let seen = kit.running(work.work).await;
    assert_eq!(get(&seen, "/index.html").await, "hello from the image\n");
}
