//! Security groups: who sees them, where they are in force, what a cell is told; on both engines.

mod common;

use common::*;
use model::id::{SecurityGroupId, SpaceId};
use model::resource::{Role, RoleType};
use model::security::{SecurityGroup, SecurityProtocol, SecurityRule, Use, Uses};
use store::testing::{TestStore, unique};
use store::*;

store::on_both_engines!(
    a_group_comes_back_as_it_went_in_and_its_name_is_its_own,
    who_reads_a_space_reads_its_groups,
    lists_are_filtered_by_use_and_space,
    a_cell_hears_of_its_spaces_alone,
    what_changes_is_told,
);

fn group(running: bool, staging: bool) -> SecurityGroup {
    SecurityGroup {
        id: id(),
        name: unique("group"),
        rules: vec![SecurityRule::new(SecurityProtocol::All, "1.1.1.1,2.0.0.0/8")],
        globally: Uses { running, staging },
        created_at: now(),
        updated_at: now(),
    }
}

async fn created(store: &TestStore, group: &SecurityGroup, running: &[SpaceId], staging: &[SpaceId]) {
    let tx = store.begin().await.expect("begins");
    tx.security_group_create(group).await.expect("created");
    tx.security_group_bind(group.id, running, Use::Running)
        .await
        .expect("bound");
    tx.security_group_bind(group.id, staging, Use::Staging)
        .await
        .expect("bound");
    tx.commit().await.expect("commits");
}

async fn a_group_comes_back_as_it_went_in_and_its_name_is_its_own(store: &TestStore) {
    let home = home(store).await;
    let mut one = group(true, false);
    created(store, &one, &[home.space.id], &[]).await;
    let read = store.security_group_fetch(one.id, Scope::All).await.expect("read");
    assert_eq!(read.as_ref(), Some(&one));
    let tx = store.begin().await.expect("begins");
    let other = SecurityGroup {
        id: id(),
        ..one.clone()
    };
    let error = tx.security_group_create(&other).await.expect_err("taken");
    assert!(
        matches!(
            error,
            StoreError::Taken {
                what: "security group name"
            }
        ),
        "{error:?}"
    );
    drop(tx);
    one.rules.clear();
    one.globally.staging = true;
    one.updated_at = later(1);
    let tx = store.begin().await.expect("begins");
    assert!(tx.security_group_update(&one).await.expect("updated"));
    // Twice is once.
    tx.security_group_bind(one.id, &[home.space.id], Use::Running)
        .await
        .expect("bound");
    tx.commit().await.expect("commits");
    assert_eq!(
        store
            .security_group_fetch(one.id, Scope::All)
            .await
            .expect("read")
            .as_ref(),
        Some(&one)
    );
    let spaces = store.security_group_spaces(&[one.id], Scope::All).await.expect("read");
    assert_eq!(spaces[&one.id].running, [home.space.id]);
    let tx = store.begin().await.expect("begins");
    assert!(
        tx.security_group_unbind(one.id, home.space.id, Use::Running)
            .await
            .expect("unbound")
    );
    assert!(
        !tx.security_group_unbind(one.id, home.space.id, Use::Running)
            .await
            .expect("again")
    );
    assert!(tx.security_group_delete(one.id).await.expect("deleted"));
    assert!(!tx.security_group_delete(one.id).await.expect("again"));
    tx.commit().await.expect("commits");
}

async fn who_reads_a_space_reads_its_groups(store: &TestStore) {
    let (home, elsewhere) = (home(store).await, common::home(store).await);
    let reader = user(&unique("reader"));
    let tx = store.begin().await.expect("begins");
    tx.user_create(&reader).await.expect("created");
    let role = Role {
        id: id(),
        user: reader.user.id,
        role: RoleType::SpaceAuditor,
        org: home.org.id,
        space: Some(home.space.id),
        created_at: now(),
    };
    tx.role_create(&role).await.expect("created");
    tx.commit().await.expect("commits");
    let (global, own, foreign) = (group(false, true), group(false, false), group(false, false));
    created(store, &global, &[], &[]).await;
    created(store, &own, &[elsewhere.space.id], &[home.space.id]).await;
    created(store, &foreign, &[elsewhere.space.id], &[]).await;
    let scope = Scope::User(reader.user.id);
    let ids: Vec<SecurityGroupId> = vec![global.id, own.id, foreign.id];
    let filter = SecurityGroupFilter {
        ids: Some(ids.clone()),
        ..SecurityGroupFilter::default()
    };
    let seen = store
        .security_group_list(&filter, scope, Order::default(), Page::ALL)
        .await
        .expect("read");
    let mut names: Vec<&str> = seen.items.iter().map(|group| group.name.as_str()).collect();
    names.sort_unstable();
    let mut expected = [global.name.as_str(), own.name.as_str()];
    expected.sort_unstable();
    assert_eq!((names, seen.total), (expected.to_vec(), 2));
    assert!(
        store
            .security_group_fetch(foreign.id, scope)
            .await
            .expect("read")
            .is_none()
    );
    let spaces = store.security_group_spaces(&ids, scope).await.expect("read");
    assert_eq!(spaces[&own.id].staging, [home.space.id]);
    assert!(spaces[&own.id].running.is_empty() && !spaces.contains_key(&foreign.id));
}

