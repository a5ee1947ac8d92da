//! Usage events: written with what they tell of, read by operators from where they left off.

use crate::client::*;
use serde_json::{Value, json};
use store::testing::TestStore;

store::on_both_engines!(
    whatever_starts_sizes_or_stops_a_process_is_told,
    tasks_and_builds_are_told,
    services_are_told,
    reading_goes_on_after_an_event_and_begins_anew,
    usage_is_for_operators,
);

/// A stopped app with a droplet.
async fn ready(admin: &Client<'_>) -> (String, String) {
    let (app, droplet) = admin.staged("shop").await;
    let path = format!("/v3/apps/{app}/relationships/current_droplet");
    admin.patch(&path, json!({"data": {"guid": droplet}})).await.expect(200);
    (app, droplet)
}

async fn events(admin: &Client<'_>, path: &str) -> Vec<Value> {
    let listed = admin.get(&format!("/v3/{path}")).await.expect(200);
    listed.body["resources"].as_array().expect("a list").clone()
}

/// States, instances and memory of the web process's events, current after previous.
async fn of_web(admin: &Client<'_>) -> Vec<String> {
    let all = events(admin, "app_usage_events?per_page=5000").await;
    let web = all.iter().filter(|event| event["process"]["type"] == "web");
    let text = |value: &Value| value.to_string().replace('"', "");
    web.map(|event| {
        let change = |key: &str| format!("{}<{}", text(&event[key]["current"]), text(&event[key]["previous"]));
        [
            change("state"),
            change("instance_count"),
            change("memory_in_mb_per_instance"),
        ]
        .join(" ")
    })
    .collect()
}

async fn whatever_starts_sizes_or_stops_a_process_is_told(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, _) = ready(&admin).await;
    assert_eq!(
        of_web(&admin).await,
        Vec::<String>::new(),
        "what is stopped takes nothing"
    );
    let scale = format!("/v3/apps/{app}/processes/web/actions/scale");
    admin.post(&scale, json!({"instances": 2})).await.expect(202);
    let action = |what: &str| format!("/v3/apps/{app}/actions/{what}");
    admin.post(&action("start"), json!({})).await.expect(200);
    admin.post(&action("start"), json!({})).await.expect(200);
    admin.post(&scale, json!({"instances": 3})).await.expect(202);
    admin.post(&scale, json!({"memory_in_mb": 64})).await.expect(202);
    let rename = json!({"name": "store"});
    admin.patch(&format!("/v3/apps/{app}"), rename).await.expect(200);
    admin.post(&action("stop"), json!({})).await.expect(200);
    admin.post(&action("start"), json!({})).await.expect(200);
    let deleted = admin.delete(&format!("/v3/apps/{app}")).await.expect(202);
    admin.job(deleted).await;
    assert_eq!(
        of_web(&admin).await,
        [
            "STARTED<STOPPED 2<2 256<256",
            "STARTED<STARTED 3<2 256<256",
            "STARTED<STARTED 3<3 64<256",
            "STOPPED<STARTED 3<3 64<64",
            "STARTED<STOPPED 3<3 64<64",
            "STOPPED<STARTED 3<3 64<64",
        ]
    );
    let all = events(&admin, "app_usage_events?per_page=5000").await;
    let last = all
        .iter()
        .rfind(|event| event["process"]["type"] == "web")
        .expect("there");
    assert_eq!(
        (&last["app"]["guid"], &last["app"]["name"]),
        (&json!(app), &json!("store"))
    );
    assert_eq!(last["space"]["name"], "dev");
    assert_eq!(last["task"], json!({"guid": null, "name": null}));
    assert!(last["created_at"].as_str().expect("a time") > "2020", "{last}");
    let own = admin
        .get(&format!(
            "/v3/app_usage_events/{}",
            last["guid"].as_str().expect("a guid")
        ))
        .await;
    assert_eq!(own.expect(200).body, *last);
}

async fn tasks_and_builds_are_told(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, _) = ready(&admin).await;
    let path = format!("/v3/apps/{app}/tasks");
    let task = admin
        .post(&path, json!({"command": "true", "name": "once"}))
        .await
        .expect(202)
        .guid();
    let mut ended = store
        .task_fetch(task.parse().expect("a guid"))
        .await
        .expect("read")
        .expect("there");
    ended.state = model::resource::TaskState::Succeeded;
    let tx = store.begin().await.expect("begins");
    assert!(tx.task_step(&ended).await.expect("ended"));
    assert!(!tx.task_step(&ended).await.expect("it is over"));
    tx.commit().await.expect("commits");
    let all = events(&admin, "app_usage_events").await;
    let states: Vec<_> = all
        .iter()
        .filter_map(|event| event["state"]["current"].as_str())
        .collect();
    let staged = ["STAGING_STARTED", "STAGING_STOPPED", "BUILDPACK_SET"];
    let of_builds: Vec<_> = states.iter().filter(|state| staged.contains(state)).collect();
    assert_eq!(of_builds, staged.iter().collect::<Vec<_>>());
    let of_tasks: Vec<_> = all
        .iter()
        .filter(|event| event["task"]["guid"] == json!(task))
        .collect();
    assert_eq!(of_tasks.len(), 2, "{states:?}");
    assert_eq!(
        (&of_tasks[1]["state"]["current"], &of_tasks[1]["task"]["name"]),
        (&json!("TASK_STOPPED"), &json!("once"))
    );
}

