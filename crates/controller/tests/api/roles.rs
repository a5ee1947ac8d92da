//! Who may do what: every route of the API is asked by every role, and what comes of it is a table that is reviewed.
//!
//! The table is `roles.txt`. A route without a row fails the test, and so does an answer that is not the row's. With
//! `UPDATE=1` in the environment the table is written anew, to be reviewed as a diff.

use crate::client::*;
use crate::world::{World, world};
use api::v3::ROUTES;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use store::testing::TestStore;

store::on_both_engines!(every_route_answers_every_role_as_the_table_says);

/// The columns of the table. Each has a world of its own, so that what one may do does not disturb another.
const ROLES: [&str; 11] = [
    "anonymous",
    "stranger",
    "organization_user",
    "organization_auditor",
    "organization_billing_manager",
    "organization_manager",
    "space_auditor",
    "space_supporter",
    "space_manager",
    "space_developer",
    "admin",
];

const HEAD: &str = "\
# Which role gets what from which route. A world is an organisation with a space, an app and what belongs to it; the
# caller has one role in it. `anonymous` sends no token, `stranger` has a role in another organisation.
#
#   -  401: not logged in
#   0  404: it is not there for this role
#   x  403: it is seen, but this may not be done
#   e  a list without anything of this world
#   r  the request is refused, as what it names is not there for this role or as it can't be done
#   y  it is answered or done
#
# Columns: anonymous, stranger, organization_user, organization_auditor, organization_billing_manager,
# organization_manager, space_auditor, space_supporter, space_manager, space_developer, admin.
#
#          asou bmau smda
";

/// What stands for `{guid}` below the first part of a path.
fn subject(first: &str) -> &'static str {
    match first {
        "organizations" => "org",
        "spaces" => "space",
        "roles" => "role",
        "users" | "Users" => "user",
        "Groups" => "spare",
        "domains" => "domain",
        "routes" => "route",
        "processes" => "process",
        "tasks" => "task",
        "sidecars" => "sidecar",
        "isolation_segments" => "segment",
        "app_usage_events" => "app_usage",
        "service_usage_events" => "service_usage",
        "packages" => "package",
        "builds" => "build",
        "droplets" => "droplet",
        "revisions" => "revision",
        "deployments" => "deployment",
        "audit_events" => "event",
        "stacks" => "stack",
        "service_instances" => "instance",
        "service_credential_bindings" => "binding",
        "buildpacks" => "buildpack",
        "organization_quotas" => "quota",
        "security_groups" => "group",
        "space_quotas" => "space_quota",
        _ => "app",
    }
}

pub fn path(route: &str, world: &World) -> String {
    let first = route.trim_start_matches("/v3").split('/').nth(1).unwrap_or_default();
    let guid = world.get(subject(first)).map_or("none", String::as_str);
    route
        .replace("{guid}", guid)
        .replace("{type}", "web")
        .replace("{index}", "0")
        .replace(
            "{name}",
            if route.contains("feature_flags") {
                "route_sharing"
            } else if route.contains("variable_groups") {
                "running"
            } else if route.starts_with("/v3/spaces") {
                "ssh"
            } else {
                "revisions"
            },
        )
        .replace("{source}", &world["app"])
        .replace("{client}", &world["client"])
        .replace("{destination}", &world["destination"])
        .replace("{space}", &world["space"])
        .replace("{org}", &world["org"])
        .replace("{group}", "cloud_controller.admin")
}

