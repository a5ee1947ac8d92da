//! Log-ins without a password at the command line: one-time codes, other devices, and clients with a secret of their own.

use crate::client::*;
use axum::body::Body;
use http::{Method, Request};
use serde_json::json;
use std::time::Duration;
use store::testing::TestStore;

store::on_both_engines!(
    a_token_is_good_for_codes_that_are_good_once,
    a_passcode_logs_in_once,
    forms_of_other_sites_are_refused,
    a_device_is_let_in_by_somebody_elsewhere,
    a_device_is_refused_or_too_late,
    clients_are_managed_by_administrators,
);

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

async fn authorize(client: &Client<'_>, query: &str) -> Answer {
    client.get(&format!("/oauth/authorize?{query}")).await
}

/// The code that a redirect carries.
fn code(answer: &Answer) -> String {
    let location = answer.headers["location"].to_str().expect("text");
    let url = url::Url::parse(location).expect("a URL");
    let (_, code) = url.query_pairs().find(|(name, _)| name == "code").expect("a code");
    code.into_owned()
}

async fn a_token_is_good_for_codes_that_are_good_once(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let answer = authorize(&admin, "client_id=ssh-proxy&response_type=code&state=a%20b")
        .await
        .expect(302);
    assert!(
        answer.headers["location"]
            .to_str()
            .expect("text")
            .ends_with("&state=a+b")
    );
    assert_eq!(answer.headers["cache-control"], "no-store");
    let code = code(&answer);
    assert_eq!(code.len(), 20);
    let (digest, now) = (sha(&code), platform.context.now());
    let take = async |digest: &[u8], kind, at| {
        let tx = platform.context.store.begin().await.expect("begins");
        let taken = tx.code_take(digest, kind, at).await.expect("taken");
        tx.commit().await.expect("commits");
        taken
    };
    assert_eq!(
        take(&digest, store::CodeKind::Passcode, now).await,
        None,
        "not of this kind"
    );
    let late = now + Duration::from_secs(400);
    assert_eq!(take(&digest, store::CodeKind::Ssh, late).await, None, "too late");
    assert!(take(&digest, store::CodeKind::Ssh, now).await.is_some());
    assert_eq!(take(&digest, store::CodeKind::Ssh, now).await, None, "used up");

    for (query, error) in [
        ("client_id=cf&response_type=code", "invalid_client"),
        ("client_id=ssh-proxy&response_type=token", "unsupported_response_type"),
        ("", "invalid_client"),
    ] {
        assert_eq!(authorize(&admin, query).await.expect(400).body["error"], error);
    }
    let query = "client_id=ssh-proxy&response_type=code";
    for token in ["", "nonsense"] {
        let refused = authorize(&platform.with_token(token), query).await.expect(401);
        assert_eq!(
            refused.body["error"], "invalid_token",
            "clients renew theirs by this word"
        );
    }
    for _ in 0..20 {
        authorize(&admin, query).await.expect(302);
    }
    authorize(&admin, query).await.expect(429);
}

fn sha(text: &str) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha256::digest(text).to_vec()
}

/// A page's form: its cookie and its token.
async fn form(platform: &Platform, path: &str) -> (String, String) {
    let page = platform.plain(Method::GET, path).await.expect(200);
    let policy = page.headers["content-security-policy"].to_str().expect("text");
    assert!(policy.contains("frame-ancestors 'none'"));
    let cookie = page.headers["set-cookie"].to_str().expect("text").to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().expect("a value").to_owned();
    let token = page.text.split("name=\"csrf\" value=\"").nth(1).expect("a token");
    (cookie, token.split('"').next().expect("its end").to_owned())
}

/// Sends a form as a browser does.
async fn send(platform: &Platform, path: &str, cookie: &str, fields: &[(&str, &str)], origin: &str) -> Answer {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let request = Request::post(path)
        .header("cookie", format!("other=1; {cookie}"))
        .header("host", "api.example.com")
        .header("origin", origin)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body));
    platform.send(request.expect("valid")).await
}

