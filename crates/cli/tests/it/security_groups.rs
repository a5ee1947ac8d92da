//! The commands about security groups, by the names that `cf` has for them.

use super::fake::{FakeController, Plan};
use super::run::User;
use serde_json::json;

const GROUP: &str = "/v3/security_groups/00000000-0000-0000-0000-0000000000e0";

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_with_their_places_and_shown_with_their_rules() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake);
    let all = user.run(&["security-groups"]).await;
    assert_eq!(all.code, 0, "{}", all.stderr);
    let lines: Vec<Vec<&str>> = all
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[1], ["public", "<all>", "<all>", "running"]);
    assert_eq!(lines[2][0], "db");
    let running = user.run(&["running-security-groups", "-o", "name"]).await;
    assert_eq!(running.stdout, "public\n");
    let one = user.run(&["security-group", "db"]).await;
    assert!(one.stdout.contains("\"destination\": \"10.0.0.0/8\""), "{}", one.stdout);
    let none = user.run(&["security-group", "bd"]).await;
    assert_eq!(none.code, 4);
    assert!(none.stderr.contains("no security group bd"), "{}", none.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_made_from_a_file_changed_bound_and_deleted() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake);
    let path = user.home.path().join("rules.json");
    let rules = json!([{"protocol": "all", "destination": "10.0.0.1"}]);
    std::fs::write(&path, rules.to_string()).expect("written");
    let path = path.to_str().expect("text");
    let made = user.run(&["create-security-group", "new", path, "--json"]).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    let made: serde_json::Value = serde_json::from_str(&made.stdout).expect("JSON");
    assert_eq!((&made["name"], &made["rules"]), (&json!("new"), &rules));
    let input = user
        .run_with_input(&["update-security-group", "db", "-"], &rules.to_string())
        .await;
    assert_eq!(input.code, 0, "{}", input.stderr);
    for (arguments, call) in [
        (
            vec!["bind-security-group", "db"],
            format!("POST {GROUP}/relationships/running_spaces"),
        ),
        (
            vec!["bind-security-group", "db", "dev", "--lifecycle", "staging"],
            format!("POST {GROUP}/relationships/staging_spaces"),
        ),
        (
            vec!["unbind-security-group", "db", "dev", "dev"],
            format!("DELETE {GROUP}/relationships/running_spaces/"),
        ),
        (vec!["delete-security-group", "db", "-f"], format!("DELETE {GROUP}")),
    ] {
        let ran = user.run(&arguments).await;
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
        assert!(fake.count(&call) > 0, "{call}: {:?}", fake.calls());
    }
    let before = fake.count(&format!("PATCH {GROUP}"));
    for command in [
        "bind-running-security-group",
        "unbind-running-security-group",
        "bind-staging-security-group",
        "unbind-staging-security-group",
    ] {
        let ran = user.run(&[command, "db"]).await;
        assert_eq!(ran.code, 0, "{command}: {}", ran.stderr);
    }
    assert_eq!(fake.count(&format!("PATCH {GROUP}")), before + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_hold_no_rules_are_refused_before_anything_is_sent() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake);
    let path = user.home.path().join("rules.json");
    for (text, part) in [("{}", "does not hold a list"), ("[", "is not JSON")] {
        std::fs::write(&path, text).expect("written");
        let ran = user
            .run(&["create-security-group", "new", path.to_str().expect("text")])
            .await;
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert_eq!(fake.count("POST /v3/security_groups"), 0);
}
