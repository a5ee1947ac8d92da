//! Sign-in at an identity provider outside: a real one, `oidc-provider` from npm, and a browser that is played here.
//! What a provider may not say is `forged`'s.

mod forged;

use crate::client::*;
use axum::body::Body;
use controller::Oidc;
use http::{Method, Request};
use model::Secret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use store::testing::{Engine, TestStore};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const CLIENT: &str = "paas";
const SECRET: &str = "s3cret of/the client";
/// Longest wait for npm, and for the provider to be ready.
const DEADLINE: Duration = Duration::from_secs(180);

/// The provider, gone with this.
struct Provider {
    issuer: String,
    _process: Child,
}

/// Installs the provider below the build's folder, where it stays for the next run.
async fn modules(clients: &Path) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oidc-provider");
    let wanted = std::fs::read_to_string(clients.join("package.json")).expect("readable");
    let done = folder.join("installed");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return folder;
    }
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("package.json"), &wanted).expect("written");
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent"])
        .current_dir(&folder)
        .kill_on_drop(true);
    let ended = tokio::time::timeout(DEADLINE, npm.stdin(Stdio::null()).output()).await;
    let ended = ended.expect("in time").expect("npm starts");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    std::fs::write(done, wanted).expect("written");
    folder
}

async fn provider() -> Provider {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/oidc");
    let modules = modules(&clients).await;
    let mut process = Command::new("node")
        .arg(clients.join("provider.mjs"))
        .arg(modules)
        .args([&format!("{URL}/login/oidc/callback"), CLIENT, SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("node starts");
    let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    let said = tokio::time::timeout(DEADLINE, async {
        loop {
            let line = lines.next_line().await.expect("readable").expect("it says its issuer");
            if line.starts_with('{') {
                return line;
            }
        }
    });
    let said: Value = serde_json::from_str(&said.await.expect("in time")).expect("JSON");
    Provider {
        issuer: said["issuer"].as_str().expect("an address").to_owned(),
        _process: process,
    }
}

async fn signed_up(store: &TestStore, issuer: &str) -> Platform {
    platform_with(store, |config| {
        config.oidc = Some(Oidc {
            issuer: issuer.to_owned(),
            client_id: CLIENT.to_owned(),
            client_secret: Secret::new(SECRET),
            scopes: vec!["openid".to_owned(), "profile".to_owned()],
            origin: "corporate".to_owned(),
            label: "Log in with the <corporation>".to_owned(),
            name_claim: "preferred_username".to_owned(),
        });
    })
    .await
}

/// A browser: it follows redirects, keeps cookies by host, and fills in forms.
struct Browser<'p> {
    platform: &'p Platform,
    http: reqwest::Client,
    cookies: BTreeMap<(bool, String), String>,
}

struct Page {
    status: u16,
    url: String,
    text: String,
}

impl<'p> Browser<'p> {
    fn new(platform: &'p Platform) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Self {
            platform,
            http: http.expect("a client"),
            cookies: BTreeMap::new(),
        }
    }

    /// Sends one request: status, where it leads, and what it says.
    async fn one(&mut self, url: &str, form: Option<&str>) -> (u16, Option<String>, String) {
        let ours = url.strip_prefix(URL);
        let cookies: Vec<String> = (self.cookies.iter())
            .filter(|((of_ours, _), _)| *of_ours == ours.is_some())
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let (status, headers, text) = if let Some(path) = ours {
            let request = Request::builder()
                .method(Method::GET)
                .uri(path)
                .header("cookie", cookies.join("; "));
            let answer = self.platform.send(request.body(Body::empty()).expect("valid")).await;
            (answer.status.as_u16(), answer.headers, answer.text)
        } else {
            let request = match form {
                None => self.http.get(url),
                Some(form) => (self.http.post(url))
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(form.to_owned()),
            };
            let answer = request
                .header("cookie", cookies.join("; "))
                .send()
                .await
                .expect("answered");
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            (status, headers, answer.text().await.expect("readable"))
        };
        for cookie in headers.get_all("set-cookie") {
            let cookie = cookie.to_str().expect("text").split(';').next().expect("a pair");
            let (name, value) = cookie.split_once('=').expect("a pair");
            self.cookies.insert((ours.is_some(), name.to_owned()), value.to_owned());
        }
        let location = headers.get("location").map(|to| to.to_str().expect("text").to_owned());
        (status, location, text)
    }

    /// Opens an address and follows where it leads.
    async fn open(&mut self, url: &str, form: Option<&str>) -> Page {
        let (mut url, mut form) = (url.to_owned(), form);
        for _ in 0..20 {
            let (status, location, text) = self.one(&url, form.take()).await;
            let Some(location) = location else {
                return Page { status, url, text };
            };
            let base = reqwest::Url::parse(&url).expect("an address");
            url = base.join(&location).expect("an address").into();
        }
        panic!("{url} leads in circles");
    }

    /// Begins here, logs in there as `name`, agrees, and comes back.
    async fn sign_in(&mut self, name: &str) -> Page {
        let login = self.open(&format!("{URL}/login/oidc"), None).await;
        assert!(login.url.contains("/interaction/"), "{} {}", login.url, login.text);
        let form = format!("prompt=login&login={name}&password=any");
        let consent = self.open(&login.url, Some(&form)).await;
        if !consent.url.contains("/interaction/") {
            return consent;
        }
        self.open(&consent.url, Some("prompt=consent")).await
    }
}

