//! The classic contract, rule by rule, by buildpacks made for one rule each.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use lifecycle::testing::Stage;
use model::staging::{BuildResult, FailureClass};

/// Scripts of a buildpack, by name.
type Scripts<'a> = &'a [(&'a str, &'a str)];

fn stage(buildpacks: &[(&str, Scripts<'_>)]) -> Stage {
    let mut stage = Stage::new();
    stage.detect = false;
    stage.write("file", "content");
    for (name, scripts) in buildpacks {
        stage.add_classic(name, scripts);
    }
    stage
}

fn processes(result: &BuildResult) -> Vec<(&str, &str, &str)> {
    let all = result.processes.iter();
    all.map(|process| {
        (
            process.process_type.as_str(),
            process.command.as_str(),
            process.source.as_str(),
        )
    })
    .collect()
}

fn run(stage: &Stage, result: &BuildResult, process: &str) -> String {
    let output = stage.launch(result, process, &[]).unwrap().output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const RELEASE: (&str, &str) = (
    "release",
    "printf -- '---\\ndefault_process_types:\\n  web: cat compiled\\n'",
);

#[test]
fn compile_changes_the_app_and_release_starts_it() {
    let compile = r#"[ "$1" = "$PWD" ] && [ -d "$2" ] && [ "$(cat "$3/NAME")" = value ] && [ "$NAME" = value ] && [ -n "$CF_STACK" ]
        mkdir -p .profile.d; echo 'export FROM=profile' > .profile.d/x.sh
        echo "$((1 + $(cat "$2/count" 2>/dev/null || echo 0)))" > "$2/count"; cp "$2/count" compiled"#;
    let mut stage = stage(&[("old", &[("detect", "exit 1"), ("compile", compile), RELEASE])]);
    stage.env.set("NAME", "value");
    let first = stage.push().unwrap();
    assert_eq!(processes(&first), [("web", "cat compiled", "old")]);
    assert_eq!(run(&stage, &first, "web"), "1\n");
    let second = stage.push().unwrap();
    assert_eq!(run(&stage, &second, "web"), "2\n", "the cache came back");
    let command = stage
        .launch_command("web", &["echo $FROM $DEPS_DIR"], &[])
        .unwrap()
        .output()
        .unwrap();
    let deps = stage.paths().deps.display().to_string();
    assert_eq!(String::from_utf8(command.stdout).unwrap(), format!("profile {deps}\n"));
}

#[test]
fn several_supply_and_the_last_finalizes() {
    let supply = r#"mkdir -p "$3/$4/bin"; echo "$4" > "$3/$4/file"
        printf 'processes:\n- type: worker\n  command: cat $DEPS_DIR/%s/file\n' "$4" > "$3/$4/launch.yml""#;
    let finalize = r#"echo "export ORDER=$4" > "$5/$4_order.sh"
        printf 'processes:\n- type: web\n  command: echo $ORDER $(cat $DEPS_DIR/0/file)\n' > "$3/$4/launch.yml""#;
    let mut stage = stage(&[
        ("first", &[("supply", supply)]),
        ("last", &[("finalize", finalize), ("release", "exit 1")]),
    ]);
    let result = stage.push().unwrap();
    assert_eq!(run(&stage, &result, "web"), "1 0\n");
    assert_eq!(run(&stage, &result, "worker"), "0\n");
    assert_eq!(processes(&result)[0].2, "last");
    stage.write("Procfile", "web: echo procfile\n");
    let result = stage.push().unwrap();
    assert_eq!(run(&stage, &result, "web"), "procfile\n");
}

#[test]
fn the_folder_of_ten_is_called_00() {
    let names: Vec<String> = (0..10).map(|at| format!("b{at}")).collect();
    let scripts: &[(&str, &str)] = &[("supply", "echo \"$4\" >> seen"), ("finalize", "true")];
    let buildpacks: Vec<_> = names.iter().map(|name| (name.as_str(), scripts)).collect();
    let mut stage = stage(&buildpacks);
    let result = stage.push().unwrap();
    stage.unpack_droplet(&result);
    let seen = std::fs::read_to_string(stage.paths().app.join("seen")).unwrap();
    assert_eq!(seen.lines().next(), Some("00"));
    assert_eq!(seen.lines().last(), Some("09"));
}

#[test]
fn each_script_fails_in_its_own_class() {
    let fail = "echo broken; exit 3";
    let cases: &[(Scripts<'_>, u8, FailureClass)] = &[
        (&[("compile", fail)], 223, FailureClass::BuildpackCompileFailed),
        (
            &[("supply", fail), ("finalize", "true")],
            225,
            FailureClass::BuildpackCompileFailed,
        ),
        (&[("finalize", fail)], 226, FailureClass::BuildpackCompileFailed),
        (
            &[("compile", "true"), ("release", fail)],
            224,
            FailureClass::BuildpackReleaseFailed,
        ),
        (
            &[("compile", "true"), ("release", "echo '['")],
            224,
            FailureClass::BuildpackReleaseFailed,
        ),
    ];
    for (scripts, code, class) in cases {
        let error = stage(&[("old", scripts)]).push().unwrap_err();
        assert_eq!(
            (error.exit_code(), error.explain().class),
            (*code, *class),
            "{scripts:?}"
        );
    }
}

#[test]
fn chains_that_cannot_work_say_why() {
    let compile: &[(&str, &str)] = &[("compile", "true")];
    let finalize: &[(&str, &str)] = &[("finalize", "true")];
    let supply: &[(&str, &str)] = &[("supply", "true")];
    for (buildpacks, part) in [
        (&[("a", compile), ("b", finalize)][..], "only be the last"),
        (&[("a", supply)], "only supplies to others"),
    ] {
        let failure = stage(buildpacks).push().unwrap_err().explain();
        assert!(failure.cause.contains(part), "{failure:?}");
    }
    let mut mixed = stage(&[("a", supply)]);
    mixed.add_scripts("test/native", "", None, "");
    let failure = mixed.push().unwrap_err().explain();
    assert!(failure.cause.contains("cannot be mixed"), "{failure:?}");
}

#[test]
fn candidates_of_both_contracts_are_tried_in_order() {
    for (first, second, expected) in [("exit 0", "exit 0", "old"), ("exit 1", "exit 0", "test/native")] {
        let mut stage = stage(&[("old", &[("detect", first), ("compile", "true")])]);
        stage.detect = true;
        stage.add_scripts("test/native", "", Some(second), "");
        stage.add_classic("late", &[("detect", "exit 0"), ("compile", "exit 9")]);
        assert_eq!(stage.push().unwrap().buildpacks[0].name, expected);
    }
    let mut stage = stage(&[("old", &[("detect", "echo 'no thing'; exit 1"), ("compile", "true")])]);
    stage.detect = true;
    let failure = stage.push().unwrap_err().explain();
    assert!(failure.cause.contains("old: no thing"), "{failure:?}");
}
