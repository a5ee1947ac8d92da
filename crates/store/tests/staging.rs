//! From package to deployment, on both engines.

mod common;

use common::*;
use model::resource::*;
use store::testing::{TestStore, unique};
use store::*;

store::on_both_engines!(
    packages_know_their_files,
    builds_end_once,
    pending_builds_come_with_all_they_need,
    one_deployment_at_a_time,
    desired_processes_come_with_all_they_need,
    tasks_are_numbered,
    what_is_superseded_goes_and_what_is_in_use_stays,
);

fn file(path: &str, sha1: u8, size: u64) -> PackageFile {
    PackageFile {
        path: path.into(),
        sha1: [sha1; 20],
        sha256: digest(sha1),
        size_bytes: size,
        mode: 0o644,
        pack: digest(1),
        pack_offset: 10,
        pack_length: 20,
        compression: "zstd".into(),
    }
}

async fn packages_know_their_files(store: &TestStore) {
    let home = home(store).await;
    let app = app(home.space.id, "shop");
    let mut package = package(app.id);
    let many: Vec<_> = (0..4500).map(|n| file(&format!("many/{n}"), 9, n)).collect();
    let tx = store.begin().await.expect("begins");
    tx.app_create(&app).await.expect("created");
    tx.package_create(&package).await.expect("created");
    tx.package_files_insert(package.id, &[file("a.js", 1, 100), file("b.js", 2, 200)])
        .await
        .expect("inserted");
    tx.package_files_insert(package.id, &many).await.expect("inserted");
    tx.commit().await.expect("commits");
    let asked = [([1; 20], 100), ([2; 20], 999), ([3; 20], 1), ([9; 20], 4400)];
    let matched = store.package_files_matching(&asked, Scope::All).await.expect("read");
    assert!(matched.is_empty(), "not ready yet");

    package.state = PackageState::Ready;
    package.digest = Some(digest(7));
    let tx = store.begin().await.expect("begins");
    assert!(
        tx.package_update(&package, PackageState::AwaitingUpload)
            .await
            .expect("updated")
    );
    assert!(
        !tx.package_update(&package, PackageState::AwaitingUpload)
            .await
            .expect("once")
    );
    tx.commit().await.expect("commits");
    let mut matched = store.package_files_matching(&asked, Scope::All).await.expect("read");
    matched.sort_by_key(|file| file.sha1);
    assert_eq!(
        matched.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(),
        ["a.js", "many/4400"]
    );
    assert_eq!(matched[0], file("a.js", 1, 100));
    let stranger = store
        .package_files_matching(&asked, Scope::User(id()))
        .await
        .expect("read");
    assert!(stranger.is_empty(), "only what the caller may read");
    assert_eq!(store.package_files(package.id).await.expect("read").len(), 4502);
    assert_eq!(
        store
            .package_fetch(package.id)
            .await
            .expect("read")
            .expect("there")
            .digest,
        Some(digest(7))
    );
}

fn build(app: &App, package: model::id::PackageId) -> Build {
    Build {
        id: id(),
        app: app.id,
        package,
        state: BuildState::Staging,
        error: None,
        droplet: None,
        lifecycle: model::resource::AppLifecycle::Buildpack,
        buildpacks: Vec::new(),
        stack: app.stack.clone(),
        limits: model::limits::Limits::BUILD,
        input_digest: Some(digest(3)),
        created_by: id(),
        metadata: model::resource::Metadata::default(),
        created_at: now(),
        updated_at: now(),
    }
}

async fn builds_end_once(store: &TestStore) {
    let of = running(store).await;
    let mut build = build(&of.app, id());
    let tx = store.begin().await.expect("begins");
    tx.build_create(&build).await.expect("created");
    build.state = BuildState::Staged;
    build.droplet = Some(of.droplet.id);
    assert!(tx.build_finish(&build).await.expect("finished"));
    build.state = BuildState::Failed;
    assert!(!tx.build_finish(&build).await.expect("once"));
    tx.commit().await.expect("commits");
    let read = store.build_fetch(build.id).await.expect("read").expect("there");
    assert_eq!((read.state, read.droplet), (BuildState::Staged, Some(of.droplet.id)));
    let found = store
        .droplet_by_input(of.app.id, &digest(3))
        .await
        .expect("read")
        .expect("there");
    assert_eq!(found.id, of.droplet.id);
    assert!(
        store.droplet_by_input(id(), &digest(3)).await.expect("read").is_none(),
        "the same app's only"
    );
}

