//! Tokens, and what is answered without one.

use crate::client::*;
use api::v3::ROUTES;
use http::Method;
use store::testing::TestStore;

store::on_both_engines!(
    the_root_says_where_everything_is,
    passwords_and_refresh_tokens_give_access,
    clients_log_in_by_secret,
    wrong_credentials_are_refused_alike,
    nothing_is_served_without_a_token,
    every_route_of_the_table_is_served,
    unknown_requests_are_named_so,
);

pub const PUBLIC: [&str; 10] = [
    "/",
    "/v3",
    "/v3/info",
    "/v3/openapi.json",
    "/login",
    "/oauth/token",
    "/oauth/authorize",
    "/oauth/device_authorization",
    "/token_keys",
    "/api/v1/info",
];

async fn the_root_says_where_everything_is(store: &TestStore) {
    let platform = platform(store).await;
    let root = platform.plain(Method::GET, "/").await.expect(200);
    assert_eq!(root.body["links"]["cloud_controller_v3"]["href"], format!("{URL}/v3"));
    assert_eq!(root.body["links"]["cloud_controller_v3"]["meta"]["version"], "3.211.0");
    assert_eq!(root.body["links"]["login"]["href"], URL);
    let login = platform.plain(Method::GET, "/login").await.expect(200);
    assert_eq!(login.body["prompts"]["password"][0], "password");
    assert!(root.headers.contains_key("x-request-id"));
    let keys = platform.plain(Method::GET, "/token_keys").await.expect(200);
    assert_eq!(keys.body["keys"][0]["alg"], "EdDSA");
}

async fn passwords_and_refresh_tokens_give_access(store: &TestStore) {
    let platform = platform(store).await;
    let token = platform
        .form("grant_type=password&username=admin&password=secret")
        .await
        .expect(200);
    assert_eq!(token.body["token_type"], "bearer");
    let access = token.body["access_token"].as_str().expect("a token");
    assert_eq!(access.split('.').count(), 3, "clients read its middle part");
    platform.with_token(access).get("/v3/organizations").await.expect(200);
    let refresh = token.body["refresh_token"].as_str().expect("a token");
    let form = format!("grant_type=refresh_token&refresh_token={refresh}");
    let again = platform.form(&form).await.expect(200);
    assert_eq!(again.body["refresh_token"], refresh);
    let access = again.body["access_token"].as_str().expect("a token");
    platform.with_token(access).get("/v3/organizations").await.expect(200);
    let tx = platform.context.store.begin().await.expect("begins");
    let admin = store
        .user_by_name(store::UserKind::User, "admin")
        .await
        .expect("read")
        .expect("there");
    tx.refresh_tokens_revoke(admin.user.id).await.expect("revoked");
    tx.commit().await.expect("commits");
    assert_eq!(platform.form(&form).await.expect(401).body["error"], "invalid_token");
}

async fn clients_log_in_by_secret(store: &TestStore) {
    let platform = platform(store).await;
    let admin = store
        .user_by_name(store::UserKind::User, "admin")
        .await
        .expect("read")
        .expect("there");
    let mut client = admin.clone();
    client.kind = store::UserKind::Client;
    client.user.id = uuid::Uuid::new_v4().into();
    client.user.name = "ci".into();
    let tx = platform.context.store.begin().await.expect("begins");
    tx.user_create(&client).await.expect("created");
    tx.commit().await.expect("commits");
    let login = |form: &'static str| {
        let request = http::Request::post("/oauth/token")
            .body(axum::body::Body::from(form))
            .expect("valid");
        platform.send(request)
    };
    let token = login("grant_type=client_credentials&client_id=ci&client_secret=secret")
        .await
        .expect(200);
    assert!(token.body.get("refresh_token").is_none());
    let access = token.body["access_token"].as_str().expect("a token");
    platform.with_token(access).get("/v3/organizations").await.expect(200);
    login("grant_type=client_credentials&client_id=ci&client_secret=wrong")
        .await
        .expect(401);
    login("grant_type=client_credentials&client_id=cf&client_secret=")
        .await
        .expect(401);
}

