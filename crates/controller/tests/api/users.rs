//! Users at the token server and in the API, and what guesses of passwords lead to.

use crate::client::*;
use http::Method;
use serde_json::json;
use store::testing::TestStore;

store::on_both_engines!(
    a_user_from_creation_to_removal,
    users_are_seen_by_those_they_work_with,
    passwords_change_and_end_tokens,
    administrators_are_made_and_unmade,
    who_guesses_waits,
);

async fn login(platform: &Platform, name: &str, password: &str) -> Answer {
    platform
        .form(&format!("grant_type=password&username={name}&password={password}"))
        .await
}

/// As `cf create-user` does it.
async fn create(admin: &Client<'_>, name: &str) -> String {
    let body = json!({"userName": name, "password": "pw", "origin": "",
        "name": {"familyName": name, "givenName": name}, "emails": [{"value": name, "primary": true}]});
    let made = admin.post("/Users", body).await.expect(201);
    assert_eq!(made.body["userName"], name);
    let guid = made.body["id"].as_str().expect("an id").to_owned();
    let known = admin.post("/v3/users", json!({"guid": guid})).await.expect(201);
    assert_eq!(known.body["username"], name);
    guid
}

async fn a_user_from_creation_to_removal(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let bob = create(&admin, "bob").await;
    let again = admin
        .post("/Users", json!({"userName": "BOB", "password": "x"}))
        .await
        .expect(409);
    assert_eq!(again.body["error"], "scim_resource_already_exists");
    let found = admin
        .get("/Users?filter=userName+eq+%22bob%22+and+origin+eq+%22uaa%22")
        .await
        .expect(200);
    assert_eq!(
        (&found.body["resources"][0]["id"], &found.body["totalResults"]),
        (&json!(bob), &json!(1))
    );
    admin.get("/Users?filter=userName+co+%22b%22").await.expect(400);
    login(&platform, "bob", "pw").await.expect(200);
    let deleted = admin.delete(&format!("/v3/users/{bob}")).await;
    admin.job(deleted).await;
    admin.delete(&format!("/Users/{bob}")).await.expect(200);
    login(&platform, "bob", "pw").await.expect(401);
    admin.get(&format!("/v3/users/{bob}")).await.expect(404);
    for bad in [
        json!({"userName": "", "password": "x"}),
        json!({"userName": "x"}),
        json!({"userName": "x", "password": ""}),
    ] {
        admin.post("/Users", bad).await.expect(400);
    }
    admin.post("/v3/users", json!({"guid": bob})).await.expect(422);
    admin
        .post("/v3/users", json!({"username": "x", "origin": "uaa"}))
        .await
        .expect(422);
    let own = admin.get("/userinfo").await.expect(200).body["user_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    admin.delete(&format!("/v3/users/{own}")).await.expect(422);
    let _ = store;
}

async fn users_are_seen_by_those_they_work_with(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (bob, eve) = (create(&admin, "bob").await, create(&admin, "eve").await);
    let space = admin.space().await;
    let org = admin.get(&format!("/v3/spaces/{space}")).await.expect(200);
    let org = org.body["relationships"]["organization"]["data"]["guid"]
        .as_str()
        .expect("a guid")
        .to_owned();
    let role = json!({"type": "organization_user", "relationships": {
        "user": {"data": {"guid": bob}}, "organization": {"data": {"guid": org}}}});
    admin.post("/v3/roles", role).await.expect(201);
    let token = login(&platform, "bob", "pw").await.expect(200);
    let client = platform.with_token(token.body["access_token"].as_str().expect("a token"));
    let usernames = |answer: Answer| {
        let all = answer.body["resources"].as_array().expect("a list").clone();
        all.iter()
            .map(|user| user["username"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        usernames(client.get("/v3/users?order_by=name").await.expect(200)),
        ["admin", "bob"]
    );
    client.get(&format!("/v3/users/{eve}")).await.expect(404);
    let of_org = client
        .get(&format!("/v3/organizations/{org}/users?partial_usernames=BO"))
        .await
        .expect(200);
    assert_eq!(usernames(of_org), ["bob"]);
    assert_eq!(
        usernames(admin.get("/v3/users?usernames=eve,Bob&order_by=name").await.expect(200)),
        ["bob", "eve"]
    );
    assert!(usernames(admin.get("/v3/users?partial_usernames=%25").await.expect(200)).is_empty());
    assert!(usernames(admin.get("/v3/users?origins=ldap").await.expect(200)).is_empty());
    for (method, path) in [
        (Method::POST, "/Users".to_owned()),
        (Method::GET, "/Users".to_owned()),
        (Method::GET, format!("/Users/{eve}")),
        (Method::DELETE, format!("/Users/{eve}")),
        (Method::GET, "/Groups".to_owned()),
        (Method::POST, "/v3/users".to_owned()),
        (Method::DELETE, format!("/v3/users/{bob}")),
    ] {
        let body = json!({"userName": "mallory", "password": "x", "guid": eve});
        client.call(method, &path, Some(body)).await.expect(403);
    }
    client.get(&format!("/Users/{bob}")).await.expect(200);
    let _ = store;
}

async fn passwords_change_and_end_tokens(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let bob = create(&admin, "bob").await;
    let token = login(&platform, "bob", "pw").await.expect(200);
    let refresh = token.body["refresh_token"].as_str().expect("a token").to_owned();
    let client = platform.with_token(token.body["access_token"].as_str().expect("a token"));
    let path = format!("/Users/{bob}/password");
    let wrong = json!({"oldPassword": "guess", "password": "new"});
    client.call(Method::PUT, &path, Some(wrong)).await.expect(401);
    let right = json!({"oldPassword": "pw", "password": "new"});
    client.call(Method::PUT, &path, Some(right)).await.expect(200);
    login(&platform, "bob", "pw").await.expect(401);
    login(&platform, "bob", "new").await.expect(200);
    platform
        .form(&format!("grant_type=refresh_token&refresh_token={refresh}"))
        .await
        .expect(401);
    admin
        .call(Method::PUT, &path, Some(json!({"password": "reset"})))
        .await
        .expect(200);
    login(&platform, "bob", "reset").await.expect(200);
    let own = admin.get("/userinfo").await.expect(200).body["user_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let others = format!("/Users/{own}/password");
    client
        .call(Method::PUT, &others, Some(json!({"password": "mine"})))
        .await
        .expect(403);
    let _ = store;
}

async fn administrators_are_made_and_unmade(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let bob = create(&admin, "bob").await;
    let token = login(&platform, "bob", "pw").await.expect(200);
    let client = platform.with_token(token.body["access_token"].as_str().expect("a token"));
    client
        .post("/v3/organizations", json!({"name": "mine"}))
        .await
        .expect(403);
    let group = admin
        .get("/Groups?filter=displayName+eq+%22cloud_controller.admin%22")
        .await
        .expect(200);
    let group = group.body["resources"][0]["id"].as_str().expect("an id").to_owned();
    let member = json!({"origin": "uaa", "type": "USER", "value": bob});
    client
        .post(&format!("/Groups/{group}/members"), member.clone())
        .await
        .expect(403);
    admin
        .post(&format!("/Groups/{group}/members"), member.clone())
        .await
        .expect(201);
    client
        .post("/v3/organizations", json!({"name": "mine"}))
        .await
        .expect(201);
    client
        .delete(&format!("/Groups/{group}/members/{bob}"))
        .await
        .expect(400);
    admin
        .delete(&format!("/Groups/{group}/members/{bob}"))
        .await
        .expect(200);
    client
        .post("/v3/organizations", json!({"name": "more"}))
        .await
        .expect(403);
    admin.post("/Groups/emperors/members", member).await.expect(404);
    let _ = store;
}

async fn who_guesses_waits(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    create(&admin, "bob").await;
    for _ in 0..5 {
        let refused = login(&platform, "bob", "guess").await.expect(401);
        assert_eq!(refused.body["error_description"], "Bad credentials");
    }
    let locked = login(&platform, "bob", "pw").await.expect(401);
    assert!(locked.text.contains("locked"), "{}", locked.text);
    login(&platform, "admin", "secret").await.expect(200);
    let _ = store;
}
