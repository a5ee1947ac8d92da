//! The environment of work: what the platform promises to apps, tasks and builds, as Cloud Foundry names it.
//!
//! The controller sends the user's variables, `VCAP_SERVICES` and `VCAP_APPLICATION`; here is added what only the cell
//! knows. Users' variables win over defaults, and never over what the platform states. Pure.

use crate::account::Account;
use model::id::WorkId;
use model::staging::SidecarTemplate;
use model::work::{InstanceSpec, WorkSpec};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Home of the user and working folder of apps and tasks.
pub const HOME: &str = "/home/vcap/app";
/// Home of builds: not the app's folder, so that tools' caches and settings do not become part of the app.
pub const BUILD_HOME: &str = "/home/vcap";
/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The bundle of trusted certificates in every sandbox.
pub const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Largest variable that is passed on, in bytes: the kernel takes no longer string.
pub const MAX_VARIABLE_BYTES: usize = 128 * 1024 - 1;

/// Variables that tell the tools of the supported languages about the bundle.
const CA_VARIABLES: [&str; 9] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "npm_config_cafile",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
];

type Variables = BTreeMap<String, String>;

/// Environment of an app instance. `address` is that of its sandbox, or what the sandbox replaces by it; without one the
/// variables with addresses are left out or empty.
#[must_use]
pub fn instance(
    work: WorkId,
    spec: &WorkSpec,
    instance: &InstanceSpec,
    account: &Account,
    address: Option<&str>,
) -> Vec<(String, String)> {
    // What its sidecars have to themselves is not its own.
    let reserved: u64 = instance
        .sidecars
        .iter()
        .filter_map(|one| one.memory_mb)
        .map(u64::from)
        .sum();
    let left = u64::from(spec.limits.memory_mb).saturating_sub(reserved);
    of_instance(work, spec, instance, left, (account, address))
}

/// Environment of what runs beside an app instance: that of the instance, with its own memory.
#[must_use]
pub fn sidecar(
    work: WorkId,
    spec: &WorkSpec,
    instance: &InstanceSpec,
    sidecar: &SidecarTemplate,
    account: &Account,
    address: Option<&str>,
) -> Vec<(String, String)> {
    let memory_mb = sidecar.memory_mb.unwrap_or(spec.limits.memory_mb);
    of_instance(work, spec, instance, memory_mb.into(), (account, address))
}

fn of_instance(
    work: WorkId,
    spec: &WorkSpec,
    instance: &InstanceSpec,
    memory_mb: u64,
    (account, address): (&Account, Option<&str>),
) -> Vec<(String, String)> {
    let mut env = begun(spec, account);
    let port = instance.port.map(|port| port.to_string()).unwrap_or_default();
    common(&mut env, work, spec, instance.index, address);
    set(&mut env, "MEMORY_LIMIT", &format!("{memory_mb}m"));
    if instance.port.is_some() {
        set(&mut env, "PORT", &port);
        set(&mut env, "VCAP_APP_PORT", &port);
        set(&mut env, "VCAP_APP_HOST", "0.0.0.0");
    }
    set(&mut env, "INSTANCE_INDEX", &instance.index.to_string());
    set(&mut env, "INSTANCE_GUID", &work.to_string());
    set(&mut env, "CF_INSTANCE_PORT", &port);
    let ports = match instance.port {
        Some(port) => json!([{"external": port, "internal": port}]).to_string(),
        None => "[]".to_owned(),
    };
    let reached = address
        .filter(|_| instance.port.is_some())
        .map(|address| format!("{address}:{port}"));
    set(&mut env, "CF_INSTANCE_ADDR", &reached.unwrap_or_default());
    set(&mut env, "CF_INSTANCE_PORTS", &ports);
    if let Some(application) = env.get("VCAP_APPLICATION")
        && let Some(complete) = application_of(application, work, instance, memory_mb)
    {
        set(&mut env, "VCAP_APPLICATION", &complete);
    }
    finish(env)
}

/// Environment of a task.
#[must_use]
pub fn task(work: WorkId, spec: &WorkSpec, account: &Account, address: Option<&str>) -> Vec<(String, String)> {
    let mut env = begun(spec, account);
    common(&mut env, work, spec, 0, address);
    unreachable(&mut env);
    finish(env)
}

