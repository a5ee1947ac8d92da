//! Canary deployments: what is asked for, what is shown, and the words of a user that move them.

use crate::client::*;
use model::resource::DeploymentState;
use serde_json::{Value, json};
use store::testing::TestStore;

store::on_both_engines!(
    a_canary_goes_step_by_step,
    a_paused_canary_is_taken_back_or_taken_over,
    what_is_no_canary_is_refused,
    deployments_carry_metadata_and_their_revision,
);

/// Brings the deployment under way to `state`, as the scheduler does.
async fn reach(store: &TestStore, guid: &str, state: DeploymentState) {
    let id = guid.parse().expect("a guid");
    let mut deployment = store.deployment_fetch(id).await.expect("read").expect("there");
    let from = deployment.state;
    deployment.state = state;
    let tx = store.begin().await.expect("begins");
    assert!(tx.deployment_step(&deployment, from).await.expect("stepped"));
    tx.commit().await.expect("commits");
}

fn canary(app: &str, weights: &[i64]) -> Value {
    let steps: Vec<Value> = weights
        .iter()
        .map(|weight| json!({"instance_weight": weight}))
        .collect();
    json!({
        "strategy": "canary",
        "options": {"max_in_flight": 2, "canary": {"steps": steps}},
        "relationships": {"app": {"data": {"guid": app}}},
    })
}

/// An app that serves, so that a canary has something to stand beside.
async fn serving(store: &TestStore, admin: &Client<'_>) -> String {
    let (app, droplet) = admin.staged("shop").await;
    let body = json!({"droplet": {"guid": droplet}, "relationships": {"app": {"data": {"guid": app}}}});
    let first = admin.post("/v3/deployments", body).await.expect(201).guid();
    reach(store, &first, DeploymentState::Deployed).await;
    app
}

async fn a_canary_goes_step_by_step(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = serving(store, &admin).await;
    let begun = admin.post("/v3/deployments", canary(&app, &[20, 50])).await.expect(201);
    assert_eq!(begun.body["strategy"], "canary");
    assert_eq!(
        begun.body["options"],
        json!({"max_in_flight": 2, "canary": {"steps": [{"instance_weight": 20}, {"instance_weight": 50}]}})
    );
    let path = format!("/v3/deployments/{}", begun.guid());
    let go_on = format!("{path}/actions/continue");
    let refused = admin.post(&go_on, json!({})).await.expect(422);
    assert_eq!(
        refused.detail(),
        "Cannot continue a deployment with status: ACTIVE and reason: DEPLOYING"
    );
    for step in [1, 2] {
        reach(store, &begun.guid(), DeploymentState::Paused).await;
        let paused = admin.get(&path).await.expect(200);
        assert_eq!(
            (&paused.body["status"]["value"], &paused.body["status"]["reason"]),
            (&json!("ACTIVE"), &json!("PAUSED"))
        );
        assert_eq!(
            paused.body["status"]["canary"]["steps"],
            json!({"current": step, "total": 2})
        );
        assert!(paused.body["links"]["continue"]["href"].is_string());
        let found = format!("/v3/deployments?app_guids={app}&status_values=ACTIVE&status_reasons=PAUSED");
        assert_eq!(
            admin.get(&found).await.expect(200).body["pagination"]["total_results"],
            1
        );
        admin.post(&go_on, json!({})).await.expect(200);
    }
    let last = admin.get(&path).await.expect(200);
    assert_eq!(last.body["status"]["reason"], "DEPLOYING");
    assert_eq!(
        last.body["status"]["canary"]["steps"],
        json!({"current": 2, "total": 2})
    );
    let stored = store.deployments_active().await.expect("read").remove(0);
    assert_eq!(stored.canary.expect("a canary").share(), None, "the rest follows");
    let kinds: Vec<String> = store
        .events_since(Some(&app), 0, 100)
        .await
        .expect("read")
        .into_iter()
        .map(|event| event.kind)
        .collect();
    let continued = kinds.iter().filter(|kind| *kind == "audit.app.deployment.continue");
    assert_eq!(continued.count(), 2, "{kinds:?}");
}

