//! Isolation segments: who may have which, and what is refused while they are in use.

use crate::client::*;
use serde_json::{Value, json};
use store::testing::TestStore;

store::on_both_engines!(
    segments_are_made_named_and_removed,
    organisations_are_entitled_before_they_use_one,
    work_follows_the_space_then_the_organisation,
);

async fn segment(admin: &Client<'_>, name: &str) -> String {
    admin
        .post("/v3/isolation_segments", json!({"name": name}))
        .await
        .expect(201)
        .guid()
}

async fn org(admin: &Client<'_>) -> String {
    let orgs = admin.get("/v3/organizations?names=dev").await.expect(200);
    orgs.body["resources"][0]["guid"].as_str().expect("there").to_owned()
}

async fn entitle(admin: &Client<'_>, segment: &str, org: &str) -> Answer {
    let path = format!("/v3/isolation_segments/{segment}/relationships/organizations");
    admin.post(&path, json!({"data": [{"guid": org}]})).await
}

async fn segments_are_made_named_and_removed(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let body = json!({"name": "Gold", "metadata": {"labels": {"tier": "one"}}});
    let made = admin.post("/v3/isolation_segments", body).await.expect(201);
    assert_eq!(made.body["metadata"]["labels"]["tier"], "one");
    let own = format!("/v3/isolation_segments/{}", made.guid());
    assert!(
        made.body["links"]["organizations"]["href"]
            .as_str()
            .expect("a link")
            .ends_with("/organizations")
    );
    let listed = admin.get("/v3/isolation_segments?order_by=name").await.expect(200);
    assert_eq!(listed.names(), ["Gold", "shared"], "the shared one is always there");
    let labelled = admin
        .get("/v3/isolation_segments?label_selector=tier")
        .await
        .expect(200);
    assert_eq!(labelled.names(), ["Gold"]);
    for (name, detail) in [
        (
            "gold",
            "Isolation Segment names are case insensitive and must be unique",
        ),
        ("", "Name can't be blank"),
        (
            "a\u{7}b",
            "Isolation Segment names can only contain non-blank unicode characters",
        ),
    ] {
        let refused = admin
            .post("/v3/isolation_segments", json!({"name": name}))
            .await
            .expect(422);
        assert_eq!(refused.detail(), detail);
    }
    let renamed = admin.patch(&own, json!({"name": "silver"})).await.expect(200);
    assert_eq!(
        (&renamed.body["name"], &renamed.body["metadata"]["labels"]["tier"]),
        (&json!("silver"), &json!("one"))
    );
    let shared = "/v3/isolation_segments/933b4c58-120b-499a-b85d-4b6fc9e2903b";
    let refused = admin.patch(shared, json!({"name": "other"})).await.expect(422);
    assert_eq!(refused.detail(), "Cannot update the shared Isolation Segment");
    let refused = admin.delete(shared).await.expect(422);
    assert_eq!(refused.detail(), "Cannot delete the shared Isolation Segment");
    admin.delete(&own).await.expect(204);
    admin.get(&own).await.expect(404);
}