async fn passcode(platform: &Platform, password: &str) -> Answer {
    let (cookie, token) = form(platform, "/passcode").await;
    let fields = [("csrf", token.as_str()), ("username", "admin"), ("password", password)];
    send(platform, "/passcode", &cookie, &fields, URL).await
}

async fn a_passcode_logs_in_once(store: &TestStore) {
    let platform = platform(store).await;
    let login = platform.plain(Method::GET, "/login").await.expect(200);
    let prompt = login.body["prompts"]["passcode"][1].as_str().expect("a prompt");
    assert!(prompt.contains(&format!("{URL}/passcode")));
    let wrong = passcode(&platform, "wrong").await.expect(401);
    assert!(wrong.text.contains("is wrong") && wrong.text.contains("<form"));
    let page = passcode(&platform, "secret").await.expect(200);
    let code = page.text.split("id=\"passcode\">").nth(1).expect("a code");
    let code = code.split('<').next().expect("its end");
    let grant = format!("grant_type=password&passcode={code}");
    let token = platform.form(&grant).await.expect(200);
    assert!(token.body["refresh_token"].is_string());
    let access = token.body["access_token"].as_str().expect("a token");
    platform.with_token(access).get("/v3/organizations").await.expect(200);
    assert_eq!(platform.form(&grant).await.expect(401).body["error"], "unauthorized");
    platform.form("grant_type=password&passcode=nonsense").await.expect(401);
    for _ in 0..5 {
        passcode(&platform, "wrong").await;
    }
    let locked = passcode(&platform, "secret").await.expect(401);
    assert!(
        locked.text.contains("Too many wrong passwords"),
        "guesses are counted here too"
    );
}

async fn forms_of_other_sites_are_refused(store: &TestStore) {
    let platform = platform(store).await;
    let (cookie, token) = form(&platform, "/passcode").await;
    let fields = [("csrf", token.as_str()), ("username", "admin"), ("password", "secret")];
    let (other, _) = form(&platform, "/passcode").await;
    send(&platform, "/passcode", &other, &fields, URL).await.expect(403);
    send(&platform, "/passcode", "", &fields, URL).await.expect(403);
    send(&platform, "/passcode", &cookie, &fields, "http://evil.example")
        .await
        .expect(403);
    send(&platform, "/passcode", &cookie, &fields[1..], URL)
        .await
        .expect(403);
    send(&platform, "/device", &cookie, &fields[1..], URL).await.expect(403);
    send(&platform, "/passcode", &cookie, &fields, "https://api.example.com")
        .await
        .expect(200);
}

async fn begin(platform: &Platform) -> Answer {
    let request = Request::post("/oauth/device_authorization")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("client_id=paas"));
    platform.send(request.expect("valid")).await.expect(200)
}

async fn ask(platform: &Platform, begun: &Answer, client: &str) -> Answer {
    let code = begun.body["device_code"].as_str().expect("a code");
    let form = format!("client_id={client}&grant_type={DEVICE_GRANT}&device_code={code}");
    let request = Request::post("/oauth/token").body(Body::from(form));
    platform.send(request.expect("valid")).await
}

async fn decide(platform: &Platform, code: &str, decision: &str) -> Answer {
    let (cookie, token) = form(platform, &format!("/device?user_code={code}")).await;
    let fields = [
        ("csrf", token.as_str()),
        ("user_code", code),
        ("username", "admin"),
        ("password", "secret"),
        ("decision", decision),
    ];
    send(platform, "/device", &cookie, &fields, URL).await
}

async fn a_device_is_let_in_by_somebody_elsewhere(store: &TestStore) {
    let platform = platform(store).await;
    let begun = begin(&platform).await;
    let user_code = begun.body["user_code"].as_str().expect("a code").to_owned();
    assert_eq!(begun.body["verification_uri"], format!("{URL}/device"));
    assert_eq!(
        (&begun.body["expires_in"], &begun.body["interval"]),
        (&json!(600), &json!(5))
    );
    assert_eq!(
        ask(&platform, &begun, "paas").await.expect(400).body["error"],
        "authorization_pending"
    );
    assert_eq!(
        ask(&platform, &begun, "paas").await.expect(400).body["error"],
        "slow_down"
    );
    assert_eq!(
        ask(&platform, &begun, "cf").await.expect(400).body["error"],
        "invalid_grant"
    );
    decide(&platform, "BCDF-GHJK", "allow").await.expect(400);
    let typed = user_code.to_lowercase().replace('-', "");
    decide(&platform, &typed, "allow").await.expect(200);
    decide(&platform, &user_code, "deny").await.expect(400);
    let token = ask(&platform, &begun, "paas").await.expect(200);
    assert!(token.body["refresh_token"].is_string());
    let access = token.body["access_token"].as_str().expect("a token");
    platform.with_token(access).get("/v3/organizations").await.expect(200);
    assert_eq!(
        ask(&platform, &begun, "paas").await.expect(400).body["error"],
        "invalid_grant"
    );
}

