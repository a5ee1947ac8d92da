//! Holds what the API takes and answers against the committed OpenAPI document: every call of every test passes here.
//!
//! It knows the part of JSON schema that the document uses, and is stricter in one point: what is not described must not
//! be there.

use serde_json::{Map, Value};
use std::sync::OnceLock;

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let text = std::fs::read_to_string(path).expect("the document is committed");
        serde_json::from_str(&text).expect("JSON")
    })
}

/// What the document says of a call. A part of a template in braces stands for any part; one without goes before it.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').collect();
    let paths = document()["paths"].as_object()?;
    let fits = |template: &str| {
        let template: Vec<&str> = template.split('/').collect();
        let mut both = template.iter().zip(&parts);
        template.len() == parts.len() && both.all(|(template, part)| template.starts_with('{') || template == part)
    };
    let found = paths.iter().filter(|(template, _)| fits(template));
    let (_, item) = found.min_by_key(|(template, _)| template.matches('{').count())?;
    item.get(method.to_lowercase())
}

/// Fails unless the body of a call that was well answered is as described.
#[track_caller]
pub fn request(method: &str, path: &str, body: &Value) {
    let Some(operation) = operation(method, path) else {
        return;
    };
    let content = &operation["requestBody"]["content"];
    let Some(kind) = content.get("application/json") else {
        return;
    };
    if let Err(error) = check(&kind["schema"], body, "") {
        panic!("{method} {path} was taken, and is not as described: {error}: {body}");
    }
}

/// Fails unless a good answer is as described.
#[track_caller]
pub fn answer(method: &str, path: &str, status: u16, kind: &str, text: &str) {
    if std::env::var_os("UPDATE").is_some() {
        // The document is about to be written anew, from what is answered now.
        return;
    }
    let Some(operation) = operation(method, path) else {
        return;
    };
    let kind = kind.split(';').next().unwrap_or_default();
    let responses = &operation["responses"];
    let described = responses.get(status.to_string());
    if status >= 400 {
        return;
    }
    let Some(described) = described else {
        panic!("{method} {path} is not described to answer {status}");
    };
    let Some(content) = described.get("content").and_then(Value::as_object) else {
        assert!(
            text.is_empty(),
            "{method} {path} is described to answer {status} without a body: {text}"
        );
        return;
    };
    let Some(media) = content.get(kind) else {
        panic!("{method} {path} is not described to answer {kind:?}");
    };
    if kind == "application/json" {
        let value: Value = serde_json::from_str(text).expect("JSON");
        if let Err(error) = check(&media["schema"], &value, "") {
            panic!("{method} {path} is not answered as described: {error}: {text}");
        }
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the document has the unknown type {other:?}"),
    }
}

fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Some(schema) = schema.as_object() else {
        return Ok(());
    };
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let of = document().pointer(name.trim_start_matches('#'));
        check(of.unwrap_or_else(|| panic!("{name} is nowhere")), value, at)?;
    }
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is_of(kind, value)) {
        return Err(format!("{at} is no {}", kinds.join(" or ")));
    }
    let among = |name: &str| schema.get(name).and_then(Value::as_array);
    if among("enum").is_some_and(|known| !known.contains(value)) {
        return Err(format!("{at} is none of {:?}", among("enum")));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return Err(format!("{at} is not {:?}", schema.get("const")));
    }
    for choice in ["anyOf", "oneOf"].iter().filter_map(|name| among(name)) {
        let mut why = String::new();
        let fits = choice.iter().any(|one| match check(one, value, at) {
            Ok(()) => true,
            Err(error) => {
                why = error;
                false
            }
        });
        if !fits {
            return Err(format!("{at} is none of several: {why}"));
        }
    }
    for one in among("allOf").into_iter().flatten() {
        check(one, value, at)?;
    }
    match value {
        Value::Object(map) => fields(schema, map, at),
        Value::Array(items) => match schema.get("items") {
            Some(of) => {
                let mut items = items.iter().enumerate();
                items.try_for_each(|(n, item)| check(of, item, &format!("{at}/{n}")))
            }
            None => Ok(()),
        },
        Value::String(text) if schema.get("format").is_some_and(|format| format == "uuid") => {
            let id: Result<uuid::Uuid, _> = text.parse();
            id.map(drop).map_err(|_| format!("{at} is no UUID"))
        }
        _ => Ok(()),
    }
}

fn fields(schema: &Map<String, Value>, map: &Map<String, Value>, at: &str) -> Result<(), String> {
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !map.contains_key(name) {
            return Err(format!("{at}/{name} is missing"));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let more = schema.get("additionalProperties");
    for (name, value) in map {
        let at = format!("{at}/{name}");
        match (properties.and_then(|known| known.get(name)), more) {
            (Some(of), _) => check(of, value, &at)?,
            (None, Some(Value::Bool(false))) => return Err(format!("{at} may not be there")),
            (None, Some(of)) => check(of, value, &at)?,
            (None, None) if properties.is_some() => return Err(format!("{at} is described nowhere")),
            (None, None) => {}
        }
    }
    Ok(())
}