async fn organisations_are_entitled_before_they_use_one(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (gold, org, space) = (segment(&admin, "gold").await, org(&admin).await, admin.space().await);
    let (of_org, of_space) = (
        format!("/v3/organizations/{org}/relationships/default_isolation_segment"),
        format!("/v3/spaces/{space}/relationships/isolation_segment"),
    );
    let to = |guid: &str| json!({"data": {"guid": guid}});
    let refused = admin.patch(&of_org, to(&gold)).await.expect(422);
    let unable = format!(
        "Unable to assign isolation segment with guid '{gold}'. Ensure it has been entitled to the organization"
    );
    assert_eq!(refused.detail(), format!("{unable}."));
    let refused = admin.patch(&of_space, to(&gold)).await.expect(422);
    assert_eq!(refused.detail(), format!("{unable} that this space belongs to."));
    let refused = entitle(&admin, &gold, "nobody").await.expect(422);
    assert_eq!(
        refused.detail(),
        "Unable to entitle organizations ['nobody'] for the isolation segment. Ensure the organizations exist."
    );
    let entitled = entitle(&admin, &gold, &org).await.expect(200);
    assert_eq!(entitled.body["data"], json!([{"guid": org}]));
    entitle(&admin, &gold, &org).await.expect(200);
    let orgs = admin
        .get(&format!("/v3/isolation_segments/{gold}/organizations"))
        .await
        .expect(200);
    assert_eq!(orgs.names(), ["dev"]);
    admin.patch(&of_org, to(&gold)).await.expect(200);
    let set = admin.patch(&of_space, to(&gold)).await.expect(200);
    assert_eq!(set.body["data"]["guid"], gold);
    assert!(
        set.body["links"]["related"]["href"]
            .as_str()
            .expect("a link")
            .ends_with(&gold)
    );
    let path = format!("/v3/isolation_segments/{gold}");
    let spaces = admin.get(&format!("{path}/relationships/spaces")).await.expect(200);
    assert_eq!(spaces.body["data"], json!([{"guid": space}]));
    while_in_use(&admin, &path, &org, [&of_org, &of_space]).await;
}

/// What is refused as long as the organisation and its space have the segment.
async fn while_in_use(admin: &Client<'_>, path: &str, org: &str, [of_org, of_space]: [&str; 2]) {
    let refused = admin.patch(path, json!({"name": "silver"})).await.expect(422);
    assert!(
        refused
            .detail()
            .starts_with("Cannot update Isolation Segments that are assigned"),
        "{}",
        refused.text
    );
    let refused = admin.delete(path).await.expect(422);
    assert_eq!(
        refused.detail(),
        "Revoke the Organization entitlements for your Isolation Segment."
    );
    let revoke = format!("{path}/relationships/organizations/{org}");
    let refused = admin.delete(&revoke).await.expect(422);
    assert!(
        refused.detail().contains("as the Default Isolation Segment"),
        "{}",
        refused.text
    );
    admin.patch(of_org, json!({"data": null})).await.expect(200);
    let refused = admin.delete(&revoke).await.expect(422);
    assert!(
        refused.detail().ends_with("Currently assigned to: 'dev'"),
        "{}",
        refused.text
    );
    let reset = admin.patch(of_space, json!({"data": null})).await.expect(200);
    assert_eq!(reset.body["data"], Value::Null);
    admin.delete(&revoke).await.expect(204);
    admin.delete(path).await.expect(204);
}

async fn work_follows_the_space_then_the_organisation(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (org, space) = (org(&admin).await, admin.space().await);
    let (gold, silver) = (segment(&admin, "gold").await, segment(&admin, "silver").await);
    for segment in [&gold, &silver, &"933b4c58-120b-499a-b85d-4b6fc9e2903b".to_owned()] {
        entitle(&admin, segment, &org).await.expect(200);
    }
    let of_space = format!("/v3/spaces/{space}/relationships/isolation_segment");
    let of_org = format!("/v3/organizations/{org}/relationships/default_isolation_segment");
    let read = admin.get(&of_org).await.expect(200);
    assert_eq!(
        read.body["data"]["guid"], "933b4c58-120b-499a-b85d-4b6fc9e2903b",
        "the shared one is the default of who may use it"
    );
    let id = space.parse().expect("a guid");
    let placed = async || store.segments_by_space().await.expect("read").get(&id).cloned();
    assert_eq!(placed().await, None);
    let to = |guid: &str| json!({"data": {"guid": guid}});
    admin.patch(&of_org, to(&gold)).await.expect(200);
    assert_eq!(placed().await.as_deref(), Some("gold"));
    admin.patch(&of_space, to(&silver)).await.expect(200);
    assert_eq!(placed().await.as_deref(), Some("silver"));
    admin
        .patch(&of_space, to("933b4c58-120b-499a-b85d-4b6fc9e2903b"))
        .await
        .expect(200);
    assert_eq!(placed().await, None);
}
