//! The contract of builds, rule by rule, by buildpacks made for one rule each.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use lifecycle::Error;
use lifecycle::testing::Stage;
use model::staging::{BuildResult, CachedLayer};

const PASS: Option<&str> = Some("exit 0");

/// One buildpack whose build is `script`.
fn stage(script: &str) -> Stage {
    let mut stage = Stage::new();
    stage.write("file", "content");
    stage.add_scripts("test/one", "", PASS, script);
    stage
}

/// Pushes and says what the build left in `<app>/seen`.
fn seen(stage: &mut Stage) -> String {
    let result = stage.push().unwrap();
    stage.unpack_droplet(&result);
    std::fs::read_to_string(stage.paths().app.join("seen")).unwrap()
}

fn names(result: &BuildResult) -> Vec<(&str, bool)> {
    let layers = result.layers.iter();
    layers
        .map(|layer| (layer.name.as_str(), layer.file.is_some()))
        .collect()
}

fn cached<'a>(result: &'a BuildResult, layer: &str) -> &'a CachedLayer {
    result.cache.iter().find(|cached| cached.layer == layer).unwrap()
}

#[test]
fn programs_get_arguments_and_variables_alike() {
    let mut stage = stage(
        r#"[ "$1" = "$CNB_LAYERS_DIR" ] && [ "$2" = "$CNB_PLATFORM_DIR" ] && [ "$3" = "$CNB_BP_PLAN_PATH" ]
        [ -f "$CNB_BUILDPACK_DIR/buildpack.toml" ] && [ -f "$CNB_BP_PLAN_PATH" ]
        case "$CNB_LAYERS_DIR" in */layers/test_one) ;; *) exit 3 ;; esac
        echo "$CNB_TARGET_OS $CNB_EXEC_ENV $(cat "$CNB_PLATFORM_DIR/env/NAME") $NAME" > seen"#,
    );
    stage.env.set("NAME", "value");
    assert_eq!(seen(&mut stage), "linux production value value\n");
}

#[test]
fn detect_gets_them_too_and_its_words_are_kept() {
    let mut stage = Stage::new();
    stage.write("file", "");
    let detect =
        r#"[ "$1" = "$CNB_PLATFORM_DIR" ] && [ "$2" = "$CNB_BUILD_PLAN_PATH" ] && [ -f file ]; echo "Thing 1""#;
    stage.add_scripts("test/one", "", Some(detect), "");
    let result = stage.push().unwrap();
    let used = &result.buildpacks[0];
    assert_eq!(
        (used.id.as_str(), used.version.as_str(), used.detected.as_str()),
        ("test/one", "1.2.3", "Thing 1")
    );
}

#[test]
fn the_first_candidate_that_matches_builds() {
    let mut stage = Stage::new();
    stage.write("file", "");
    stage.add_scripts("test/no", "", Some("exit 100"), "exit 1");
    stage.add_scripts("test/broken", "", Some("exit 1"), "exit 1");
    stage.add_scripts("test/yes", "", PASS, "");
    stage.add_scripts("test/late", "", PASS, "exit 1");
    assert_eq!(stage.push().unwrap().buildpacks[0].id, "test/yes");
}

#[test]
fn when_none_matches_each_says_why() {
    let mut stage = Stage::new();
    stage.add_scripts("test/a", "", Some("echo 'no a.json'; exit 100"), "");
    let error = stage.push().unwrap_err();
    assert!(matches!(&error, Error::NotDetected { empty: true, .. }), "{error:?}");
    stage.write("file", "");
    let error = stage.push().unwrap_err();
    assert!(error.explain().cause.contains("test/a: no a.json"));
    stage.add_scripts("test/b", "", Some("echo 'out of order' >&2; exit 1"), "");
    let error = stage.push().unwrap_err();
    assert_eq!(error.exit_code(), 222);
    assert!(error.explain().cause.contains("out of order"), "{error:?}");
}

#[test]
fn chosen_buildpacks_all_run_and_share_what_they_build() {
    let mut stage = Stage::new();
    stage.detect = false;
    stage.write("file", "");
    stage.add_scripts(
        "test/tool",
        "",
        Some("printf '[[provides]]\\nname = \"tool\"\\n' > $2"),
        r#"mkdir -p $1/a/bin $1/a/env.build $1/b/bin $1/launched/bin
        for layer in a b; do printf '#!/bin/sh\necho %s' $layer > $1/$layer/bin/tool; chmod +x $1/$layer/bin/tool; done
        printf more > $1/a/env.build/TOOL.append
        for layer in a b; do printf '[types]\nbuild = true\n' > $1/$layer.toml; done
        printf '[types]\nlaunch = true\n' > $1/launched.toml
        grep -q 'version = "7"' $3"#,
    );
    stage.add_scripts(
        "test/user",
        "",
        Some("printf '[[requires]]\\nname = \"tool\"\\n[requires.metadata]\\nversion = \"7\"\\n' > $2"),
        r#"case "$PATH" in *launched*) exit 3 ;; esac
        echo "$(tool) $TOOL" > seen"#,
    );
    // The layer that comes last by name is found first, as the reference lifecycle has it.
    assert_eq!(seen(&mut stage), "b more\n");
}

