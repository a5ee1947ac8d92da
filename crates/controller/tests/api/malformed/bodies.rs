//! Bodies that are no JSON, or hold what does not belong there.

use super::*;
use crate::world::world;
use store::testing::TestStore;

store::on_both_engines!(bodies_that_are_no_json_are_refused, values_of_other_kinds_are_refused);

/// What is no JSON, or no map, by content type.
fn nonsense() -> Vec<(&'static str, &'static str, Vec<u8>, &'static [u16])> {
    const JSON: &str = "application/json";
    const READ: &[u16] = &[400];
    const FIT: &[u16] = &[400, 422];
    vec![
        ("a word", JSON, b"nonsense".to_vec(), READ),
        ("an open map", JSON, b"{\"name\":".to_vec(), READ),
        ("two maps", JSON, b"{}{}".to_vec(), READ),
        ("no UTF-8", JSON, b"{\"name\":\"\xff\xfe\"}".to_vec(), READ),
        ("a null byte", JSON, b"{\"name\":\"a\0b\"}".to_vec(), READ),
        ("a control character", JSON, b"{\"name\":\"a\x07b\"}".to_vec(), READ),
        ("a list", JSON, b"[]".to_vec(), FIT),
        ("a text", JSON, b"\"text\"".to_vec(), FIT),
        ("null", JSON, b"null".to_vec(), FIT),
        (
            "a number without end",
            JSON,
            format!("1{}", "0".repeat(5000)).into_bytes(),
            FIT,
        ),
        ("deep lists", JSON, "[".repeat(100_000).into_bytes(), READ),
        ("deep maps", JSON, "{\"a\":".repeat(100_000).into_bytes(), READ),
        ("XML", "application/xml", b"<name>x</name>".to_vec(), READ),
        (
            "a form",
            "application/x-www-form-urlencoded",
            b"name=x&guid=y".to_vec(),
            READ,
        ),
        (
            "parts",
            "multipart/form-data; boundary=x",
            b"--x\r\n\r\nname\r\n--x--\r\n".to_vec(),
            READ,
        ),
        ("an odd content type", "no/such; charset=\"", b"name: x".to_vec(), READ),
    ]
}

async fn bodies_that_are_no_json_are_refused(store: &TestStore) {
    let mut wrong = Wrong::default();
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let world = world(&admin, "good").await;
    let before = state(&admin).await;
    let aliases: String = (0..20)
        .map(|n| format!("a{n}: &a{n} [{}]\n", format!("*a{}, ", n - 1).repeat(9)))
        .collect();
    let manifests = [
        aliases.replace("*a-1, ", "x, "),
        format!("applications: {}", "[".repeat(100_000)),
        "applications:\n- name: \"a\\0b\"\n".to_owned(),
        format!("applications:\n- name: {}\n", "a".repeat(300_000)),
        "applications:\n- name: a\n  env:\n    A: \"x\\0y\"\n".to_owned(),
        "applications:\n- name: a\n  command: \"x\\0y\"\n".to_owned(),
        "applications: 1".to_owned(),
        "\u{0}".to_owned(),
        "a: b: c".to_owned(),
    ];
    for route in with_body() {
        let path = roles::path(route.path, &world);
        for (what, kind, body, statuses) in nonsense() {
            let answer = platform
                .send(request(&admin.token, route.method, &path, kind, body))
                .await;
            let statuses = if is_manifest(route) { &[][..] } else { statuses };
            wrong.unless_refused(&answer, statuses, &format!("{} {path} with {what}", route.method));
        }
        for text in manifests.iter().filter(|_| is_manifest(route)) {
            let asked = request(&admin.token, route.method, &path, "application/x-yaml", text.clone());
            let short: String = text.chars().take(60).collect();
            wrong.unless_refused(&platform.send(asked).await, &[], &format!("{path} with {short:?}"));
        }
    }
    for route in ROUTES.iter().filter(|route| route.path.ends_with("/upload")) {
        let path = roles::path(route.path, &world);
        let parts = |body: &str| ("multipart/form-data; boundary=x", body.as_bytes().to_vec());
        let bits = "--x\r\nContent-Disposition: form-data; name=\"bits\"; filename=\"a.zip\"\r\n\r\n";
        let list = "--x\r\nContent-Disposition: form-data; name=\"resources\"\r\n\r\n";
        for (kind, body) in [
            ("application/json", b"{}".to_vec()),
            ("multipart/form-data", b"--x--".to_vec()),
            parts("nonsense"),
            parts(""),
            parts("--x--\r\n"),
            parts(&format!("{bits}no archive\r\n--x--\r\n")),
            parts(&format!("{bits}broken off")),
            parts(&format!("{list}{}\r\n--x--\r\n", "[".repeat(100_000))),
            parts("--x\r\nContent-Disposition: form-data; name=\"bits\0\"\r\n\r\n\r\n--x--\r\n"),
        ] {
            let case = format!("{path} with {:?}", String::from_utf8_lossy(&body).get(..80));
            wrong.unless_refused(
                &platform.send(request(&admin.token, "POST", &path, kind, body)).await,
                &[],
                &case,
            );
        }
    }
    wrong.none();
    assert!(before == state(&admin).await, "something changed");
    let _ = store;
}