async fn a_paused_canary_is_taken_back_or_taken_over(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = serving(store, &admin).await;
    let serves = store.processes_desired().await.expect("read")[0].process.version;
    let begin = || async {
        admin
            .post("/v3/deployments", canary(&app, &[]))
            .await
            .expect(201)
            .guid()
    };
    let first = begin().await;
    reach(store, &first, DeploymentState::Paused).await;
    let shown = admin.get(&format!("/v3/deployments/{first}")).await.expect(200);
    assert_eq!(
        shown.body["status"]["canary"]["steps"],
        json!({"current": 1, "total": 1})
    );
    assert_eq!(shown.body["options"]["canary"], Value::Null);
    let second = begin().await;
    let superseded = admin.get(&format!("/v3/deployments/{first}")).await.expect(200);
    assert_eq!(superseded.body["status"]["reason"], "SUPERSEDED");
    let active = store.deployments_active().await.expect("read");
    assert_eq!(
        (active.len(), active[0].previous_version),
        (1, serves),
        "it never served alone"
    );
    reach(store, &second, DeploymentState::Paused).await;
    let cancel = format!("/v3/deployments/{second}/actions/cancel");
    let canceling = admin.post(&cancel, json!({})).await.expect(200);
    assert_eq!(canceling.body["status"]["reason"], "CANCELING");
    let go_on = format!("/v3/deployments/{second}/actions/continue");
    admin.post(&go_on, json!({})).await.expect(422);
    reach(store, &second, DeploymentState::Canceled).await;
    let over = admin.post(&cancel, json!({})).await.expect(422);
    assert_eq!(over.detail(), "Cannot cancel a FINALIZED deployment");
    let stranger = platform.user("stranger").await;
    stranger.post(&go_on, json!({})).await.expect(404);
}

async fn what_is_no_canary_is_refused(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = serving(store, &admin).await;
    let unsorted = "Options.canary.steps.instance_weight must be sorted in ascending order";
    let outside = "Options.canary.steps.instance_weight must be an Integer between 1-100 (inclusive)";
    for (weights, detail) in [
        (&[50, 20][..], unsorted),
        (&[0], outside),
        (&[101], outside),
        (&[-1], outside),
    ] {
        let refused = admin.post("/v3/deployments", canary(&app, weights)).await.expect(422);
        assert_eq!(refused.detail(), detail);
    }
    let mut rolling = canary(&app, &[20]);
    rolling["strategy"] = json!("rolling");
    let refused = admin.post("/v3/deployments", rolling).await.expect(422);
    assert_eq!(refused.detail(), "Options.canary are only valid for Canary deployments");
    let mut other = canary(&app, &[]);
    other["strategy"] = json!("blue-green");
    let refused = admin.post("/v3/deployments", other).await.expect(422);
    assert_eq!(
        refused.detail(),
        "Strategy 'blue-green' is not a supported deployment strategy"
    );
    for steps in [
        json!("x"),
        json!([1]),
        json!([{}]),
        json!([{"instance_weight": "5"}]),
        json!([{"weight": 5}]),
    ] {
        let mut odd = canary(&app, &[]);
        odd["options"]["canary"]["steps"] = steps;
        admin.post("/v3/deployments", odd).await.expect(422);
    }
    assert!(store.deployments_active().await.expect("read").is_empty());
}

async fn deployments_carry_metadata_and_their_revision(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = serving(store, &admin).await;
    let mut body = canary(&app, &[10]);
    body["metadata"] = json!({"labels": {"a": "1"}});
    body["options"]["web_instances"] = json!(4);
    let begun = admin.post("/v3/deployments", body).await.expect(201);
    assert_eq!(begun.body["metadata"]["labels"]["a"], "1");
    assert_eq!(begun.body["revision"]["version"], 1);
    let web = admin.get(&format!("/v3/apps/{app}/processes/web")).await.expect(200);
    assert_eq!(web.body["instances"], 4);
    let path = format!("/v3/deployments/{}", begun.guid());
    let change = json!({"metadata": {"labels": {"a": null, "b": "2"}, "annotations": {"note": "x"}}});
    admin.patch(&path, change).await.expect(200);
    let shown = admin.get(&path).await.expect(200);
    assert_eq!(
        shown.body["metadata"],
        json!({"labels": {"b": "2"}, "annotations": {"note": "x"}})
    );
    assert_eq!(shown.body["status"]["reason"], "DEPLOYING");
    let _ = store;
}