#[test]
fn a_chosen_buildpack_runs_even_where_it_would_decline() {
    let mut stage = Stage::new();
    stage.detect = false;
    stage.write("file", "");
    stage.add_scripts("test/one", "", Some("exit 100"), "echo ran > seen");
    assert_eq!(seen(&mut stage), "ran\n");
}

#[test]
fn plans_that_do_not_meet_are_no_match() {
    let mut stage = Stage::new();
    stage.write("file", "");
    stage.add_scripts("test/one", "", Some("printf '[[requires]]\\nname = \"x\"\\n' > $2"), "");
    let cause = stage.push().unwrap_err().explain().cause;
    assert!(cause.contains("nothing before it provides \"x\""), "{cause}");
}

#[test]
fn unmet_entries_go_to_the_next_provider() {
    let provide = "printf '[[provides]]\\nname = \"x\"\\n' > $2";
    let mut stage = Stage::new();
    stage.detect = false;
    stage.write("file", "");
    stage.add_scripts(
        "test/a",
        "",
        Some(provide),
        "printf '[[unmet]]\\nname = \"x\"\\n' > $1/build.toml",
    );
    stage.add_scripts("test/b", "", Some(provide), "grep -c 'name = \"x\"' $3 > seen");
    stage.add_scripts(
        "test/c",
        "",
        Some(provide),
        "! grep -q 'name = \"x\"' $3; echo none >> seen",
    );
    stage.add_scripts("test/d", "", Some("printf '[[requires]]\\nname = \"x\"\\n' > $2"), "");
    assert_eq!(seen(&mut stage), "1\nnone\n");
}

#[test]
fn layers_come_back_by_their_types() {
    let mut stage = stage(
        r#"ls "$1" | tr '\n' ' ' > seen
        for kind in build cache launch; do
            mkdir -p $1/$kind-only; echo x > $1/$kind-only/file
            printf "[types]\n$kind = true\n[metadata]\nkind = '$kind'\n" > $1/$kind-only.toml
        done
        mkdir -p $1/both; echo y > $1/both/file
        printf '[types]\nlaunch = true\ncache = true\n' > $1/both.toml
        mkdir -p $1/none; printf '' > $1/none.toml"#,
    );
    let first = stage.push().unwrap();
    assert_eq!(
        names(&first),
        [
            ("app", true),
            ("config", true),
            ("test/one:launch-only", true),
            ("test/one:both", true)
        ]
    );
    assert_eq!(first.cache_files.len(), 1);
    assert!(cached(&first, "both").contents && !cached(&first, "launch-only").contents);
    assert_eq!(
        cached(&first, "launch-only").metadata,
        serde_json::json!({ "kind": "launch" })
    );
    // Contents of what is cached, metadata of what is only launched, nothing of the rest.
    assert_eq!(
        seen(&mut stage),
        "both both.toml cache-only cache-only.toml launch-only.toml "
    );
}

#[test]
fn unchanged_layers_are_not_written_again() {
    let mut stage = stage(
        r#"for layer in kept changed gone; do
            [ -d $1/$layer ] || { mkdir -p $1/$layer; echo $layer > $1/$layer/file; }
            printf '[types]\nlaunch = true\ncache = true\n' > $1/$layer.toml
        done
        cat file > $1/changed/file
        rm -rf $1/same; mkdir $1/same; echo same > $1/same/file
        printf '[types]\nlaunch = true\ncache = true\n' > $1/same.toml
        [ ! -f $1/declared.toml ] && mkdir $1/declared && echo d > $1/declared/file
        printf '[types]\nlaunch = true\n' > $1/declared.toml
        [ "$(cat file)" = content ] || rm -rf $1/gone $1/gone.toml"#,
    );
    let first = stage.push().unwrap();
    assert!(names(&first).iter().all(|(_, written)| *written));
    stage.write("file", "other");
    let second = stage.push().unwrap();
    let mut layers = names(&second);
    layers.sort_unstable();
    assert_eq!(
        layers,
        [
            ("app", true),
            ("config", true),
            ("test/one:changed", true),
            ("test/one:declared", false),
            ("test/one:kept", false),
            ("test/one:same", false),
        ]
    );
    let digest = |result: &BuildResult, name: &str| {
        let layer = result.layers.iter().find(|layer| layer.name == name).unwrap();
        layer.digest.clone()
    };
    for (name, same) in [
        ("config", true),
        ("test/one:kept", true),
        ("test/one:changed", false),
        ("app", false),
    ] {
        assert_eq!(digest(&first, name) == digest(&second, name), same, "{name}");
    }
    stage.unpack_droplet(&second);
    let layers = stage.paths().layers.join("test_one");
    assert_eq!(std::fs::read_to_string(layers.join("declared/file")).unwrap(), "d\n");
    assert_eq!(std::fs::read_to_string(layers.join("changed/file")).unwrap(), "other");
    assert!(!layers.join("gone").exists());
}

