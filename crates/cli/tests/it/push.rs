//! Push, from a folder to a URL, and the ways in which it fails.

use super::fake::{FakeController, Plan};
use super::run::User;
use serde_json::json;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

#[tokio::test(flavor = "multi_thread")]
async fn a_first_push_needs_no_login_beside_a_local_platform() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake).with_app();
    let ran = user.run(&["push", "shop"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    insta::assert_snapshot!(ran.stdout);
    insta::assert_snapshot!(ran.steady_stderr(user.home.path(), &fake.api));
    insta::assert_snapshot!(fake.manifest());
    let archive = String::from_utf8_lossy(&fake.uploads()[0]).into_owned();
    assert!(archive.contains("server.js") && archive.contains("package.zip"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_new_files_are_sent() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake).with_app();
    assert_eq!(user.run(&["push", "shop"]).await.code, 0);
    let again = user.run(&["push", "shop", "--json"]).await.json();
    assert_eq!(again["apps"][0]["files_sent"], 0);
    assert_eq!(again["apps"][0]["bytes_sent"], 0);
    user.file("shop/server.js", "changed");
    let changed = user.run(&["push", "shop", "--json"]).await.json();
    assert_eq!(changed["apps"][0]["files_sent"], 1);
    let uploads = fake.uploads();
    assert!(
        !String::from_utf8_lossy(&uploads[1]).contains("package.zip"),
        "nothing new, no archive"
    );
    assert!(String::from_utf8_lossy(&uploads[2]).contains("package.zip"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_has_urls_phases_and_instances() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake).with_app();
    let ran = user.run(&["push", "shop", "--json"]).await;
    assert_eq!(ran.stderr, "", "nothing but the document");
    let app = &ran.json()["apps"][0];
    assert_eq!(app["urls"], json!(["http://shop.localhost:8080"]));
    assert_eq!(app["deployment"]["status"]["reason"], "DEPLOYED");
    assert_eq!(app["instances"][0]["state"], "RUNNING");
    let phases: Vec<&str> = app["phases"]
        .as_array()
        .expect("phases")
        .iter()
        .filter_map(|phase| phase["name"].as_str())
        .collect();
    for phase in ["hash", "upload", "stage", "  detect", "place", "healthy", "routed"] {
        assert!(phases.contains(&phase), "{phase} is missing of {phases:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_waits_and_goes_on_when_it_is_told() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake).with_app();
    let ran = user
        .run(&["push", "shop", "--strategy", "canary", "--instance-steps", "20,50"])
        .await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("the canary of shop waits at step 1 of 2"),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.contains("paas continue-deployment shop"), "{}", ran.stderr);
    let ran = user.run(&["continue-deployment", "shop"]).await;
    assert_eq!((ran.code, ran.stdout.trim()), (0, "shop is deployed"), "{}", ran.stderr);
    assert_eq!(fake.count("POST /v3/deployments/deployment/actions/continue"), 1);
    let ran = user.run(&["push", "shop", "--instance-steps", "20"]).await;
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stream_is_resumed_and_no_line_comes_twice() {
    for cut in 1..8 {
        let fake = FakeController::start(Plan {
            cut_stream_after: Some(cut),
            ..Plan::default()
        })
        .await;
        let user = User::beside(&fake).with_app();
        let ran = user.run(&["push", "shop"]).await;
        assert_eq!(ran.code, 0, "cut after {cut}: {}", ran.stderr);
        assert_eq!(
            ran.stderr.matches("npm ci").count(),
            1,
            "cut after {cut}: {}",
            ran.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_without_its_event_is_found_after_a_reconnect() {
    let plan = Plan {
        cut_stream_after: Some(5),
        silent_about: Some("build.staged"),
        ..Plan::default()
    };
    let fake = FakeController::start(plan).await;
    let user = User::beside(&fake).with_app();
    let ran = user.run(&["push", "shop"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(fake.count("GET /v3/builds/build") >= 1, "{}", ran.stderr);
    assert!(fake.count("POST /v3/deployments") == 1, "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_connection_breaks_is_made_again() {
    let fake = FakeController::start(Plan {
        break_upload: true,
        ..Plan::default()
    })
    .await;
    let user = User::beside(&fake).with_app();
    let ran = user.run(&["push", "shop"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(fake.uploads().len(), 1);
    assert_eq!(fake.count("POST /v3/packages/package-1/upload"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_build_says_what_why_and_what_to_do() {
    let failure = json!({"class": "BuildpackCompileFailed", "title": "npm ci failed",
        "cause": "package-lock.json does not fit package.json", "remedy": "run npm install and push again"});
    let fake = FakeController::start(Plan {
        build_failure: Some(failure),
        ..Plan::default()
    })
    .await;
    let user = User::beside(&fake).with_app();
    let ran = user.run(&["push", "shop"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    insta::assert_snapshot!(ran.steady_stderr(user.home.path(), &fake.api));
    let error = user.run(&["push", "shop", "--json"]).await.error();
    assert_eq!(error["code"], "BuildpackCompileFailed");
    assert_eq!(fake.count("POST /v3/deployments"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_rollout_shows_the_apps_last_lines() {
    let fake = FakeController::start(Plan {
        deploy_failure: Some("Exited with status 1".into()),
        ..Plan::default()
    })
    .await;
    let user = User::beside(&fake).with_app();
    let ran = user.run(&["push", "shop"]).await;
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(ran.steady_stderr(user.home.path(), &fake.api));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_takes_too_long_ends_with_its_outcome_unknown() {
    let fake = FakeController::start(Plan {
        deploy_hangs: true,
        ..Plan::default()
    })
    .await;
    let user = User::beside(&fake).with_app();
    let ran = user.run(&["push", "shop", "--timeout", "1s", "--json"]).await;
    assert_eq!(ran.code, 6);
    assert_eq!(ran.error()["code"], "timed_out");
    assert!(
        ran.error()["hint"]
            .as_str()
            .expect("a hint")
            .contains("paas deploy attach shop")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_wait_is_not_silent() {
    let fake = FakeController::start(Plan {
        deploy_hangs: true,
        ..Plan::default()
    })
    .await;
    let user = User::beside(&fake).with_app();
    let ran = user.run(&["push", "shop", "--timeout", "7s"]).await;
    assert!(
        ran.stderr.contains("still waiting for the new instances"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains('\u{1b}'), "no escape codes into a pipe");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_detaches_and_attach_finds_the_rollout_again() {
    let fake = FakeController::start(Plan {
        deploy_hangs: true,
        ..Plan::default()
    })
    .await;
    let user = User::beside(&fake).with_app();
    let mut child = user
        .command(&["push", "shop", "-v"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    while let Some(line) = lines.next_line().await.expect("reads") {
        if line.contains("waiting for its health check") {
            break;
        }
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().expect("runs")).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    let mut rest = String::new();
    while let Some(line) = lines.next_line().await.expect("reads") {
        rest.push_str(&line);
    }
    assert!(rest.contains("paas deploy attach shop"), "{rest}");
    assert_eq!(child.wait().await.expect("ends").code(), Some(130));
    fake.plan(|plan| plan.deploy_hangs = false);
    let attach = user.command(&["deploy", "attach", "shop"]).spawn().expect("starts");
    // It has to be watching before the end comes, or it would find nothing in flight.
    tokio::time::timeout(Duration::from_secs(20), async {
        while fake.count("GET /paas/v1/apps") < 2 || fake.count("GET /v3/deployments") < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it attaches");
    fake.finish("DEPLOYED");
    let output = attach.wait_with_output().await.expect("ends");
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_push_again_watches_the_rollout_under_way() {
    let fake = FakeController::start(Plan {
        deploy_hangs: true,
        ..Plan::default()
    })
    .await;
    let user = User::beside(&fake).with_app();
    let ran = user.run(&["push", "shop", "--detach"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = user.run(&["push", "shop", "--timeout", "1s"]).await;
    assert_eq!(ran.code, 6);
    assert!(ran.stderr.contains("an equal rollout is under way"), "{}", ran.stderr);
    assert_eq!(fake.count("POST /v3/deployments"), 1);
    let ran = user.run(&["push", "shop", "--timeout", "1s", "--env", "A=1"]).await;
    assert_eq!(ran.code, 6);
    assert_eq!(
        fake.count("POST /v3/deployments"),
        2,
        "a changed manifest needs a rollout of its own"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_pushed_leaves_nothing_behind() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake);
    std::fs::create_dir(user.home.path().join("empty")).expect("made");
    user.file("wrong/manifest.yml", "applications: [{name: ((n))}]");
    for (args, code) in [
        (["push", "empty"], "empty_folder"),
        (["push", "missing"], "no_such_folder"),
        (["push", "wrong"], "manifest_vars"),
    ] {
        let ran = user.run(&[&args[..], &["--json"]].concat()).await;
        assert_eq!((ran.code, ran.error()["code"].as_str()), (2, Some(code)));
    }
    assert_eq!(fake.calls(), Vec::<String>::new(), "the server heard of none of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_start_the_droplet_is_set_and_nothing_rolled_out() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake).with_app();
    let ran = user.run(&["push", "shop", "--no-start"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(fake.count("PATCH /v3/apps"), 1);
    assert_eq!(fake.count("POST /v3/deployments"), 0);
    assert!(ran.stdout.contains("paas start shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn something_is_said_at_once_although_the_server_says_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let user = User::new().with_app();
    let api = format!("http://{}", listener.local_addr().expect("bound"));
    let login = json!({"api": api, "username": "a", "password": "b", "org": "dev", "space": "dev"});
    user.file("login.json", &login.to_string());
    let started = std::time::Instant::now();
    let mut child = user.command(&["push", "shop"]).spawn().expect("starts");
    let mut first = [0];
    child
        .stderr
        .take()
        .expect("piped")
        .read_exact(&mut first)
        .await
        .expect("something comes");
    // The contract says 100 ms; a busy build machine gets more.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
