//! What a droplet holds and how it was made, as documents that other tools read: CycloneDX, and an in-toto statement with
//! SLSA provenance. Pure: the same rows give the same document.

use crate::config::Config;
use model::resource::{Build, Droplet, Package};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use time::format_description::well_known::Rfc3339;

/// Most components of a bill of materials.
const COMPONENTS: usize = 100_000;

/// The bill of materials of `droplet` of the app `name`: its buildpacks, and what these listed in `files`.
///
/// What cannot be read of a file is left out: it was written by a buildpack.
#[must_use]
pub fn sbom(droplet: &Droplet, name: &str, files: &[(String, Vec<u8>)]) -> Value {
    let mut components: BTreeMap<String, Value> = BTreeMap::new();
    for used in &droplet.buildpacks {
        let mut component = json!({
            "type": "application", "bom-ref": format!("buildpack:{}@{}", used.id, used.version), "name": used.id,
            "description": used.detected, "properties": [{"name": "paas:role", "value": "buildpack"}],
        });
        set(&mut component, "version", &used.version);
        components.insert(format!("0 {}@{}", used.id, used.version), component);
    }
    for (path, text) in files {
        let Ok(Value::Object(document)) = serde_json::from_slice::<Value>(text) else {
            tracing::debug!(path, "a bill of materials is no JSON object");
            continue;
        };
        for component in document
            .get("components")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if components.len() < COMPONENTS
                && let Some(component) = component.as_object()
            {
                components.insert(format!("1 {}", key(component)), Value::Object(component.clone()));
            }
        }
    }
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "serialNumber": format!("urn:uuid:{}", droplet.id),
        "metadata": {
            "timestamp": time(droplet.created_at),
            "component": {
                "type": "application", "bom-ref": format!("droplet:{}", droplet.id), "name": name,
                "version": droplet.digest.to_string(),
                "hashes": [{"alg": "SHA-256", "content": droplet.digest.hex()}],
            },
            "properties": [{"name": "paas:stack", "value": droplet.stack}],
        },
        "components": components.into_values().collect::<Vec<_>>(),
    })
}

/// By what a component is the same as another.
fn key(component: &Map<String, Value>) -> String {
    let text = |name: &str| {
        component
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    match component.get("purl").and_then(Value::as_str) {
        Some(purl) => purl.to_owned(),
        None => format!("{} {}@{}", text("type"), text("name"), text("version")),
    }
}

fn set(component: &mut Value, name: &str, value: &str) {
    if let (Some(component), false) = (component.as_object_mut(), value.is_empty()) {
        component.insert(name.to_owned(), json!(value));
    }
}

fn time(at: model::Timestamp) -> Option<String> {
    at.format(&Rfc3339).ok()
}

/// How `droplet` of the app `name` was made. What is not known any more is left out.
#[must_use]
pub fn provenance(
    config: &Config,
    droplet: &Droplet,
    name: &str,
    build: Option<&Build>,
    package: Option<&Package>,
) -> Value {
    let digest = |digest: &model::Digest| json!({"sha256": digest.hex()});
    let mut materials = Vec::new();
    if let Some(package) = package.and_then(|package| package.digest.as_ref()) {
        materials.push(json!({"name": "package", "digest": digest(package)}));
    }
    for used in &droplet.buildpacks {
        materials.push(json!({"name": format!("buildpack {}", used.id), "annotations": {"version": used.version}}));
    }
    materials.push(json!({"name": format!("stack {}", droplet.stack)}));
    let layers = droplet.layers.iter();
    let mut subject = vec![json!({"name": format!("{name}/{}", droplet.id), "digest": digest(&droplet.digest)})];
    subject.extend(layers.map(|layer| json!({"name": layer.name, "digest": digest(&layer.digest)})));
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subject,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": format!("{}/build-types/buildpack/v1", config.public_url),
                "externalParameters": {
                    "app": droplet.app, "stack": droplet.stack,
                    "buildpacks": build.map(|build| &build.buildpacks),
                    "package": droplet.package,
                },
                "internalParameters": {
                    "memory_in_mb": build.map(|build| build.limits.memory_mb),
                    "disk_in_mb": build.map(|build| build.limits.disk_mb),
                    "input": droplet.input_digest,
                },
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {
                    "id": config.public_url,
                    "version": {"lifecycle": config.lifecycle_version},
                },
                "metadata": {
                    "invocationId": droplet.build,
                    "startedOn": build.and_then(|build| time(build.created_at)),
                    "finishedOn": time(droplet.created_at),
                },
            },
        },
    })
}
