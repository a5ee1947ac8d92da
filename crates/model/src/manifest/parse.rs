//! From text to [`Manifest`]: the keys, their types and their limits.

use super::image::docker;
use super::read::{Map, Report, kind};
use super::routes::routes;
use super::*;
use crate::limits::parse_megabytes;
use serde_yaml::Value;

const APP_KEYS: &[&str] = &[
    "name",
    "path",
    "lifecycle",
    "buildpacks",
    "buildpack",
    "stack",
    "env",
    "no-route",
    "random-route",
    "default-route",
    "routes",
    "metadata",
    "processes",
    "services",
    "sidecars",
    "docker",
    "features",
];
const PROCESS_KEYS: &[&str] = &[
    "command",
    "disk_quota",
    "disk-quota",
    "instances",
    "memory",
    "timeout",
    "log-rate-limit-per-second",
    "health-check-type",
    "health-check-http-endpoint",
    "health-check-invocation-timeout",
    "health-check-interval",
    "readiness-health-check-type",
    "readiness-health-check-http-endpoint",
    "readiness-health-check-invocation-timeout",
    "readiness-health-check-interval",
    "user",
];
/// What manifests may say and this platform does not do yet, and what to do about it.
const REFUSED: &[(&str, &str)] = &[("user", "apps run as vcap: remove the key")];

/// Reads a manifest.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str) -> Result<Manifest, Problems> {
    let report = Report::default();
    let apps = document(text, &report);
    let problems = report.into_problems();
    if problems.is_empty() {
        Ok(Manifest { apps })
    } else {
        Err(Problems(problems))
    }
}

fn document(text: &str, report: &Report) -> Vec<App> {
    if text.len() > MAX_BYTES {
        report.add("manifest", format!("is larger than {MAX_BYTES} bytes"), None);
        return Vec::new();
    }
    if let Err(problem) = crate::yaml::check(text) {
        report.add("manifest", problem, None);
        return Vec::new();
    }
    let mut value: Value = match serde_yaml::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            report.add("manifest", format!("is not valid YAML: {error}"), None);
            return Vec::new();
        }
    };
    if let Err(error) = value.apply_merge() {
        report.add(
            "manifest",
            format!("has a merge key that can't be applied: {error}"),
            None,
        );
        return Vec::new();
    }
    let Some(top) = Map::of(&value, String::new(), report) else {
        return Vec::new();
    };
    // Keys that only hold anchors begin with `_` or `x-`.
    let anchors = top.map.keys().filter_map(Value::as_str);
    let anchors = anchors.filter(|key| key.starts_with('_') || key.starts_with("x-"));
    let known: Vec<&str> = ["version", "applications"].into_iter().chain(anchors).collect();
    top.only(&known);
    if top.number("version", 0, u32::MAX).is_some_and(|version| version != 1) {
        report.add("version", "has to be 1", None);
    }
    let Some(list) = top.list("applications", MAX_APPS) else {
        if !top.has("applications") || top.get("applications").is_none() {
            let hint = "list at least one app under it, each with a name";
            report.add("applications", "is missing", Some(hint.to_owned()));
        }
        return Vec::new();
    };
    if list.is_empty() {
        report.add("applications", "has to hold at least one app", None);
    }
    let mut apps: Vec<App> = Vec::new();
    for (place, value) in list {
        let Some(app) = Map::of(value, place.clone(), report).and_then(|map| app(&map)) else {
            continue;
        };
        if apps.iter().any(|other| other.name == app.name) {
            report.add(
                &place,
                format!("there is another app named {:?}", app.name.as_str()),
                None,
            );
        }
        apps.push(app);
    }
    apps
}

fn app(map: &Map<'_>) -> Option<App> {
    let known: Vec<&str> = APP_KEYS.iter().chain(PROCESS_KEYS).copied().collect();
    map.only(&known);
    refuse(map);
    if let Some(lifecycle) = map.text("lifecycle")
        && !["buildpack", "cnb", "docker"].contains(&lifecycle)
    {
        let known = "has to be buildpack, cnb or docker";
        map.report.add(&map.at("lifecycle"), known, None);
    }
    if !map.has("name") {
        map.report.add(&map.at("name"), "is missing", None);
    }
    let name = map.parsed("name", |text| text.parse::<AppName>());
    let app = App {
        path: map.text("path").map(str::to_owned),
        docker: docker(map),
        buildpacks: buildpacks(map),
        stack: map.parsed("stack", |text| text.parse::<StackName>()),
        env: env(map),
        routes: routes(map),
        services: services(map),
        metadata: metadata(map),
        processes: processes(map),
        sidecars: super::beside::sidecars(map),
        name: name?,
    };
    Some(app)
}

