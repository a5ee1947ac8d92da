//! The calls of Cloud Foundry's command line, in its order, against a live platform, with what it reads of each answer.
//!
//! That each command's calls are served is the compatibility test's of the controller. Here apps really run: a push of a
//! manifest with two apps, a rolling push, a rollback, a canary, tasks, logs, scale, services that users provide, delete.

use serde_json::{Value, json};
use std::io::{Cursor, Write as _};
use std::time::Instant;
use tests::cf::{Answer, DEADLINE, Session, plain};
use tests::{Platform, text};

const MANIFEST: &str = "\
applications:
- name: shop
  memory: 64M
  disk_quota: 128M
  instances: 2
  path: shop
  default-route: true
  env:
    GREETING: hello
- name: ticker
  memory: 64M
  disk_quota: 128M
  health-check-type: process
  no-route: true
";
const PROCFILE: &str =
    "web: echo serving version $VERSION && exec python3 -m http.server \"$PORT\" --directory public\n";

fn log_in(cf: &Session<'_>, password: &str) {
    let root = cf.get("/").has(&[
        "links.cloud_controller_v3.href",
        "links.cloud_controller_v3.meta.version",
        "links.uaa.href",
        "links.login.href",
        "links.log_cache.href",
    ]);
    let login = text(root.at("links.login.href")).to_owned();
    assert_eq!(login, cf.platform.api);
    cf.get("/login").has(&["prompts.username.1", "prompts.password.1"]);
    let form = [
        ("grant_type", "password"),
        ("username", "admin"),
        ("password", password),
    ];
    let (asked, request) = cf.request("POST", "/oauth/token");
    let token = request.basic_auth("cf", Some("")).form(&form).send().expect("answered");
    let token: Value = token.json().expect("JSON");
    assert_eq!(token["token_type"], "bearer", "{asked}");
    assert!(token["refresh_token"].is_string(), "{asked}");
    cf.log_in(text(&token["access_token"]));
    let orgs = cf.get("/v3/organizations?order_by=name").has(&["resources.0.name"]);
    cf.keep("org", orgs.at("resources.0.guid"));
    let spaces = cf.get("/v3/spaces?order_by=name&organization_guids=$org");
    cf.keep("space", spaces.has(&["resources.0.name"]).at("resources.0.guid"));
}

/// An archive of a small app that says its version.
fn archive(version: u32) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in [
        ("Procfile", PROCFILE.replace("$VERSION", &version.to_string())),
        ("public/index.html", format!("version {version}\n")),
    ] {
        zip.start_file(name, zip::write::SimpleFileOptions::default())
            .expect("begun");
        zip.write_all(contents.as_bytes()).expect("written");
    }
    zip.finish().expect("finished").into_inner()
}

/// From nothing to a droplet of `app`, which is kept under the app's name and `-droplet`.
fn staged(cf: &Session<'_>, app: &str, version: u32) {
    let found = cf.get(&format!("/v3/apps?names={app}&space_guids=$space"));
    cf.keep(
        app,
        found
            .has(&["resources.0.state", "resources.0.lifecycle.type"])
            .at("resources.0.guid"),
    );
    let file = json!({"path": "none", "mode": "644", "size_in_bytes": 3,
        "checksum": {"value": "da39a3ee5e6b4b0d3255bfef95601890afd80700"}});
    cf.call("POST", "/v3/resource_matches", &json!({"resources": [file]}))
        .is(201)
        .equals("resources", &json!([]));
    let of = json!({"app": {"data": {"guid": format!("${app}")}}});
    let package = cf
        .call("POST", "/v3/packages", &json!({"type": "bits", "relationships": of}))
        .is(201);
    cf.keep("package", package.at("guid"));
    let (asked, request) = cf.request("POST", "/v3/packages/$package/upload");
    let bits = reqwest::blocking::multipart::Part::bytes(archive(version)).file_name("package.zip");
    let form = reqwest::blocking::multipart::Form::new()
        .text("resources", "[]")
        .part("bits", bits);
    // Ready at once: the command line would wait three seconds before it looks again.
    cf.send(asked, request.multipart(form))
        .is(200)
        .equals("state", &json!("READY"));
    let build = cf
        .call("POST", "/v3/builds", &json!({"package": {"guid": "$package"}}))
        .is(201);
    cf.keep("build", build.at("guid"));
    cf.get("/api/v1/info").has(&["version"]);
    let read = format!("/api/v1/read/${app}");
    cf.get(&format!(
        "{read}?descending=true&limit=1&start_time=-6795364578871345152"
    ))
    .has(&["envelopes.batch"]);
    cf.get(&format!("{read}?envelope_types=LOG&start_time=1"))
        .has(&["envelopes.batch"]);
    let build = cf.poll("/v3/builds/$build", |build| build.at("state") != "STAGING");
    let build = build.equals("state", &json!("STAGED"));
    cf.keep(&format!("{app}-droplet"), build.at("droplet.guid"));
    cf.get(&format!("/v3/droplets/${app}-droplet"))
        .equals("state", &json!("STAGED"));
}

