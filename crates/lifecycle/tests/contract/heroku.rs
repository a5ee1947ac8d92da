//! Heroku's contract where it differs: a third argument, `export`, `.profile.d`, `config_vars`, several that compile.

use super::{chosen, output, says, seen};

#[test]
fn compile_gets_the_folder_of_variables() {
    let mut stage = chosen();
    stage.env.set("NAME", "value");
    stage.add_classic(
        "a",
        &[(
            "compile",
            r#"[ $# = 3 ] && cat "$3/NAME" > seen && echo "$STACK" >> seen"#,
        )],
    );
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result, "seen"), "valuehost\n");
}

#[test]
fn several_compile_in_turn_and_read_what_the_ones_before_export() {
    let mut stage = chosen();
    let export = |line: &str| {
        format!(
            "echo \"$TOOL\" >> seen\necho 'export {line}' > \"$(dirname \"$0\")/../export\"\necho 'X=1' > .profile.d-$$"
        )
    };
    let (first, second) = (export("TOOL=one"), export("TOOL=$TOOL,two"));
    stage.add_classic("a", &[("compile", &format!("TOOL=none\n{first}"))]);
    stage.add_classic("b", &[("compile", &second)]);
    let release = "echo \"default_process_types: {web: 'echo from $TOOL'}\"";
    stage.add_classic("c", &[("compile", "echo \"$TOOL\" >> seen"), ("release", release)]);
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result, "seen"), "none\none\none,two\n");
    assert_eq!(
        says(&stage, &result, "web"),
        "from one,two\n",
        "the last one's release counts"
    );
    assert_eq!(result.buildpacks.len(), 3);
}

#[test]
fn a_buildpack_may_write_to_its_own_folder() {
    let mut stage = chosen();
    let compile = r#"here=$(dirname "$0")/..; echo x > "$here/made"; cat "$here/made" > seen; echo "$here" >> seen"#;
    stage.add_classic("a", &[("compile", compile)]);
    let result = stage.push().unwrap();
    assert!(seen(&stage, &result, "seen").starts_with("x\n"));
}

#[test]
fn config_vars_are_defaults_of_processes() {
    let mut stage = chosen();
    let release = r#"printf 'addons: [db]\nconfig_vars: {LEVEL: low, PORTS: 3}\ndefault_process_types: {web: "echo $LEVEL $PORTS"}\n'"#;
    stage.add_classic("a", &[("compile", "true"), ("release", release)]);
    let result = stage.push().unwrap();
    assert_eq!(says(&stage, &result, "web"), "low 3\n");
    let command = stage.launch_command("web", &[], &[("LEVEL", "high")]).unwrap();
    assert_eq!(output(command), "high 3\n");
}

#[test]
fn profile_d_of_the_app_is_read_at_start() {
    let mut stage = chosen();
    let compile = "mkdir -p .profile.d; echo 'export A=set' > .profile.d/a.sh";
    stage.add_classic(
        "a",
        &[
            ("compile", compile),
            ("release", "echo 'default_process_types: {web: \"echo $A\"}'"),
        ],
    );
    let result = stage.push().unwrap();
    assert_eq!(says(&stage, &result, "web"), "set\n");
}

#[test]
fn a_procfile_that_a_buildpack_writes_counts() {
    let mut stage = chosen();
    stage.write("Procfile", "web: echo pushed\nworker: echo kept out\n");
    stage.add_classic("a", &[("compile", "echo 'web: echo written' > Procfile")]);
    let result = stage.push().unwrap();
    assert_eq!(says(&stage, &result, "web"), "written\n");
    assert_eq!(result.processes.len(), 1, "{:?}", result.processes);
}
