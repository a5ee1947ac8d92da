//! Users, tenants, apps and what belongs to them, on both engines.

mod common;

use common::*;
use model::resource::*;
use store::testing::{TestStore, unique};
use store::*;

store::on_both_engines!(
    names_are_unique_whatever_their_case,
    an_app_comes_back_as_it_went_in,
    environments_are_not_readable_at_rest,
    lists_are_filtered_scoped_ordered_and_paged,
    packages_know_their_files,
    builds_end_once,
    one_deployment_at_a_time,
    desired_processes_come_with_all_they_need,
    pending_builds_come_with_all_they_need,
    deleting_an_app_takes_what_is_its,
    refresh_tokens_end,
    settings_and_leases,
    events_are_one_sequence,
    jobs_end_once,
    tasks_are_numbered,
    domains_are_shared_or_private,
    the_schema_goes_down_and_up,
    many_writers_all_get_through,
    what_is_superseded_goes_and_what_is_in_use_stays,
);

async fn names_are_unique_whatever_their_case(store: &TestStore) {
    let home = home(store).await;
    let tx = store.begin().await.expect("begins");
    tx.app_create(&app(home.space.id, "shop")).await.expect("created");
    tx.commit().await.expect("commits");
    let tx = store.begin().await.expect("begins");
    let error = tx.app_create(&app(home.space.id, "SHOP")).await.expect_err("taken");
    assert!(matches!(error, StoreError::Taken { what: "app name" }), "{error:?}");
    drop(tx);
    let elsewhere = common::home(store).await;
    let tx = store.begin().await.expect("begins");
    tx.app_create(&app(elsewhere.space.id, "shop"))
        .await
        .expect("another space");
    let missing = tx.app_create(&app(id(), "x")).await.expect_err("no such space");
    assert!(
        matches!(
            missing,
            StoreError::Dangling {
                operation: "app_create",
                ..
            }
        ),
        "{missing:?}"
    );
    drop(tx);
    let found = store.app_by_name(home.space.id, "Shop").await.expect("read");
    assert_eq!(found.expect("there").name.as_str(), "shop");
}

async fn an_app_comes_back_as_it_went_in(store: &TestStore) {
    let home = home(store).await;
    let mut app = app(home.space.id, "shop é");
    let tx = store.begin().await.expect("begins");
    tx.app_create(&app).await.expect("created");
    app.state = AppState::Started;
    app.env.set("MORE", "1");
    app.updated_at = later(3);
    app.metadata.labels.insert("team".into(), Some("a".into()));
    assert!(tx.app_update(&app).await.expect("updated"));
    let read = tx.app_fetch_locked(app.id).await.expect("read").expect("its own write");
    assert_eq!(read.env, app.env);
    tx.commit().await.expect("commits");
    let read = store.app_fetch(app.id).await.expect("read").expect("there");
    assert_eq!((read.state, read.updated_at), (AppState::Started, later(3)));
    assert_eq!(
        (read.env, read.metadata, read.buildpacks),
        (app.env, app.metadata, app.buildpacks)
    );
    let owner = store.app_owner(app.id).await.expect("read").expect("there");
    assert_eq!((owner.org, owner.space), (home.org.id, home.space.id));
    assert!(store.app_fetch(id()).await.expect("read").is_none());
}

async fn environments_are_not_readable_at_rest(store: &TestStore) {
    let of = running(store).await;
    let cell = cell(store).await;
    let tx = store.begin().await.expect("begins");
    tx.work_insert_batch(&[placement(&of, cell.id, 0)], now())
        .await
        .expect("inserted");
    tx.setting_set("signing", "hunter2", now()).await.expect("set");
    tx.commit().await.expect("commits");
    if let Location::Sqlite(path) = store.location() {
        for file in [path.clone(), path.with_extension("db-wal")] {
            let bytes = std::fs::read(&file).expect("readable");
            assert!(!bytes.windows(7).any(|w| w == b"hunter2"), "{}", file.display());
        }
        let other = Store::open(store.location(), Keys::new(1, &[1; 32]))
            .await
            .expect("opens");
        let error = other.app_fetch(of.app.id).await.expect_err("another key");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    }
}