async fn pending_builds_come_with_all_they_need(store: &TestStore) {
    let of = running(store).await;
    let mut package = package(of.app.id);
    package.state = PackageState::Ready;
    package.digest = Some(digest(8));
    let build = build(&of.app, package.id);
    let mut cache = BuildCache::default();
    cache.store.insert("node".into(), serde_json::json!({"a": 1}));
    let tx = store.begin().await.expect("begins");
    tx.package_create(&package).await.expect("created");
    tx.build_create(&build).await.expect("created");
    tx.build_cache_set(of.app.id, &of.app.stack, &BuildCache::default(), now())
        .await
        .expect("set");
    tx.build_cache_set(of.app.id, &of.app.stack, &cache, now())
        .await
        .expect("set again");
    tx.commit().await.expect("commits");
    let pending = store.builds_pending().await.expect("read");
    assert_eq!(pending.len(), 1);
    assert_eq!(
        (pending[0].build.id, &pending[0].package_digest),
        (build.id, &Some(digest(8)))
    );
    assert_eq!(pending[0].cache, cache);
}

async fn one_deployment_at_a_time(store: &TestStore) {
    let of = running(store).await;
    let mut first = Deployment {
        id: id(),
        app: of.app.id,
        state: DeploymentState::Deploying,
        droplet: of.droplet.id,
        previous_droplet: None,
        process: of.process.id,
        version: of.version.id,
        previous_version: None,
        max_in_flight: 1,
        canary: None,
        revision: None,
        metadata: model::resource::Metadata::default(),
        error: None,
        created_by: id(),
        created_at: now(),
        updated_at: now(),
    };
    let mut second = first.clone();
    second.id = id();
    let tx = store.begin().await.expect("begins");
    tx.deployment_create(&first).await.expect("created");
    tx.commit().await.expect("commits");
    let tx = store.begin().await.expect("begins");
    let error = tx.deployment_create(&second).await.expect_err("one is under way");
    assert!(
        matches!(
            error,
            StoreError::Taken {
                what: "active deployment"
            }
        ),
        "{error:?}"
    );
    drop(tx);
    let tx = store.begin().await.expect("begins");
    first.state = DeploymentState::Superseded;
    assert!(
        tx.deployment_step(&first, DeploymentState::Deploying)
            .await
            .expect("stepped")
    );
    assert!(
        !tx.deployment_step(&first, DeploymentState::Deploying)
            .await
            .expect("once")
    );
    tx.deployment_create(&second).await.expect("created");
    tx.commit().await.expect("commits");
    let active = store
        .deployment_active(of.process.id)
        .await
        .expect("read")
        .expect("one");
    assert_eq!(active.id, second.id);
    assert_eq!(store.deployments_active().await.expect("read").len(), 1);
    let filter = DeploymentFilter {
        apps: Some(vec![of.app.id]),
        states: Some(vec![DeploymentState::Superseded]),
        ..DeploymentFilter::default()
    };
    let listed = store
        .deployment_list(&filter, Scope::All, Order::NEWEST, Page::ALL)
        .await
        .expect("listed");
    assert_eq!(listed.items[0].id, first.id);
}

async fn desired_processes_come_with_all_they_need(store: &TestStore) {
    let of = running(store).await;
    let stopped = home(store).await;
    let route = route(store, &of.home, "shop").await;
    let next = version(&of.process, of.droplet.id);
    let tx = store.begin().await.expect("begins");
    tx.app_create(&app(stopped.space.id, "stopped")).await.expect("created");
    tx.destination_create(&destination(route.id, of.app.id))
        .await
        .expect("created");
    tx.version_create(&next).await.expect("created");
    tx.process_set_version(of.process.id, Some(next.id)).await.expect("set");
    let deployment = Deployment {
        id: id(),
        app: of.app.id,
        state: DeploymentState::Deploying,
        droplet: of.droplet.id,
        previous_droplet: None,
        process: of.process.id,
        version: next.id,
        previous_version: Some(of.version.id),
        max_in_flight: 1,
        canary: None,
        revision: None,
        metadata: model::resource::Metadata::default(),
        error: None,
        created_by: id(),
        created_at: now(),
        updated_at: now(),
    };
    tx.deployment_create(&deployment).await.expect("created");
    tx.commit().await.expect("commits");
    let desired = store.processes_desired().await.expect("read");
    assert_eq!(desired.len(), 1);
    let desired = &desired[0];
    assert_eq!(desired.process.version, Some(next.id));
    assert_eq!(desired.versions.len(), 2, "the new one and the one before");
    assert_eq!(desired.deployment.as_ref().map(|d| d.id), Some(deployment.id));
    assert_eq!(desired.uris, [route.url()]);
    assert_eq!(desired.owner.space_name, of.home.space.name.as_str());

    let known = desired
        .versions
        .iter()
        .take(1)
        .map(|of| (of.version.id, of.clone()))
        .collect();
    let again = store.processes_desired_beside(&known).await.expect("read");
    assert_eq!(again[0].versions.len(), 2);
    assert!(
        std::sync::Arc::ptr_eq(&again[0].versions[0], &desired.versions[0]),
        "not read again"
    );
    assert_eq!(again[0].versions[1].version.id, desired.versions[1].version.id);
}