async fn wrong_credentials_are_refused_alike(store: &TestStore) {
    let platform = platform(store).await;
    let wrong = platform
        .form("grant_type=password&username=admin&password=wrong")
        .await
        .expect(401);
    let nobody = platform
        .form("grant_type=password&username=nobody&password=secret")
        .await
        .expect(401);
    assert_eq!(wrong.text, nobody.text);
    platform.form("grant_type=password").await.expect(401);
    platform.form("grant_type=telepathy").await.expect(400);
    platform.form("").await.expect(400);
    let token = platform.admin().await.token;
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts[2] = parts[2].chars().rev().collect();
    for bad in [parts.join("."), "x".into(), "a.b.c".into(), String::new()] {
        let refused = platform.with_token(&bad).get("/v3/apps").await.expect(401);
        assert_eq!(refused.body["errors"][0]["title"], "CF-InvalidAuthToken");
    }
}

async fn nothing_is_served_without_a_token(store: &TestStore) {
    let platform = platform(store).await;
    for route in ROUTES.iter().filter(|route| !PUBLIC.contains(&route.path)) {
        let path = filled(route.path);
        let answer = platform.plain(route.method.parse().expect("a method"), &path).await;
        assert_eq!(answer.status, 401, "{} {path}: {}", route.method, answer.text);
        assert_eq!(answer.body["errors"][0]["title"], "CF-NotAuthenticated");
    }
}

fn filled(path: &str) -> String {
    let guid = "11111111-1111-4111-8111-111111111111";
    path.replace("{guid}", guid)
        .replace("{destination}", guid)
        .replace("{client}", "nobody")
        .replace("{source}", guid)
        .replace("{type}", "web")
        .replace("{index}", "0")
        .replace("{group}", "cloud_controller.admin")
        .replace("{name}", "ssh")
}

async fn every_route_of_the_table_is_served(store: &TestStore) {
    let platform = platform(store).await;
    let (admin, stranger) = (platform.admin().await, platform.user("stranger").await);
    for route in ROUTES {
        let path = filled(route.path);
        let method: Method = route.method.parse().expect("a method");
        let answer = admin.call(method.clone(), &path, None).await;
        assert_ne!(answer.detail(), "Unknown request", "{} {path}", route.method);
        assert!(answer.status.as_u16() < 500, "{} {path}: {}", route.method, answer.text);
        if route.path.contains("{guid}") && !route.path.starts_with("/v3/jobs") && !route.path.starts_with("/v3/stacks")
        {
            let answer = stranger.call(method, &path, None).await;
            // The token server goes by scope alone, whether there is such a user or not.
            let scim = !route.path.starts_with("/v3") && answer.status == 403;
            let refused = scim || [400, 404, 422].contains(&answer.status.as_u16());
            assert!(refused, "{} {path}: {} {}", route.method, answer.status, answer.text);
        }
    }
}

async fn unknown_requests_are_named_so(store: &TestStore) {
    let platform = platform(store).await;
    for (method, path) in [
        (Method::GET, "/v3/nonsense"),
        (Method::PUT, "/v3/apps"),
        (Method::GET, "/v2/info"),
    ] {
        let answer = platform.plain(method, path).await.expect(404);
        assert_eq!(answer.detail(), "Unknown request");
        assert_eq!(answer.body["errors"][0]["code"], 10000);
    }
    platform.plain(Method::GET, "/healthz").await.expect(200);
    let admin = platform.admin().await;
    for (path, status) in [
        ("/v3/apps?per_page=0", 400),
        ("/v3/apps?per_page=5001", 400),
        ("/v3/apps?order_by=color", 400),
        ("/v3/apps?colour=red", 400),
        ("/v3/apps/not-a-guid", 404),
        ("/v3/apps?guids=not-a-guid", 200),
    ] {
        admin.get(path).await.expect(status);
    }
    let request = http::Request::post("/v3/apps")
        .header("authorization", format!("bearer {}", admin.token))
        .body(axum::body::Body::from("{nonsense"))
        .expect("valid");
    assert_eq!(platform.send(request).await.expect(400).body["errors"][0]["code"], 1001);
}
