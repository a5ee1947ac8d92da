//! Tenants, apps and domains: names, scopes, encryption, on both engines.

mod common;

use common::*;
use model::resource::*;
use store::testing::TestStore;
use store::*;

store::on_both_engines!(
    names_are_unique_whatever_their_case,
    an_app_comes_back_as_it_went_in,
    environments_are_not_readable_at_rest,
    lists_are_filtered_scoped_ordered_and_paged,
    deleting_an_app_takes_what_is_its,
    domains_are_shared_or_private,
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
    five_apps_and_one(store, &home, &other, &reader, &manager).await;

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
    tenants_that_are_seen(store, &home, &reader).await;
}

/// Five apps that `reader` may see, and one that `manager` may.
async fn five_apps_and_one(store: &TestStore, home: &Home, other: &Home, reader: &StoredUser, manager: &StoredUser) {
    let tx = store.begin().await.expect("begins");
    for n in 0..5 {
        let mut app = app(home.space.id, &format!("app-{n}"));
        app.created_at = later(n);
        tx.app_create(&app).await.expect("created");
    }
    tx.app_create(&app(other.space.id, "app-1")).await.expect("created");
    for (user, role, space) in [
        (reader, RoleType::SpaceAuditor, Some(home.space.id)),
        (manager, RoleType::OrganizationManager, None),
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
}

/// A reader of a space sees it, its organisation, and nothing else.
async fn tenants_that_are_seen(store: &TestStore, home: &Home, reader: &StoredUser) {
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

async fn domains_are_shared_or_private(store: &TestStore) {
    let home = home(store).await;
    let domain = |name: &str, org| Domain {
        id: id(),
        name: name.parse().expect("valid"),
        org,
        internal: false,
        metadata: model::resource::Metadata::default(),
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