#[test]
fn the_store_is_kept_from_build_to_build() {
    let mut stage =
        stage(r#"cat $1/store.toml > seen || echo none > seen; printf '[metadata]\ncount = 1\n' > $1/store.toml"#);
    assert_eq!(seen(&mut stage), "none\n");
    assert_eq!(seen(&mut stage), "[metadata]\ncount = 1\n");
}

#[test]
fn the_procfile_replaces_what_buildpacks_say() {
    let mut stage = Stage::new();
    stage.detect = false;
    stage.write("Procfile", "worker: run worker\n");
    let launch = |process: &str, command: &str| {
        format!(
            "printf '[[processes]]\\ntype = \"{process}\"\\ncommand = [\"{command}\"]\\nargs = [\"x y\"]\\n[[labels]]\\n\
             key = \"paas.process.source.web\"\\nvalue = \"thing.json start\"\\n' > $1/launch.toml"
        )
    };
    stage.add_scripts("test/a", "", PASS, &launch("web", "early"));
    stage.add_scripts("test/b", "", PASS, &launch("web", "late"));
    stage.add_scripts("test/c", "", PASS, &launch("worker", "replaced"));
    let result = stage.push().unwrap();
    let processes: Vec<_> = result
        .processes
        .iter()
        .map(|process| {
            (
                process.process_type.as_str(),
                process.command.as_str(),
                process.source.as_str(),
                process.default,
            )
        })
        .collect();
    assert_eq!(
        processes,
        [
            ("web", "late 'x y'", "thing.json start", true),
            ("worker", "run worker", "Procfile", false)
        ]
    );
    stage.write("Procfile", "- not a map");
    let error = stage.push().unwrap_err();
    assert_eq!(error.exit_code(), 224);
}

#[test]
fn a_failing_build_says_how_it_ended() {
    let mut stage = stage("echo 'compiling'; echo ' !     it is broken'; echo ' !     Remedy: mend it'; exit 9");
    let error = stage.push().unwrap_err();
    let failure = error.explain();
    assert_eq!(error.exit_code(), 223);
    assert!(failure.title.contains("test/one") && failure.title.contains("exit code 9"));
    assert_eq!(
        (failure.cause.as_str(), failure.remedy.as_str()),
        ("it is broken", "mend it")
    );
}

#[test]
fn what_breaks_the_contract_is_named() {
    for (script, file) in [
        ("printf '[[processes]]\\ntype = 1' > $1/launch.toml", "launch.toml"),
        ("printf 'x' > $1/layer.toml", "layer.toml"),
        (
            "for t in a b; do printf \"[[processes]]\\ntype='$t'\\ncommand=['x']\\ndefault=true\\n\"; done > $1/launch.toml",
            "launch.toml",
        ),
    ] {
        let error = stage(script).push().unwrap_err();
        assert!(
            matches!(&error, Error::Contract { file: found, .. } if found == file),
            "{error:?}"
        );
    }
}

#[test]
fn the_result_file_has_the_failure_too() {
    let root = tempfile::tempdir().unwrap();
    let paths = lifecycle::Paths::below(root.path());
    let input = root.path().join("build.json");
    let run = || lifecycle::build::run(&paths, &input, lifecycle::cnb::environment::Environment::default());
    assert_eq!(run().unwrap_err().exit_code(), 231);
    let input_text = serde_json::json!({
        "app_name": "a", "stack": "host", "buildpacks": [], "detect": true, "env": {}, "memory_mb": 1, "restored": [], "store": {}
    });
    std::fs::write(&input, input_text.to_string()).unwrap();
    assert_eq!(run().unwrap_err().exit_code(), 222);
    let result: BuildResult = serde_json::from_slice(&std::fs::read(paths.out.join("result.json")).unwrap()).unwrap();
    assert_eq!(result.error.unwrap().title, "The app is empty");
}
