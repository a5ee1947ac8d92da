//! Ids of nothing, of something else, and of other tenants.

use super::lists::parameters;
use super::*;
use crate::world::world;
use store::testing::TestStore;

store::on_both_engines!(ids_of_nothing_are_refused, ids_of_others_tell_nothing);

/// The paths of a route with one of its parameters wrong.
fn wrong_paths(route: &Route, world: &World) -> Vec<String> {
    let good = roles::path(route.path, world);
    let good: Vec<&str> = good.split('/').collect();
    let template: Vec<&str> = route.path.split('/').collect();
    let long = "a".repeat(5000);
    let parameters = template.iter().enumerate().filter(|(_, part)| part.starts_with('{'));
    let bad = [
        NOBODY,
        // Of another kind.
        world["stack"].as_str(),
        "not-a-guid",
        "a%00b",
        "%FF%FE",
        "%0d%0aSet-Cookie:%20a=b",
        "..%2f..%2fadmin",
        "%27%20or%201=1--",
        "-1",
        "99999999999999999999",
        long.as_str(),
    ];
    parameters
        .flat_map(|(at, name)| {
            let of_stack = *name == "{guid}" && route.path.starts_with("/v3/stacks");
            let bad = bad.iter().filter(move |bad| !(of_stack && **bad == world["stack"]));
            let good = good.clone();
            bad.map(move |bad| {
                let mut parts = good.clone();
                parts[at] = bad;
                parts.join("/")
            })
        })
        .collect()
}

async fn ids_of_nothing_are_refused(store: &TestStore) {
    let mut wrong = Wrong::default();
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let world = world(&admin, "good").await;
    let mut before = (state(&admin).await, newest(&platform).await);
    for route in guarded() {
        let body = whole(route, &world);
        for path in wrong_paths(route, &world) {
            let asked = request(&admin.token, route.method, &path, "application/json", body.to_string());
            let answer = platform.send(asked).await;
            let short: String = path.chars().take(120).collect();
            // Clients remove a user here after the API did: that there is none is as if it were removed.
            if route.method == "DELETE" && route.path == "/Users/{guid}" && answer.status == 200 {
                continue;
            }
            wrong.unless_refused(&answer, &[400, 404, 422], &format!("{} {short}", route.method));
            let now = newest(&platform).await;
            wrong.unless(now == before.1, || format!("{} {short} did something", route.method));
            before.1 = now;
        }
        let mut found = Vec::new();
        places(&body, "", &mut found);
        for place in found
            .iter()
            .filter(|place| place.ends_with("/guid") || *place == "/value")
        {
            for guid in [NOBODY, world["stack"].as_str(), "not-a-guid", ""] {
                let (path, body) = (roles::path(route.path, &world), with(&body, place, json!(guid)));
                let asked = request(&admin.token, route.method, &path, "application/json", body.to_string());
                let case = format!("{} {} with {place} = {guid}", route.method, route.path);
                wrong.unless_refused(&platform.send(asked).await, &[400, 404, 422], &case);
            }
        }
    }
    wrong.none();
    assert!(before.0 == state(&admin).await, "something changed");
    let _ = store;
}

/// Requests of a route in which something is the victim's: in the path, in the body, or what a list is narrowed by.
async fn about(route: &Route, caller: &Client<'_>, own: &World, victim: &World) -> Vec<(String, Value)> {
    let body = whole(route, own);
    let mut asked = Vec::new();
    if route.path.contains("guid}") {
        asked.push((roles::path(route.path, victim), body.clone()));
    }
    let mut found = Vec::new();
    places(&body, "", &mut found);
    // A manager may take any user into an organisation: the answer names nobody.
    let any = |place: &str| route.path == "/v3/roles" && place.contains("/user/");
    for place in found.iter().filter(|place| !any(place)) {
        let value = body.pointer(place).and_then(Value::as_str);
        if let Some((name, _)) = own.iter().find(|(_, guid)| Some(guid.as_str()) == value) {
            asked.push((roles::path(route.path, own), with(&body, place, json!(victim[name]))));
        }
    }
    if route.method == "GET" && !route.path.contains('{') {
        for name in parameters(caller, route.path).await {
            let of = name.trim_end_matches("_guids");
            let guid = victim
                .iter()
                .find(|(known, _)| of.contains(*known))
                .map_or(NOBODY, |(_, guid)| guid);
            let words = format!(
                "{},zqvictim,zqvictim-app,zqvictim-user,zqvictim.example.org",
                victim["app"]
            );
            let value = if name.ends_with("guids") {
                format!("{guid},{}", victim["app"])
            } else {
                words
            };
            asked.push((format!("{}?{name}={value}", route.path), json!({})));
        }
    }
    asked
}

async fn ids_of_others_tell_nothing(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let victim = world(&admin, "zqvictim").await;
    let own = world(&admin, "own").await;
    let caller = platform.user("intruder").await;
    for role in ["organization_manager", "space_developer"] {
        roles::give(&admin, &caller, role, &own).await;
    }
    let newest_of_all = newest(&platform).await;
    // Buildpacks and stacks are everyone's.
    let private = || {
        victim
            .iter()
            .filter(|(name, _)| !["stack", "buildpack"].contains(*name))
    };
    let mut wrong = Wrong::default();
    let mut check = |mut answer: Answer, sent: &str, case: &str| {
        let status = answer.status.as_u16();
        wrong.unless(status < 500 || status == 501, || format!("{case}: {}", answer.text));
        // Repeats what was asked for.
        answer.body["pagination"] = Value::Null;
        let text = answer.body.to_string().replace("zqvictim_buildpack", "");
        wrong.unless(!text.contains("zqvictim"), || format!("{case}: {text:.400}"));
        for (name, guid) in private() {
            wrong.unless(sent.contains(guid) || !text.contains(guid), || {
                format!("{case} tells of the {name}: {text:.400}")
            });
        }
    };
    for route in guarded() {
        let asked = about(route, &caller, &own, &victim).await;
        for (path, body) in asked {
            let case = format!("{} {path} {body}", route.method);
            let sent = format!("{path} {body}");
            let request = request(&caller.token, route.method, &path, "application/json", body.to_string());
            check(platform.send(request).await, &sent, &case);
            assert_eq!(newest_of_all, newest(&platform).await, "{case} did something");
        }
    }
    wrong.none();
    let _ = store;
}
