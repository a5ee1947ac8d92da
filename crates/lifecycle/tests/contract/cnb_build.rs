//! Cloud Native Buildpacks: builds, layers, what comes back, what is left behind.

use super::{PASS, app, chosen, seen};
use lifecycle::Error;
use lifecycle::testing::Stage;
use model::staging::BuildResult;

fn one(further: &str, script: &str) -> Stage {
    let mut stage = app();
    stage.add_scripts("test/one", further, PASS, script);
    stage
}

fn contract(stage: &mut Stage) -> (String, String) {
    match stage.push().unwrap_err() {
        Error::Contract { file, reason, .. } => (file, reason),
        other => panic!("{other:?}"),
    }
}

fn names(result: &BuildResult) -> Vec<&str> {
    result.layers.iter().map(|layer| layer.name.as_str()).collect()
}

#[test]
fn build_sees_positions_and_variables() {
    let mut stage = one(
        "",
        r#"[ $# = 3 ] && [ "$1" = "$CNB_LAYERS_DIR" ] && [ "$2" = "$CNB_PLATFORM_DIR" ] && [ "$3" = "$CNB_BP_PLAN_PATH" ]
        [ "$(basename "$0")" = build ] && [ "$PWD" = "$(dirname "$PWD")/app" ]
        [ -n "$CNB_BUILDPACK_DIR" ] && [ -n "$CNB_TARGET_OS$CNB_TARGET_ARCH" ] && [ "$CNB_EXEC_ENV" = production ]"#,
    );
    stage.push().unwrap();
}

#[test]
fn clear_env_keeps_the_user_s_variables_in_files_only() {
    for (toml, expected) in [("", "value value\n"), ("clear-env = true\n", "none value\n")] {
        let mut stage = one(toml, r#"echo "${NAME:-none} $(cat $2/env/NAME)" > seen"#);
        stage.env.set("NAME", "value");
        let result = stage.push().unwrap();
        assert_eq!(seen(&stage, &result, "seen"), expected, "{toml}");
    }
}

#[test]
fn the_user_s_search_paths_are_prepended_and_other_variables_replace() {
    let mut stage = one("", r#"echo "$PATH $HTTP_PROXY" > seen"#);
    stage.platform.push(("HTTP_PROXY".to_owned(), "platform".to_owned()));
    stage.env.set("PATH", "/mine");
    stage.env.set("HTTP_PROXY", "user");
    let result = stage.push().unwrap();
    assert_eq!(
        seen(&stage, &result, "seen"),
        "/mine:/usr/local/bin:/usr/bin:/bin user\n"
    );
}

#[test]
fn other_variables_of_the_platform_do_not_reach_buildpacks() {
    let mut stage = one("", "env > seen");
    stage.platform.push(("TOKEN".to_owned(), "secret".to_owned()));
    let result = stage.push().unwrap();
    assert!(!seen(&stage, &result, "seen").contains("secret"));
}

#[test]
fn only_build_layers_change_the_environment_of_later_ones() {
    let mut stage = chosen();
    let build = r#"for kind in build launch cache; do
            mkdir -p $1/a-$kind/bin $1/a-$kind/lib $1/a-$kind/include $1/a-$kind/pkgconfig $1/a-$kind/env
            printf x > $1/a-$kind/env/FROM_$kind; printf "[types]\n$kind = true\n" > $1/a-$kind.toml
        done"#;
    stage.add_scripts("test/a", "", None, build);
    stage.add_scripts("test/b", "", None, "env > seen");
    let result = stage.push().unwrap();
    let env = seen(&stage, &result, "seen");
    assert!(
        env.contains("FROM_build=x") && !env.contains("FROM_launch") && !env.contains("FROM_cache"),
        "{env}"
    );
    let layer = stage.paths().layers.join("test_a/a-build").display().to_string();
    for (name, folder) in [
        ("PATH", "bin"),
        ("LD_LIBRARY_PATH", "lib"),
        ("LIBRARY_PATH", "lib"),
        ("CPATH", "include"),
        ("PKG_CONFIG_PATH", "pkgconfig"),
    ] {
        assert!(
            env.lines()
                .any(|line| line.starts_with(&format!("{name}={layer}/{folder}"))),
            "{name}: {env}"
        );
    }
}

#[test]
fn each_suffix_of_an_environment_file_is_a_rule() {
    let mut stage = chosen();
    stage.platform.push(("BP_A".to_owned(), "old".to_owned()));
    let build = r#"mkdir -p $1/l/env $1/l/env.build; cd $1/l/env
        printf new > BP_A.append; printf : > BP_A.delim; printf first > BP_B.default; printf over > BP_C.override
        printf no > BP_D.unknown; printf ' lit\n' > BP_E; printf pre > BP_F.prepend; printf x > ../env.build/BP_F.prepend
        printf '[types]\nbuild = true\n' > $1/l.toml"#;
    stage.add_scripts("test/a", "", None, build);
    stage.add_scripts(
        "test/b",
        "",
        None,
        r#"echo "$BP_A|$BP_B|$BP_C|${BP_D:-}|$BP_E|$BP_F" > seen"#,
    );
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result, "seen"), "old:new|first|over|| lit\n|xpre\n");
}