fn refuse(map: &Map<'_>) {
    for (key, remedy) in REFUSED {
        let empty = |value: &Value| value.as_sequence().is_some_and(Vec::is_empty);
        if map.get(key).is_some_and(|value| !empty(value)) {
            map.report
                .add(&map.at(key), "is not supported", Some((*remedy).to_owned()));
        }
    }
    if let Some(kind) = map.text("readiness-health-check-type")
        && kind != "process"
    {
        let remedy = "readiness checks are not available yet: only process is";
        map.report.add(
            &map.at("readiness-health-check-type"),
            "is not supported",
            Some(remedy.to_owned()),
        );
    }
}

fn buildpacks(map: &Map<'_>) -> Option<Vec<String>> {
    let one = map.text("buildpack");
    if one.is_some() && map.has("buildpacks") {
        map.report
            .add(&map.at("buildpack"), "can't be used together with buildpacks", None);
    }
    if let Some(one) = one {
        let detect = one == "default" || one == "null";
        return Some(if detect { Vec::new() } else { vec![one.to_owned()] });
    }
    let names = map.texts("buildpacks", MAX_BUILDPACKS)?;
    Some(names.into_iter().map(str::to_owned).collect())
}

/// Whether users may set this environment variable.
///
/// # Errors
/// What is wrong with the name.
pub fn check_env_name(name: &str) -> Result<(), String> {
    let upper = name.to_ascii_uppercase();
    if name.is_empty() {
        Err("a variable needs a name".to_owned())
    } else if name.contains(['=', '\0']) || name.len() > 255 {
        Err("a variable's name can't contain = and has at most 255 characters".to_owned())
    } else if upper.starts_with("VCAP_") || upper.starts_with("VMC") {
        Err("names that begin with VCAP_ or VMC are the platform's own".to_owned())
    } else if upper == "PORT" {
        Err("PORT is set by the platform: listen on the port that it names".to_owned())
    } else {
        Ok(())
    }
}

fn env(map: &Map<'_>) -> BTreeMap<String, Secret> {
    let mut env = BTreeMap::new();
    let Some(env_map) = map.map("env") else { return env };
    let mut bytes = 0;
    for (key, value) in env_map.map {
        let Some(name) = scalar(key) else {
            env_map.report.add(&env_map.place, "every name has to be a text", None);
            continue;
        };
        let place = env_map.at(&name);
        if let Err(problem) = check_env_name(&name) {
            env_map.report.add(&place, problem, None);
        }
        let Some(value) = scalar(value) else {
            let hint = "write it as a text, for example with quotes around JSON".to_owned();
            let message = format!("has to be a text, a number or true or false, not {}", kind(value));
            env_map.report.add(&place, message, Some(hint));
            continue;
        };
        if value.contains('\0') {
            env_map.report.add(&place, "can't contain a zero byte", None);
        }
        bytes += name.len() + value.len();
        env.insert(name, Secret::new(value));
    }
    if env.len() > MAX_ENV {
        env_map
            .report
            .add(&env_map.place, format!("has more than {MAX_ENV} variables"), None);
    }
    if bytes > MAX_ENV_BYTES {
        env_map
            .report
            .add(&env_map.place, format!("is larger than {MAX_ENV_BYTES} bytes"), None);
    }
    env
}

pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

/// Names, or names with a binding name.
fn services(map: &Map<'_>) -> Vec<Service> {
    let mut services = Vec::new();
    for (place, value) in map.list("services", MAX_SERVICES).unwrap_or_default() {
        if let Some(name) = value.as_str().filter(|name| !name.is_empty()) {
            services.push(Service {
                name: name.to_owned(),
                binding_name: None,
            });
            continue;
        }
        let Some(entry) = Map::of(value, place, map.report) else {
            continue;
        };
        entry.only(&["name", "binding_name", "parameters"]);
        if entry.get("parameters").is_some() {
            let hint = "services of users take no parameters: put what the app needs into their credentials".to_owned();
            entry
                .report
                .add(&entry.at("parameters"), "is not supported", Some(hint));
        }
        match entry.text("name").filter(|name| !name.is_empty()) {
            Some(name) => services.push(Service {
                name: name.to_owned(),
                binding_name: entry.text("binding_name").map(str::to_owned),
            }),
            None => entry.report.add(&entry.at("name"), "is missing", None),
        }
    }
    services
}

fn metadata(map: &Map<'_>) -> Option<Metadata> {
    let map = map.map("metadata")?;
    map.only(&["labels", "annotations"]);
    let read = |key| {
        let mut values = BTreeMap::new();
        if let Some(entries) = map.map(key) {
            for (name, value) in entries.map {
                match (scalar(name), value) {
                    (Some(name), Value::Null) => drop(values.insert(name, None)),
                    (Some(name), value) if scalar(value).is_some() => drop(values.insert(name, scalar(value))),
                    (name, value) => {
                        let place = entries.at(&name.unwrap_or_default());
                        entries
                            .report
                            .add(&place, format!("has to be a text, not {}", kind(value)), None);
                    }
                }
            }
        }
        values
    };
    Some(Metadata {
        labels: read("labels"),
        annotations: read("annotations"),
    })
}

