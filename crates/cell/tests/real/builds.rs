//! Builds with the real lifecycle and a buildpack of the test's: from a package to a droplet that runs.

use crate::kit::{Kit, get};
use blobstore::Kind;
use blobstore::pack::{Mode, PackWriter, PackageIndex, TreeLimits};
use model::Digest;
use model::id::{BuildId, PackageId, WorkId};
use model::staging::{BuildInput, BuildResult, BuildpackMount, FailureClass};
use model::work::{Assignment, BuildSpec, Cause, Outcome, Wanted, WorkKind, WorkState};
use std::os::unix::fs::PermissionsExt as _;
use uuid::Uuid;

const DETECT: &str = "#!/bin/sh\n[ -f index.html ] || [ -f trouble ]\n";
/// Does what the app's file `trouble` says; else makes a cached layer and a process.
const BUILD: &str = r#"#!/bin/sh
set -e
if [ -f trouble ]; then . ./trouble; fi
tool="$CNB_LAYERS_DIR/tool"
if [ -f "$tool/bin/greet" ]; then
  echo "reusing the tool"
else
  echo "making the tool"
  mkdir -p "$tool/bin"
  printf '#!/bin/sh\necho greetings from the tool\n' > "$tool/bin/greet"
  chmod 755 "$tool/bin/greet"
fi
printf '[types]\nlaunch = true\ncache = true\n[metadata]\nversion = "1"\n' > "$CNB_LAYERS_DIR/tool.toml"
cat > "$CNB_LAYERS_DIR/launch.toml" <<'END'
[[processes]]
type = "web"
command = ["bash", "-c", "greet; exec python3 -m http.server $PORT"]
default = true
END
"#;
const DESCRIPTOR: &str = "api = \"0.10\"\n[buildpack]\nid = \"test/shell\"\nname = \"Shell\"\nversion = \"1.0.0\"\n[[targets]]\nos = \"linux\"\n";

