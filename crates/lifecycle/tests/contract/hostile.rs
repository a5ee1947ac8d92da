//! Buildpacks that do what they must not: each is named with its fault, and nothing of it gets into a droplet.

use super::{PASS, app, chosen, seen};
use lifecycle::Error;
use lifecycle::testing::Stage;
use model::staging::FailureClass;

fn one(script: &str) -> Stage {
    let mut stage = app();
    stage.add_scripts("test/one", "", PASS, script);
    stage
}

/// The file and the reason of a broken contract.
fn refused(stage: &mut Stage) -> (String, String) {
    let error = stage.push().unwrap_err();
    let failure = error.explain();
    assert_eq!(failure.class, FailureClass::BuildpackCompileFailed);
    assert!(failure.remedy.contains("fault of the buildpack"), "{failure:?}");
    match error {
        Error::Contract { file, reason, .. } => (file, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_layer_that_is_declared_and_not_there() {
    for kind in ["launch", "cache", "launch = true\\ncache"] {
        let mut stage = one(&format!("printf '[types]\\n{kind} = true\\n' > $1/ghost.toml"));
        let (file, reason) = refused(&mut stage);
        assert_eq!(file, "ghost.toml", "{kind}");
        assert!(reason.contains("no contents"), "{reason}");
    }
}

#[test]
fn a_layer_that_is_a_link_or_a_file() {
    for make in ["ln -s /etc $1/away", "ln -s . $1/away", "echo x > $1/away"] {
        let mut stage = one(&format!("{make}; printf '[types]\\nlaunch = true\\n' > $1/away.toml"));
        let (file, reason) = refused(&mut stage);
        assert_eq!((file.as_str(), reason.contains("no link")), ("away", true), "{make}");
    }
}

#[test]
fn a_declaration_that_is_a_link() {
    let mut stage = one("ln -s /etc/os-release $1/l.toml; mkdir $1/l");
    assert_eq!(refused(&mut stage).0, "l.toml");
    let mut stage = one("ln -s /dev/zero $1/launch.toml");
    assert_eq!(refused(&mut stage).0, "launch.toml");
}

#[test]
fn what_it_writes_outside_its_own_layers() {
    for (script, file) in [
        (
            "printf '[types]\\nlaunch = true\\n' > $1/../test_first/kept.toml",
            "test_first/kept.toml",
        ),
        ("rm $1/../test_first/kept.toml", "test_first/kept.toml"),
        ("mkdir $1/../test_third", "test_third"),
        ("mkdir $1/../config", "config"),
        ("ln -s /etc $1/../sbom", "sbom"),
    ] {
        let mut stage = chosen();
        stage.add_scripts(
            "test/first",
            "",
            PASS,
            "mkdir -p $1/kept; printf '[types]\\nbuild = true\\n' > $1/kept.toml",
        );
        stage.add_scripts("test/second", "", PASS, script);
        let error = stage.push().unwrap_err();
        let Error::Contract {
            buildpack, file: found, ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!(buildpack, "test/second");
        assert!(found.ends_with(file), "{script}: {found}");
    }
}

#[test]
fn links_within_a_layer_lead_nowhere_and_loops_end() {
    let mut stage = one(
        "mkdir -p $1/l/a; ln -s .. $1/l/a/up; ln -s self $1/l/self; ln -s /etc/passwd $1/l/out; ln -s ../../../.. $1/l/far
        printf '[types]\\nlaunch = true\\n' > $1/l.toml",
    );
    let result = stage.push().unwrap();
    stage.unpack_droplet(&result);
    let layer = stage.paths().layers.join("test_one/l");
    assert_eq!(
        std::fs::read_link(layer.join("out")).unwrap().to_str(),
        Some("/etc/passwd")
    );
    assert!(std::fs::symlink_metadata(layer.join("self")).unwrap().is_symlink());
}

#[test]
fn a_layer_that_is_too_large_is_refused_before_it_is_read() {
    let began = std::time::Instant::now();
    let mut stage = one("mkdir $1/l; truncate -s 10G $1/l/huge; printf '[types]\\nlaunch = true\\n' > $1/l.toml");
    let (file, reason) = refused(&mut stage);
    assert!(
        file.ends_with("test_one/l") && reason.contains("7168 MiB"),
        "{file}: {reason}"
    );
    assert!(began.elapsed().as_secs() < 20);
}

#[test]
fn a_layer_that_is_too_deep() {
    let mut stage = one(
        "mkdir $1/l; cd $1/l; i=0; while [ $i -lt 150 ]; do mkdir d; cd d; i=$((i + 1)); done
        printf '[types]\\nlaunch = true\\n' > $1/l.toml",
    );
    assert!(refused(&mut stage).1.contains("folders in each other"));
}

#[test]
fn pipes_sockets_and_what_nobody_may_read_do_not_hold_the_build() {
    let mut stage = one("mkfifo pipe; echo fine > seen");
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result, "seen"), "fine\n");
    assert!(!stage.paths().app.join("pipe").exists());
}

#[test]
fn a_detect_that_talks_without_end_is_cut_off() {
    let mut stage = app();
    stage.add_scripts(
        "test/loud",
        "",
        Some("head -c 30000000 /dev/zero | tr '\\0' x; exit 100"),
        "",
    );
    let failure = stage.push().unwrap_err().explain();
    assert!(failure.cause.len() < 2000, "{}", failure.cause.len());
}

#[test]
fn a_failed_build_leaves_the_last_cache_as_it_was() {
    let mut stage = app();
    let script = "[ ! -f bad ] || { rm -rf $1/kept; exit 1; }
        [ -f $1/kept/file ] && echo back > seen || echo new > seen
        mkdir -p $1/kept; echo x > $1/kept/file; printf '[types]\\ncache = true\\n' > $1/kept.toml";
    stage.add_scripts("test/one", "", PASS, script);
    stage.push().unwrap();
    stage.write("bad", "");
    stage.push().unwrap_err();
    std::fs::remove_file(stage.source().join("bad")).unwrap();
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result, "seen"), "back\n");
}