async fn services_are_told(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let space = admin.space().await;
    let body = json!({"type": "user-provided", "name": "db", "relationships": {"space": {"data": {"guid": space}}}});
    let instance = admin.post("/v3/service_instances", body).await.expect(201).guid();
    let own = format!("/v3/service_instances/{instance}");
    admin.patch(&own, json!({"tags": ["a"]})).await.expect(200);
    admin.patch(&own, json!({"name": "data"})).await.expect(200);
    admin.delete(&own).await.expect(204);
    let all = events(
        &admin,
        "service_usage_events?service_instance_types=user_provided_service_instance",
    )
    .await;
    let told: Vec<_> = all
        .iter()
        .map(|event| (event["state"].clone(), event["service_instance"]["name"].clone()))
        .collect();
    let named = |state: &str, name: &str| (json!(state), json!(name));
    assert_eq!(
        told,
        [
            named("CREATED", "db"),
            named("UPDATED", "data"),
            named("DELETED", "data")
        ]
    );
    assert_eq!(all[0]["service_plan"], json!({"guid": null, "name": null}));
    let none = events(
        &admin,
        "service_usage_events?service_instance_types=managed_service_instance",
    )
    .await;
    assert_eq!(none, Vec::<Value>::new());
    let _ = store;
}

async fn reading_goes_on_after_an_event_and_begins_anew(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, _) = ready(&admin).await;
    admin
        .post(&format!("/v3/apps/{app}/actions/start"), json!({}))
        .await
        .expect(200);
    let all = events(&admin, "app_usage_events").await;
    assert!(all.len() >= 4, "{all:?}");
    let guid = |event: &Value| event["guid"].as_str().expect("a guid").to_owned();
    let after = events(&admin, &format!("app_usage_events?after_guid={}", guid(&all[1]))).await;
    assert_eq!(after, all[2..]);
    let two = format!(
        "app_usage_events?guids={},{}&order_by=-created_at",
        guid(&all[0]),
        guid(&all[2])
    );
    let two = events(&admin, &two).await;
    assert_eq!(two, [all[2].clone(), all[0].clone()]);
    for (after, detail) in [
        ("a,b".to_owned(), "After guid filter accepts only one guid"),
        (app.clone(), "After guid filter must be a valid app usage event guid."),
    ] {
        let refused = admin
            .get(&format!("/v3/app_usage_events?after_guid={after}"))
            .await
            .expect(422);
        assert_eq!(refused.detail(), detail);
    }
    let anew = "actions/destructively_purge_all_and_reseed";
    let answered = admin
        .post(&format!("/v3/app_usage_events/{anew}"), json!({}))
        .await
        .expect(200);
    assert_eq!(answered.body, json!({}));
    assert_eq!(of_web(&admin).await, ["STARTED<STARTED 1<1 256<256"]);
    admin
        .post(&format!("/v3/apps/{app}/actions/stop"), json!({}))
        .await
        .expect(200);
    assert_eq!(of_web(&admin).await.len(), 2, "what was told anew is known");
    let space = admin.space().await;
    let body = json!({"type": "user-provided", "name": "db", "relationships": {"space": {"data": {"guid": space}}}});
    admin.post("/v3/service_instances", body).await.expect(201);
    admin
        .post(&format!("/v3/service_usage_events/{anew}"), json!({}))
        .await
        .expect(200);
    let services = events(&admin, "service_usage_events").await;
    assert_eq!((services.len(), &services[0]["state"]), (1, &json!("CREATED")));
    let tx = store.begin().await.expect("begins");
    let later = time::OffsetDateTime::now_utc() + time::Duration::days(1);
    assert!(tx.usage_prune(later).await.expect("pruned") > 0);
    tx.commit().await.expect("commits");
    for path in ["app_usage_events", "service_usage_events"] {
        assert_eq!(events(&admin, path).await.len(), 1, "the newest of each kind stays");
    }
}

async fn usage_is_for_operators(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, _) = ready(&admin).await;
    admin
        .post(&format!("/v3/apps/{app}/actions/start"), json!({}))
        .await
        .expect(200);
    let own = format!(
        "/v3/app_usage_events/{}",
        events(&admin, "app_usage_events").await[0]["guid"]
            .as_str()
            .expect("a guid")
    );
    admin
        .get("/v3/app_usage_events/6f3a1c5e-0000-4000-8000-000000000000")
        .await
        .expect(404);
    let refused = admin.get("/v3/app_usage_events?names=a").await.expect(400);
    assert!(
        refused.detail().contains("Unknown query parameter(s): 'names'"),
        "{}",
        refused.text
    );
    admin.get(&own).await.expect(200);
    let _ = store;
}
