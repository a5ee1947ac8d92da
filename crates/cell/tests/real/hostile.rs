//! Buildpacks that mean harm, in real sandboxes: each build ends with a named error, and nothing of it stays behind.

use crate::builds::{Stage, stage};
use crate::kit::Kit;
use model::staging::FailureClass;
use model::work::{Assignment, Cause};

/// A build of an app that is one of trouble.
async fn trouble(kit: &Kit, script: &str) -> Assignment {
    stage(kit, Stage::of(&[("trouble", script)])).await
}

async fn failure(kit: &Kit, build: &Assignment) -> model::staging::BuildFailure {
    let (_, result) = crate::builds::outcome(kit, build.work).await;
    assert!(result.layers.is_empty() && result.cache.is_empty());
    let failure = result.error.expect("failed");
    assert!(!failure.title.is_empty() && !failure.cause.is_empty() && !failure.remedy.is_empty());
    failure
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_with_its_size() {
    let kit = Kit::start().await;
    let mut works = Vec::new();
    for script in [
        // 10 GB where there are 256 MiB, in a layer and in the app's own folder.
        "mkdir -p $CNB_LAYERS_DIR/l; head -c 10G /dev/zero > $CNB_LAYERS_DIR/l/huge",
        "head -c 10G /dev/zero > huge || true; exit 1",
        "head -c 10G /dev/zero > /tmp/huge",
    ] {
        works.push(trouble(&kit, script).await);
    }
    kit.controller.assign(&works);
    for build in &works[..2] {
        let failure = failure(&kit, build).await;
        assert_eq!(failure.title, "The build ran out of disk", "{failure:?}");
        assert!(failure.cause.contains(" MiB"), "{failure:?}");
        assert_eq!(failure.class, FailureClass::StagingError);
    }
    let third = failure(&kit, &works[2]).await;
    assert!(
        third.cause.contains("No space") || third.title.contains("disk"),
        "{third:?}"
    );
    for build in &works {
        kit.gone(build.work).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_forks_and_what_never_ends_are_ended() {
    let kit = Kit::start().await;
    let endless = |script: &'static str| (script, Cause::TimedOut { seconds: 6 });
    let mut works = Vec::new();
    let cases = [
        endless("yes 'a flood of words' "),
        endless("while :; do :; done"),
        endless("trap '' TERM INT HUP; while :; do sleep 1; done"),
        endless("exec 1>&- 2>&-; while :; do sleep 1; done"),
    ];
    for (script, _) in &cases {
        let mut build = trouble(&kit, script).await;
        crate::builds::limit(&mut build, 6);
        works.push(build);
    }
    let bomb = trouble(&kit, "bomb() { bomb | bomb & }; bomb; sleep 2; exit 7").await;
    works.push(bomb);
    kit.controller.assign(&works);
    for (build, (script, expected)) in works.iter().zip(&cases) {
        let (cause, result) = crate::builds::outcome(&kit, build.work).await;
        assert_eq!(&cause, expected, "{script}");
        let failure = result.error.expect("failed");
        assert_eq!(failure.class, FailureClass::StagingTimeExpired, "{script}");
        assert!(failure.cause.contains("6 s"), "{failure:?}");
    }
    let failure = failure(&kit, &works[4]).await;
    assert!(!failure.title.is_empty());
    for build in &works {
        kit.gone(build.work).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_leaves_running_ends_with_it_and_changes_nothing() {
    let kit = Kit::start().await;
    // A program that stays and writes over the result, as soon as that is there.
    let script = "mkdir -p $CNB_LAYERS_DIR/tool/bin; printf '#!/bin/sh\\necho hi\\n' > $CNB_LAYERS_DIR/tool/bin/greet
        setsid sh -c 'while :; do [ -s /paas/out/result.json ] && echo \"{}\" > /paas/out/result.json; done' \
            > /dev/null 2>&1 < /dev/null &";
    let build = trouble(&kit, script).await;
    kit.controller.assign(std::slice::from_ref(&build));
    let (cause, result) = crate::builds::outcome(&kit, build.work).await;
    // Whichever comes first, it is a droplet of this build or a named failure.
    if let Some(failure) = &result.error {
        assert!(
            failure.title.contains("without a result") || failure.title.contains("build"),
            "{failure:?}"
        );
        assert!(result.layers.is_empty());
    } else {
        assert_eq!(cause, Cause::Exited { code: 0 });
        assert!(result.layers.len() >= 3);
    }
    kit.gone(build.work).await;
}
