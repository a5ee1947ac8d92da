//! What applying a manifest would change, as CF tells it: operations on paths of the manifest itself, so that a client
//! can show them in it. Pure: the manifest and what there is come as JSON, the latter in the manifest's own terms.

use serde_json::{Map, Value, json};

/// Keys that are compared as they are.
const PLAIN: &[&str] = &[
    "instances",
    "command",
    "stack",
    "timeout",
    "health-check-type",
    "health-check-http-endpoint",
];
/// Keys with amounts.
const AMOUNTS: &[&str] = &["memory", "disk_quota"];

/// The operations that `manifest` comes to, where `current` gives an app as it is by name.
pub(super) fn diff<'a>(manifest: &Value, current: impl Fn(&str) -> Option<&'a Value>) -> Vec<Value> {
    let nothing = Vec::new();
    let apps = manifest
        .get("applications")
        .and_then(Value::as_array)
        .unwrap_or(&nothing);
    let mut all = Vec::new();
    for (n, app) in apps.iter().enumerate() {
        let Some(wanted) = app.as_object() else { continue };
        let name = wanted.get("name").and_then(Value::as_str).unwrap_or_default();
        let mut changes = Changes {
            at: format!("/applications/{n}"),
            all: &mut all,
        };
        match current(name) {
            Some(there) => changes.app(wanted, there),
            None => wanted
                .iter()
                .filter(|(key, _)| is_known(key))
                .for_each(|(key, value)| changes.add(&escaped(key), value)),
        }
    }
    all
}

fn is_known(key: &str) -> bool {
    const OTHERS: &[&str] = &[
        "name",
        "env",
        "routes",
        "processes",
        "sidecars",
        "services",
        "buildpacks",
        "metadata",
        "no-route",
        "random-route",
        "default-route",
    ];
    PLAIN.contains(&key) || AMOUNTS.contains(&key) || OTHERS.contains(&key)
}

/// A key within a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Gathers the operations below a path.
struct Changes<'a> {
    at: String,
    all: &'a mut Vec<Value>,
}