async fn a_device_is_refused_or_too_late(store: &TestStore) {
    let platform = platform(store).await;
    let begun = begin(&platform).await;
    decide(&platform, begun.body["user_code"].as_str().expect("a code"), "deny")
        .await
        .expect(200);
    assert_eq!(
        ask(&platform, &begun, "paas").await.expect(400).body["error"],
        "access_denied"
    );

    let begun = begin(&platform).await;
    let mut later = platform.context.clone();
    let clock = platform.context.clock.clone();
    later.clock = std::sync::Arc::new(move || clock() + Duration::from_secs(700));
    let tx = later.store.begin().await.expect("begins");
    let digest = sha(begun.body["device_code"].as_str().expect("a code"));
    let mut login = tx.device_login_fetch(&digest).await.expect("read").expect("there");
    assert!(login.valid_until < later.now());
    tx.device_login_delete(&digest).await.expect("deleted");
    login.valid_until = platform.context.now();
    assert!(
        tx.device_login_create(&login, login.polled_at, 10)
            .await
            .expect("stored")
    );
    tx.commit().await.expect("commits");
    assert_eq!(
        ask(&platform, &begun, "paas").await.expect(400).body["error"],
        "expired_token"
    );
    let code = begun.body["user_code"].as_str().expect("a code");
    decide(&platform, code, "allow").await.expect(400);
    for _ in 0..5 {
        decide(&platform, "BCDF-GHJK", "allow").await;
    }
    decide(&platform, code, "allow").await.expect(429);
}

async fn clients_are_managed_by_administrators(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let new = json!({"client_id": "ci", "client_secret": "secret-word", "authorities": ["cloud_controller.admin"]});
    let made = admin.post("/oauth/clients", new.clone()).await.expect(201);
    assert_eq!(made.body["authorized_grant_types"][0], "client_credentials");
    assert!(!made.text.contains("secret-word"));
    assert_eq!(
        admin.post("/oauth/clients", new.clone()).await.expect(409).body["error"],
        "invalid_client"
    );
    for (name, secret, status) in [
        ("cf", "secret-word", 409),
        ("a b", "secret-word", 400),
        ("ok", "short", 400),
    ] {
        let body = json!({"client_id": name, "client_secret": secret});
        admin.post("/oauth/clients", body).await.expect(status);
    }
    let log_in = async |secret: &str| {
        let form = format!("grant_type=client_credentials&client_id=ci&client_secret={secret}");
        platform
            .send(Request::post("/oauth/token").body(Body::from(form)).expect("valid"))
            .await
    };
    let token = log_in("secret-word").await.expect(200);
    let client = platform.with_token(token.body["access_token"].as_str().expect("a token"));
    client.get("/v3/security_groups").await.expect(200);
    let path = "/oauth/clients/ci/secret";
    admin
        .call(Method::PUT, path, Some(json!({"secret": "another-word"})))
        .await
        .expect(200);
    log_in("secret-word").await.expect(401);
    log_in("another-word").await.expect(200);
    assert_eq!(admin.get("/oauth/clients").await.expect(200).body["totalResults"], 1);
    platform.user("ann").await.get("/oauth/clients/ci").await.expect(403);
    admin.delete("/oauth/clients/ci").await.expect(200);
    admin.get("/oauth/clients/ci").await.expect(404);
    client.get("/v3/security_groups").await.expect(401);
    log_in("another-word").await.expect(401);
}
