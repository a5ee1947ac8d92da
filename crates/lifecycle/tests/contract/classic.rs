//! Cloud Foundry's contract: detect, supply, finalize, compile, release, and the files beside them.

use super::{app, chosen, output, says, seen};
use lifecycle::Error;
use lifecycle::testing::Stage;
use model::staging::{FailureClass, SidecarTemplate};

type Scripts<'a> = &'a [(&'a str, &'a str)];

fn stage(buildpacks: &[(&str, Scripts<'_>)]) -> Stage {
    let mut stage = chosen();
    for (name, scripts) in buildpacks {
        stage.add_classic(name, scripts);
    }
    stage
}

#[test]
fn detect_gets_the_build_folder_and_says_what_it_found() {
    let mut stage = app();
    stage.add_classic(
        "a",
        &[
            ("detect", r#"[ $# = 1 ] && [ -f "$1/file" ]; printf 'Thing 3\r\n'"#),
            ("compile", "true"),
        ],
    );
    assert_eq!(stage.push().unwrap().buildpacks[0].detected, "Thing 3");
}

#[test]
fn any_exit_code_but_0_of_detect_is_no_match() {
    let mut stage = app();
    for (name, code) in [("a", "1"), ("b", "100"), ("c", "222")] {
        stage.add_classic(name, &[("detect", &format!("exit {code}")), ("compile", "true")]);
    }
    let error = stage.push().unwrap_err();
    assert!(matches!(error, Error::NotDetected { .. }), "{error:?}");
    assert_eq!(
        (error.exit_code(), error.explain().class),
        (222, FailureClass::NoAppDetectedError)
    );
}

#[test]
fn detection_is_serial_and_the_first_match_wins() {
    let mut stage = app();
    stage.add_classic("a", &[("detect", "echo a >> asked; exit 1"), ("compile", "true")]);
    stage.add_classic("b", &[("detect", "echo b >> asked"), ("compile", "true")]);
    stage.add_classic("c", &[("detect", "echo c >> asked"), ("compile", "exit 1")]);
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result, "asked"), "a\nb\n");
}

#[test]
fn chosen_buildpacks_are_not_asked() {
    let mut stage = stage(&[("a", &[("detect", "echo asked > asked; exit 1"), ("compile", "true")])]);
    stage.push().unwrap();
    assert!(!stage.paths().app.join("asked").exists());
}

#[test]
fn supply_and_finalize_get_their_arguments() {
    let supply = r#"[ $# = 4 ] && [ "$1" = "$PWD" ] && [ -d "$2" ] && [ -d "$3/$4" ]; echo "supply $4" >> seen"#;
    let finalize = r#"[ $# = 5 ] && [ -d "$3/$4" ] && [ -d "$5" ]; echo "finalize $4" >> seen"#;
    let scripts: Scripts<'_> = &[("supply", supply), ("finalize", finalize)];
    let mut stage = stage(&[("a", scripts), ("b", scripts)]);
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result, "seen"), "supply 0\nsupply 1\nfinalize 1\n");
}

#[test]
fn compile_runs_only_where_there_is_no_finalize() {
    let mut stage = stage(&[("a", &[("compile", "exit 1"), ("finalize", "true")])]);
    stage.push().unwrap();
}

#[test]
fn before_compile_the_own_folder_of_dependencies_is_removed_and_supply_is_not_run() {
    let compile = r#"[ ! -e "$DEPS/0" ]; ls "$DEPS" > seen"#;
    let mut stage = stage(&[("a", &[("supply", "exit 1"), ("compile", compile)])]);
    stage.env.set("DEPS", stage.paths().deps.display().to_string());
    stage.push().unwrap();
}

#[test]
fn a_buildpack_without_supply_can_only_be_the_last() {
    let supplies: Scripts<'_> = &[("supply", "true"), ("finalize", "true")];
    for first in [&[("finalize", "true")][..], &[("compile", "true")]] {
        let error = stage(&[("a", first), ("b", supplies)]).push().unwrap_err();
        assert_eq!(error.exit_code(), 225, "{error:?}");
        let failure = error.explain();
        assert!(
            failure.cause.contains("does not support multi-buildpack apps"),
            "{failure:?}"
        );
        assert_eq!(failure.class, FailureClass::BuildpackCompileFailed);
    }
}

#[test]
fn a_buildpack_that_only_supplies_cannot_be_the_last() {
    let error = stage(&[("a", &[("supply", "true")])]).push().unwrap_err();
    assert_eq!(error.exit_code(), 226);
    assert!(error.explain().cause.contains("only supplies to others"));
}

#[test]
fn nothing_runs_of_a_chain_that_cannot_work() {
    let mut stage = stage(&[("a", &[("supply", "echo ran > ran")]), ("b", &[("supply", "true")])]);
    stage.push().unwrap_err();
    assert!(!stage.paths().app.join("ran").exists());
}