#[test]
fn restored_are_contents_of_cached_layers_and_metadata_of_launched_ones() {
    // Every combination of build, cache and launch, as a layer named after it.
    let script = r#"ls $1 | tr '\n' ' ' > seen
        for b in true false; do for c in true false; do for l in true false; do
            name=$b-$c-$l; mkdir -p $1/$name; echo x > $1/$name/file
            printf "[types]\nbuild = $b\ncache = $c\nlaunch = $l\n[metadata]\nname = '$name'\n" > $1/$name.toml
        done; done; done"#;
    let mut stage = one("", script);
    let first = stage.push().unwrap();
    assert_eq!(seen(&stage, &first, "seen"), "");
    let second = stage.push().unwrap();
    let back = seen(&stage, &second, "seen");
    let back: Vec<&str> = back.split_whitespace().collect();
    assert_eq!(
        back,
        [
            "false-false-true.toml",
            "false-true-false",
            "false-true-false.toml",
            "false-true-true",
            "false-true-true.toml",
            "true-true-false",
            "true-true-false.toml",
            "true-true-true",
            "true-true-true.toml"
        ]
    );
}

#[test]
fn a_restored_layer_that_is_not_declared_again_is_dropped() {
    let script = r#"[ -d $1/l ] && exit 0; mkdir -p $1/l; echo x > $1/l/file
        printf '[types]\nlaunch = true\ncache = true\n' > $1/l.toml"#;
    let mut stage = one("", script);
    assert!(names(&stage.push().unwrap()).contains(&"test/one:l"));
    let second = stage.push().unwrap();
    assert!(!names(&second).contains(&"test/one:l") && second.cache.is_empty());
}

#[test]
fn store_toml_is_kept_even_where_the_buildpack_writes_nothing() {
    let script = "if [ -f $1/store.toml ]; then grep -c kept $1/store.toml > seen; else printf '[metadata]\\nkept = 1\\n' > $1/store.toml; fi";
    let mut stage = one("", script);
    stage.push().unwrap();
    for _ in 0..2 {
        let result = stage.push().unwrap();
        assert_eq!(seen(&stage, &result, "seen"), "1\n");
    }
}

#[test]
fn unmet_is_an_entry_of_the_plan() {
    let mut stage = one("", "printf '[[unmet]]\\nname = \"x\"\\n' > $1/build.toml");
    let (file, reason) = contract(&mut stage);
    assert_eq!(file, "build.toml");
    assert!(reason.contains("no entry of its plan"), "{reason}");
}

#[test]
fn labels_are_kept_and_the_later_wins() {
    let label = |value: &str| format!("printf '[[labels]]\\nkey = \"k\"\\nvalue = \"{value}\"\\n' > $1/launch.toml");
    let mut stage = chosen();
    stage.add_scripts("test/a", "", None, &label("first"));
    stage.add_scripts("test/b", "", None, &label("last"));
    assert_eq!(stage.push().unwrap().labels["k"], "last");
}

