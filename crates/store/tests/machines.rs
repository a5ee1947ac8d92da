//! Tokens to join with are good once, for one role, and for a time; machines are known until they are revoked.

mod common;

use common::now;
use model::machine::{Machine, Role};
use store::testing::TestStore;
use store::{JoinToken, Refused, StoredMachine};
use time::Duration;
use uuid::Uuid;

fn machine(role: Role, id: u128) -> Machine {
    Machine {
        role,
        id: Uuid::from_u128(id),
    }
}

async fn token(store: &TestStore, id: u128, role: Role) -> JoinToken {
    let token = JoinToken {
        id: Uuid::from_u128(id),
        digest: vec![u8::try_from(id).expect("small"); 32],
        role,
        label: "rack 1".to_owned(),
        max_memory_mb: Some(4096),
        created_at: now(),
        valid_until: now() + Duration::hours(1),
        used: None,
    };
    let tx = store.begin().await.expect("begins");
    tx.join_token_create(&token).await.expect("made");
    tx.commit().await.expect("commits");
    token
}

async fn used(store: &TestStore, token: &JoinToken, digest: &[u8], by: Machine, at: model::Timestamp) -> bool {
    let tx = store.begin().await.expect("begins");
    let used = tx.join_token_use(token.id, digest, by, at).await.expect("asked");
    tx.commit().await.expect("commits");
    used.is_some()
}

async fn tokens_are_good_once(store: &TestStore) {
    let made = token(store, 1, Role::Cell).await;
    let (cell, router) = (machine(Role::Cell, 8), machine(Role::Router, 8));
    let refusal = |digest: Vec<u8>, role, at| async move {
        let refusal = store.join_token_refusal(Uuid::from_u128(1), &digest, role, at).await;
        refusal.expect("asked")
    };
    assert!(!used(store, &made, &[9; 32], cell, now()).await, "forged");
    assert_eq!(refusal(vec![9; 32], Role::Cell, now()).await, Refused::Unknown);
    assert!(
        !used(store, &made, &made.digest, router, now()).await,
        "of another role"
    );
    assert_eq!(
        refusal(made.digest.clone(), Role::Router, now()).await,
        Refused::Role(Role::Cell)
    );
    let late = made.valid_until;
    assert!(!used(store, &made, &made.digest, cell, late).await, "expired");
    assert_eq!(refusal(made.digest.clone(), Role::Cell, late).await, Refused::Expired);
    assert!(used(store, &made, &made.digest, cell, now()).await);
    assert!(!used(store, &made, &made.digest, cell, now()).await, "used");
    assert_eq!(refusal(made.digest.clone(), Role::Cell, now()).await, Refused::Used);
    let listed = store.join_token_list(late, 10).await.expect("listed");
    assert_eq!(listed.len(), 1, "used ones stay");
    assert_eq!(listed[0].used.map(|(_, by)| by), Some(cell.id));
    assert_eq!(listed[0].max_memory_mb, Some(4096));
    let tx = store.begin().await.expect("begins");
    assert!(tx.join_token_delete(made.id).await.expect("asked"));
    assert!(!tx.join_token_delete(made.id).await.expect("asked"));
    tx.commit().await.expect("commits");
}

async fn machines_are_known_until_they_are_revoked(store: &TestStore) {
    let joined = StoredMachine {
        machine: machine(Role::Cell, 5),
        name: "host5".to_owned(),
        label: String::new(),
        max_memory_mb: None,
        key_digest: vec![1; 32],
        joined_at: now(),
        certificate_until: now() + Duration::days(1),
        revoked_at: None,
    };
    let tx = store.begin().await.expect("begins");
    tx.machine_put(&joined).await.expect("put");
    let until = now() + Duration::days(2);
    let renewed = tx.machine_renewed(joined.machine, &[2; 32], until).await;
    assert!(renewed.expect("renewed"));
    let stranger = machine(Role::Router, 5);
    assert!(!tx.machine_renewed(stranger, &[2; 32], until).await.expect("asked"));
    tx.controller_seen("https://10.0.0.1:8182", now()).await.expect("seen");
    tx.controller_seen("https://10.0.0.2:8182", now() - Duration::days(3))
        .await
        .expect("seen");
    tx.commit().await.expect("commits");
    let known = store
        .machine_fetch(joined.machine)
        .await
        .expect("asked")
        .expect("known");
    assert_eq!(
        (known.key_digest[0], known.certificate_until, known.revoked_at),
        (2, until, None)
    );
    assert_eq!(store.machine_fetch(stranger).await.expect("asked"), None);
    let controllers = store.controllers_seen(now() - Duration::days(1)).await;
    assert_eq!(controllers.expect("listed"), ["https://10.0.0.1:8182"]);

    let tx = store.begin().await.expect("begins");
    assert!(tx.machine_revoke(joined.machine, now()).await.expect("asked"));
    assert!(!tx.machine_revoke(stranger, now()).await.expect("asked"));
    assert!(
        !tx.machine_renewed(joined.machine, &[3; 32], until)
            .await
            .expect("asked")
    );
    tx.machine_put(&joined).await.expect("joins again");
    tx.commit().await.expect("commits");
    let known = store.machine_list().await.expect("listed");
    assert!(known.len() == 1 && known[0].revoked_at.is_some(), "{known:?}");
}

store::on_both_engines!(tokens_are_good_once, machines_are_known_until_they_are_revoked);