fn processes(map: &Map<'_>) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    if PROCESS_KEYS.iter().any(|key| map.has(key))
        && let Ok(web) = "web".parse()
    {
        found.push(process(map, web));
    }
    for (place, value) in map.list("processes", MAX_PROCESSES).unwrap_or_default() {
        let Some(entry) = Map::of(value, place, map.report) else {
            continue;
        };
        let known: Vec<&str> = ["type"].iter().chain(PROCESS_KEYS).copied().collect();
        entry.only(&known);
        refuse(&entry);
        if !entry.has("type") {
            entry.report.add(&entry.at("type"), "is missing", None);
        }
        let Some(process_type) = entry.parsed("type", |text| text.parse::<ProcessType>()) else {
            continue;
        };
        let own = process(&entry, process_type);
        match found.iter_mut().find(|other| other.process_type == own.process_type) {
            Some(web) if own.process_type.as_str() == "web" => *web = over(web, own),
            Some(_) => entry
                .report
                .add(&entry.at("type"), "this process type is mentioned twice", None),
            None => found.push(own),
        }
    }
    found.sort_by_key(|process| process.process_type.as_str() != "web");
    found
}

/// What a process says over what the app says for its web process.
fn over(below: &Process, own: Process) -> Process {
    Process {
        command: own.command.or_else(|| below.command.clone()),
        instances: own.instances.or(below.instances),
        memory_mb: own.memory_mb.or(below.memory_mb),
        disk_mb: own.disk_mb.or(below.disk_mb),
        log_bytes_per_second: own.log_bytes_per_second.or(below.log_bytes_per_second),
        health: HealthChange {
            kind: own.health.kind.or(below.health.kind),
            endpoint: own.health.endpoint.or_else(|| below.health.endpoint.clone()),
            start_timeout_seconds: own.health.start_timeout_seconds.or(below.health.start_timeout_seconds),
            invocation_timeout_seconds: own
                .health
                .invocation_timeout_seconds
                .or(below.health.invocation_timeout_seconds),
            interval_seconds: own.health.interval_seconds.or(below.health.interval_seconds),
        },
        process_type: own.process_type,
    }
}

fn process(map: &Map<'_>, process_type: ProcessType) -> Process {
    Process {
        command: command(map),
        instances: map.number("instances", 0, MAX_INSTANCES),
        memory_mb: size(map, "memory"),
        disk_mb: size(map, "disk_quota").or_else(|| size(map, "disk-quota")),
        log_bytes_per_second: log_rate(map),
        health: HealthChange {
            kind: map.parsed("health-check-type", |text| match text {
                "port" => Ok(HealthKind::Port),
                "http" => Ok(HealthKind::Http),
                "process" | "none" => Ok(HealthKind::Process),
                _ => Err("has to be port, http or process"),
            }),
            endpoint: map.parsed("health-check-http-endpoint", |text| {
                if text.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                    Ok(text.to_owned())
                } else {
                    Err("has to be a path that begins with /")
                }
            }),
            start_timeout_seconds: map.number("timeout", 1, MAX_START_TIMEOUT),
            invocation_timeout_seconds: map.number("health-check-invocation-timeout", 1, MAX_START_TIMEOUT),
            interval_seconds: map.number("health-check-interval", 1, 3600),
        },
        process_type,
    }
}

fn command(map: &Map<'_>) -> Option<Option<String>> {
    if map.has("command") && map.get("command").is_none() {
        return Some(None);
    }
    let command = map.text("command")?;
    if command.len() > MAX_COMMAND_BYTES || command.contains('\0') {
        let message = format!("has to be a text of at most {MAX_COMMAND_BYTES} bytes");
        map.report.add(&map.at("command"), message, None);
    }
    Some(match command {
        "" | "null" | "default" => None,
        command => Some(command.to_owned()),
    })
}

pub(super) fn size(map: &Map<'_>, key: &str) -> Option<u32> {
    let value = map.get(key)?;
    let text = scalar(value).unwrap_or_default();
    match parse_megabytes(&text) {
        Ok(0) => map.report.add(&map.at(key), "has to be more than zero", None),
        Ok(megabytes) => return Some(megabytes),
        Err(problem) => map.report.add(&map.at(key), problem, None),
    }
    None
}

fn log_rate(map: &Map<'_>) -> Option<Option<u64>> {
    const KEY: &str = "log-rate-limit-per-second";
    let text = scalar(map.get(KEY)?).unwrap_or_default();
    if text == "-1" {
        return Some(None);
    }
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let unit = match lower[digits..].trim() {
        "" | "b" => Some(1),
        "k" | "kb" => Some(1024),
        "m" | "mb" => Some(1024 * 1024),
        "g" | "gb" => Some(1024 * 1024 * 1024),
        _ => None,
    };
    let amount = lower[..digits].parse::<u64>().ok().zip(unit);
    match amount.and_then(|(amount, unit)| amount.checked_mul(unit)) {
        Some(bytes) => Some(Some(bytes)),
        None => {
            let message = "is not a rate: write -1, or a whole number and a unit, for example 16K";
            map.report.add(&map.at(KEY), message, None);
            None
        }
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