impl Changes<'_> {
    fn add(&mut self, path: &str, value: &Value) {
        self.all
            .push(json!({"op": "add", "path": format!("{}/{path}", self.at), "value": value}));
    }

    fn remove(&mut self, path: &str, was: &Value) {
        self.all
            .push(json!({"op": "remove", "path": format!("{}/{path}", self.at), "was": was}));
    }

    /// What is at a path from now on, if it is not what was there.
    fn set(&mut self, path: &str, was: Option<&Value>, value: &Value) {
        match was.filter(|was| !was.is_null()) {
            Some(was) if was == value => {}
            None if value.is_null() => {}
            Some(was) => self
                .all
                .push(json!({"op": "replace", "path": format!("{}/{path}", self.at), "was": was, "value": value})),
            None => self.add(path, value),
        }
    }

    fn app(&mut self, wanted: &Map<String, Value>, there: &Value) {
        let processes = there.get("processes").and_then(Value::as_array);
        let of_type = |kind: &str| {
            let mut all = processes.into_iter().flatten();
            all.find(|process| process.get("type").and_then(Value::as_str) == Some(kind))
        };
        for (key, value) in wanted {
            match key.as_str() {
                "env" => self.texts("env", there.get("env"), value),
                "metadata" => {
                    for part in ["labels", "annotations"] {
                        let was = there.pointer(&format!("/metadata/{part}"));
                        let value = value.get(part).unwrap_or(&Value::Null);
                        self.texts(&format!("metadata/{part}"), was, value);
                    }
                }
                "buildpacks" => self.list("buildpacks", there.get("buildpacks"), value),
                "routes" => self.named("routes", "route", there.get("routes"), value),
                "services" => self.named("services", "name", there.get("services"), value),
                "no-route" if *value == json!(true) => {
                    let routes = there.get("routes").and_then(Value::as_array);
                    for (n, route) in routes.into_iter().flatten().enumerate() {
                        self.remove(&format!("routes/{n}"), route);
                    }
                }
                "random-route" | "default-route" if *value == json!(true) && there.get("routes").is_none() => {
                    self.add(key, value);
                }
                "sidecars" => self.sidecars(there.get("sidecars"), value),
                "processes" => {
                    for (n, process) in value.as_array().into_iter().flatten().enumerate() {
                        let kind = process.get("type").and_then(Value::as_str).unwrap_or_default();
                        let (Some(there), Some(process)) = (of_type(kind), process.as_object()) else {
                            self.add(&format!("processes/{n}"), process);
                            continue;
                        };
                        for (key, value) in process {
                            self.plain(&format!("processes/{n}/{key}"), key, there, value);
                        }
                    }
                }
                "stack" => self.plain(key, key, there, value),
                // What stands at the app itself is of its web process.
                _ => match of_type("web") {
                    Some(web) => self.plain(key, key, web, value),
                    None if PLAIN.contains(&key.as_str()) || AMOUNTS.contains(&key.as_str()) => self.add(key, value),
                    None => {}
                },
            }
        }
    }

    /// Sidecars by name; what is not said of one stays.
    fn sidecars(&mut self, there: Option<&Value>, value: &Value) {
        let there = there.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (n, sidecar) in value.as_array().into_iter().flatten().enumerate() {
            let known = there.iter().find(|known| known.get("name") == sidecar.get("name"));
            let (Some(known), Some(sidecar)) = (known, sidecar.as_object()) else {
                self.add(&format!("sidecars/{n}"), sidecar);
                continue;
            };
            for (key, value) in sidecar {
                let path = format!("sidecars/{n}/{}", escaped(key));
                match key.as_str() {
                    "process_types" => self.list(&path, known.get(key), value),
                    _ => self.plain(&path, key, known, value),
                }
            }
        }
    }

    fn plain(&mut self, path: &str, key: &str, there: &Value, value: &Value) {
        if PLAIN.contains(&key) {
            self.set(path, there.get(key), value);
        } else if AMOUNTS.contains(&key) {
            let amount = value
                .as_str()
                .and_then(|text| model::limits::parse_megabytes(text).ok());
            let amount = amount.map_or_else(|| value.clone(), |amount| json!(format!("{amount}M")));
            self.set(path, there.get(key), &amount);
        }
    }

    /// Texts by name, which are added to those that are there.
    fn texts(&mut self, path: &str, there: Option<&Value>, value: &Value) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let text = match value {
                Value::String(_) | Value::Null => value.clone(),
                other => json!(other.to_string()),
            };
            let was = there.and_then(|there| there.get(name));
            let path = format!("{path}/{}", escaped(name));
            match (was, text.is_null()) {
                (Some(was), true) => self.remove(&path, was),
                _ => self.set(&path, was, &text),
            }
        }
    }

    /// A list that takes the place of the one that is there.
    fn list(&mut self, path: &str, there: Option<&Value>, value: &Value) {
        let empty = Vec::new();
        let was = there.and_then(Value::as_array).unwrap_or(&empty);
        let wanted = value.as_array().unwrap_or(&empty);
        for (n, value) in wanted.iter().enumerate() {
            self.set(&format!("{path}/{n}"), was.get(n), value);
        }
        for (n, was) in was.iter().enumerate().skip(wanted.len()) {
            self.remove(&format!("{path}/{n}"), was);
        }
    }

    /// Things by name, each a text or an object with one, which are added to those that are there.
    fn named(&mut self, path: &str, key: &str, there: Option<&Value>, value: &Value) {
        fn name<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
            value.as_str().or_else(|| value.get(key)?.as_str())
        }
        let there: Vec<&str> = there
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|value| name(value, key))
            .collect();
        for (n, value) in value.as_array().into_iter().flatten().enumerate() {
            if name(value, key).is_some_and(|name| !there.iter().any(|there| there.eq_ignore_ascii_case(name))) {
                self.add(&format!("{path}/{n}"), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Value {
        json!({
            "name": "shop",
            "stack": "host",
            "buildpacks": ["a", "b"],
            "env": {"SAME": "1", "OLD": "x"},
            "metadata": {"labels": {"tier": "web"}},
            "routes": [{"route": "shop.example.com"}],
            "services": ["db"],
            "sidecars": [{"name": "agent", "process_types": ["web"], "command": "./agent", "memory": "16M"}],
            "processes": [
                {"type": "web", "instances": 1, "memory": "256M", "health-check-type": "port"},
                {"type": "worker", "instances": 0, "memory": "64M"},
            ],
        })
    }

    fn of(app: Value) -> Vec<Value> {
        let shop = shop();
        diff(&json!({"applications": [app]}), |name| {
            (name == "shop").then_some(&shop)
        })
    }

    #[test]
    fn what_is_the_same_is_no_difference() {
        let same = json!({
            "name": "shop", "path": "/home/dev", "instances": 1, "memory": "256M", "stack": "host", "command": null,
            "buildpacks": ["a", "b"], "env": {"SAME": 1}, "routes": [{"route": "SHOP.example.com"}], "services": ["db"],
            "processes": [{"type": "worker", "memory": "64MB"}], "default-route": true, "random-route": true,
            "metadata": {"labels": {"tier": "web"}}, "unknown": 5, "sidecars": [{"name": "agent", "memory": "16MB"}],
        });
        assert_eq!(of(same), Vec::<Value>::new());
    }

    #[test]
    fn what_differs_is_told_by_its_place_in_the_manifest() {
        let app = json!({
            "name": "shop", "instances": 3, "memory": "1G", "command": "run", "buildpacks": ["a", "c", "d"],
            "env": {"OLD": "y", "NEW/ONE": true}, "routes": [{"route": "shop.example.com"}, {"route": "two.example.com"}],
            "services": [{"name": "queue"}], "processes": [{"type": "worker", "instances": 2}, {"type": "clock"}],
            "metadata": {"labels": {"tier": null, "env": "prod"}},
            "sidecars": [{"name": "agent", "process_types": ["web", "worker"], "command": "./other"}, {"name": "two"}],
        });
        let at = |path: &str| format!("/applications/0/{path}");
        let mut found = of(app);
        found.sort_by_key(|change| change["path"].as_str().map(ToOwned::to_owned));
        let mut expected = vec![
            json!({"op": "replace", "path": at("buildpacks/1"), "was": "b", "value": "c"}),
            json!({"op": "add", "path": at("buildpacks/2"), "value": "d"}),
            json!({"op": "add", "path": at("command"), "value": "run"}),
            json!({"op": "add", "path": at("env/NEW~1ONE"), "value": "true"}),
            json!({"op": "replace", "path": at("env/OLD"), "was": "x", "value": "y"}),
            json!({"op": "replace", "path": at("instances"), "was": 1, "value": 3}),
            json!({"op": "replace", "path": at("memory"), "was": "256M", "value": "1024M"}),
            json!({"op": "add", "path": at("metadata/labels/env"), "value": "prod"}),
            json!({"op": "remove", "path": at("metadata/labels/tier"), "was": "web"}),
            json!({"op": "replace", "path": at("processes/0/instances"), "was": 0, "value": 2}),
            json!({"op": "add", "path": at("processes/1"), "value": {"type": "clock"}}),
            json!({"op": "add", "path": at("routes/1"), "value": {"route": "two.example.com"}}),
            json!({"op": "replace", "path": at("sidecars/0/command"), "was": "./agent", "value": "./other"}),
            json!({"op": "add", "path": at("sidecars/0/process_types/1"), "value": "worker"}),
            json!({"op": "add", "path": at("sidecars/1"), "value": {"name": "two"}}),
            json!({"op": "add", "path": at("services/0"), "value": {"name": "queue"}}),
        ];
        expected.sort_by_key(|change| change["path"].as_str().map(ToOwned::to_owned));
        assert_eq!(found, expected);
    }

    #[test]
    fn routes_go_and_new_apps_come_whole() {
        let none = of(json!({"name": "shop", "no-route": true}));
        let was = json!({"route": "shop.example.com"});
        assert_eq!(
            none,
            [json!({"op": "remove", "path": "/applications/0/routes/0", "was": was})]
        );
        let new = of(json!({"name": "other", "memory": "1G", "path": "x"}));
        let mut paths: Vec<&str> = new.iter().filter_map(|change| change["path"].as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["/applications/0/memory", "/applications/0/name"]);
        assert!(diff(&json!([]), |_| None).is_empty());
        assert!(diff(&json!({"applications": [5]}), |_| None).is_empty());
    }
}
