//! Security groups: made, changed, bound, seen, and by whom.

use crate::client::*;
use serde_json::{Value, json};
use store::testing::TestStore;

store::on_both_engines!(
    a_platform_begins_with_the_internet_open_and_private_blocks_closed,
    groups_are_made_changed_and_removed,
    what_is_wrong_is_said_as_cf_says_it,
    groups_are_bound_to_spaces_and_taken_off,
    who_may_what_with_groups,
    lists_of_groups_are_filtered,
);

fn rules() -> Value {
    json!([{"protocol": "tcp", "destination": "10.0.11.0/24", "ports": "80,443", "log": true}])
}

fn spaces(guids: &[&str]) -> Value {
    let data: Vec<Value> = guids.iter().map(|guid| json!({"guid": guid})).collect();
    json!({"data": data})
}

async fn group(admin: &Client<'_>, name: &str) -> String {
    let body = json!({"name": name, "rules": rules()});
    admin.post("/v3/security_groups", body).await.expect(201).guid()
}

async fn role(admin: &Client<'_>, user: &str, role: &str, space: &str) {
    let relationships = json!({
        "user": {"data": {"username": user, "origin": "uaa"}},
        "space": {"data": {"guid": space}},
    });
    let body = json!({"type": role, "relationships": relationships});
    admin.post("/v3/roles", body).await.expect(201);
}

async fn a_platform_begins_with_the_internet_open_and_private_blocks_closed(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let all = admin.get("/v3/security_groups?order_by=name").await.expect(200);
    assert_eq!(all.names(), ["dns", "private_networks", "public_networks"]);
    let space = admin.space().await;
    for use_ in ["running", "staging"] {
        let path = format!("/v3/spaces/{space}/{use_}_security_groups?order_by=name");
        assert_eq!(admin.get(&path).await.expect(200).names(), ["dns", "public_networks"]);
    }
    // One that an operator removed stays away.
    let guid = all.body["resources"][0]["guid"].as_str().expect("a guid");
    let deleted = admin.delete(&format!("/v3/security_groups/{guid}")).await;
    let job = admin.job(deleted).await;
    assert_eq!(job.body["operation"], "security_group.delete");
    let config = &platform.context.config.bootstrap;
    controller::bootstrap(store, config, platform.context.now())
        .await
        .expect("fills nothing");
    let left = admin.get("/v3/security_groups?names=dns").await.expect(200);
    assert!(left.names().is_empty());
}

async fn groups_are_made_changed_and_removed(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let space = admin.space().await;
    let body = json!({
        "name": "db", "rules": rules(), "globally_enabled": {"staging": true},
        "relationships": {"running_spaces": spaces(&[&space])},
    });
    let made = admin.post("/v3/security_groups", body).await.expect(201);
    assert_eq!(made.body["rules"], rules());
    assert_eq!(
        made.body["globally_enabled"],
        json!({"running": false, "staging": true})
    );
    assert_eq!(made.body["relationships"]["running_spaces"], spaces(&[&space]));
    assert_eq!(made.body["relationships"]["staging_spaces"], spaces(&[]));
    let path = format!("/v3/security_groups/{}", made.guid());
    assert_eq!(made.body["links"]["self"]["href"], format!("{URL}{path}"));
    let change = json!({"name": "database", "rules": [], "globally_enabled": {"staging": false}});
    let changed = admin.patch(&path, change).await.expect(200);
    assert_eq!(
        (changed.body["name"].as_str(), &changed.body["rules"]),
        (Some("database"), &json!([]))
    );
    let read = admin.get(&path).await.expect(200);
    assert_eq!(read.body, changed.body);
    let events = admin
        .get(&format!("/v3/audit_events?target_guids={}", made.guid()))
        .await
        .expect(200);
    let events = events.body["resources"].as_array().expect("a list").clone();
    let update = events
        .iter()
        .find(|event| event["type"] == "audit.security_group.update")
        .expect("told");
    assert_eq!(update["data"]["before"]["rules"], rules());
    assert_eq!(update["data"]["after"]["name"], "database");
    let deleted = admin.delete(&path).await;
    admin.job(deleted).await;
    let gone = admin.get(&path).await.expect(404);
    assert_eq!(gone.detail(), "Security group not found");
}

async fn what_is_wrong_is_said_as_cf_says_it(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    group(&admin, "one").await;
    let post = async |body: Value| {
        let answer = admin.post("/v3/security_groups", body).await.expect(422);
        answer.detail().to_owned()
    };
    assert_eq!(
        post(json!({"name": "one"})).await,
        "Security group with name 'one' already exists."
    );
    assert_eq!(post(json!({})).await, "Name can't be blank");
    assert_eq!(
        post(json!({"name": "a", "rules": [{"protocol": "tcp", "destination": "1.2.3.4"}]})).await,
        "Rules[0]: ports are required for protocols of type TCP and UDP, Rules[0]: ports must be a valid single port, \
         comma separated list of ports, or range or ports, formatted as a string"
    );
    let missing = uuid::Uuid::new_v4().to_string();
    let body = json!({"name": "a", "relationships": {"staging_spaces": spaces(&[&missing])}});
    assert_eq!(
        post(body).await,
        format!("Spaces with guids [\"{missing}\"] do not exist.")
    );
    let nothing = admin.get("/v3/security_groups?names=a").await.expect(200);
    assert!(nothing.names().is_empty(), "nothing of it was done");
    let list = admin
        .get("/v3/security_groups?globally_enabled_running=maybe")
        .await
        .expect(422);
    assert_eq!(list.detail(), "Globally enabled running must be 'true' or 'false'");
}