/// A body with which the request could succeed, or is refused only after the caller was looked at.
pub fn body(method: &str, route: &str, world: &World) -> Value {
    let to = |name: &str| json!({"data": {"guid": world[name]}});
    match (method, route) {
        ("POST", "/v3/organizations") => json!({"name": format!("{}-new", world["org"])}),
        ("POST", "/v3/spaces") => json!({"name": "new", "relationships": {"organization": to("org")}}),
        ("POST", "/v3/roles") => json!({"type": "organization_auditor", "relationships":
            {"user": to("user"), "organization": to("org")}}),
        ("POST", "/v3/users") => json!({"guid": world["user"]}),
        ("POST", "/Users") => json!({"userName": format!("{}-new", world["user"]), "password": "secret-word"}),
        ("POST", "/oauth/clients") => {
            json!({"client_id": format!("{}-new", world["org"]), "client_secret": "secret-word"})
        }
        ("PUT", "/oauth/clients/{client}/secret") => json!({"secret": "another-word"}),
        ("PATCH", "/v3/apps/{guid}/features/{name}" | "/v3/spaces/{guid}/features/{name}") => json!({"enabled": true}),
        ("PUT", "/Users/{guid}/password") => json!({"password": "another-word"}),
        ("POST", "/Groups/{group}/members") => json!({"origin": "uaa", "type": "USER", "value": world["spare"]}),
        ("POST", "/v3/organization_quotas") => json!({"name": format!("{}-new", world["org"])}),
        ("POST", "/v3/organization_quotas/{guid}/relationships/organizations") => {
            json!({"data": [{"guid": world["org"]}]})
        }
        ("POST", "/v3/isolation_segments") => json!({"name": format!("{}-new", world["org"])}),
        ("POST", "/v3/isolation_segments/{guid}/relationships/organizations") => {
            json!({"data": [{"guid": world["org"]}]})
        }
        (
            "PATCH",
            "/v3/organizations/{guid}/relationships/default_isolation_segment"
            | "/v3/spaces/{guid}/relationships/isolation_segment",
        ) => json!({"data": null}),
        ("POST", "/v3/space_quotas") => json!({"name": "new", "relationships": {"organization": to("org")}}),
        ("POST", "/v3/security_groups") => json!({"name": format!("{}-new", world["org"])}),
        (
            "POST",
            "/v3/security_groups/{guid}/relationships/running_spaces"
            | "/v3/security_groups/{guid}/relationships/staging_spaces",
        ) => json!({"data": [{"guid": world["space"]}]}),
        ("POST", "/v3/space_quotas/{guid}/relationships/spaces") => json!({"data": [{"guid": world["space"]}]}),
        ("PATCH", "/v3/feature_flags/{name}") => json!({"enabled": true}),
        ("PATCH", "/v3/environment_variable_groups/{name}") => json!({"var": {"A": "1"}}),
        ("POST", "/v3/domains") => json!({"name": format!("{}.example.net", world["org"]),
            "relationships": {"organization": to("org")}}),
        ("POST", "/v3/routes") => {
            json!({"host": "new", "relationships": {"space": to("space"), "domain": to("domain")}})
        }
        ("POST" | "PATCH", "/v3/routes/{guid}/destinations") => {
            json!({"destinations": [{"app": {"guid": world["app"]}}]})
        }
        ("PATCH", "/v3/routes/{guid}/destinations/{destination}") => json!({"protocol": "http2"}),
        ("POST", "/v3/apps") => json!({"name": "new", "relationships": {"space": to("space")}}),
        ("PATCH", "/v3/apps/{guid}/environment_variables") => json!({"var": {"A": "1"}}),
        ("PATCH", "/v3/apps/{guid}/relationships/current_droplet") => to("droplet"),
        ("POST", "/v3/apps/{guid}/sidecars") => {
            json!({"name": "new", "command": "./new", "process_types": ["web"]})
        }
        ("POST", "/v3/apps/{guid}/tasks") => json!({"command": "true"}),
        ("POST", "/v3/packages") => json!({"type": "bits", "relationships": {"app": to("other")}}),
        ("POST", "/v3/droplets") => json!({"relationships": {"app": to("other")}}),
        ("POST", "/v3/buildpacks") => json!({"name": format!("{}-new", world["org"])}),
        ("POST", "/v3/resource_matches") => json!({"resources": []}),
        ("POST", "/v3/builds") => json!({"package": {"guid": world["package"]}}),
        ("POST", "/v3/deployments") => json!({"relationships": {"app": to("app")}}),
        ("POST", "/v3/service_instances") => json!({"type": "user-provided", "name": "new",
            "relationships": {"space": to("space")}}),
        ("POST", "/v3/service_credential_bindings") => json!({"type": "app", "relationships":
            {"app": to("other"), "service_instance": to("instance")}}),
        _ => json!({}),
    }
}

/// Whether a list's answer can be of nothing of the world at all.
fn is_list(method: &str, route: &str) -> bool {
    method == "GET" && !route.contains('{') && route.starts_with("/v3/") && !route.starts_with("/v3/info")
}