/// Waits for `count` running instances of an app's web process, and looks at them.
fn running(cf: &Session<'_>, app: &str, count: usize) {
    let processes = cf.get(&format!("/v3/apps/${app}/processes"));
    cf.keep("process", processes.at("resources.0.guid"));
    let stats = cf.poll("/v3/processes/$process/stats", |stats| {
        let all = stats.at("resources").as_array().expect("a list");
        // Never empty, or the command line takes the app for started.
        assert!(!all.is_empty(), "{}", stats.asked);
        assert!(all.iter().all(|one| one["state"] != "CRASHED"), "{}", stats.body);
        let up = all
            .iter()
            .filter(|one| one["state"] == "RUNNING" && one["routable"] != false);
        all.len() == count && up.count() == count
    });
    stats.has(&[
        "resources.0.index",
        "resources.0.type",
        "resources.0.uptime",
        "resources.0.mem_quota",
        "resources.0.disk_quota",
        "resources.0.log_rate_limit",
    ]);
}

/// What ends most commands about an app.
fn summary(cf: &Session<'_>, app: &str) {
    cf.get(&format!("/v3/apps?names={app}&space_guids=$space"))
        .has(&["resources.0.guid"]);
    let processes = cf.get(&format!("/v3/apps/${app}/processes"));
    cf.keep("process", processes.at("resources.0.guid"));
    cf.get("/v3/processes/$process").has(&[
        "type",
        "instances",
        "memory_in_mb",
        "disk_in_mb",
        "log_rate_limit_in_bytes_per_second",
        "health_check.type",
    ]);
    cf.get("/v3/processes/$process/sidecars").has(&["resources"]);
    cf.get("/v3/processes/$process/stats").has(&["resources.0.state"]);
    cf.get(&format!("/v3/apps/${app}/routes")).has(&["resources"]);
    cf.get(&format!("/v3/apps/${app}/droplets/current"))
        .has(&["guid", "stack", "buildpacks"]);
    let active = "order_by=-created_at&page=1&per_page=1&status_values=ACTIVE";
    cf.get(&format!("/v3/deployments?app_guids=${app}&{active}"))
        .has(&["resources"]);
}

fn manifest(cf: &Session<'_>, path: &str) -> Answer {
    let (asked, request) = cf.request("POST", path);
    cf.send(
        asked,
        request.header("Content-Type", "application/x-yaml").body(MANIFEST),
    )
}

fn push(cf: &Session<'_>) {
    let diff = manifest(cf, "/v3/spaces/$space/manifest_diff").is(201);
    assert!(diff.at("diff").is_array());
    cf.job(manifest(cf, "/v3/spaces/$space/actions/apply_manifest"));
    for (app, count) in [("shop", 2), ("ticker", 1)] {
        staged(cf, app, 1);
        let droplet = json!({"data": {"guid": format!("${app}-droplet")}});
        cf.call(
            "PATCH",
            &format!("/v3/apps/${app}/relationships/current_droplet"),
            &droplet,
        )
        .is(200);
        cf.call("POST", &format!("/v3/apps/${app}/actions/restart"), &Value::Null)
            .is(200)
            .equals("state", &json!("STARTED"));
        running(cf, app, count);
        summary(cf, app);
    }
    assert_eq!(
        cf.get("/v3/apps/$shop/env").at("environment_variables.GREETING"),
        "hello"
    );
    let route = cf.get("/v3/apps/$shop/routes");
    cf.keep("host", route.at("resources.0.url"));
    serves(cf, "version 1\n");
}

/// What the app answers through the router.
fn serves(cf: &Session<'_>, expected: &str) {
    let (status, page) = cf.platform.get(&cf.filled("$host"), "/");
    assert_eq!((status, page.as_str()), (200, expected));
}

/// Starts a deployment and follows it to its end.
fn deployed(cf: &Session<'_>, body: &Value) -> Answer {
    let deployment = cf.call("POST", "/v3/deployments", body).is(201);
    cf.keep("deployment", deployment.at("guid"));
    let end = cf.poll("/v3/deployments/$deployment", |deployment| {
        shows_status(deployment);
        deployment.at("status.value") == "FINALIZED" || deployment.at("status.reason") == "PAUSED"
    });
    end.has(&["strategy", "options.max_in_flight", "new_processes.0.guid"])
}