/// Environment of a build. `platform` is what the operator set for staging: proxies, mirrors. `certificates` says
/// whether [`CA_BUNDLE`] is there.
#[must_use]
pub fn build(
    work: WorkId,
    spec: &WorkSpec,
    platform: &[(String, String)],
    certificates: bool,
    address: Option<&str>,
) -> Vec<(String, String)> {
    let mut env = defaults();
    for name in CA_VARIABLES.iter().filter(|_| certificates) {
        set(&mut env, name, CA_BUNDLE);
    }
    env.extend(platform.iter().cloned());
    env.extend(users(spec));
    set(&mut env, "HOME", BUILD_HOME);
    set(&mut env, "PWD", BUILD_HOME);
    folders(&mut env);
    common(&mut env, work, spec, 0, address);
    unreachable(&mut env);
    set(&mut env, "CF_STACK", spec.stack.as_str());
    finish(env)
}

/// Environment of a session that somebody has in an instance: that of the instance, with what the person brings and the
/// terminal's type.
#[must_use]
pub fn session(env: Vec<(String, String)>, brought: &[(String, String)], terminal: bool) -> Vec<(String, String)> {
    let mut env: Variables = env.into_iter().collect();
    env.extend(brought.iter().cloned());
    let mut env = finish(env);
    if terminal && !env.iter().any(|(name, _)| name == "TERM") {
        env.push(("TERM".to_owned(), "xterm-256color".to_owned()));
    }
    env
}

fn defaults() -> Variables {
    let mut env = Variables::new();
    set(&mut env, "PATH", PATH);
    set(&mut env, "LANG", "en_US.UTF-8");
    set(&mut env, "VCAP_SERVICES", "{}");
    env
}

fn users(spec: &WorkSpec) -> impl Iterator<Item = (String, String)> {
    spec.env
        .expose()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// What apps and tasks begin with: their own variables, over those of the image where they are one.
fn begun(spec: &WorkSpec, account: &Account) -> Variables {
    let Some(image) = spec.kind.image() else {
        let mut env = defaults();
        env.extend(users(spec));
        set(&mut env, "HOME", HOME);
        set(&mut env, "PWD", HOME);
        folders(&mut env);
        return env;
    };
    let mut env = Variables::new();
    set(&mut env, "PATH", PATH);
    set(&mut env, "HOME", &account.home);
    set(&mut env, "USER", &account.name);
    set(&mut env, "VCAP_SERVICES", "{}");
    env.extend(
        image
            .env
            .expose()
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    env.extend(users(spec));
    env
}

/// The user of apps, and the folders that the platform makes for it.
fn folders(env: &mut Variables) {
    set(env, "USER", "vcap");
    set(env, "TMPDIR", "/home/vcap/tmp");
    set(env, "DEPS_DIR", "/home/vcap/deps");
}

fn common(env: &mut Variables, work: WorkId, spec: &WorkSpec, index: u32, address: Option<&str>) {
    set(env, "MEMORY_LIMIT", &format!("{}m", spec.limits.memory_mb));
    set(env, "CF_INSTANCE_GUID", &work.to_string());
    set(env, "CF_INSTANCE_INDEX", &index.to_string());
    for name in ["CF_INSTANCE_IP", "CF_INSTANCE_INTERNAL_IP"] {
        match address {
            Some(address) => set(env, name, address),
            None => drop(env.remove(name)),
        }
    }
}

/// Tasks and builds are reached by nobody: the variables are there, and empty.
fn unreachable(env: &mut Variables) {
    set(env, "CF_INSTANCE_ADDR", "");
    set(env, "CF_INSTANCE_PORT", "");
    set(env, "CF_INSTANCE_PORTS", "[]");
}

/// `VCAP_APPLICATION` with what is known of the instance; `None` where it is not an object.
fn application_of(text: &str, work: WorkId, instance: &InstanceSpec, memory_mb: u64) -> Option<String> {
    let mut application: Map<String, Value> = serde_json::from_str(text).ok()?;
    application.insert("instance_id".to_owned(), json!(work.to_string()));
    application.insert("instance_index".to_owned(), json!(instance.index));
    if let Some(limits) = application.get_mut("limits").and_then(Value::as_object_mut) {
        limits.insert("mem".to_owned(), json!(memory_mb));
    }
    application.insert("host".to_owned(), json!("0.0.0.0"));
    if let Some(port) = instance.port {
        application.insert("port".to_owned(), json!(port));
    }
    serde_json::to_string(&application).ok()
}

fn set(env: &mut Variables, name: &str, value: &str) {
    env.insert(name.to_owned(), value.to_owned());
}

/// Leaves out what no process can be given: empty names, `=` or NUL in a name, NUL in a value, oversize.
fn finish(env: Variables) -> Vec<(String, String)> {
    env.into_iter()
        .filter(|(name, value)| {
            !name.is_empty()
                && !name.contains(['=', '\0'])
                && !value.contains('\0')
                && name.len() + value.len() < MAX_VARIABLE_BYTES
        })
        .collect()
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