async fn groups_are_bound_to_spaces_and_taken_off(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (space, guid) = (admin.space().await, group(&admin, "db").await);
    let of = |use_: &str| format!("/v3/security_groups/{guid}/relationships/{use_}_spaces");
    for use_ in ["running", "staging"] {
        for _ in 0..2 {
            let bound = admin.post(&of(use_), spaces(&[&space])).await.expect(200);
            assert_eq!(bound.body["data"], spaces(&[&space])["data"]);
            assert_eq!(bound.body["links"]["self"]["href"], format!("{URL}{}", of(use_)));
        }
        let listed = admin
            .get(&format!("/v3/spaces/{space}/{use_}_security_groups?names=db"))
            .await
            .expect(200);
        assert_eq!(listed.names(), ["db"]);
        let path = format!("{}/{space}", of(use_));
        admin.delete(&path).await.expect(204);
        let again = admin.delete(&path).await.expect(422);
        assert_eq!(
            again.detail(),
            format!(
                "Unable to unbind security group from space with guid '{space}'. Ensure the space is bound to this \
                 security group."
            )
        );
    }
    let missing = uuid::Uuid::new_v4().to_string();
    let refused = admin.post(&of("running"), spaces(&[&missing])).await.expect(422);
    assert_eq!(
        refused.detail(),
        format!("Spaces with guids [\"{missing}\"] do not exist, or you do not have access to them.")
    );
    admin.post(&of("running"), json!({"data": "x"})).await.expect(422);
    admin
        .post(&of("running"), json!({"data": [], "more": 1}))
        .await
        .expect(422);
    let events = admin
        .get(&format!("/v3/audit_events?target_guids={guid}"))
        .await
        .expect(200);
    let kinds: Vec<String> = events.body["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| event["type"].as_str().expect("text").to_owned())
        .collect();
    for kind in ["bind-running", "unbind-running", "bind-staging", "unbind-staging"] {
        assert!(kinds.contains(&format!("audit.security_group.{kind}")), "{kinds:?}");
    }
}

async fn who_may_what_with_groups(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (space, guid) = (admin.space().await, group(&admin, "db").await);
    let path = format!("/v3/security_groups/{guid}");
    let running = format!("{path}/relationships/running_spaces");
    let (developer, manager) = (platform.user("dora").await, platform.user("mary").await);
    role(&admin, "dora", "space_developer", &space).await;
    role(&admin, "mary", "space_manager", &space).await;
    for user in [&developer, &manager] {
        user.get(&path).await.expect(404);
        user.post("/v3/security_groups", json!({"name": "own"}))
            .await
            .expect(403);
        let listed = user.get("/v3/security_groups?order_by=name").await.expect(200);
        assert_eq!(
            listed.names(),
            ["dns", "public_networks"],
            "what is in force everywhere is seen by all"
        );
        // What one can't see can't be bound.
        user.post(&running, spaces(&[&space])).await.expect(404);
    }
    admin.post(&running, spaces(&[&space])).await.expect(200);
    for user in [&developer, &manager] {
        let seen = user.get(&path).await.expect(200);
        assert_eq!(seen.body["relationships"]["running_spaces"], spaces(&[&space]));
        user.patch(&path, json!({"rules": []})).await.expect(403);
        user.delete(&path).await.expect(403);
    }
    developer.post(&running, spaces(&[&space])).await.expect(403);
    developer.delete(&format!("{running}/{space}")).await.expect(403);
    manager.post(&running, spaces(&[&space])).await.expect(200);
    manager.delete(&format!("{running}/{space}")).await.expect(204);
    let stranger = platform.user("zoe").await;
    stranger.get(&path).await.expect(404);
    stranger
        .get(&format!("/v3/spaces/{space}/running_security_groups"))
        .await
        .expect(404);
    platform.plain(http::Method::GET, &path).await.expect(401);
}

async fn lists_of_groups_are_filtered(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let space = admin.space().await;
    let (one, two) = (group(&admin, "one").await, group(&admin, "two").await);
    let body = json!({"globally_enabled": {"running": true}});
    admin
        .patch(&format!("/v3/security_groups/{one}"), body)
        .await
        .expect(200);
    let path = format!("/v3/security_groups/{two}/relationships/staging_spaces");
    admin.post(&path, spaces(&[&space])).await.expect(200);
    let names = async |query: String| {
        let answer = admin.get(&format!("/v3/security_groups?{query}")).await.expect(200);
        answer.names().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        names(format!("guids={one},{two}&globally_enabled_running=true")).await,
        ["one"]
    );
    assert_eq!(
        names(format!("guids={one},{two}&globally_enabled_running=false")).await,
        ["two"]
    );
    assert!(
        names(format!("guids={one},{two}&globally_enabled_staging=true"))
            .await
            .is_empty()
    );
    assert_eq!(names(format!("staging_space_guids={space}")).await, ["two"]);
    assert!(names(format!("running_space_guids={space}")).await.is_empty());
    assert_eq!(names("names=one,two&order_by=-name".to_owned()).await, ["two", "one"]);
    admin.get("/v3/security_groups?unknown=1").await.expect(400);
}