/// What is shown while a deployment goes on.
#[track_caller]
fn shows_status(deployment: &Answer) {
    for path in ["status.value", "status.reason", "status.details.last_status_change"] {
        deployment.at(path);
    }
}

fn rolling_push_and_rollback(cf: &Session<'_>) {
    let of = json!({"app": {"data": {"guid": "$shop"}}});
    staged(cf, "shop", 2);
    let droplet = json!({"guid": "$shop-droplet"});
    let rolling = json!({"droplet": droplet, "strategy": "rolling", "relationships": of});
    deployed(cf, &rolling).equals("status.reason", &json!("DEPLOYED"));
    running(cf, "shop", 2);
    summary(cf, "shop");
    serves(cf, "version 2\n");

    cf.get("/v3/apps/$shop/features/revisions")
        .equals("enabled", &json!(true));
    cf.get("/v3/apps/$shop/revisions?order_by=-created_at").has(&[
        "resources.0.version",
        "resources.0.deployable",
        "resources.0.description",
    ]);
    cf.get("/v3/apps/$shop/revisions/deployed")
        .equals("resources.0.version", &json!(2));
    let first = cf.get("/v3/apps/$shop/revisions?page=1&per_page=2&versions=1");
    cf.keep("revision", first.at("resources.0.guid"));
    let back = json!({"revision": {"guid": "$revision"}, "strategy": "rolling", "relationships": of});
    deployed(cf, &back).equals("status.reason", &json!("DEPLOYED"));
    serves(cf, "version 1\n");

    let canary = json!({"droplet": droplet, "strategy": "canary", "relationships": of});
    deployed(cf, &canary)
        .equals("status.value", &json!("ACTIVE"))
        .equals("status.reason", &json!("PAUSED"))
        .has(&["status.canary.steps.current", "status.canary.steps.total"]);
    let active = "/v3/deployments?app_guids=$shop&order_by=-created_at&page=1&per_page=1&status_values=ACTIVE";
    cf.keep("deployment", cf.get(active).at("resources.0.guid"));
    cf.call("POST", "/v3/deployments/$deployment/actions/continue", &Value::Null)
        .is(200);
    cf.poll("/v3/deployments/$deployment", |of| of.at("status.value") == "FINALIZED")
        .equals("status.reason", &json!("DEPLOYED"));
    serves(cf, "version 2\n");
}

fn tasks(cf: &Session<'_>) {
    let once = json!({"command": "echo once and for all", "name": "once"});
    let task = cf.call("POST", "/v3/apps/$shop/tasks", &once).is(202);
    cf.keep("task", task.has(&["sequence_id", "name", "state"]).at("guid"));
    let ended = cf.poll("/v3/tasks/$task", |task| {
        ["SUCCEEDED", "FAILED"].contains(&text(task.at("state")))
    });
    ended.equals("state", &json!("SUCCEEDED")).has(&["result"]);
    let long = cf
        .call("POST", "/v3/apps/$shop/tasks", &json!({"command": "sleep 600"}))
        .is(202);
    let number = long.at("sequence_id").clone();
    let listed = cf.get("/v3/apps/$shop/tasks?per_page=5000");
    assert_eq!(listed.at("resources").as_array().expect("a list").len(), 2);
    let found = cf.get(&format!("/v3/apps/$shop/tasks?sequence_ids={number}"));
    cf.keep("task", found.at("resources.0.guid"));
    cf.call("PUT", "/v3/tasks/$task/cancel", &Value::Null).is(202);
    cf.poll("/v3/tasks/$task", |task| task.at("state") == "FAILED")
        .has(&["result.failure_reason"]);
}

/// Recent lines of an app, newest last, as (source type, instance, text).
fn lines(cf: &Session<'_>, app: &str) -> Vec<(String, String, String)> {
    let query = "descending=true&envelope_types=LOG&limit=1000&start_time=-6795364578871345152";
    let read = cf.get(&format!("/api/v1/read/${app}?{query}"));
    let batch = read.at("envelopes.batch").as_array().expect("a list");
    let mut lines: Vec<_> = batch
        .iter()
        .map(|envelope| {
            let at: i64 = text(&envelope["timestamp"]).parse().expect("nanoseconds as text");
            assert!(at > 0);
            assert_eq!(text(&envelope["source_id"]), cf.filled(&format!("${app}")));
            assert!(["OUT", "ERR"].contains(&text(&envelope["log"]["type"])));
            let kind = text(&envelope["tags"]["source_type"]).to_owned();
            (
                kind,
                text(&envelope["instance_id"]).to_owned(),
                plain(text(&envelope["log"]["payload"])),
            )
        })
        .collect();
    lines.reverse();
    lines
}

