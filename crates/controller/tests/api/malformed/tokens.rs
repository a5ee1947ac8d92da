//! Tokens that are none of ours, or not valid any more, on every route.

use super::*;
use crate::world::world;
use api::v3::oauth::Claims;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use controller::Keys;
use store::testing::{Engine, TestStore};

store::on_both_engines!(tokens_that_are_not_ours_open_nothing);

/// A token of these parts, signed with a secret.
fn signed(header: &Value, claims: &Claims, sign: impl Fn(&str) -> String) -> String {
    let part = |value: String| URL_SAFE_NO_PAD.encode(value);
    let claims = serde_json::to_string(claims).expect("JSON");
    let text = format!("{}.{}", part(header.to_string()), part(claims));
    format!("{text}.{}", sign(&text))
}

/// Header and claims of a token.
fn read(token: &str) -> (Value, Claims) {
    let part = |at: usize| {
        let part = token.split('.').nth(at).expect("three parts");
        URL_SAFE_NO_PAD.decode(part).expect("encoded")
    };
    let header = serde_json::from_slice(&part(0)).expect("JSON");
    (header, serde_json::from_slice(&part(1)).expect("claims"))
}

fn by(keys: &Keys, claims: &Claims) -> String {
    let token = keys.sign(claims).unwrap_or_else(|_| panic!("signed"));
    token.expose().to_owned()
}

/// Tokens by our own key that say what does not do, by what is wrong with them.
fn unfit(platform: &Platform, claims: &Claims) -> Vec<(&'static str, String)> {
    const HOUR: i64 = 3600;
    let claims = |change: &dyn Fn(&mut Claims)| {
        let mut claims = claims.clone();
        change(&mut claims);
        by(&platform.context.tokens, &claims)
    };
    vec![
        (
            "expired",
            claims(&|claims| {
                claims.exp = claims.iat - HOUR;
                claims.iat -= 2 * HOUR;
            }),
        ),
        (
            "for another audience",
            claims(&|claims| claims.aud = vec!["openid".to_owned()]),
        ),
        ("for no audience", claims(&|claims| claims.aud.clear())),
        ("of a deleted user", claims(&|claims| claims.sub = NOBODY.to_owned())),
        ("of no user", claims(&|claims| claims.sub = "admin".to_owned())),
    ]
}

/// Tokens that are none of ours, by what is wrong with them.
async fn forged(platform: &Platform, good: &str) -> Vec<(&'static str, String)> {
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims) = read(good);
    let other = TestStore::open(Engine::Sqlite).await;
    let stranger = Keys::load(&other.store, platform.context.now()).await.expect("made");
    let stranger = by(&stranger, &claims);
    other.remove().await;
    let theirs: Vec<&str> = stranger.split('.').collect();
    let public = platform.plain(Method::GET, "/token_keys").await.expect(200).body["keys"][0].clone();
    let public = public["x"].as_str().expect("a key");
    let public = URL_SAFE_NO_PAD.decode(public).expect("encoded");
    let by_public = |text: &str| {
        let key = jsonwebtoken::EncodingKey::from_secret(&public);
        jsonwebtoken::crypto::sign(text.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).expect("signed")
    };
    let ours = |_: &str| parts[2].to_owned();
    let id = &header["kid"];
    let none = json!({"alg": "none", "typ": "JWT", "kid": id});
    let altered = Claims {
        sub: NOBODY.to_owned(),
        ..claims.clone()
    };
    vec![
        (
            "by another key under our name",
            [parts[0], theirs[1], theirs[2]].join("."),
        ),
        ("by another key", stranger.clone()),
        ("without signature", signed(&none, &claims, |_| String::new())),
        ("by none, with a signature", signed(&none, &claims, ours)),
        (
            "by our public key as a secret",
            signed(&json!({"alg": "HS256", "kid": id, "typ": "JWT"}), &claims, by_public),
        ),
        ("with altered claims", signed(&header, &altered, ours)),
        (
            "with a changed algorithm",
            signed(&json!({"alg": "ES256", "kid": id}), &claims, ours),
        ),
        ("without a key's name", signed(&json!({"alg": "EdDSA"}), &claims, ours)),
        ("without its signature", format!("{}.{}.", parts[0], parts[1])),
        ("without end", "a".repeat(20_000)),
        ("of odd parts", "a.b.c.d".to_owned()),
    ]
}

async fn tokens_that_are_not_ours_open_nothing(store: &TestStore) {
    let mut wrong = Wrong::default();
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let world = world(&admin, "good").await;
    let before = state(&admin).await;
    let mut bad = unfit(&platform, &read(&admin.token).1);
    bad.extend(forged(&platform, &admin.token).await);
    for route in guarded() {
        for (what, token) in &bad {
            let body = whole(route, &world).to_string();
            let path = roles::path(route.path, &world);
            let asked = request(token, route.method, &path, "application/json", body);
            let answer = platform.send(asked).await;
            let case = format!("{} {path} with a token {what}", route.method);
            wrong.unless_refused(&answer, &[401], &case);
            let error = &answer.body["errors"][0];
            wrong.unless(error["code"] == 1000 && error["title"] == "CF-InvalidAuthToken", || {
                case
            });
        }
    }
    wrong.none();
    assert!(before == state(&admin).await, "something changed");
    let _ = store;
}
