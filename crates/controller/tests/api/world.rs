//! One of each thing that routes are about: what the test of roles asks for.

use crate::client::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Ids, by the name that paths and bodies use.
pub type World = BTreeMap<&'static str, String>;

async fn made(admin: &Client<'_>, path: &str, body: Value) -> String {
    admin.post(path, body).await.expect(201).guid()
}

fn to(guid: &str) -> Value {
    json!({"data": {"guid": guid}})
}

/// The first of a list.
async fn first(admin: &Client<'_>, path: &str) -> String {
    let listed = admin.get(path).await.expect(200);
    let guid = listed.body["resources"][0]["guid"].as_str();
    guid.unwrap_or_else(|| panic!("{path} is empty")).to_owned()
}

/// An organisation named after the role, with a space, an app and what belongs to them.
pub async fn world(admin: &Client<'_>, role: &str) -> World {
    let mut world = World::new();
    let org = made(admin, "/v3/organizations", json!({"name": role})).await;
    let body = json!({"name": role, "relationships": {"organization": to(&org)}});
    let space = made(admin, "/v3/spaces", body).await;
    world.insert("org", org);
    world.insert("space", space);
    app(admin, role, &mut world).await;
    routes_and_services(admin, role, &mut world).await;
    people(admin, role, &mut world).await;
    bounds(admin, role, &mut world).await;
    world
}

/// An app that was pushed and deployed, and one without anything.
async fn app(admin: &Client<'_>, role: &str, world: &mut World) {
    for name in ["app", "other"] {
        let body = json!({"name": format!("{role}-{name}"), "relationships": {"space": to(&world["space"])}});
        let guid = made(admin, "/v3/apps", body).await;
        world.insert(name, guid);
    }
    let app = world["app"].clone();
    let droplet = admin.stage(&app, "console.log(1)").await;
    let create = json!({"droplet": {"guid": droplet}, "relationships": {"app": to(&app)}});
    world.insert("deployment", made(admin, "/v3/deployments", create).await);
    world.insert("droplet", droplet);
    for (name, path) in [
        ("package", format!("/v3/packages?app_guids={app}")),
        ("build", format!("/v3/builds?app_guids={app}")),
        ("process", format!("/v3/apps/{app}/processes")),
        ("revision", format!("/v3/apps/{app}/revisions")),
        ("event", format!("/v3/audit_events?target_guids={app}")),
        ("stack", "/v3/stacks".to_owned()),
        ("app_usage", "/v3/app_usage_events".to_owned()),
    ] {
        world.insert(name, first(admin, &path).await);
    }
    let body = json!({"name": "agent", "command": "./agent", "process_types": ["web"]});
    let sidecar = made(admin, &format!("/v3/apps/{app}/sidecars"), body).await;
    world.insert("sidecar", sidecar);
    let path = format!("/v3/apps/{app}/tasks");
    let task = admin.post(&path, json!({"command": "true"})).await;
    world.insert("task", task.expect(202).guid());
}

async fn routes_and_services(admin: &Client<'_>, role: &str, world: &mut World) {
    let (app, space) = (world["app"].clone(), world["space"].clone());
    let name = format!("{}.example.org", role.replace('_', "-"));
    let body = json!({"name": name, "relationships": {"organization": to(&world["org"])}});
    let domain = made(admin, "/v3/domains", body).await;
    let body = json!({"host": "shop", "relationships": {"space": to(&space), "domain": to(&domain)}});
    let route = made(admin, "/v3/routes", body).await;
    let path = format!("/v3/routes/{route}/destinations");
    let body = json!({"destinations": [{"app": {"guid": app}}]});
    let mapped = admin.post(&path, body).await.expect(200);
    let destination = mapped.body["destinations"][0]["guid"].as_str().expect("a guid");
    world.insert("destination", destination.to_owned());
    world.insert("domain", domain);
    world.insert("route", route);
    let body = json!({"type": "user-provided", "name": "db", "relationships": {"space": to(&space)}});
    let instance = made(admin, "/v3/service_instances", body).await;
    let body = json!({"type": "app", "relationships": {"app": to(&app), "service_instance": to(&instance)}});
    world.insert("binding", made(admin, "/v3/service_credential_bindings", body).await);
    world.insert("instance", instance);
    let usage = "/v3/service_usage_events?order_by=-created_at";
    world.insert("service_usage", first(admin, usage).await);
}

async fn people(admin: &Client<'_>, role: &str, world: &mut World) {
    for name in ["user", "spare"] {
        let body = json!({"userName": format!("{role}-{name}"), "password": "secret-word"});
        let user = admin.post("/Users", body).await.expect(201);
        world.insert(name, user.body["id"].as_str().expect("an id").to_owned());
    }
    let relationships = json!({"user": to(&world["user"]), "organization": to(&world["org"])});
    let body = json!({"type": "organization_user", "relationships": relationships});
    world.insert("role", made(admin, "/v3/roles", body).await);
}

/// What operators made: a client, a buildpack, a security group, quotas.
async fn bounds(admin: &Client<'_>, role: &str, world: &mut World) {
    let client = format!("{role}-client");
    let body = json!({"client_id": client, "client_secret": "secret-word"});
    admin.post("/oauth/clients", body).await.expect(201);
    world.insert("client", client);
    let body = json!({"name": format!("{role}_buildpack")});
    world.insert("buildpack", made(admin, "/v3/buildpacks", body).await);
    let (orgs, spaces) = (
        json!({"data": [{"guid": world["org"]}]}),
        json!({"data": [{"guid": world["space"]}]}),
    );
    let body = json!({"name": role, "relationships": {"running_spaces": spaces}});
    world.insert("group", made(admin, "/v3/security_groups", body).await);
    let body = json!({"name": role, "relationships": {"organizations": orgs}});
    world.insert("quota", made(admin, "/v3/organization_quotas", body).await);
    let segment = made(admin, "/v3/isolation_segments", json!({"name": role})).await;
    let path = format!("/v3/isolation_segments/{segment}/relationships/organizations");
    let entitled = json!({"data": [{"guid": world["org"]}]});
    admin.post(&path, entitled).await.expect(200);
    world.insert("segment", segment);
    let relationships = json!({"organization": to(&world["org"]), "spaces": spaces});
    let body = json!({"name": role, "relationships": relationships});
    world.insert("space_quota", made(admin, "/v3/space_quotas", body).await);
}
