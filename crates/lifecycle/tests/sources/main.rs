//! Where buildpacks come from: archives of every form, URLs with digests, repositories, images, folders of the app; and
//! what is refused of each.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod make;
mod server;

use lifecycle::Error;
use lifecycle::testing::Stage;
use make::{Files, gzip, image, scripts, tar, zip};
use model::Digest;
use model::staging::{BuildResult, BuildpackSource, FailureClass};
use server::Server;
use sha2::{Digest as _, Sha256};
use std::process::Command;

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.detect = false;
    stage.write("file", "content");
    stage
}

/// A stage whose buildpack is an archive that the platform has.
fn archived(bytes: &[u8]) -> Stage {
    let mut stage = stage();
    let path = stage.beside("bits").join("archive");
    std::fs::write(&path, bytes).unwrap();
    let source = BuildpackSource::Archive {
        path: path.display().to_string(),
        digest: digest(bytes),
    };
    stage.add_source("mine", source);
    stage
}

fn from_url(url: &str) -> Stage {
    let mut stage = stage();
    stage.add_source(url, BuildpackSource::parse(url).unwrap().unwrap());
    stage
}

fn seen(stage: &Stage, result: &BuildResult) -> String {
    stage.unpack_droplet(result);
    std::fs::read_to_string(stage.paths().app.join("seen")).unwrap()
}

/// Why the build failed, which has to be for its buildpack.
fn refused(stage: &mut Stage) -> String {
    let error = stage.push().unwrap_err();
    assert!(matches!(error, Error::Source { .. }), "{error:?}");
    let failure = error.explain();
    assert_eq!((error.exit_code(), failure.class), (231, FailureClass::StagingError));
    failure.cause
}

#[test]
fn archives_of_every_form_with_and_without_a_folder_around() {
    for prefix in ["", "buildpack-1.2/"] {
        let files = scripts(prefix, "echo unpacked > seen");
        for bytes in [
            zip(&files),
            tar(&files),
            gzip(&tar(&files)),
            zstd::encode_all(&tar(&files)[..], 1).unwrap(),
        ] {
            let mut stage = archived(&bytes);
            let result = stage.push().unwrap();
            assert_eq!(seen(&stage, &result), "unpacked\n", "{prefix}");
            assert_eq!(result.buildpacks[0].name, "mine");
        }
    }
}

#[test]
fn a_classic_buildpack_comes_as_an_archive_too() {
    let files = [("bin/compile", "#!/bin/sh\necho compiled > $1/seen", 0o755)];
    let mut stage = archived(&zip(&files.map(Into::into)));
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result), "compiled\n");
}

#[test]
fn archives_that_lead_out_or_are_none_are_refused() {
    let evil = |name: &str| tar(&[make::File::from((name, "x", 0o644))]);
    let link = [
        make::File::link("away", "/etc"),
        make::File::from(("away/evil", "x", 0o644)),
    ];
    for (bytes, part) in [
        (evil("../evil"), "leads out"),
        (zip(&link), "leads out"),
        (b"nonsense".to_vec(), "no archive"),
        (Vec::new(), ""),
    ] {
        let cause = archived(&bytes).push().unwrap_err().explain().cause;
        assert!(cause.contains(part), "{part}: {cause}");
        assert!(!std::path::Path::new("/etc/evil").exists());
    }
}

#[test]
fn an_archive_that_is_not_what_it_is_said_to_be_is_refused() {
    let mut stage = stage();
    let path = stage.beside("bits").join("archive");
    std::fs::write(&path, "other").unwrap();
    let source = BuildpackSource::Archive {
        path: path.display().to_string(),
        digest: digest(b"x"),
    };
    stage.add_source("mine", source);
    assert!(refused(&mut stage).contains("its digest is sha256:"));
}

#[test]
fn a_url_with_its_digest_is_downloaded_once() {
    let bytes = gzip(&tar(&scripts("", "echo downloaded > seen")));
    let server = Server::start(&[("/b.tgz", bytes.clone())]);
    let mut stage = from_url(&format!("{}/b.tgz#{}", server.url(), digest(&bytes)));
    for _ in 0..3 {
        let result = stage.push().unwrap();
        assert_eq!(seen(&stage, &result), "downloaded\n");
    }
    assert_eq!(server.requests(), 1, "the next builds have it from the first");
}

#[test]
fn a_url_without_a_digest_is_asked_each_time() {
    let server = Server::start(&[("/b.zip", zip(&scripts("", "echo downloaded > seen")))]);
    let mut stage = from_url(&format!("{}/b.zip", server.url()));
    for _ in 0..2 {
        stage.push().unwrap();
    }
    assert_eq!(server.requests(), 2);
}

#[test]
fn another_digest_and_a_missing_file_are_refused() {
    let server = Server::start(&[("/b.zip", zip(&scripts("", "true")))]);
    let mut stage = from_url(&format!("{}/b.zip#{}", server.url(), digest(b"other")));
    let cause = refused(&mut stage);
    assert!(
        cause.contains("has the digest sha256:") && cause.contains("is asked for"),
        "{cause}"
    );
    let mut stage = from_url(&format!("{}/none.zip", server.url()));
    assert!(refused(&mut stage).contains("404"));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let mut stage = from_url("http://127.0.0.1:9/b.zip");
    let cause = refused(&mut stage);
    assert!(cause.contains("http://127.0.0.1:9/b.zip"), "{cause}");
}