#[test]
fn release_runs_only_where_the_last_wrote_no_launch_yml() {
    let release = "printf -- '---\\ndefault_process_types:\\n  web: echo release\\n'";
    for (launch, expected) in [
        ("", "release\n"),
        ("processes: [{type: web, command: echo launch}]", "launch\n"),
    ] {
        let finalize = format!("[ -z '{launch}' ] || echo '{launch}' > $3/$4/launch.yml");
        let mut stage = stage(&[("a", &[("finalize", &finalize), ("release", release)])]);
        let result = stage.push().unwrap();
        assert_eq!(says(&stage, &result, "web"), expected);
    }
}

#[test]
fn an_invalid_release_is_said_in_the_words_of_cloud_foundry() {
    for bad in ["[", "default_process_types: [a]"] {
        let mut stage = stage(&[("a", &[("finalize", "true"), ("release", &format!("echo '{bad}'"))])]);
        let error = stage.push().unwrap_err();
        assert_eq!(
            (error.exit_code(), error.explain().class),
            (224, FailureClass::BuildpackReleaseFailed)
        );
        assert!(
            error.explain().title.contains("buildpack's release output invalid"),
            "{error:?}"
        );
    }
}

#[test]
fn processes_of_the_later_replace_those_of_the_earlier_and_the_procfile_both() {
    let launch = |script: &'static str, text: &str| -> Vec<(&'static str, String)> {
        let text = text.to_owned();
        vec![(
            script,
            format!("cat > $3/$4/launch.yml <<'END'\nprocesses:\n{text}\nEND"),
        )]
    };
    let first = launch(
        "supply",
        "- {type: web, command: echo first}\n- {type: worker, command: echo first}\n- {type: cron, command: echo first}",
    );
    let last = launch(
        "finalize",
        "- {type: web, command: echo last}\n- {type: worker, command: echo last}",
    );
    let mut stage = chosen();
    for (name, scripts) in [("a", &first), ("b", &last)] {
        let scripts: Vec<_> = scripts.iter().map(|(script, text)| (*script, text.as_str())).collect();
        stage.add_classic(name, &scripts);
    }
    stage.write("Procfile", "web: echo procfile\n");
    let result = stage.push().unwrap();
    let all: Vec<_> = ["cron", "worker", "web"]
        .map(|process| says(&stage, &result, process))
        .to_vec();
    assert_eq!(all, ["first\n", "last\n", "procfile\n"]);
}

#[test]
fn launch_yml_has_sidecars_and_limits() {
    let finalize = "cat > $3/$4/launch.yml <<'END'
processes:
- type: web
  command: run
  limits: {memory: 256}
- type: agent
  command: watch it
  limits: {memory: 64M}
  platforms: {cloudfoundry: {sidecar_for: [web, worker]}}
END";
    let result = stage(&[("a", &[("finalize", finalize)])]).push().unwrap();
    assert_eq!(result.processes.len(), 1);
    assert_eq!(result.processes[0].memory_mb, Some(256));
    let agent = SidecarTemplate {
        name: "agent".to_owned(),
        command: "watch it".to_owned(),
        process_types: vec!["web".to_owned(), "worker".to_owned()],
        memory_mb: Some(64),
    };
    assert_eq!(result.sidecars, [agent]);
}

#[test]
fn launch_yml_is_found_with_an_index_that_is_not_padded() {
    let finalize = "mkdir -p $3/9; echo 'processes: [{type: web, command: echo nine}]' > $3/9/launch.yml";
    let names: Vec<String> = (0..10).map(|at| format!("b{at}")).collect();
    let scripts: Scripts<'_> = &[("supply", "true"), ("finalize", finalize)];
    let buildpacks: Vec<_> = names.iter().map(|name| (name.as_str(), scripts)).collect();
    let mut stage = stage(&buildpacks);
    let result = stage.push().unwrap();
    assert_eq!(says(&stage, &result, "web"), "nine\n");
}

#[test]
fn a_broken_launch_yml_or_config_yml_is_named() {
    for file in ["launch.yml", "config.yml"] {
        let finalize = format!("echo '- [' > $3/$4/{file}");
        let error = stage(&[("a", &[("finalize", &finalize)])]).push().unwrap_err();
        assert!(
            matches!(&error, Error::Contract { file: found, .. } if found == file),
            "{error:?}"
        );
    }
}

#[test]
fn config_yml_says_name_and_version() {
    let config = |script: &'static str, name: &str| {
        (
            script,
            format!("printf 'name: {name}\\nversion: 1.10\\n' > $3/$4/config.yml"),
        )
    };
    let (supply, finalize) = (config("supply", "first"), config("finalize", "last"));
    let mut stage = stage(&[("a", &[(supply.0, &supply.1)]), ("b", &[(finalize.0, &finalize.1)])]);
    let used = stage.push().unwrap().buildpacks;
    let said: Vec<_> = used.iter().map(|used| (used.id.as_str(), used.name.as_str())).collect();
    assert_eq!(said, [("a", "first"), ("b", "last")]);
}