async fn tasks_are_numbered(store: &TestStore) {
    let of = running(store).await;
    let tx = store.begin().await.expect("begins");
    let mut task = None;
    for n in 1..=2 {
        assert_eq!(tx.task_next_sequence(of.app.id).await.expect("read"), n);
        let new = Task {
            id: id(),
            app: of.app.id,
            sequence: n,
            name: unique("task"),
            command: "true".into(),
            droplet: of.droplet.id,
            limits: of.process.limits,
            state: TaskState::Pending,
            failure: None,
            metadata: model::resource::Metadata::default(),
            created_at: now(),
            updated_at: now(),
        };
        tx.task_create(&new).await.expect("created");
        task = Some(new);
    }
    let mut task = task.expect("two were made");
    task.state = TaskState::Failed;
    task.failure = Some("no".into());
    assert!(tx.task_step(&task).await.expect("stepped"));
    assert!(!tx.task_step(&task).await.expect("it is over"));
    tx.commit().await.expect("commits");
    assert_eq!(store.tasks_live().await.expect("read").len(), 1);
    let of_app = TaskFilter {
        apps: Some(vec![of.app.id]),
        ..TaskFilter::default()
    };
    let failed = TaskFilter {
        states: Some(vec![TaskState::Failed]),
        sequences: Some(vec![task.sequence]),
        ..of_app.clone()
    };
    let listed = store.task_list(&failed, Scope::All, Order::NEWEST, Page::ALL).await;
    assert_eq!(listed.expect("read").items[0].id, task.id);
    let nobody = Scope::User(id());
    let listed = store.task_list(&of_app, nobody, Order::NEWEST, Page::ALL).await;
    assert_eq!(listed.expect("read").total, 0);
    assert_eq!(
        store
            .task_list(&of_app, Scope::All, Order::NEWEST, Page::ALL)
            .await
            .expect("read")
            .total,
        2
    );
}

async fn what_is_superseded_goes_and_what_is_in_use_stays(store: &TestStore) {
    let of = running(store).await;
    let tx = store.begin().await.expect("begins");
    let mut newest = None;
    for n in 1..=4 {
        let mut package = package(of.app.id);
        package.created_at = later(n);
        tx.package_create(&package).await.expect("created");
        let mut build = build(&of.app, package.id);
        build.created_at = later(n);
        // The oldest is still under way, and its package with it.
        build.state = if n == 1 {
            BuildState::Staging
        } else {
            BuildState::Failed
        };
        tx.build_create(&build).await.expect("created");
        let mut droplet = droplet(of.app.id);
        droplet.created_at = later(n);
        tx.droplet_create(&droplet).await.expect("created");
        let mut version = version(&of.process, droplet.id);
        version.created_at = later(n);
        tx.version_create(&version).await.expect("created");
        newest = Some((package.id, droplet.id, version.id));
    }
    tx.commit().await.expect("commits");
    let (package, droplet, version) = newest.expect("four were made");
    let keep = Retention {
        packages: 1,
        droplets: 1,
        builds: 1,
        deployments: 1,
        versions: 1,
    };
    let tx = store.begin().await.expect("begins");
    assert_eq!(
        tx.superseded_prune(&keep, now()).await.expect("pruned"),
        0,
        "all are too young"
    );
    // Three versions, three droplets, two builds, two packages.
    assert_eq!(
        tx.superseded_prune(&keep, later(60)).await.expect("pruned"),
        3 + 3 + 2 + 2
    );
    assert_eq!(tx.superseded_prune(&keep, later(60)).await.expect("pruned"), 0);
    tx.commit().await.expect("commits");
    assert!(store.package_fetch(package).await.expect("read").is_some());
    assert!(store.droplet_fetch(droplet).await.expect("read").is_some());
    assert!(store.version_fetch(version).await.expect("read").is_some());
    assert!(
        store.droplet_fetch(of.droplet.id).await.expect("read").is_some(),
        "it is the app's"
    );
    assert!(
        store.version_fetch(of.version.id).await.expect("read").is_some(),
        "it is the process's"
    );
    assert_eq!(
        store.builds_pending().await.expect("read").len(),
        0,
        "its package is not ready"
    );
}