async fn outcome(platform: &Platform, client: Option<&Client<'_>>, method: &str, route: &str, world: &World) -> char {
    let mut path = path(route, world);
    if is_list(method, route) {
        path.push_str("?per_page=5000");
    }
    let verb: Method = method.parse().expect("a method");
    let answer = match client {
        None => platform.plain(verb, &path).await,
        Some(client) if route.ends_with("/upload") => {
            client.upload_to(&path, &json!([]), Some(zip(&[("a", "b")]))).await
        }
        Some(client) if route.contains("manifest_diff") || route.contains("apply_manifest") => {
            client
                .yaml(&path, "applications:\n- name: by-manifest\n  no-route: true\n")
                .await
        }
        Some(client) => {
            let body = (method != "GET" && method != "DELETE").then(|| body(method, route, world));
            client.call(verb, &path, body).await
        }
    };
    let status = answer.status.as_u16();
    assert!(status < 500 || status == 501, "{method} {path}: {}", answer.text);
    match status {
        401 => '-',
        404 if answer.detail() == "Unknown request" => panic!("{method} {route} is not served"),
        404 => '0',
        403 => 'x',
        200 if is_list(method, route) => {
            let ours = world.iter().filter(|(name, _)| **name != "stack");
            let seen = ours
                .map(|(_, guid)| guid)
                .any(|guid| answer.text.contains(guid.as_str()));
            if seen || ["/v3/stacks", "/v3/buildpacks", "/v3/feature_flags"].contains(&route) {
                'y'
            } else {
                'e'
            }
        }
        200..300 => 'y',
        _ => 'r',
    }
}

/// Reads first, then changes, then removals from the leaves up, so that what is asked for is still there.
fn order(method: &str, route: &str) -> (u8, usize) {
    const LAST: [&str; 6] = [
        "/v3/routes/{guid}",
        "/v3/domains/{guid}",
        "/v3/apps/{guid}",
        "/v3/service_instances/{guid}",
        "/v3/spaces/{guid}",
        "/v3/organizations/{guid}",
    ];
    match method {
        "GET" => (0, 0),
        "DELETE" => (3, LAST.iter().position(|last| *last == route).map_or(0, |at| at + 1)),
        // Ends what others act on.
        _ if route.contains("cancel") || route.contains("actions/stop") => (2, 0),
        _ => (1, 0),
    }
}

fn table_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/api/roles.txt")
}

async fn every_route_answers_every_role_as_the_table_says(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut routes: Vec<(&str, &str)> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
    routes.sort_by_key(|(method, route)| order(method, route));
    for role in ROLES {
        let world = world(&admin, role).await;
        let caller = match role {
            "anonymous" => None,
            "admin" => Some(platform.with_token(&admin.token)),
            _ => Some(platform.user(&format!("caller-{role}")).await),
        };
        if let Some(caller) = caller.as_ref().filter(|_| role != "admin") {
            let home = if role == "stranger" {
                stranger_home(&admin).await
            } else {
                world.clone()
            };
            give(&admin, caller, role, &home).await;
        }
        for (method, route) in &routes {
            let outcome = outcome(&platform, caller.as_ref(), method, route, &world).await;
            found.entry(format!("{method} {route}")).or_default().push(outcome);
        }
    }
    compare(&found);
}

async fn stranger_home(admin: &Client<'_>) -> World {
    let org = admin
        .post("/v3/organizations", json!({"name": "elsewhere"}))
        .await
        .expect(201)
        .guid();
    World::from([("org", org)])
}

pub async fn give(admin: &Client<'_>, caller: &Client<'_>, role: &str, home: &World) {
    let me = caller.get("/userinfo").await.expect(200);
    let me = me.body["user_id"].as_str().expect("an id").to_owned();
    let user = json!({"data": {"guid": me}});
    let in_org = json!({"type": if role.starts_with("org") { role } else { "organization_user" },
        "relationships": {"user": user, "organization": {"data": {"guid": home["org"]}}}});
    admin.post("/v3/roles", in_org).await.expect(201);
    if role.starts_with("space") {
        let in_space =
            json!({"type": role, "relationships": {"user": user, "space": {"data": {"guid": home["space"]}}}});
        admin.post("/v3/roles", in_space).await.expect(201);
    }
}

fn compare(found: &BTreeMap<String, String>) {
    let mut text = HEAD.to_owned();
    for route in ROUTES {
        let row = &found[&format!("{} {}", route.method, route.path)];
        let spaced = format!("{} {} {}", &row[..4], &row[4..8], &row[8..]);
        writeln!(text, "{:<6} {spaced}  {}", route.method, route.path).expect("written");
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(table_path(), &text).expect("written");
    }
    let table = std::fs::read_to_string(table_path()).expect("the table");
    let wrong: Vec<&str> = text
        .lines()
        .filter(|line| !table.lines().any(|row| row == *line))
        .collect();
    assert!(
        wrong.is_empty(),
        "not in the table of roles (UPDATE=1 writes it):\n{}",
        wrong.join("\n")
    );
    let stale: Vec<&str> = table
        .lines()
        .filter(|row| !text.lines().any(|line| line == *row))
        .collect();
    assert!(
        stale.is_empty(),
        "in the table of roles and not so:\n{}",
        stale.join("\n")
    );
}