#[test]
fn a_repository_is_cloned_at_its_branch() {
    let mut stage = stage();
    let repository = stage.beside("repository.git");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&repository).args(arguments);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null");
        assert!(command.output().unwrap().status.success(), "{arguments:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    for (branch, text) in [("main", "main"), ("other", "other")] {
        make::write(&repository, &scripts("", &format!("echo {text} > seen")));
        if branch != "main" {
            git(&["checkout", "-q", "-b", branch]);
        }
        git(&["add", "."]);
        git(&[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "commit",
            "-q",
            "-m",
            text,
        ]);
    }
    let url = format!("file://{}", repository.display());
    stage.add_source(
        "mine",
        BuildpackSource::Git {
            url: url.clone(),
            reference: Some("main".to_owned()),
        },
    );
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result), "main\n");
    let mut missing = self::stage();
    let reference = Some("nowhere".to_owned());
    missing.add_source("mine", BuildpackSource::Git { url, reference });
    assert!(refused(&mut missing).contains("git"), "it says what failed");
}

#[test]
fn a_folder_of_the_app_is_a_buildpack_and_is_not_changed_by_the_build() {
    let mut stage = stage();
    make::write(
        &stage.source().join("tools/own"),
        &scripts("", "echo own > seen; echo x > $CNB_BUILDPACK_DIR/made"),
    );
    stage.add_source(
        "./tools/own",
        BuildpackSource::App {
            path: "tools/own".to_owned(),
        },
    );
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result), "own\n");
    assert!(!stage.paths().app.join("tools/own/made").exists());
    let mut missing = self::stage();
    missing.add_source(
        "./none",
        BuildpackSource::App {
            path: "none".to_owned(),
        },
    );
    refused(&mut missing);
}

#[test]
fn several_of_different_origin_build_together() {
    let provide = "printf '[[provides]]\\nname = \"x\"\\n' > $2";
    let require = "printf '[[requires]]\\nname = \"x\"\\n' > $2";
    let mut first = scripts("", "echo first > seen");
    first.push(("bin/detect", format!("#!/bin/sh\n{provide}").as_str(), 0o755).into());
    let mut stage = archived(&zip(&first));
    stage.add_scripts("test/last", "", Some(require), "echo last >> seen");
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result), "first\nlast\n");
}

/// A packaged buildpack: a composite of two, of which the second declines.
fn packaged() -> Vec<Vec<make::File>> {
    let part = |id: &str, detect: &str| -> Files {
        let folder = format!("cnb/buildpacks/{id}/1.0.0");
        vec![
            (
                format!("{folder}/buildpack.toml").as_str(),
                format!("api = '0.10'\n[buildpack]\nid = '{id}'\nversion = '1.0.0'\n").as_str(),
                0o644,
            )
                .into(),
            (
                format!("{folder}/bin/detect").as_str(),
                format!("#!/bin/sh\n{detect}").as_str(),
                0o755,
            )
                .into(),
            (
                format!("{folder}/bin/build").as_str(),
                format!("#!/bin/sh\necho {id} >> seen").as_str(),
                0o755,
            )
                .into(),
        ]
    };
    let composite = "api = '0.10'\n[buildpack]\nid = 'all'\nversion = '1.0.0'\n[[order]]\n\
        group = [{ id = 'no', version = '1.0.0', optional = true }, { id = 'yes', version = '1.0.0' }]\n";
    let mut base = part("yes", "exit 1");
    base.push(("cnb/buildpacks/old/1.0.0/buildpack.toml", "broken", 0o644).into());
    let mut upper = part("no", "exit 100");
    upper.extend(part("yes", "exit 0"));
    upper.push(("cnb/buildpacks/all/1.0.0/buildpack.toml", composite, 0o644).into());
    upper.push(("cnb/buildpacks/.wh.old", "", 0o644).into());
    vec![base, upper]
}

#[test]
fn an_image_of_a_packaged_buildpack_is_unpacked_with_its_whiteouts() {
    let mut stage = archived(&image(&packaged(), &make::Lie::None));
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result), "yes\n");
    let ids: Vec<_> = result.buildpacks.iter().map(|used| used.id.as_str()).collect();
    assert_eq!(ids, ["yes"]);
}

#[test]
fn an_image_that_lies_is_refused() {
    for (lie, part) in [
        (make::Lie::Digest, "the digest of blob"),
        (make::Lie::Missing, "find blobs/sha256"),
        (make::Lie::Architecture, "no manifest for linux/"),
    ] {
        let cause = refused(&mut archived(&image(&packaged(), &lie)));
        assert!(cause.contains(part), "{cause}");
    }
    let out = vec![vec![make::File::from(("../../evil", "x", 0o644))]];
    assert!(refused(&mut archived(&image(&out, &make::Lie::None))).contains("leads out"));
}
