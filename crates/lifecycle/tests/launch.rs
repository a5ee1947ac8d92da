//! The contract of launches, rule by rule.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use lifecycle::Error;
use lifecycle::testing::Stage;
use std::process::Command;

/// A droplet of one buildpack whose build is `script`, and of the files given.
fn droplet(script: &str, files: &[(&str, &str)]) -> Stage {
    let mut stage = Stage::new();
    stage.write("file", "");
    for (name, content) in files {
        stage.write(name, content);
    }
    stage.add_scripts("test/one", "", None, script);
    let result = stage.push().unwrap();
    stage.unpack_droplet(&result);
    stage
}

fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn run(stage: &Stage, process: &str, command: &[&str]) -> String {
    output(stage.launch_command(process, command, &[]).unwrap())
}

const WEB: &str =
    r#"printf '[[processes]]\ntype="web"\ncommand=["sh", "-c", "echo $0 $A $(pwd)", "web"]\n' > $1/launch.toml"#;

#[test]
fn a_process_starts_in_the_app_with_its_layers_environment() {
    let stage = droplet(
        &format!(
            "{WEB}
            mkdir -p $1/l/env.launch/web $1/l/env.build; printf 1 > $1/l/env.launch/A.append
            printf 2 > $1/l/env.launch/web/A.append; printf 3 > $1/l/env.build/A
            printf '[types]\\nlaunch = true\\n' > $1/l.toml"
        ),
        &[],
    );
    let app = stage.paths().app.display().to_string();
    assert_eq!(run(&stage, "web", &[]), format!("web 12 {app}\n"));
    let command = stage.launch_command("web", &[], &[("A", "0")]).unwrap();
    assert_eq!(output(command), format!("web 012 {app}\n"));
    // Another type has no files of its own.
    assert_eq!(run(&stage, "task", &["echo $A"]), "1\n");
}

#[test]
fn a_command_of_the_user_replaces_the_droplet_s() {
    let stage = droplet(WEB, &[]);
    assert_eq!(run(&stage, "web", &["echo one && echo two"]), "one\ntwo\n");
    assert_eq!(run(&stage, "web", &["printf", "%s|", "a b", "$A"]), "a b|$A|");
    assert!(run(&stage, "web", &[""]).starts_with("web"));
}

#[test]
fn nothing_to_start_is_said_in_the_words_of_cloud_foundry() {
    let stage = droplet(WEB, &[]);
    let error = stage.launch_command("clock", &[], &[]).unwrap_err();
    assert_eq!(error.to_string(), "no start command specified or detected in droplet");
    assert!(matches!(&error, Error::NoStartCommand { known, .. } if known == &["web"]));
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn programs_are_found_on_the_layers_path() {
    let stage = droplet(
        r#"mkdir -p $1/l/bin; printf '#!/bin/sh\necho mine\n' > $1/l/bin/true; chmod +x $1/l/bin/true
        printf '[types]\nlaunch = true\n' > $1/l.toml
        printf '[[processes]]\ntype="web"\ncommand=["true"]\n' > $1/launch.toml"#,
        &[],
    );
    assert_eq!(run(&stage, "web", &[]), "mine\n");
}

#[test]
fn exec_d_sets_variables_in_order_by_descriptor_3() {
    let script = |body: &str| {
        format!(
            "{WEB}
            mkdir -p $1/l/exec.d/web
            printf '#!/bin/sh\\necho noise\\necho A = \\\\\"$A-1\\\\\" >&3\\n' > $1/l/exec.d/one
            printf '#!/bin/sh\\n{body}\\n' > $1/l/exec.d/web/two
            chmod +x $1/l/exec.d/one $1/l/exec.d/web/two
            printf not-executable > $1/l/exec.d/zero
            printf '[types]\\nlaunch = true\\n' > $1/l.toml"
        )
    };
    let stage = droplet(&script("echo A = \\\\\"$A-2\\\\\" >&3"), &[]);
    assert!(run(&stage, "web", &[]).starts_with("web -1-2 "));
    assert_eq!(run(&stage, "task", &["echo $A"]), "-1\n");
    for bad in ["exit 3", "echo A = 1 >&3", "echo nonsense >&3"] {
        let error = droplet(&script(bad), &[]).launch_command("web", &[], &[]).unwrap_err();
        assert!(matches!(error, Error::ExecD { .. }), "{bad}: {error:?}");
    }
}

#[test]
fn profile_scripts_are_for_shell_processes() {
    let files = [
        (".profile.d/a.sh", "export A=${A}2"),
        (".profile", "export A=${A}3"),
        ("Procfile", "worker: echo \"$A\" $#\n"),
    ];
    let build = format!(
        "{WEB}
        mkdir -p $1/l/profile.d/worker; echo 'A=0' > $1/l/profile.d/a; echo 'A=${{A}}1' > $1/l/profile.d/worker/b
        printf '[types]\\nlaunch = true\\n' > $1/l.toml"
    );
    let stage = droplet(&build, &files);
    assert_eq!(run(&stage, "worker", &[]), "0123 0\n");
    assert!(
        run(&stage, "web", &[]).starts_with("web /"),
        "a direct process reads none"
    );
}

#[test]
fn the_working_directory_is_the_process_s_own() {
    let stage = droplet(
        r#"printf '[[processes]]\ntype="web"\ncommand=["pwd"]\nworking-dir="/usr"\n' > $1/launch.toml"#,
        &[],
    );
    assert_eq!(run(&stage, "web", &[]), "/usr\n");
}
