//! Cloud Native Buildpacks: what is declared, detection, orders and plans.

use super::{PASS, app, chosen, seen};
use lifecycle::Error;
use lifecycle::testing::Stage;
use model::staging::{BuildResult, FailureClass};

fn ids(result: &BuildResult) -> Vec<&str> {
    result.buildpacks.iter().map(|used| used.id.as_str()).collect()
}

fn plan(text: &str) -> String {
    format!("cat > $2 <<'END'\n{text}\nEND")
}

/// A composite that names groups of the others.
fn composite(stage: &mut Stage, id: &str, orders: &[&[(&str, bool)]]) {
    let mut toml = String::new();
    for group in orders {
        toml.push_str("[[order]]\n");
        for (id, optional) in *group {
            toml.push_str(&format!(
                "[[order.group]]\nid = '{id}'\nversion = '1.2.3'\noptional = {optional}\n"
            ));
        }
    }
    stage.add_descriptor(id, &toml);
}

#[test]
fn api_versions_07_to_012_are_accepted() {
    for api in 7..=12 {
        let mut stage = chosen();
        stage.add_scripts("test/one", &format!("api = '0.{api}'\n"), PASS, "echo ran > seen");
        let result = stage.push().unwrap();
        assert_eq!(seen(&stage, &result, "seen"), "ran\n", "0.{api}");
    }
}

#[test]
fn other_api_versions_are_refused_by_name() {
    for api in ["0.6", "0.13", "1.0", "x", ""] {
        let mut stage = chosen();
        stage.add_scripts("test/one", &format!("api = '{api}'\n"), PASS, "");
        let failure = stage.push().unwrap_err().explain();
        assert_eq!(failure.class, FailureClass::StagingError);
        assert!(failure.cause.contains(&format!("Buildpack API {api},")), "{failure:?}");
        assert!(failure.cause.contains("0.7 to 0.12 are supported"), "{failure:?}");
    }
}

#[test]
fn a_candidate_that_cannot_be_used_keeps_no_other_from_building() {
    let mut stage = app();
    stage.add_scripts("test/new", "api = '0.99'\n", PASS, "");
    stage.add_scripts("test/windows", "[[targets]]\nos = 'windows'\n", PASS, "");
    stage.add_scripts("test/one", "", PASS, "");
    assert_eq!(ids(&stage.push().unwrap()), ["test/one"]);
    let mut stage = app();
    stage.add_scripts("test/new", "api = '0.99'\n", PASS, "");
    let cause = stage.push().unwrap_err().explain().cause;
    assert!(cause.contains("test/new: it declares Buildpack API 0.99"), "{cause}");
}

#[test]
fn ids_that_are_reserved_are_refused() {
    for id in ["app", "config", "generated", "sbom", "a b"] {
        let mut stage = chosen();
        stage.add_scripts(id, "", PASS, "");
        let failure = stage.push().unwrap_err().explain();
        assert!(failure.cause.contains("not allowed"), "{id}: {failure:?}");
    }
}

#[test]
fn targets_name_system_architecture_and_distribution() {
    for (targets, fits) in [
        ("", true),
        ("[[targets]]\nos = 'linux'\n", true),
        ("[[targets]]\nos = 'windows'\n", false),
        ("[[targets]]\narch = 'mips'\n", false),
        (
            "[[targets]]\n[[targets.distros]]\nname = 'plan9'\nversion = '4'\n",
            false,
        ),
    ] {
        let mut stage = chosen();
        stage.add_scripts("test/one", targets, PASS, "");
        assert_eq!(stage.push().is_ok(), fits, "{targets}");
    }
}

#[test]
fn stacks_of_older_buildpacks_are_not_asked_for() {
    let mut stage = chosen();
    stage.add_scripts(
        "test/one",
        "api = '0.9'\n[[stacks]]\nid = 'some.other.stack'\n",
        PASS,
        "",
    );
    stage.push().unwrap();
}

#[test]
fn a_buildpack_for_tests_only_does_not_build_for_production() {
    let mut stage = chosen();
    stage.add_scripts("test/one", "api = '0.12'\nexec-env = ['test']\n", PASS, "");
    assert!(stage.push().unwrap_err().explain().cause.contains("for test only"));
}

#[test]
fn detect_passes_with_0_declines_with_100_and_breaks_with_anything_else() {
    let mut stage = app();
    stage.add_scripts("test/declines", "", Some("exit 100"), "");
    stage.add_scripts("test/breaks", "", Some("exit 3"), "");
    let error = stage.push().unwrap_err();
    assert!(
        matches!(&error, Error::DetectFailed { buildpack, .. } if buildpack == "test/breaks"),
        "{error:?}"
    );
    stage.add_scripts("test/passes", "", PASS, "");
    assert_eq!(
        ids(&stage.push().unwrap()),
        ["test/passes"],
        "one that breaks does not end the others"
    );
}

#[test]
fn without_bin_detect_a_buildpack_passes_from_010_on() {
    let mut stage = chosen();
    stage.add_scripts("test/one", "", None, "");
    stage.push().unwrap();
    let mut stage = chosen();
    stage.add_scripts("test/one", "api = '0.9'\n", None, "");
    assert!(matches!(stage.push().unwrap_err(), Error::DetectFailed { .. }));
}