/// The code of a page.
fn code(page: &Page) -> String {
    let (_, rest) = page
        .text
        .split_once("id=\"passcode\">")
        .unwrap_or_else(|| panic!("{}", page.text));
    rest.split('<').next().expect("a code").to_owned()
}

/// Who the code is of, logged in.
async fn redeemed<'p>(platform: &'p Platform, page: &Page) -> (Client<'p>, Value) {
    assert_eq!(page.status, 200, "{} {}", page.url, page.text);
    let form = format!("grant_type=password&passcode={}", code(page));
    let tokens = platform.form(&form).await.expect(200).body;
    platform.form(&form).await.expect(401);
    let client = platform.with_token(tokens["access_token"].as_str().expect("a token"));
    (client, tokens)
}

/// A user whom an administrator makes, with a role that waits, is who comes with that name.
async fn made_beforehand(platform: &Platform, admin: &Client<'_>) {
    let body = json!({"userName": "bob@example.org", "origin": "elsewhere"});
    admin.post("/Users", body).await.expect(400);
    let body = json!({"userName": "bob@example.org", "origin": "corporate"});
    let bob = admin.post("/Users", body).await.expect(201).body["id"].clone();
    let org = admin.get("/v3/organizations?names=dev").await.expect(200);
    let org = &org.body["resources"][0]["guid"];
    let role = |origin: &str| {
        json!({"type": "organization_manager", "relationships": {
            "user": {"data": {"username": "bob@example.org", "origin": origin}},
            "organization": {"data": {"guid": org}}}})
    };
    admin.post("/v3/roles", role("uaa")).await.expect(422);
    admin.post("/v3/roles", role("corporate")).await.expect(201);
    let mut browser = Browser::new(platform);
    let (client, _) = redeemed(platform, &browser.sign_in("bob").await).await;
    assert_eq!(client.get("/userinfo").await.expect(200).body["user_id"], bob);
    assert_eq!(client.get("/v3/organizations").await.expect(200).names(), ["dev"]);
    // Once more, and still the same.
    let (client, _) = redeemed(platform, &Browser::new(platform).sign_in("bob").await).await;
    assert_eq!(client.get("/userinfo").await.expect(200).body["user_id"], bob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_sign_in_elsewhere_in_a_browser() {
    let (store, provider) = (TestStore::open(Engine::Sqlite).await, provider().await);
    let platform = signed_up(&store, &provider.issuer).await;
    let admin = platform.admin().await;
    // Somebody of the same name signs in here, and is somebody else.
    let body = json!({"userName": "ann@example.org", "password": "secret-word"});
    let local = admin.post("/Users", body).await.expect(201).body["id"].clone();
    let shown = platform.plain(Method::GET, "/passcode").await.expect(200);
    assert!(
        shown
            .text
            .contains("href=\"/login/oidc\">Log in with the &lt;corporation&gt;"),
        "{}",
        shown.text
    );

    let (ann, tokens) = redeemed(&platform, &Browser::new(&platform).sign_in("ann").await).await;
    let me = ann.get("/userinfo").await.expect(200).body;
    assert_ne!(me["user_id"], local);
    assert_eq!(me["origin"], "corporate");
    let path = "/v3/users?usernames=ann@example.org&origins=corporate";
    let shown = admin.get(path).await.expect(200);
    assert_eq!(shown.body["resources"][0]["guid"], me["user_id"]);
    assert_eq!(shown.body["resources"][0]["origin"], "corporate");
    let both = admin.get("/v3/users?usernames=ann@example.org").await.expect(200);
    assert_eq!(both.body["pagination"]["total_results"], 2);
    let events = admin.get("/v3/audit_events?types=audit.user.create").await.expect(200);
    let made = events.body["resources"].as_array().expect("a list");
    assert!(
        made.iter().any(|event| event["target"]["guid"] == me["user_id"]),
        "{}",
        events.text
    );
    ann.get("/admin/v1/cells").await.expect(403);
    let refresh = tokens["refresh_token"].as_str().expect("one");
    let renewed = platform
        .form(&format!("grant_type=refresh_token&refresh_token={refresh}"))
        .await;
    renewed.expect(200);
    // A password is no way in, and can't be made one.
    let form = "grant_type=password&username=ann@example.org&password=";
    platform.form(&format!("{form}any")).await.expect(401);
    let path = format!("/Users/{}/password", me["user_id"].as_str().expect("an id"));
    for client in [&admin, &ann] {
        let body = json!({"password": "another", "oldPassword": "secret-word"});
        client.call(Method::PUT, &path, Some(body)).await.expect(400);
    }
    platform.form(&format!("{form}secret-word")).await.expect(200);

    made_beforehand(&platform, &admin).await;
    store.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_did_not_begin_in_this_browser_is_refused() {
    let (store, provider) = (TestStore::open(Engine::Sqlite).await, provider().await);
    let platform = signed_up(&store, &provider.issuer).await;
    let callback = format!("{URL}/login/oidc/callback");
    for query in ["", "?code=x&state=y", "?error=access_denied&state="] {
        let page = Browser::new(&platform).open(&format!("{callback}{query}"), None).await;
        assert_eq!(page.status, 400, "{query}: {}", page.text);
        assert!(page.text.contains("not begun in this browser"));
    }
    // The provider says no, or the code is made up.
    let mut browser = Browser::new(&platform);
    let (status, _, _) = browser.one(&format!("{URL}/login/oidc"), None).await;
    assert_eq!(status, 303);
    let held = browser.cookies[&(true, "paas_oidc".to_owned())].clone();
    let state = held.split('.').next().expect("a state");
    let denied = browser
        .open(&format!("{callback}?error=%3Cb%3Edenied&state={state}"), None)
        .await;
    assert_eq!(denied.status, 403);
    assert!(denied.text.contains("&lt;b&gt;denied"), "{}", denied.text);
    let made_up = browser
        .open(&format!("{callback}?code=made-up&state={state}"), None)
        .await;
    assert_eq!(made_up.status, 401, "{}", made_up.text);
    let admin = platform.admin().await;
    let users = admin.get("/v3/users?origins=corporate").await.expect(200);
    assert_eq!(users.body["resources"], json!([]));
    // Without a provider there is no such place.
    let none = crate::client::platform(&store).await;
    none.plain(Method::GET, "/login/oidc").await.expect(404);
    store.remove().await;
}
