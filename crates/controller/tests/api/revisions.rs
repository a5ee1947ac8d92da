//! Revisions, and the way back to one.

use crate::client::*;
use serde_json::{Value, json};
use store::testing::TestStore;

store::on_both_engines!(
    what_is_new_makes_a_revision,
    a_rollback_brings_droplet_environment_and_command_back,
    revisions_are_for_those_who_may_see_the_app,
);

async fn descriptions(admin: &Client<'_>, app: &str) -> Vec<String> {
    let listed = admin.get(&format!("/v3/apps/{app}/revisions")).await.expect(200);
    let all = listed.body["resources"].as_array().expect("a list").clone();
    all.iter()
        .map(|of| of["description"].as_str().expect("a text").to_owned())
        .collect()
}

fn of_app(app: &str) -> Value {
    json!({"relationships": {"app": {"data": {"guid": app}}}})
}

async fn deploy(admin: &Client<'_>, app: &str, what: &str, guid: &str) -> Answer {
    let mut body = of_app(app);
    body[what] = json!({"guid": guid});
    admin.post("/v3/deployments", body).await
}

async fn what_is_new_makes_a_revision(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    deploy(&admin, &app, "droplet", &droplet).await.expect(201);
    admin
        .post(&format!("/v3/apps/{app}/actions/restart"), json!({}))
        .await
        .expect(200);
    assert_eq!(
        descriptions(&admin, &app).await,
        ["Initial revision."],
        "nothing is new at a restart"
    );
    let variables = format!("/v3/apps/{app}/environment_variables");
    admin.patch(&variables, json!({"var": {"A": "1"}})).await.expect(200);
    admin
        .patch(&format!("/v3/apps/{app}/processes/web"), json!({"command": "run"}))
        .await
        .expect(200);
    admin.post("/v3/deployments", of_app(&app)).await.expect(201);
    let all = descriptions(&admin, &app).await;
    assert_eq!(
        all[1],
        "Custom start command added for 'web' process. New environment variables deployed."
    );
    let newest = admin
        .get(&format!("/v3/apps/{app}/revisions?versions=2"))
        .await
        .expect(200);
    let newest = &newest.body["resources"][0];
    assert_eq!(
        (&newest["processes"]["web"]["command"], &newest["deployable"]),
        (&json!("run"), &json!(true))
    );
    let path = format!("/v3/revisions/{}", newest["guid"].as_str().expect("a guid"));
    let env = admin.get(&format!("{path}/environment_variables")).await.expect(200);
    assert_eq!(env.body["var"], json!({"A": "1"}));
    let labelled = admin
        .patch(&path, json!({"metadata": {"labels": {"good": "yes"}}}))
        .await
        .expect(200);
    assert_eq!(labelled.body["metadata"]["labels"]["good"], "yes");
    let deployed = admin
        .get(&format!("/v3/apps/{app}/revisions/deployed"))
        .await
        .expect(200);
    assert_eq!(deployed.body["resources"][0]["version"], 2);
    admin
        .post(&format!("/v3/apps/{app}/actions/stop"), json!({}))
        .await
        .expect(200);
    let deployed = admin
        .get(&format!("/v3/apps/{app}/revisions/deployed"))
        .await
        .expect(200);
    assert_eq!(deployed.body["resources"], json!([]));
    let feature = admin
        .get(&format!("/v3/apps/{app}/features/revisions"))
        .await
        .expect(200);
    assert_eq!(feature.body["enabled"], true);
    let _ = store;
}

async fn a_rollback_brings_droplet_environment_and_command_back(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, first) = admin.staged("shop").await;
    let variables = format!("/v3/apps/{app}/environment_variables");
    admin.patch(&variables, json!({"var": {"A": "old"}})).await.expect(200);
    deploy(&admin, &app, "droplet", &first).await.expect(201);
    admin.patch(&variables, json!({"var": {"A": "new"}})).await.expect(200);
    admin
        .patch(&format!("/v3/apps/{app}/processes/web"), json!({"command": "run"}))
        .await
        .expect(200);
    let second = admin.stage(&app, "console.log(2)").await;
    deploy(&admin, &app, "droplet", &second).await.expect(201);
    let listed = admin
        .get(&format!("/v3/apps/{app}/revisions?versions=1"))
        .await
        .expect(200);
    let revision = listed.body["resources"][0]["guid"].as_str().expect("a guid").to_owned();
    let back = deploy(&admin, &app, "revision", &revision).await.expect(201);
    assert_eq!(back.body["droplet"]["guid"], first);
    let desired = store.processes_desired().await.expect("read");
    let web = desired
        .iter()
        .find(|of| of.process.process_type.as_str() == "web")
        .expect("there");
    let version = web
        .versions
        .iter()
        .find(|of| Some(of.version.id) == web.process.version)
        .expect("there");
    assert_eq!(version.version.env.0["A"].expose(), "old");
    assert_eq!(
        (&version.version.command, version.droplet.id.to_string()),
        (&None, first.clone())
    );
    let all = descriptions(&admin, &app).await;
    assert!(
        all[2].ends_with("New environment variables deployed. Rolled back to revision 1."),
        "{all:?}"
    );
    let mut both = of_app(&app);
    (both["revision"], both["droplet"]) = (json!({"guid": revision}), json!({"guid": first}));
    let refused = admin.post("/v3/deployments", both).await.expect(422);
    assert_eq!(refused.detail(), "Cannot set both fields 'droplet' and 'revision'");
    let (other, _) = admin.staged("other").await;
    deploy(&admin, &other, "revision", &revision).await.expect(422);
}

async fn revisions_are_for_those_who_may_see_the_app(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    deploy(&admin, &app, "droplet", &droplet).await.expect(201);
    let listed = admin.get(&format!("/v3/apps/{app}/revisions")).await.expect(200);
    let revision = listed.body["resources"][0]["guid"].as_str().expect("a guid").to_owned();
    let stranger = platform.user("stranger").await;
    for path in [
        format!("/v3/apps/{app}/revisions"),
        format!("/v3/apps/{app}/revisions/deployed"),
        format!("/v3/revisions/{revision}"),
        format!("/v3/revisions/{revision}/environment_variables"),
    ] {
        stranger.get(&path).await.expect(404);
    }
    let _ = store;
}
