//! Commands about an app that is there: its state, its routes, sessions, its log as it grows.

use super::fake::{FakeController, Plan};
use super::run::User;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};

async fn shop() -> (FakeController, User) {
    let fake = FakeController::start(Plan::default()).await.with_app("shop", 1);
    let user = User::beside(&fake);
    (fake, user)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_inside_and_its_exit_code_is_ours() {
    let (_fake, user) = shop().await;
    let ran = user
        .run_with_input(&["exec", "shop", "--", "cat", "-n"], "typed\n")
        .await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("ran [\"cat\",\"-n\"]\n", "typed\n")
    );
    let ran = user.run_with_input(&["exec", "shop", "--", "missing"], "").await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("missing: no such program"), "{}", ran.stderr);
    let ran = user.run(&["exec", "other", "--", "ls"]).await;
    assert_eq!(ran.code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_lines_are_shown_as_they_are_written() {
    let (fake, user) = shop().await;
    fake.log("APP/PROC/WEB", "old");
    let mut child = user.command(&["logs", "shop", "-f", "--json"]).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = async || lines.next_line().await.expect("reads").unwrap_or_default();
    assert!(next().await.contains("\"text\":\"old\""));
    fake.log("APP/PROC/WEB", "new");
    assert!(next().await.contains("\"text\":\"new\""));
    child.kill().await.expect("runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_stopped_and_started_again() {
    let (_fake, user) = shop().await;
    let ran = user.run(&["stop", "shop"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "shop is stopped\n"));
    let ran = user.run(&["start", "shop", "--json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.json()["app"]["state"], "STARTED");
    let ran = user.run(&["restart", "shop", "--json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.json()["instances"][0]["state"], "RUNNING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_fails_says_why() {
    let fake = FakeController::start(Plan {
        deploy_failure: Some("Exited with status 1".into()),
        ..Plan::default()
    })
    .await;
    let fake = fake.with_app("shop", 1);
    let user = User::beside(&fake);
    let ran = user.run(&["restart", "shop", "--json"]).await;
    assert_eq!((ran.code, ran.error()["code"].as_str()), (1, Some("deploy_failed")));
    assert_eq!(ran.error()["evidence"], json!(["Error: listen EACCES"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_made_found_and_taken() {
    let (fake, user) = shop().await;
    let ran = user.run(&["map-route", "shop", "www.example.com/cart", "--json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.json()["url"], "http://www.example.com:8080/cart");
    let ran = user.run(&["map-route", "shop", "localhost", "-n", "shop"]).await;
    assert_eq!(
        (ran.code, fake.count("POST /v3/routes/route/destinations")),
        (0, 1),
        "{}",
        ran.stderr
    );
    let ran = user.run(&["unmap-route", "shop", "shop.localhost"]).await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "shop.localhost no longer leads to shop\n"),
        "{}",
        ran.stderr
    );
    let ran = user.run(&["unmap-route", "shop", "other.localhost"]).await;
    assert_eq!(ran.code, 4);
    let ran = user.run(&["map-route", "shop", "www.elsewhere.org"]).await;
    assert_eq!(ran.code, 4);
    let ran = user.run(&["routes"]).await;
    assert_eq!(ran.stdout, "route            apps\nshop.localhost   shop\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_cells_and_keep_work_away() {
    let (fake, user) = shop().await;
    let ran = user.run(&["admin", "cells"]).await;
    insta::assert_snapshot!(ran.stdout);
    assert_eq!(user.run(&["admin", "cells", "cordon", "cell-1"]).await.code, 0);
    assert_eq!(
        fake.count("POST /admin/v1/cells/00000000-0000-0000-0000-0000000000c1/cordon"),
        1
    );
    assert_eq!(user.run(&["admin", "cells", "cordon", "cell-9"]).await.code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_make_tokens_and_remove_machines() {
    let (fake, user) = shop().await;
    let made = user
        .run(&["admin", "token", "create", "--role", "cell", "--expires", "10m"])
        .await;
    assert_eq!(
        (made.code, made.stdout.as_str()),
        (0, "paasjoin_abc\n"),
        "{}",
        made.stderr
    );
    assert!(made.stderr.contains("paasd cell join TOKEN"), "{}", made.stderr);
    let refused = user.run(&["admin", "token", "create", "--role", "king"]).await;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let listed = user.run(&["admin", "machines"]).await;
    assert_eq!(
        listed.stdout,
        "name    role   state    label    certificate until\nhost1   cell   joined   rack 1   2026-01-08T00:00:00Z\n"
    );
    assert_eq!(user.run(&["admin", "machines", "revoke", "host1"]).await.code, 0);
    assert_eq!(
        fake.count("POST /admin/v1/machines/cell/00000000-0000-0000-0000-0000000000d1/revoke"),
        1
    );
    assert_eq!(user.run(&["admin", "machines", "revoke", "host9"]).await.code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_and_its_explanation_are_shown() {
    let (_fake, user) = shop().await;
    let ran = user.run(&["app", "shop"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    insta::assert_snapshot!(ran.stdout);
    let ran = user.run(&["why", "shop"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "nothing is wrong with shop\n"));
    let ran = user.run(&["doctor"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_prints_results_only() {
    let (_fake, user) = shop().await;
    let user = user.with_app();
    let ran = user.run(&["push", "shop", "-q"]).await;
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (0, "http://shop.localhost:8080\n", "")
    );
}
