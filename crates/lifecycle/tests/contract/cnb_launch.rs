//! Cloud Native Buildpacks: processes, their arguments and their environment.

use super::{PASS, app, chosen, output, says};
use lifecycle::Error;
use lifecycle::testing::Stage;

fn one(further: &str, script: &str) -> Stage {
    let mut stage = app();
    stage.add_scripts("test/one", further, PASS, script);
    stage
}

fn process(text: &str) -> String {
    format!("cat > $1/launch.toml <<'END'\n[[processes]]\ntype = 'web'\n{text}\nEND")
}

#[test]
fn from_09_on_processes_are_executed_without_a_shell() {
    for api in ["0.9", "0.12"] {
        let command = process("command = ['printf', '%s|', '$HOME', 'a b']");
        let mut stage = one(&format!("api = '{api}'\n"), &command);
        stage.write(".profile", "exit 3");
        let result = stage.push().unwrap();
        assert_eq!(says(&stage, &result, "web"), "$HOME|a b|", "{api}");
    }
}

#[test]
fn before_09_a_command_is_a_text_of_the_shell_unless_it_is_direct() {
    for (text, expected) in [
        ("command = 'echo $A'", "profile\n"),
        ("command = 'echo'\nargs = ['$A  b', '\"c\"']", "profile  b \"c\"\n"),
        ("command = 'echo'\nargs = ['$A']\ndirect = true", "$A\n"),
    ] {
        let mut stage = one("api = '0.8'\n", &process(text));
        stage.write(".profile", "export A=profile");
        let result = stage.push().unwrap();
        assert_eq!(says(&stage, &result, "web"), expected, "{text}");
    }
}

#[test]
fn direct_is_no_key_from_09_on() {
    let mut stage = one("", &process("command = ['x']\ndirect = true"));
    assert!(matches!(stage.push().unwrap_err(), Error::Contract { file, .. } if file == "launch.toml"));
}

#[test]
fn a_user_s_arguments_replace_those_of_the_process_and_not_its_command() {
    let mut stage = one("", &process("command = ['echo', 'fixed']\nargs = ['given', 'away']"));
    let result = stage.push().unwrap();
    assert_eq!(says(&stage, &result, "web"), "fixed given away\n");
    stage.args = vec!["mine".to_owned()];
    assert_eq!(says(&stage, &result, "web"), "fixed mine\n");
    assert_eq!(result.processes[0].command, "echo fixed given away");
}

#[test]
fn a_later_buildpack_s_process_of_the_same_type_wins() {
    let mut stage = chosen();
    stage.add_scripts("test/a", "", None, &process("command = ['echo', 'a']"));
    stage.add_scripts("test/b", "", None, &process("command = ['echo', 'b']"));
    let result = stage.push().unwrap();
    assert_eq!(says(&stage, &result, "web"), "b\n");
}

#[test]
fn the_default_process_is_the_one_that_starts_unnamed() {
    let script = "cat > $1/launch.toml <<'END'\n[[processes]]\ntype = 'web'\ncommand = ['echo', 'web']\n\
        [[processes]]\ntype = 'other'\ncommand = ['echo', 'other']\ndefault = true\nEND";
    let mut stage = one("", script);
    let result = stage.push().unwrap();
    assert_eq!(says(&stage, &result, ""), "other\n");
}

#[test]
fn a_working_directory_is_relative_to_the_app_or_absolute() {
    let mut stage = one("", &process("command = ['pwd']\nworking-dir = 'sub'"));
    stage.write("sub/x", "");
    let result = stage.push().unwrap();
    assert!(says(&stage, &result, "web").ends_with("/app/sub\n"));
    let mut stage = one("", &process("command = ['pwd']\nworking-dir = '/usr'"));
    let result = stage.push().unwrap();
    assert_eq!(says(&stage, &result, "web"), "/usr\n");
}

#[test]
fn processes_for_tests_are_left_out_from_012_on() {
    let text = "command = ['x']\nexec-env = ['test']";
    let result = one("api = '0.12'\n", &process(text)).push().unwrap();
    assert!(result.processes.is_empty());
    let result = one("api = '0.11'\n", &process(text)).push().unwrap();
    assert_eq!(result.processes.len(), 1);
}

#[test]
fn at_launch_all_roots_of_a_buildpack_come_before_its_files_and_layers_prepend_in_turn() {
    let script = format!(
        "{}\n{}",
        process("command = ['sh', '-c', 'echo $PATH']"),
        r#"for name in a b; do mkdir -p $1/$name/bin $1/$name/env; printf '[types]\nlaunch = true\n' > $1/$name.toml; done
        printf file: > $1/a/env/PATH.prepend"#
    );
    let mut stage = one("", &script);
    let result = stage.push().unwrap();
    let layers = stage.paths().layers.join("test_one").display().to_string();
    let path = says(&stage, &result, "web");
    assert!(
        path.starts_with(&format!("file:{layers}/b/bin:{layers}/a/bin:")),
        "{path}"
    );
}

#[test]
fn include_and_pkgconfig_are_for_builds_only() {
    let script = format!(
        "{}\n{}",
        process("command = ['env']"),
        "mkdir -p $1/l/lib $1/l/include $1/l/pkgconfig; echo x > $1/l/lib/x; printf '[types]\\nlaunch = true\\n' > $1/l.toml"
    );
    let mut stage = one("", &script);
    let result = stage.push().unwrap();
    let env = says(&stage, &result, "web");
    assert!(
        env.contains("LD_LIBRARY_PATH=") && !env.contains("\nLIBRARY_PATH=") && !env.contains("CPATH="),
        "{env}"
    );
}

#[test]
fn exec_d_runs_by_buildpack_layer_and_name_in_the_app() {
    let layer = |value: &str| {
        format!(
            "for l in a b; do mkdir -p $1/$l/exec.d; for n in 1 2; do\n\
             printf '#!/bin/sh\\nprintf \"ORDER = \\\\\"%%s\\\\\"\\\\n\" \"$ORDER {value}%s%s\" >&3; [ -f file ]\\n' $l $n > $1/$l/exec.d/$n\n\
             chmod +x $1/$l/exec.d/$n; done; printf '[types]\\nlaunch = true\\n' > $1/$l.toml; done"
        )
    };
    let mut stage = chosen();
    stage.add_scripts("test/a", "", None, &layer("x"));
    stage.add_scripts(
        "test/b",
        "",
        None,
        &format!("{}\n{}", layer("y"), process("command = ['sh', '-c', 'echo $ORDER']")),
    );
    let result = stage.push().unwrap();
    assert_eq!(says(&stage, &result, "web"), "xa1 xa2 xb1 xb2 ya1 ya2 yb1 yb2\n");
}

#[test]
fn the_launcher_becomes_the_process() {
    let mut stage = one("", &process("command = ['sh', '-c', 'echo $PPID']"));
    let result = stage.push().unwrap();
    let command = stage.launch(&result, "web", &[]).unwrap();
    assert_eq!(output(command).trim(), std::process::id().to_string());
}
