//! Tasks, and the restart of one instance.

use crate::client::*;
use crate::push::{observe, place};
use http::Method;
use model::work::{Wanted, WorkState};
use serde_json::json;
use store::testing::TestStore;

store::on_both_engines!(
    a_task_from_creation_to_cancellation,
    tasks_are_listed_to_whom_may_see_them,
    what_is_no_task_is_refused,
    one_instance_is_replaced,
);

async fn assign(admin: &Client<'_>, app: &str, droplet: &str) {
    let path = format!("/v3/apps/{app}/relationships/current_droplet");
    admin.patch(&path, json!({"data": {"guid": droplet}})).await.expect(200);
}

async fn a_task_from_creation_to_cancellation(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let tasks = format!("/v3/apps/{app}/tasks");
    let early = admin
        .post(&tasks, json!({"command": "rake db:migrate"}))
        .await
        .expect(422);
    assert_eq!(
        early.detail(),
        "Task must have a droplet. Assign current droplet to app."
    );
    assign(&admin, &app, &droplet).await;
    let body = json!({"command": "rake db:migrate", "name": "migrate", "memory_in_mb": 128});
    let task = admin.post(&tasks, body).await.expect(202);
    assert_eq!(
        (
            &task.body["state"],
            &task.body["sequence_id"],
            &task.body["memory_in_mb"]
        ),
        (&json!("PENDING"), &json!(1), &json!(128))
    );
    assert_eq!(task.body["droplet_guid"], droplet);
    assert_eq!(task.body["result"], json!({"failure_reason": null}));
    let live = store.tasks_live().await.expect("read");
    assert_eq!((live.len(), live[0].command.as_str()), (1, "rake db:migrate"));
    // The command of a process, and its memory.
    let web = admin
        .get(&format!("/v3/apps/{app}/processes/web"))
        .await
        .expect(200)
        .guid();
    let body = json!({"template": {"process": {"guid": web}}});
    let second = admin.post(&tasks, body).await.expect(202);
    assert_eq!(
        (&second.body["command"], &second.body["sequence_id"]),
        (&json!("node server.js"), &json!(2))
    );
    assert!(
        second.body["name"].as_str().is_some_and(|name| name.len() == 8),
        "{}",
        second.text
    );
    cancelled(&platform, store, &task.guid(), &second.guid()).await;
    let events = admin
        .get(&format!("/v3/audit_events?target_guids={app}"))
        .await
        .expect(200);
    for kind in ["audit.app.task.create", "audit.app.task.cancel"] {
        assert!(events.text.contains(kind), "{kind}");
    }
}

/// Cancels both, in the two ways that clients know; the first ends.
async fn cancelled(platform: &Platform, store: &TestStore, first: &str, second: &str) {
    let admin = platform.admin().await;
    let path = format!("/v3/tasks/{first}/cancel");
    let cancelled = admin.call(Method::PUT, &path, None).await.expect(202);
    assert_eq!(cancelled.body["state"], "CANCELING");
    let path = format!("/v3/tasks/{second}/actions/cancel");
    admin.post(&path, json!({})).await.expect(202);
    let mut over = store
        .task_fetch(first.parse().expect("a guid"))
        .await
        .expect("read")
        .expect("there");
    over.state = model::resource::TaskState::Failed;
    over.failure = Some("task was cancelled".to_owned());
    let tx = store.begin().await.expect("begins");
    tx.task_step(&over).await.expect("ended");
    tx.commit().await.expect("commits");
    let again = admin
        .call(Method::PUT, &format!("/v3/tasks/{first}/cancel"), None)
        .await
        .expect(422);
    assert_eq!(again.detail(), "Task state is FAILED and therefore cannot be canceled");
    let ended = admin.get(&format!("/v3/tasks/{first}")).await.expect(200);
    assert_eq!(ended.body["result"]["failure_reason"], "task was cancelled");
}

async fn tasks_are_listed_to_whom_may_see_them(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    assign(&admin, &app, &droplet).await;
    let tasks = format!("/v3/apps/{app}/tasks");
    for name in ["one", "two"] {
        let body = json!({"command": "echo secret", "name": name});
        admin.post(&tasks, body).await.expect(202);
    }
    assert_eq!(
        admin.get(&format!("{tasks}?sequence_ids=2")).await.expect(200).names(),
        ["two"]
    );
    assert_eq!(
        admin
            .get("/v3/tasks?states=PENDING&names=one")
            .await
            .expect(200)
            .names(),
        ["one"]
    );
    let list = admin.get(&tasks).await.expect(200);
    assert_eq!(list.body["resources"][0]["command"], "echo secret");
    let hidden = admin.get("/v3/tasks").await.expect(200);
    assert!(hidden.body["resources"][0].get("command").is_none(), "{}", hidden.text);
    let stranger = platform.user("stranger").await;
    stranger.get(&tasks).await.expect(404);
    assert_eq!(stranger.get("/v3/tasks").await.expect(200).names(), Vec::<&str>::new());
    let guid = list.body["resources"][0]["guid"].as_str().expect("a guid");
    stranger.get(&format!("/v3/tasks/{guid}")).await.expect(404);
    stranger
        .post(&format!("/v3/tasks/{guid}/actions/cancel"), json!({}))
        .await
        .expect(404);
    let _ = store;
}

async fn what_is_no_task_is_refused(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let (other, foreign) = admin.staged("other").await;
    assign(&admin, &app, &droplet).await;
    let process = admin
        .get(&format!("/v3/apps/{other}/processes/web"))
        .await
        .expect(200)
        .guid();
    for (body, status) in [
        (json!({}), 422),
        (json!({"command": " "}), 422),
        (json!({"command": "x".repeat(100_000)}), 422),
        (json!({"command": "true", "memory_in_mb": 0}), 422),
        (json!({"command": "true", "name": "a\nb"}), 422),
        (json!({"command": "true", "droplet_guid": foreign}), 422),
        (json!({"template": {"process": {"guid": process}}}), 404),
        (json!({"command": 1}), 422),
    ] {
        admin.post(&format!("/v3/apps/{app}/tasks"), body).await.expect(status);
    }
    assert!(store.tasks_live().await.expect("read").is_empty());
}

async fn one_instance_is_replaced(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let create = json!({"droplet": {"guid": droplet}, "relationships": {"app": {"data": {"guid": app}}}});
    let scale = format!("/v3/apps/{app}/processes/web/actions/scale");
    admin.post(&scale, json!({"instances": 2})).await.expect(202);
    admin.post("/v3/deployments", create).await.expect(201);
    let works = place(&platform, store, 2).await;
    for work in &works {
        observe(store, work, WorkState::Running).await;
    }
    let instance = |index: &str| format!("/v3/apps/{app}/processes/web/instances/{index}");
    admin.delete(&instance("1")).await.expect(204);
    let wanted = |at: usize| {
        let id = works[at].id;
        async move { store.work_fetch(id).await.expect("read").expect("there").wanted }
    };
    assert_eq!((wanted(0).await, wanted(1).await), (Wanted::Run, Wanted::Drain));
    for missing in ["2", "x", "-1"] {
        admin.delete(&instance(missing)).await.expect(404);
    }
    let process = admin
        .get(&format!("/v3/apps/{app}/processes/web"))
        .await
        .expect(200)
        .guid();
    admin
        .delete(&format!("/v3/processes/{process}/instances/0"))
        .await
        .expect(204);
    assert_eq!(wanted(0).await, Wanted::Drain);
}