#[test]
fn the_entrypoint_prefix_runs_the_command() {
    let finalize = r#"printf '#!/bin/sh\necho "wrapped: $1 $FROM"\n' > $3/$4/wrap; chmod +x $3/$4/wrap
        echo 'export FROM=profile' > $5/x.sh
        printf 'config: {entrypoint_prefix: "%s"}\n' "$3/$4/wrap" > $3/$4/config.yml
        echo 'processes: [{type: web, command: serve me}]' > $3/$4/launch.yml"#;
    let mut stage = stage(&[("a", &[("finalize", finalize)])]);
    let result = stage.push().unwrap();
    assert_eq!(says(&stage, &result, "web"), "wrapped: serve me profile\n");
}

#[test]
fn later_buildpacks_see_what_earlier_ones_supply() {
    // As the libraries of such buildpacks do it: they look into the folders of those before them.
    let supply = r#"mkdir -p $3/$4/bin $3/$4/env; printf '#!/bin/sh\necho supplied\n' > $3/$4/bin/tool; chmod +x $3/$4/bin/tool
        printf literal > $3/$4/env/NAME; printf 'b:\n  version: 2\n' > $3/$4/override.yml"#;
    let finalize = r#"PATH="$3/0/bin:$PATH" tool > seen; cat $3/0/env/NAME $3/0/override.yml >> seen"#;
    let mut stage = stage(&[("a", &[("supply", supply)]), ("b", &[("finalize", finalize)])]);
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result, "seen"), "supplied\nliteralb:\n  version: 2\n");
}

#[test]
fn the_droplet_has_dependencies_and_profile_scripts_at_their_places() {
    let supply = "mkdir -p $3/$4/bin; printf '#!/bin/sh\\necho tool\\n' > $3/$4/bin/tool; chmod +x $3/$4/bin/tool";
    let finalize = r#"echo 'export PATH=$DEPS_DIR/0/bin:$PATH' > $5/000_multi-supply.sh
        echo 'export LATER=$(tool)' > $5/1_b.sh
        echo 'processes: [{type: web, command: "echo $LATER"}]' > $3/$4/launch.yml"#;
    let mut stage = stage(&[("a", &[("supply", supply)]), ("b", &[("finalize", finalize)])]);
    let result = stage.push().unwrap();
    assert_eq!(says(&stage, &result, "web"), "tool\n");
    let names: Vec<_> = result.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert!(names.contains(&"a:0") && names.contains(&"b:1"), "{names:?}");
}

#[test]
fn profile_scripts_run_before_the_app_s_own() {
    let finalize =
        "echo 'export A=1' > $5/x.sh; echo 'processes: [{type: web, command: \"echo $A\"}]' > $3/$4/launch.yml";
    let mut stage = stage(&[("a", &[("finalize", finalize)])]);
    stage.write(".profile.d/x.sh", "A=${A}2");
    stage.write(".profile", "A=${A}3");
    let result = stage.push().unwrap();
    assert_eq!(says(&stage, &result, "web"), "123\n");
}

#[test]
fn each_buildpack_has_a_cache_that_comes_back() {
    let count = r#"[ -f "$2/who" ] && cat "$2/who" >> seen || true; echo "$4" > "$2/who""#;
    let mut stage = stage(&[
        ("a", &[("supply", count)]),
        ("b", &[("supply", count), ("finalize", "touch seen")]),
    ]);
    let first = stage.push().unwrap();
    assert_eq!(seen(&stage, &first, "seen"), "");
    let second = stage.push().unwrap();
    assert_eq!(seen(&stage, &second, "seen"), "0\n1\n");
    assert!(
        second.layers.iter().all(|layer| !layer.name.contains("cache")),
        "no part of the droplet"
    );
}

#[test]
fn without_a_web_process_the_launch_says_so() {
    let mut stage = stage(&[("a", &[("finalize", "true")])]);
    let result = stage.push().unwrap();
    let error = stage.launch(&result, "web", &[]).unwrap_err();
    assert_eq!(error.to_string(), "no start command specified or detected in droplet");
    let command = stage.launch_command("web", &["echo given"], &[]).unwrap();
    assert_eq!(output(command), "given\n");
}

#[test]
fn the_platform_s_own_variable_does_not_reach_the_app() {
    let mut stage = stage(&[("a", &[("finalize", "true")])]);
    let result = stage.push().unwrap();
    stage.unpack_droplet(&result);
    let env = [("VCAP_PLATFORM_OPTIONS", "secret"), ("VCAP_SERVICES", "{}")];
    let command = stage.launch_command("web", &["env"], &env).unwrap();
    let shown = output(command);
    assert!(
        !shown.contains("VCAP_PLATFORM_OPTIONS") && shown.contains("DEPS_DIR="),
        "{shown}"
    );
}

#[test]
fn a_classic_buildpack_after_a_native_one_is_refused() {
    let mut stage = chosen();
    stage.add_scripts("test/native", "", None, "");
    stage.add_classic("a", &[("finalize", "true")]);
    let failure = stage.push().unwrap_err().explain();
    assert!(failure.cause.contains("cannot be mixed"), "{failure:?}");
}