/// Writes the test's buildpack to where the cell shows it.
pub fn buildpack(kit: &Kit) {
    let dir = kit.buildpacks().join("shell");
    std::fs::create_dir_all(dir.join("bin")).expect("folder");
    std::fs::write(dir.join("buildpack.toml"), DESCRIPTOR).expect("descriptor");
    for (name, text) in [("detect", DETECT), ("build", BUILD)] {
        let path = dir.join("bin").join(name);
        std::fs::write(&path, text).expect("script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    }
}

/// Stores a package with these files.
pub async fn package<B: AsRef<[u8]>>(kit: &Kit, files: &[(&str, B)]) -> Digest {
    let mut writer = PackWriter::new(kit.blobs.temporary().expect("scratch"));
    for (name, contents) in files {
        let added = writer.add((*name).to_owned(), Mode::file(0o644), contents.as_ref());
        added.expect("added");
    }
    let (pack, entries) = writer.finish().expect("finished");
    if let Some(pack) = pack {
        let stored = kit.blobs.put_temporary(Kind::Pack, &pack.digest, pack.file);
        stored.await.expect("stored");
    }
    let index = PackageIndex::build(entries, &TreeLimits::default()).expect("an index");
    index.save(&kit.blobs).await.expect("saved");
    index.digest().clone()
}

/// What a build is made of.
pub struct Stage<'a> {
    files: &'a [(&'a str, &'a str)],
}

impl<'a> Stage<'a> {
    pub fn of(files: &'a [(&'a str, &'a str)]) -> Self {
        Self { files }
    }
}

/// A build by the test's buildpack.
pub async fn stage(kit: &Kit, of: Stage<'_>) -> Assignment {
    buildpack(kit);
    let source = package(kit, of.files).await;
    build(kit, source, None)
}

/// Gives a build this many seconds.
pub fn limit(build: &mut Assignment, seconds: u32) {
    if let WorkKind::Build(spec) = &mut build.spec.kind {
        spec.timeout_seconds = seconds;
    }
}

fn build(kit: &Kit, package_digest: Digest, last: Option<&BuildResult>) -> Assignment {
    let mut assignment = kit.instance(&[], None);
    assignment.spec.limits = model::limits::Limits {
        memory_mb: 256,
        disk_mb: 256,
        pids: 128,
        log_bytes_per_second: None,
    };
    assignment.spec.kind = WorkKind::Build(Box::new(BuildSpec {
        build: BuildId(Uuid::new_v4()),
        package: PackageId(Uuid::new_v4()),
        package_digest: Some(package_digest),
        input: BuildInput {
            app_name: "shop".to_owned(),
            stack: "host".to_owned(),
            buildpacks: vec![BuildpackMount {
                name: "shell".to_owned(),
                path: "/.paas/buildpacks/shell".to_owned(),
                source: None,
            }],
            detect: true,
            env: model::SecretEnv::default(),
            memory_mb: 256,
            restored: last.map(|last| last.cache.clone()).unwrap_or_default(),
            store: last.map(|last| last.store.clone()).unwrap_or_default(),
            image: None,
        },
        timeout_seconds: 60,
    }));
    assignment
}

pub async fn outcome(kit: &Kit, work: WorkId) -> (Cause, BuildResult) {
    kit.ended(work).await;
    let outcome: Outcome = kit.controller.seen(|seen| match &seen.work[&work].state {
        WorkState::Exited(outcome) => outcome.clone(),
        other => panic!("{other:?}"),
    });
    (outcome.cause, *outcome.build.expect("a build's result"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_becomes_a_droplet_that_runs_and_the_next_build_reuses_its_layers() {
    let kit = Kit::start().await;
    buildpack(&kit);
    let source = package(&kit, &[("index.html", "built and served\n"), ("src/a.txt", "a")]).await;
    let first = build(&kit, source, None);
    kit.controller.assign(std::slice::from_ref(&first));
    let (cause, result) = outcome(&kit, first.work).await;
    assert_eq!((cause, &result.error), (Cause::Exited { code: 0 }, &None));
    kit.line(first.work, "making the tool").await;
    assert!(result.layers.len() >= 3, "{:?}", result.layers);
    for layer in &result.layers {
        let stored = kit
            .blobs
            .head(Kind::Layer, &layer.digest)
            .await
            .expect("head")
            .expect("stored");
        assert_eq!((layer.size_bytes, &layer.file), (stored.size_bytes, &None), "{layer:?}");
    }
    assert_eq!(result.cache.len(), 1);
    kit.gone(first.work).await;

    let app = kit.instance(&result.layers, None);
    kit.controller.assign(&[first.clone(), app.clone()]);
    let seen = kit.running(app.work).await;
    assert_eq!(get(&seen, "/index.html").await, "built and served\n");
    kit.line(app.work, "greetings from the tool").await;
    let fetched: u64 = seen
        .phases
        .iter()
        .filter(|phase| phase.name == "fetch")
        .map(|phase| phase.duration_ms)
        .sum();
    assert_eq!(fetched, 0, "the build left its layers in the cache");

    let changed = package(&kit, &[("index.html", "changed\n"), ("src/a.txt", "a")]).await;
    let second = build(&kit, changed, Some(&result));
    kit.controller.assign(&[app.clone(), second.clone()]);
    let (_, again) = outcome(&kit, second.work).await;
    assert_eq!(again.error, None);
    kit.line(second.work, "reusing the tool").await;
    let kept = again
        .layers
        .iter()
        .filter(|layer| result.layers.iter().any(|old| old.digest == layer.digest))
        .count();
    assert!(kept >= 1, "{:?} {:?}", result.layers, again.layers);
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_see_the_operator_s_mirror_and_cannot_change_it() {
    let kit = Kit::start().await;
    buildpack(&kit);
    std::fs::write(kit.mirror().join("index.json"), "runtimes of the mirror\n").expect("written");
    let trouble = "cat \"$BP_MIRROR/index.json\"; touch \"$BP_MIRROR/new\" || echo read-only it is; exit 9";
    let source = package(&kit, &[("trouble", trouble)]).await;
    let build = build(&kit, source, None);
    kit.controller.assign(std::slice::from_ref(&build));
    let (_, result) = outcome(&kit, build.work).await;
    assert!(result.error.is_some());
    kit.line(build.work, "runtimes of the mirror").await;
    kit.line(build.work, "read-only it is").await;
    assert!(!kit.mirror().join("new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_builds_say_why() {
    let kit = Kit::start().await;
    buildpack(&kit);
    let mut works = Vec::new();
    for trouble in [
        "echo broken dependency >&2; exit 9",
        "python3 -c 'b = [bytearray(1 << 20) for _ in range(1 << 20)]'",
        "echo waiting; sleep 1000",
    ] {
        let source = package(&kit, &[("trouble", trouble)]).await;
        works.push(build(&kit, source, None));
    }
    let unknown = package(&kit, &[("README", "nothing to see")]).await;
    works.push(build(&kit, unknown, None));
    if let WorkKind::Build(spec) = &mut works[2].spec.kind {
        spec.timeout_seconds = 3;
    }
    works[1].spec.limits.memory_mb = 96;
    kit.controller.assign(&works);
    let (cause, result) = outcome(&kit, works[0].work).await;
    assert!(matches!(cause, Cause::Exited { code } if code != 0), "{cause:?}");
    assert_eq!(
        result.error.expect("failed").class,
        FailureClass::BuildpackCompileFailed
    );
    kit.line(works[0].work, "broken dependency").await;
    let (cause, result) = outcome(&kit, works[1].work).await;
    let failure = result.error.expect("failed");
    assert!(
        matches!(cause, Cause::OutOfMemory { .. }) && failure.class == FailureClass::StagingOutOfMemory,
        "{cause:?} {failure:?}"
    );
    let (cause, result) = outcome(&kit, works[2].work).await;
    assert_eq!(cause, Cause::TimedOut { seconds: 3 });
    assert_eq!(result.error.expect("failed").class, FailureClass::StagingTimeExpired);
    let (_, result) = outcome(&kit, works[3].work).await;
    assert_eq!(result.error.expect("failed").class, FailureClass::NoAppDetectedError);
    for work in &works {
        kit.gone(work.work).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_goes_on_without_its_agent_and_can_be_cancelled() {
    let mut kit = Kit::start().await;
    buildpack(&kit);
    let source = package(&kit, &[("index.html", "x"), ("trouble", "echo under way; sleep 2")]).await;
    let long = build(&kit, source, None);
    let endless = package(&kit, &[("trouble", "echo for ever; sleep 1000")]).await;
    let mut endless = build(&kit, endless, None);
    kit.controller.assign(&[long.clone(), endless.clone()]);
    kit.line(long.work, "under way").await;
    kit.line(endless.work, "for ever").await;
    kit.kill_agent();
    kit.start_agent().await;
    let (cause, result) = outcome(&kit, long.work).await;
    assert_eq!((cause, result.error), (Cause::Exited { code: 0 }, None));
    assert!(!result.layers.is_empty());
    endless.wanted = Wanted::Stop;
    kit.controller.assign(&[long.clone(), endless.clone()]);
    assert!(matches!(kit.ended(endless.work).await, Cause::Stopped { .. }));
    kit.gone(endless.work).await;
}

/// An archive of a buildpack that says where it came from.
fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let toml = "api = \"0.10\"\n[buildpack]\nid = \"test/uploaded\"\nversion = \"1.0.0\"\n";
    let script = "#!/bin/sh\nset -e\ntouch $CNB_BUILDPACK_DIR/written\necho built by an upload > uploaded\n\
        printf '[[processes]]\\ntype = \"web\"\\ncommand = [\"cat\", \"uploaded\"]\\n' > $CNB_LAYERS_DIR/launch.toml\n";
    for (name, text, mode) in [("top/buildpack.toml", toml, 0o644), ("top/bin/build", script, 0o755)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, name, text.as_bytes()).expect("added");
    }
    builder.into_inner().expect("finished")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploaded_buildpack_builds_and_a_damaged_one_is_named() {
    use sha2::Digest as _;
    let kit = Kit::start().await;
    let bytes = archive();
    let digest = Digest::from_sha256(sha2::Sha256::digest(&bytes).into());
    let source = package(&kit, &[("README", "nothing else")]).await;
    let mut works = Vec::new();
    for digest in [digest.clone(), Digest::from_sha256([9; 32])] {
        let mut build = build(&kit, source.clone(), None);
        if let WorkKind::Build(spec) = &mut build.spec.kind {
            spec.input.buildpacks = vec![BuildpackMount {
                name: "mine".to_owned(),
                path: String::new(),
                source: Some(model::staging::BuildpackSource::Archive {
                    path: model::staging::archive_path(&digest),
                    digest,
                }),
            }];
        }
        works.push(build);
    }
    let mut file = kit.blobs.temporary().expect("scratch");
    std::io::Write::write_all(&mut file, &bytes).expect("written");
    let stored = kit.blobs.put_temporary(Kind::Buildpack, &digest, file).await;
    stored.expect("stored");
    kit.controller.assign(&works);
    let (cause, result) = outcome(&kit, works[0].work).await;
    assert_eq!((cause, &result.error), (Cause::Exited { code: 0 }, &None));
    assert_eq!(result.buildpacks[0].id, "test/uploaded");
    assert_eq!(result.processes[0].command, "cat uploaded");
    let (_, missing) = outcome(&kit, works[1].work).await;
    let failure = missing.error.expect("failed");
    assert!(failure.cause.contains("buildpack sha256:0909"), "{failure:?}");
    for work in &works {
        kit.gone(work.work).await;
    }
}
