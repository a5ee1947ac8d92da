//! The commands about buildpacks, builds, droplets and stacks, by the names that `cf` has for them where it has any.

use super::fake::{FakeController, Plan};
use super::run::User;

#[tokio::test(flavor = "multi_thread")]
async fn buildpacks_are_listed_made_changed_and_deleted() {
    let fake = FakeController::start(Plan::default()).await;
    let user = User::beside(&fake);
    let all = user.run(&["buildpacks"]).await;
    assert_eq!(all.code, 0, "{}", all.stderr);
    assert!(all.stdout.contains("enabled, locked"), "{}", all.stdout);
    user.file("own/bin/detect", "#!/bin/sh\n").file("text", "nothing");
    let own = user.home.path().join("own");
    let own = own.to_str().expect("text");
    let made = user.run(&["create-buildpack", "theirs", own, "1", "--disable"]).await;
    assert_eq!(
        (made.code, made.stdout.as_str()),
        (0, "theirs is there: position 1, enabled\n"),
        "{}",
        made.stderr
    );
    let text = user.home.path().join("text");
    let refused = user
        .run(&["create-buildpack", "odd", text.to_str().expect("text"), "1"])
        .await;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("it is no archive"), "{}", refused.stderr);
    assert_eq!(
        fake.count("DELETE /v3/buildpacks/made"),
        1,
        "nothing is left of what was refused"
    );
    let changed = user
        .run(&["update-buildpack", "theirs", "-p", own, "--unlock", "--lock"])
        .await;
    assert_eq!(changed.code, 2, "--lock and --unlock exclude each other");
    let changed = user
        .run(&["update-buildpack", "theirs", "-p", own, "--unlock", "-i", "2"])
        .await;
    assert_eq!(changed.code, 0, "{}", changed.stderr);
    assert_eq!(
        fake.count("PATCH /v3/buildpacks/made"),
        2,
        "before and after the contents"
    );
    let both = user.run(&["delete-buildpack", "twice", "-f"]).await;
    assert!(both.code == 2 && both.stderr.contains("--stack"), "{}", both.stderr);
    let gone = user.run(&["delete-buildpack", "twice", "-f", "-s", "debian12"]).await;
    assert_eq!(gone.code, 0, "{}", gone.stderr);
    assert_eq!(fake.count("DELETE /v3/buildpacks/two"), 1);
    assert_eq!(user.run(&["delete-buildpack", "their", "-f"]).await.code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_are_listed_told_and_forgotten() {
    let fake = FakeController::start(Plan::default()).await.with_app("shop", 1);
    let user = User::beside(&fake);
    let all = user.run(&["builds", "shop"]).await;
    assert_eq!(all.code, 0, "{}", all.stderr);
    assert!(
        all.stdout.contains("cccc3333") && all.stdout.contains("was cancelled"),
        "{}",
        all.stdout
    );
    let one = user.run(&["builds", "shop", "dddd4444"]).await;
    assert!(
        one.stdout.contains("build nodejs_buildpack") && one.stdout.contains("1.2 s"),
        "{}",
        one.stdout
    );
    let log = user.run(&["builds", "shop", "--log"]).await;
    assert_eq!(log.stdout, "-----> npm ci\n");
    assert_eq!(fake.count("GET /paas/v1/builds/0000-cccc3333/history"), 1, "the newest");
    assert_eq!(user.run(&["builds", "shop", "nothing"]).await.code, 4);
    let cleared = user.run(&["clear-cache", "shop"]).await;
    assert_eq!(cleared.code, 0, "{}", cleared.stderr);
    let idle = user.run(&["cancel-build", "shop"]).await;
    assert_ne!(idle.code, 0, "nothing is under way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_droplet_is_saved_and_pushed() {
    let fake = FakeController::start(Plan::default()).await.with_app("shop", 1);
    let user = User::beside(&fake).with_app();
    let file = user.home.path().join("shop.tgz");
    let path = file.to_str().expect("text");
    let saved = user
        .run(&["download-droplet", "shop", "--droplet", "d1", "-p", path])
        .await;
    assert_eq!(saved.code, 0, "{}", saved.stderr);
    assert_eq!(std::fs::read_to_string(&file).expect("saved"), "a droplet");
    let folder = user.home.path().join("shop");
    let pushed = user
        .run(&["push", folder.to_str().expect("text"), "-n", "shop", "--droplet", path])
        .await;
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    assert_eq!(fake.count("POST /v3/droplets/uploaded/upload"), 1);
    assert_eq!((fake.count("POST /v3/packages"), fake.count("POST /v3/builds")), (0, 0));
    let missing = user.run(&["push", "-n", "shop", "--droplet", "/nowhere.tgz"]).await;
    assert_ne!(missing.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apps_of_a_stack_are_rolled() {
    let fake = FakeController::start(Plan::default()).await.with_app("shop", 1);
    let user = User::beside(&fake);
    let all = user.run(&["admin", "stacks", "-o", "name"]).await;
    assert_eq!(all.stdout, "debian12\nhost\n", "{}", all.stderr);
    let rolled = user.run(&["admin", "roll-stack", "debian12"]).await;
    assert_eq!(rolled.code, 0, "{}", rolled.stderr);
    assert!(
        rolled.stdout.starts_with("1 of 1 app is on the newest version"),
        "{}",
        rolled.stdout
    );
    assert_eq!(fake.count("POST /v3/deployments"), 1);
    assert_eq!(user.run(&["admin", "roll-stack", "debian"]).await.code, 4);
}