async fn lists_are_filtered_by_use_and_space(store: &TestStore) {
    let home = home(store).await;
    let (global, bound) = (group(true, false), group(false, false));
    created(store, &global, &[], &[]).await;
    created(store, &bound, &[], &[home.space.id]).await;
    let ids = Some(vec![global.id, bound.id]);
    let of = |filter: SecurityGroupFilter| {
        let filter = SecurityGroupFilter {
            ids: ids.clone(),
            ..filter
        };
        async move {
            let list = store.security_group_list(&filter, Scope::All, Order::default(), Page::ALL);
            list.await
                .expect("read")
                .items
                .into_iter()
                .map(|group| group.id)
                .collect::<Vec<_>>()
        }
    };
    let none = SecurityGroupFilter::default;
    let globally = |running, staging| SecurityGroupFilter {
        globally_running: running,
        globally_staging: staging,
        ..none()
    };
    assert_eq!(of(globally(Some(true), None)).await, [global.id]);
    assert_eq!(of(globally(Some(false), None)).await, [bound.id]);
    assert_eq!(of(globally(None, Some(true))).await, []);
    let spaces = Some(vec![home.space.id]);
    assert_eq!(
        of(SecurityGroupFilter {
            staging_spaces: spaces.clone(),
            ..none()
        })
        .await,
        [bound.id]
    );
    assert_eq!(
        of(SecurityGroupFilter {
            running_spaces: spaces,
            ..none()
        })
        .await,
        []
    );
    let in_force = |use_| SecurityGroupFilter {
        in_force: Some((home.space.id, use_)),
        ..none()
    };
    assert_eq!(of(in_force(Use::Running)).await, [global.id]);
    assert_eq!(of(in_force(Use::Staging)).await, [bound.id]);
}

async fn a_cell_hears_of_its_spaces_alone(store: &TestStore) {
    let of = running(store).await;
    let elsewhere = home(store).await;
    let cell = cell(store).await;
    let (global, own, foreign) = (group(true, true), group(false, false), group(false, false));
    created(store, &global, &[], &[]).await;
    created(store, &own, &[of.home.space.id], &[]).await;
    created(store, &foreign, &[elsewhere.space.id], &[]).await;
    let policies = store.security_policies(cell.id).await.expect("read");
    assert!(policies.spaces.is_empty() && policies.everywhere.running.contains(&global.id));
    let tx = store.begin().await.expect("begins");
    tx.work_insert_batch(&[placement(&of, cell.id, 0)], now())
        .await
        .expect("inserted");
    tx.commit().await.expect("commits");
    let policies = store.security_policies(cell.id).await.expect("read");
    assert!(policies.spaces[&of.home.space.id].running.contains(&own.id));
    assert!(!policies.groups.contains_key(&foreign.id) && !policies.spaces.contains_key(&elsewhere.space.id));
    let rules = policies.rules_of(of.home.space.id, Use::Running).count();
    assert!(rules >= 2, "{policies:?}");
    // A space that goes takes its bindings with it.
    let tx = store.begin().await.expect("begins");
    tx.space_delete(elsewhere.space.id).await.expect("deleted");
    tx.commit().await.expect("commits");
    let spaces = store
        .security_group_spaces(&[foreign.id], Scope::All)
        .await
        .expect("read");
    assert!(spaces.is_empty());
}

async fn what_changes_is_told(store: &TestStore) {
    let home = home(store).await;
    let mut topics = store.subscribe();
    let one = group(false, false);
    created(store, &one, &[home.space.id], &[]).await;
    // Others are told of what was made around it.
    while topics.next().await.expect("open") != Topic::Security {}
}