async fn lists_are_filtered_scoped_ordered_and_paged(store: &TestStore) {
    let (home, other) = (home(store).await, home(store).await);
    let reader = user("reader");
    let manager = user("manager");
    let tx = store.begin().await.expect("begins");
    for n in 0..5 {
        let mut app = app(home.space.id, &format!("app-{n}"));
        app.created_at = later(n);
        tx.app_create(&app).await.expect("created");
    }
    tx.app_create(&app(other.space.id, "app-1")).await.expect("created");
    for (user, role, space) in [
        (&reader, RoleType::SpaceAuditor, Some(home.space.id)),
        (&manager, RoleType::OrganizationManager, None),
    ] {
        tx.user_create(user).await.expect("created");
        tx.role_create(&Role {
            id: id(),
            user: user.user.id,
            role,
            org: if space.is_some() { home.org.id } else { other.org.id },
            space,
            created_at: now(),
        })
        .await
        .expect("created");
    }
    tx.commit().await.expect("commits");

    let all = AppFilter::default();
    let names = |page: Paged<App>| page.items.iter().map(|app| app.name.to_string()).collect::<Vec<_>>();
    let page = Page { number: 2, per_page: 2 };
    let listed = store
        .app_list(&all, Scope::User(reader.user.id), Order::NEWEST, page)
        .await
        .expect("listed");
    assert_eq!(listed.total, 5);
    assert_eq!(names(listed), ["app-2", "app-1"]);
    let listed = store
        .app_list(&all, Scope::User(manager.user.id), Order::default(), Page::ALL)
        .await
        .expect("listed");
    assert_eq!(names(listed), ["app-1"], "an org manager sees the org's spaces");
    let stranger = Scope::User(id());
    assert_eq!(
        store
            .app_list(&all, stranger, Order::default(), Page::ALL)
            .await
            .expect("listed")
            .total,
        0
    );
    let both = AppFilter {
        names: Some(vec!["app-1".into(), "nope".into()]),
        ..AppFilter::default()
    };
    assert_eq!(
        store
            .app_list(&both, Scope::All, Order::default(), Page::ONE)
            .await
            .expect("listed")
            .total,
        2
    );
    let none = AppFilter {
        spaces: Some(Vec::new()),
        ..AppFilter::default()
    };
    assert_eq!(
        store
            .app_list(&none, Scope::All, Order::default(), Page::ALL)
            .await
            .expect("listed")
            .total,
        0
    );
    let spaces = store
        .space_list(
            &SpaceFilter::default(),
            Scope::User(reader.user.id),
            Order::default(),
            Page::ALL,
        )
        .await
        .expect("listed");
    assert_eq!(spaces.items.iter().map(|s| s.id).collect::<Vec<_>>(), [home.space.id]);
    let orgs = store
        .org_list(
            &OrgFilter::default(),
            Scope::User(reader.user.id),
            Order::default(),
            Page::ALL,
        )
        .await
        .expect("listed");
    assert_eq!(orgs.items.iter().map(|o| o.id).collect::<Vec<_>>(), [home.org.id]);
    let roles = store.roles_of_user(reader.user.id).await.expect("read");
    assert_eq!(roles[0].role, RoleType::SpaceAuditor);
}

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
        buildpacks: Vec::new(),
        stack: app.stack.clone(),
        limits: model::limits::Limits::BUILD,
        input_digest: Some(digest(3)),
        created_by: id(),
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
        (build.id, &digest(8))
    );
    assert_eq!(pending[0].cache, cache);
}

async fn deleting_an_app_takes_what_is_its(store: &TestStore) {
    let of = running(store).await;
    let cell = cell(store).await;
    let route = route(store, &of.home, "shop").await;
    let tx = store.begin().await.expect("begins");
    tx.destination_create(&destination(route.id, of.app.id))
        .await
        .expect("created");
    tx.work_insert_batch(&[placement(&of, cell.id, 0)], now())
        .await
        .expect("inserted");
    assert!(tx.app_delete(of.app.id).await.expect("deleted"));
    assert!(!tx.app_delete(of.app.id).await.expect("once"));
    tx.commit().await.expect("commits");
    assert!(store.process_fetch(of.process.id).await.expect("read").is_none());
    assert!(store.version_fetch(of.version.id).await.expect("read").is_none());
    assert!(
        store
            .destinations_of_routes(&[route.id])
            .await
            .expect("read")
            .is_empty()
    );
    assert!(
        store.route_fetch(route.id).await.expect("read").is_some(),
        "routes are the space's"
    );
    assert_eq!(
        store.works_live().await.expect("read").len(),
        1,
        "work ends by the scheduler"
    );
    let tx = store.begin().await.expect("begins");
    let error = tx.space_delete(of.home.space.id).await.expect_err("it has a route");
    assert!(matches!(error, StoreError::Dangling { .. }), "{error:?}");
}

