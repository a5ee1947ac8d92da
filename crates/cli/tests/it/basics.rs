//! Login, lists, changes and errors.

use super::fake::{FakeController, Plan};
use super::run::User;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_logged_in_at_first() {
    let user = User::new();
    let ran = user.run(&["apps", "--json"]).await;
    assert_eq!((ran.code, ran.error()["code"].as_str()), (3, Some("not_logged_in")));
    assert_eq!(ran.stdout, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_kept_and_the_only_target_chosen() {
    let fake = FakeController::start(Plan::default()).await.with_app("shop", 2);
    let user = User::new();
    let ran = user.run_with_input(&["login", &fake.api, "-u", "ann"], "right\n").await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("target: org dev / space dev"), "{}", ran.stdout);
    let config = std::fs::read_to_string(user.home.path().join(".config/paas/config.toml")).expect("there");
    assert!(
        config.contains("token-1") && !config.contains("right"),
        "tokens are kept, the password is not"
    );
    let apps = user.run(&["apps"]).await;
    insta::assert_snapshot!(apps.stdout);
    assert_eq!(fake.count("POST /oauth/token"), 1, "the token is used again");
    let out = user.run(&["logout"]).await;
    assert_eq!(out.code, 0);
    assert_eq!(user.run(&["apps"]).await.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_without_a_trace() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::new();
    let ran = user
        .run_with_input(&["login", &fake.api, "-u", "ann", "--json"], "wrong\n")
        .await;
    assert_eq!((ran.code, ran.error()["code"].as_str()), (3, Some("login_refused")));
    assert_eq!(ran.error()["cause"], "Bad credentials");
    assert!(!user.home.path().join(".config/paas/config.toml").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_renewed_once() {
    let fake = FakeController::start(Plan {
        first_token_is_refused: true,
        ..Plan::default()
    })
    .await
    .with_app("shop", 1);
    let user = User::beside(&fake);
    let ran = user.run(&["apps", "-o", "name"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "shop\n"), "{}", ran.stderr);
    assert_eq!(fake.count("POST /oauth/token"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_exit_codes_and_documents() {
    for (status, title, detail, exit) in [
        (
            403,
            "CF-NotAuthorized",
            "You are not authorized to perform the requested action",
            3,
        ),
        (422, "CF-UnprocessableEntity", "memory must be greater than 0", 2),
        (422, "CF-UniquenessError", "name must be unique in space", 5),
        (500, "UnknownError", "An unknown error occurred.", 1),
        (503, "CF-ServiceUnavailable", "the database is away", 75),
    ] {
        let body = json!({"errors": [{"code": 10_000, "title": title, "detail": detail, "hint": "try this"}]});
        let fake = FakeController::start(Plan {
            refuse: Some((status, body)),
            ..Plan::default()
        })
        .await;
        let user = User::beside(&fake);
        let ran = user.run(&["apps", "--json"]).await;
        assert_eq!(ran.code, exit, "{status}");
        let error = ran.error();
        assert_eq!(error["message"], detail);
        assert_eq!(error["hint"], "try this");
        assert_eq!(error["request_id"], "request-7");
        assert_eq!(error["retryable"], exit == 75);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_exit_code_seven() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let api = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let user = User::new();
    user.file(
        "login.json",
        &json!({"api": api, "username": "a", "password": "b", "org": "o", "space": "s"}).to_string(),
    );
    let ran = user.run(&["apps", "--json"]).await;
    assert_eq!((ran.code, ran.error()["code"].as_str()), (7, Some("unreachable")));
    let doctor = user.run(&["doctor", "--json"]).await;
    assert_eq!(doctor.code, 1);
    let checks = doctor.json()["checks"].clone();
    assert!(
        checks
            .as_array()
            .expect("checks")
            .iter()
            .any(|check| check["name"] == "server" && check["result"] == "failed")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_on_the_command_line_are_exit_code_two() {
    let user = User::new();
    for args in [
        &["push", "--instances", "many"][..],
        &["psuh"],
        &[],
        &["scale"],
        &["push", "-m", "256"],
    ] {
        let ran = user.run(args).await;
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{args:?}");
    }
    let ran = user.run(&["psuh", "--json"]).await;
    assert_eq!((ran.code, ran.error()["code"].as_str()), (2, Some("usage")));
    let help = user.run(&["push", "--help"]).await;
    assert_eq!(help.code, 0);
    assert!(help.stdout.contains("Examples:") && help.stderr.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_app_is_answered_with_a_similar_one() {
    let fake = FakeController::start(Plan::default()).await.with_app("shop", 1);
    let user = User::beside(&fake);
    let ran = user.run(&["app", "shp"]).await;
    assert_eq!(ran.code, 4);
    insta::assert_snapshot!(ran.steady_stderr(user.home.path(), &fake.api));
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_waits_for_the_instances() {
    let fake = FakeController::start(Plan::default()).await.with_app("shop", 1);
    let user = User::beside(&fake);
    let ran = user.run(&["scale", "shop", "-i", "3", "--json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.json()["instances"].as_array().map(Vec::len), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_are_set_also_from_standard_input() {
    let fake = FakeController::start(Plan::default()).await.with_app("shop", 1);
    let user = User::beside(&fake);
    assert_eq!(user.run(&["set-env", "shop", "A=1", "B=2"]).await.code, 0);
    assert_eq!(
        user.run_with_input(&["set-env", "shop", "SECRET"], "s3cret\n")
            .await
            .code,
        0
    );
    assert_eq!(user.run(&["unset-env", "shop", "B"]).await.code, 0);
    let env = user.run(&["env", "shop", "--json"]).await.json();
    assert_eq!(
        env["environment_variables"],
        json!({"A": "1", "B": null, "SECRET": "s3cret"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_without_a_yes() {
    let fake = FakeController::start(Plan::default()).await.with_app("shop", 1);
    let user = User::beside(&fake);
    let ran = user.run(&["delete", "shop", "--json"]).await;
    assert_eq!((ran.code, ran.error()["code"].as_str()), (2, Some("input_needed")));
    assert_eq!(fake.count("DELETE"), 0);
    assert_eq!(user.run(&["delete", "shop", "-f", "-r"]).await.code, 0);
    assert_eq!((fake.count("DELETE /v3/apps"), fake.count("DELETE /v3/routes")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn recent_lines_are_shown_oldest_first() {
    let fake = FakeController::start(Plan::default()).await.with_app("shop", 1);
    fake.log("APP/PROC/WEB", "first");
    fake.log("STG", "second");
    let user = User::beside(&fake);
    let ran = user.run(&["logs", "shop", "--recent"]).await;
    insta::assert_snapshot!(super::run::steady(&ran.stdout, user.home.path(), &fake.api));
    let ran = user
        .run(&["logs", "shop", "--recent", "--json", "--source", "STG"])
        .await;
    assert_eq!(ran.json()["text"], "second", "one record a line");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_setting_says_where_it_comes_from() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake);
    let mut command = user.command(&["config", "explain"]);
    let output = command.env("PAAS_SPACE", "other").output().await.expect("runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    insta::assert_snapshot!(super::run::steady(&text, user.home.path(), &fake.api));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_traced() {
    let fake = FakeController::start(Plan::default()).await.with_app("shop", 1);
    let user = User::beside(&fake);
    let ran = user.run(&["set-env", "shop", "KEY", "topsecret", "--trace"]).await;
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("> PATCH /v3/apps/"), "{}", ran.stderr);
    for secret in ["topsecret", "token-1", "password=right", "refresh\""] {
        assert!(!ran.stderr.contains(secret), "{secret} in {}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_completions_are_printed() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake);
    let version = user.run(&["version", "--json"]).await.json();
    assert_eq!(version["client"], version["server"]);
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let ran = user.run(&["completion", shell]).await;
        assert!(ran.code == 0 && ran.stdout.contains("map-route"), "{shell}");
    }
}