#[test]
fn detect_sees_positions_and_variables() {
    let mut stage = app();
    let detect = r#"[ $# = 2 ] && [ "$1" = "$CNB_PLATFORM_DIR" ] && [ "$2" = "$CNB_BUILD_PLAN_PATH" ]
        [ -f "$CNB_BUILDPACK_DIR/buildpack.toml" ] && [ "$(basename "$0")" = detect ]
        [ "$CNB_TARGET_OS" = linux ] && [ -n "$CNB_TARGET_ARCH" ] && [ -n "$CNB_TARGET_DISTRO_NAME" ]
        [ -n "$CNB_TARGET_DISTRO_VERSION" ] && [ "$CNB_EXEC_ENV" = production ] && [ -f file ]"#;
    stage.add_scripts("test/one", "", Some(detect), "");
    stage.push().unwrap();
}

#[test]
fn each_detect_runs_once_however_many_groups_name_it() {
    let mut stage = app();
    stage.write("count", "");
    let count = format!("echo x >> {}", stage.source().join("count").display());
    stage.add_scripts("test/a", "", Some(&count), "");
    stage.add_scripts("test/b", "", Some("exit 100"), "");
    composite(
        &mut stage,
        "test/all",
        &[
            &[("test/a", false), ("test/b", false)],
            &[("test/b", false), ("test/a", false)],
            &[("test/a", false)],
        ],
    );
    stage.push().unwrap();
    assert_eq!(std::fs::read_to_string(stage.source().join("count")).unwrap(), "x\n");
}

#[test]
fn a_composite_s_first_group_that_passes_builds() {
    let mut stage = app();
    stage.add_scripts("test/no", "", Some("exit 100"), "");
    composite(
        &mut stage,
        "test/all",
        &[
            &[("test/no", false), ("test/a", false)],
            &[("test/no", true), ("test/a", false), ("test/b", false)],
        ],
    );
    stage.add_scripts("test/a", "", Some("[ -n \"$WANTED\" ] || exit 100"), "");
    stage.add_scripts("test/b", "", PASS, "");
    stage.env.set("WANTED", "1");
    assert_eq!(ids(&stage.push().unwrap()), ["test/a", "test/b"]);
}

#[test]
fn composites_nest_depth_first_and_optional_ones_may_be_left_out() {
    let mut stage = app();
    composite(&mut stage, "test/outer", &[&[("test/inner", true), ("test/c", false)]]);
    composite(
        &mut stage,
        "test/inner",
        &[&[("test/no", false)], &[("test/no", false), ("test/b", false)]],
    );
    stage.add_scripts("test/no", "", Some("exit 100"), "");
    stage.add_scripts("test/b", "", Some("exit 100"), "");
    stage.add_scripts("test/c", "", Some("exit 0"), "");
    assert_eq!(ids(&stage.push().unwrap()), ["test/c"]);
}

#[test]
fn a_composite_that_names_what_is_not_there_says_so() {
    let mut stage = chosen();
    composite(&mut stage, "test/all", &[&[("test/nowhere", false)]]);
    let failure = stage.push().unwrap_err().explain();
    assert!(
        failure.cause.contains("test/nowhere, which is not available"),
        "{failure:?}"
    );
}

#[test]
fn what_nobody_provides_or_nobody_requires_fails_a_group() {
    let provides = plan("[[provides]]\nname = 'x'");
    let requires = plan("[[requires]]\nname = 'x'");
    for (first, second, passes) in [
        (&provides, &requires, true),
        (&requires, &provides, false),
        (&provides, &plan(""), false),
        (&plan(""), &requires, false),
    ] {
        let mut stage = chosen();
        stage.add_scripts("test/a", "", Some(first), "");
        stage.add_scripts("test/b", "", Some(second), "");
        let outcome = stage.push();
        assert_eq!(outcome.is_ok(), passes, "{first} {second} {outcome:?}");
    }
}

#[test]
fn alternatives_of_a_plan_are_tried_left_to_right() {
    let mut stage = chosen();
    let alternatives =
        plan("[[requires]]\nname = 'nobody'\n[[or]]\n[[or.provides]]\nname = 'x'\n[[or]]\n[[or.provides]]\nname = 'y'");
    stage.add_scripts(
        "test/a",
        "",
        Some(&alternatives),
        "grep -o \"'.'\\|\\\".\\\"\" $3 > seen",
    );
    stage.add_scripts("test/b", "", Some(&plan("[[requires]]\nname = 'x'")), "");
    let result = stage.push().unwrap();
    assert_eq!(seen(&stage, &result, "seen"), "\"x\"\n");
}

#[test]
fn optional_ones_whose_plans_do_not_meet_are_dropped() {
    let mut stage = app();
    composite(&mut stage, "test/all", &[&[("test/a", true), ("test/b", false)]]);
    stage.add_scripts("test/a", "", Some(&plan("[[provides]]\nname = 'x'")), "exit 1");
    stage.add_scripts("test/b", "", PASS, "");
    assert_eq!(ids(&stage.push().unwrap()), ["test/b"]);
}

#[test]
fn a_broken_plan_is_named() {
    let mut stage = app();
    stage.add_scripts("test/a", "", Some("echo nonsense > $2"), "");
    assert!(
        stage
            .push()
            .unwrap_err()
            .explain()
            .cause
            .contains("build plan is invalid")
    );
}