async fn refresh_tokens_end(store: &TestStore) {
    let user = user("u");
    let token = RefreshToken {
        digest: vec![1; 32],
        user: user.user.id,
        client: "cf".into(),
        created_at: now(),
        valid_until: later(60),
    };
    let tx = store.begin().await.expect("begins");
    tx.user_create(&user).await.expect("created");
    tx.refresh_token_create(&token).await.expect("created");
    tx.commit().await.expect("commits");
    assert_eq!(
        store.refresh_token_fetch(&[1; 32], later(59)).await.expect("read"),
        Some(token)
    );
    assert_eq!(
        store.refresh_token_fetch(&[1; 32], later(60)).await.expect("read"),
        None
    );
    let tx = store.begin().await.expect("begins");
    assert_eq!(tx.refresh_tokens_revoke(user.user.id).await.expect("revoked"), 1);
    tx.commit().await.expect("commits");
    let found = store
        .user_by_name(UserKind::User, "U")
        .await
        .expect("read")
        .expect("whatever its case");
    assert_eq!(found.user.id, user.user.id);
    assert!(store.user_by_name(UserKind::Client, "u").await.expect("read").is_none());
}

async fn settings_and_leases(store: &TestStore) {
    let tx = store.begin().await.expect("begins");
    tx.setting_set("a", &vec![1, 2], now()).await.expect("set");
    tx.setting_set("a", &vec![3], now()).await.expect("set");
    assert_eq!(
        tx.lease_take("scheduler", "one", now(), later(10))
            .await
            .expect("taken"),
        Some(1)
    );
    assert_eq!(
        tx.lease_take("scheduler", "two", later(9), later(20))
            .await
            .expect("held"),
        None
    );
    assert_eq!(
        tx.lease_take("scheduler", "one", later(9), later(20))
            .await
            .expect("renewed"),
        Some(1)
    );
    assert_eq!(
        tx.lease_take("scheduler", "two", later(20), later(30))
            .await
            .expect("taken"),
        Some(2)
    );
    tx.lease_drop("scheduler", "one").await.expect("not its own");
    assert_eq!(
        tx.lease_take("scheduler", "one", later(21), later(30))
            .await
            .expect("held"),
        None
    );
    tx.lease_drop("scheduler", "two").await.expect("dropped");
    assert_eq!(
        tx.lease_take("scheduler", "one", later(21), later(30))
            .await
            .expect("taken"),
        Some(3)
    );
    tx.commit().await.expect("commits");
    assert_eq!(store.setting_fetch::<Vec<u8>>("a").await.expect("read"), Some(vec![3]));
    assert_eq!(store.setting_fetch::<Vec<u8>>("b").await.expect("read"), None);
}

async fn events_are_one_sequence(store: &TestStore) {
    let writers = (0..20).map(|n| {
        let store = store.store.clone();
        tokio::spawn(async move {
            let tx = store.begin().await.expect("begins");
            tx.event(event("app", &format!("audit.{n}")));
            tx.event(event("other", "build.placed"));
            tx.commit().await.expect("commits");
        })
    });
    // A reader that follows the sequence must never see one appear behind it.
    let mut seen = 0;
    let mut writers: Vec<_> = writers.collect();
    while let Some(writer) = writers.pop() {
        for event in store.events_since(None, seen, 1000).await.expect("read") {
            assert_eq!(event.sequence, seen + 1);
            seen = event.sequence;
        }
        writer.await.expect("written");
    }
    assert_eq!(store.event_newest().await.expect("read"), 40);
    let of_app = store.events_since(Some("app"), 0, 1000).await.expect("read");
    assert_eq!(of_app.len(), 20);
    let audit = EventFilter {
        audit_only: true,
        ..EventFilter::default()
    };
    let listed = store
        .event_list(&audit, Scope::All, Order::NEWEST, Page::ONE)
        .await
        .expect("listed");
    assert_eq!(listed.total, 20);
    let tx = store.begin().await.expect("begins");
    assert_eq!(tx.events_prune(later(1)).await.expect("pruned"), 40);
    tx.commit().await.expect("commits");
    assert_eq!(store.event_newest().await.expect("read"), 40, "the sequence goes on");
}