/// Values that don't belong where this one is.
fn others(value: &Value) -> Vec<Value> {
    let long = "x".repeat(300_000);
    match value {
        // Numbers and truths are read as texts in environments.
        Value::String(_) => vec![json!({"a": 1}), json!([["a"]]), json!("a\0b"), json!(long)],
        Value::Number(_) => vec![
            json!("many"),
            json!(-7),
            json!(1e300),
            json!(0.5),
            json!(u64::MAX),
            json!([]),
        ],
        Value::Bool(_) => vec![json!("maybe"), json!(7), json!({})],
        Value::Array(_) => vec![json!("text"), json!({"a": "b"}), json!([{"a": [[]]}]), json!(true)],
        Value::Object(_) => vec![json!("text"), json!([1]), json!(7), json!([[]])],
        Value::Null => Vec::new(),
    }
}

/// Places whose value may be of any kind: their owner's own words.
fn is_free(route: &Route, place: &str) -> bool {
    // What is not known is not matched, and never looked for.
    if route.path == "/v3/resource_matches" && place.starts_with("/resources/0/") {
        return true;
    }
    // Not looked at.
    if route.path == "/Groups/{group}/members" && place != "/value" {
        return true;
    }
    place.starts_with("/credentials/") || (route.path == "/v3/service_credential_bindings" && place == "/parameters")
}

async fn values_of_other_kinds_are_refused(store: &TestStore) {
    let mut wrong = Wrong::default();
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let world = world(&admin, "good").await;
    let mut before = (state(&admin).await, newest(&platform).await);
    for route in with_body().filter(|route| !is_manifest(route)) {
        let (path, body) = (roles::path(route.path, &world), whole(route, &world));
        let mut found = Vec::new();
        places(&body, "", &mut found);
        for place in found.iter().filter(|place| !is_free(route, place)) {
            for value in others(body.pointer(place).expect("a place")) {
                let text = value.to_string();
                let asked = with(&body, place, value).to_string();
                let asked = request(&admin.token, route.method, &path, "application/json", asked);
                let short: String = text.chars().take(40).collect();
                let case = format!("{} {} with {place} = {short}", route.method, route.path);
                wrong.unless_refused(&platform.send(asked).await, &[400, 404, 413, 422], &case);
            }
        }
        let now = newest(&platform).await;
        wrong.unless(now == before.1, || format!("{} {path} did something", route.method));
        before.1 = now;
    }
    wrong.none();
    assert!(before.0 == state(&admin).await, "something changed");
    let _ = store;
}