fn logs(cf: &Session<'_>) {
    let until = Instant::now() + DEADLINE;
    let has = |all: &[(String, String, String)], kind: &str, part: &str| {
        all.iter().any(|(of, _, line)| of == kind && line.contains(part))
    };
    loop {
        let all = lines(cf, "shop");
        let task = all
            .iter()
            .any(|(of, _, line)| of.starts_with("APP/TASK/") && line.contains("once and for all"));
        if has(&all, "APP/PROC/WEB", "serving version 2") && has(&all, "STG", "") && task {
            assert!(all.iter().any(|(_, index, _)| index == "1"), "{all:?}");
            break;
        }
        assert!(Instant::now() < until, "{all:?}");
        std::thread::yield_now();
    }
}

fn scale(cf: &Session<'_>) {
    let path = "/v3/apps/$shop/processes/web/actions/scale";
    cf.call("POST", path, &json!({"instances": 3}))
        .is(202)
        .equals("instances", &json!(3));
    running(cf, "shop", 3);
    cf.call("POST", path, &json!({"memory_in_mb": 96})).is(202);
    cf.call("POST", "/v3/apps/$shop/actions/stop", &Value::Null)
        .is(200)
        .equals("state", &json!("STOPPED"));
    cf.call("POST", "/v3/apps/$shop/actions/start", &Value::Null).is(200);
    running(cf, "shop", 3);
    // A start so soon after a stop is a rollout: what ran before is shown until its successors run.
    let larger = json!(96 * 1024 * 1024);
    cf.poll("/v3/processes/$process/stats", |stats| {
        stats.at("resources.0.mem_quota") == &larger
    });
    // `cf apps`: three calls, however many apps.
    cf.get("/v3/apps?order_by=name&per_page=5000&space_guids=$space")
        .equals("resources.1.name", &json!("ticker"));
    cf.get("/v3/processes?embed=process_instances&space_guids=$space")
        .has(&["resources.0.process_instances.0.state"]);
    cf.get("/v3/routes?app_guids=$shop,$ticker")
        .has(&["resources.0.url", "resources.0.destinations.0.app.guid"]);
}

fn services(cf: &Session<'_>) {
    let of = json!({"space": {"data": {"guid": "$space"}}});
    let body = json!({"type": "user-provided", "name": "db", "credentials": {"uri": "db://x"}, "relationships": of});
    cf.call("POST", "/v3/service_instances", &body).is(201);
    let found = cf.get("/v3/service_instances?names=db&space_guids=$space&page=1&per_page=1");
    cf.keep(
        "service",
        found
            .equals("resources.0.type", &json!("user-provided"))
            .at("resources.0.guid"),
    );
    let ends = json!({"app": {"data": {"guid": "$shop"}}, "service_instance": {"data": {"guid": "$service"}}});
    let body = json!({"type": "app", "relationships": ends});
    cf.call("POST", "/v3/service_credential_bindings", &body).is(201);
    let again = cf.call("POST", "/v3/service_credential_bindings", &body).is(422);
    assert!(text(again.at("errors.0.detail")).starts_with("The app is already bound to the service instance"));
    cf.get("/v3/apps/$shop/env").equals(
        "system_env_json.VCAP_SERVICES.user-provided.0.credentials.uri",
        &json!("db://x"),
    );
    let query = "app_guids=$shop&service_instance_guids=$service&type=app";
    let bound = cf.get(&format!("/v3/service_credential_bindings?{query}"));
    cf.keep("binding", bound.at("resources.0.guid"));
    cf.call("DELETE", "/v3/service_credential_bindings/$binding", &Value::Null)
        .is(204);
    cf.call("DELETE", "/v3/service_instances/$service", &Value::Null)
        .is(204);
}

fn delete(cf: &Session<'_>) {
    let routes = cf.get("/v3/apps/$shop/routes");
    cf.keep("route", routes.at("resources.0.guid"));
    for path in ["/v3/apps/$shop", "/v3/routes/$route", "/v3/apps/$ticker"] {
        cf.job(cf.call("DELETE", path, &Value::Null));
        let gone = cf.call("GET", path, &Value::Null).is(404);
        let what = if path.contains("routes") {
            "Route not found"
        } else {
            "App not found"
        };
        assert_eq!(gone.at("errors.0.detail"), what);
    }
}

#[test]
fn a_session_of_the_command_line_of_cloud_foundry() {
    let platform = Platform::start();
    let login = std::fs::read(platform.path("login.json")).expect("a login is ready");
    let login: Value = serde_json::from_slice(&login).expect("JSON");
    let cf = Session::new(&platform);
    log_in(&cf, text(&login["password"]));
    push(&cf);
    rolling_push_and_rollback(&cf);
    tasks(&cf);
    logs(&cf);
    scale(&cf);
    services(&cf);
    delete(&cf);
}