async fn jobs_end_once(store: &TestStore) {
    let job = Job {
        id: id(),
        operation: "app.delete".into(),
        state: JobState::Processing,
        error: None,
        created_at: now(),
        updated_at: now(),
    };
    let error = JobError {
        code: 10008,
        title: "CF-UnprocessableEntity".into(),
        detail: "no".into(),
    };
    let tx = store.begin().await.expect("begins");
    tx.job_create(&job).await.expect("created");
    assert!(tx.job_finish(job.id, Some(&error), later(1)).await.expect("finished"));
    assert!(!tx.job_finish(job.id, None, later(2)).await.expect("once"));
    tx.commit().await.expect("commits");
    let read = store.job_fetch(job.id).await.expect("read").expect("there");
    assert_eq!((read.state, read.error), (JobState::Failed, Some(error)));
    let tx = store.begin().await.expect("begins");
    assert_eq!(tx.jobs_prune(later(2)).await.expect("pruned"), 1);
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
    assert_eq!(
        store
            .task_list(of.app.id, Order::NEWEST, Page::ALL)
            .await
            .expect("read")
            .total,
        2
    );
}

async fn domains_are_shared_or_private(store: &TestStore) {
    let home = home(store).await;
    let domain = |name: &str, org| Domain {
        id: id(),
        name: name.parse().expect("valid"),
        org,
        internal: false,
        created_at: now(),
        updated_at: now(),
    };
    let tx = store.begin().await.expect("begins");
    tx.domain_create(&domain("apps.example.com", None))
        .await
        .expect("created");
    tx.domain_create(&domain("own.example.com", Some(home.org.id)))
        .await
        .expect("created");
    tx.commit().await.expect("commits");
    let names = |scope| async move {
        let all = DomainFilter::default();
        let order = Order {
            by: OrderBy::Name,
            descending: false,
        };
        let listed = store.domain_list(&all, scope, order, Page::ALL).await.expect("listed");
        listed
            .items
            .iter()
            .map(|domain| domain.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(Scope::All).await, ["apps.example.com", "own.example.com"]);
    assert_eq!(names(Scope::User(id())).await, ["apps.example.com"]);
    let default = store.domain_default().await.expect("read").expect("there");
    assert_eq!(default.name.as_str(), "apps.example.com");
}

async fn the_schema_goes_down_and_up(store: &TestStore) {
    store.close().await;
    store::testing::schema_down(&store.location()).await;
    let again = store.again().await;
    assert_eq!(again.event_newest().await.expect("read"), 0);
    again.close().await;
}

async fn many_writers_all_get_through(store: &TestStore) {
    let home = home(store).await;
    let writers: Vec<_> = (0..100)
        .map(|n| {
            let (store, space) = (store.store.clone(), home.space.id);
            tokio::spawn(async move {
                let tx = store.begin().await.expect("begins");
                let app = app(space, &format!("app-{n}"));
                tx.app_create(&app).await.expect("created");
                match n % 4 {
                    0 => drop(tx),
                    1 => {
                        let twice = tx.app_create(&app).await;
                        assert!(twice.is_err());
                    }
                    _ => {
                        tx.commit().await.expect("commits");
                        let read = store.app_fetch(app.id).await.expect("read");
                        assert!(read.is_some(), "what is acknowledged is seen");
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("ends");
    }
    let all = AppFilter::default();
    let listed = store
        .app_list(&all, Scope::All, Order::default(), Page::ALL)
        .await
        .expect("listed");
    assert_eq!(listed.total, 50);
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

/// What a crash of the process would leave: the files as they are at the moment when a commit is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_on_disk() {
    let store = TestStore::open(store::testing::Engine::Sqlite).await;
    let home = home(&store).await;
    let Location::Sqlite(path) = store.location() else {
        panic!("asked for SQLite")
    };
    let acknowledged = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let writers: Vec<_> = (0..50)
        .map(|n| {
            let (store, space, acknowledged) = (store.store.clone(), home.space.id, acknowledged.clone());
            tokio::spawn(async move {
                let app = app(space, &format!("app-{n}"));
                let tx = store.begin().await.expect("begins");
                tx.app_create(&app).await.expect("created");
                tx.commit().await.expect("commits");
                acknowledged.lock().expect("not poisoned").push(app.id);
            })
        })
        .collect();
    for (n, writer) in writers.into_iter().enumerate() {
        writer.await.expect("written");
        if n % 10 != 0 {
            continue;
        }
        let sure = acknowledged.lock().expect("not poisoned").clone();
        let copy = tempfile::tempdir().expect("a folder");
        for end in ["db", "db-wal"] {
            std::fs::copy(path.with_extension(end), copy.path().join(format!("paas.{end}"))).expect("copied");
        }
        let location = Location::Sqlite(copy.path().join("paas.db"));
        let survivor = Store::open(location, store::testing::keys()).await.expect("recovers");
        for app in sure {
            assert!(survivor.app_fetch(app).await.expect("read").is_some(), "{app}");
        }
        survivor.close().await;
    }
    store.remove().await;
}