#[test]
fn slices_become_layers_of_their_own() {
    let script =
        "mkdir static; echo x > static/a.css; printf '[[slices]]\\npaths = [\"static/*.css\"]\\n' > $1/launch.toml";
    let mut stage = one("", script);
    let first = stage.push().unwrap();
    assert_eq!(names(&first)[..3], ["app", "config", "app:1"]);
    assert_eq!(seen(&stage, &first, "static/a.css"), "x\n");
    assert_eq!(seen(&stage, &first, "file"), "content");
    stage.write("file", "changed");
    let second = stage.push().unwrap();
    let digest = |result: &BuildResult, name: &str| {
        result
            .layers
            .iter()
            .find(|layer| layer.name == name)
            .unwrap()
            .digest
            .clone()
    };
    assert_eq!(digest(&first, "app:1"), digest(&second, "app:1"));
    assert_ne!(digest(&first, "app"), digest(&second, "app"));
}

const SBOM: &str = "sbom-formats = ['application/vnd.cyclonedx+json;version=1.4', 'application/spdx+json']\n";

#[test]
fn bills_of_materials_are_kept_listed_and_restored() {
    let script = r#"ls $1 | grep sbom > seen || true
        [ -f $1/l.sbom.cdx.json ] || echo '{"layer": 1}' > $1/l.sbom.cdx.json
        mkdir -p $1/l; echo x > $1/l/file; printf '[types]\nlaunch = true\ncache = true\n' > $1/l.toml
        echo '{"launch": 1}' > $1/launch.sbom.spdx.json; echo '{"build": 1}' > $1/build.sbom.cdx.json"#;
    let mut stage = one(SBOM, script);
    let first = stage.push().unwrap();
    let listed: Vec<_> = first
        .sboms
        .iter()
        .map(|sbom| (sbom.layer.as_deref(), sbom.scope.as_str(), sbom.media_type.as_str()))
        .collect();
    assert_eq!(
        listed,
        [
            (None, "build", "application/vnd.cyclonedx+json"),
            (Some("l"), "launch", "application/vnd.cyclonedx+json"),
            (None, "launch", "application/spdx+json"),
        ]
    );
    assert!(names(&first).contains(&"sbom:files"));
    stage.unpack_droplet(&first);
    for sbom in &first.sboms {
        assert!(
            std::fs::read_to_string(&sbom.path).unwrap().starts_with('{'),
            "{sbom:?}"
        );
    }
    let second = stage.push().unwrap();
    assert_eq!(
        seen(&stage, &second, "seen"),
        "l.sbom.cdx.json\n",
        "what belongs to the restored layer"
    );
    assert_eq!(second.sboms, first.sboms);
}

#[test]
fn bills_of_materials_in_undeclared_formats_are_refused() {
    for (toml, file) in [("", "launch.sbom.cdx.json"), (SBOM, "launch.sbom.syft.json")] {
        let mut stage = one(toml, &format!("echo '{{}}' > $1/{file}"));
        let (found, reason) = contract(&mut stage);
        assert_eq!(found, file);
        assert!(reason.contains("sbom-formats"), "{reason}");
    }
}

#[test]
fn two_defaults_of_one_buildpack_are_refused_and_of_two_the_later_counts() {
    let process = |process: &str| {
        format!(
            "printf '[[processes]]\\ntype = \"{process}\"\\ncommand = [\"x\"]\\ndefault = true\\n' >> $1/launch.toml"
        )
    };
    let mut stage = one("", &format!("{}\n{}", process("a"), process("b")));
    assert!(contract(&mut stage).1.contains("more than one process is the default"));
    let mut stage = chosen();
    stage.add_scripts("test/a", "", None, &process("a"));
    stage.add_scripts("test/b", "", None, &process("b"));
    let result = stage.push().unwrap();
    let default: Vec<_> = result.processes.iter().filter(|process| process.default).collect();
    assert_eq!((default.len(), default[0].process_type.as_str()), (1, "b"));
}

#[test]
fn the_file_names_build_launch_and_store_are_no_layers() {
    let script = "for name in build launch store; do mkdir -p $1/$name; done; printf '' > $1/build.toml; printf '' > $1/launch.toml";
    let result = one("", script).push().unwrap();
    assert_eq!(names(&result), ["app", "config"]);
}
