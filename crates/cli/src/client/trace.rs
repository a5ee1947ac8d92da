//! `--trace`: what goes over the wire, with secrets masked.

use super::http::{Answer, Body, Call};
use crate::ui::Ui;
use serde_json::Value;
use std::time::Duration;

/// Members whose values are never shown, wherever they are in a document.
const SECRET: &[&str] = &[
    "password",
    "access_token",
    "refresh_token",
    "client_secret",
    "passcode",
    "credentials",
    "var",
    "environment_variables",
    "system_env_json",
    "env",
];
/// Characters of a body that are shown.
const SHOWN: usize = 4_000;

/// Shows a request that is about to be sent.
pub(super) fn request(ui: &Ui, call: &Call) {
    if !ui.settings().trace {
        return;
    }
    let query: Vec<String> = call
        .query
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let query = if query.is_empty() {
        String::new()
    } else {
        format!("?{}", query.join("&"))
    };
    ui.trace(&format!("> {} {}{query}", call.method, call.path));
    match &call.body {
        Body::None => {}
        Body::Json(value) => ui.trace(&format!("> {}", shown(value.clone()))),
        Body::Written(json) => ui.trace(&format!("> [{} bytes of JSON]", json.len())),
        Body::Yaml(text) => ui.trace(&format!("> [{} bytes of YAML]", text.len())),
    }
}

/// Shows an answer.
pub(super) fn answer(ui: &Ui, answer: &Answer, after: Duration) {
    if !ui.settings().trace {
        return;
    }
    ui.trace(&format!("< {} in {} ms", answer.status, after.as_millis()));
    if let Ok(value) = serde_json::from_slice::<Value>(&answer.body) {
        ui.trace(&format!("< {}", shown(value)));
    }
}

fn shown(mut value: Value) -> String {
    mask(&mut value);
    value.to_string().chars().take(SHOWN).collect()
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if SECRET.contains(&name.as_str()) {
                    *member = Value::String("[masked]".into());
                } else {
                    mask(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_masked_at_any_depth() {
        let text = shown(json!({"a": [{"password": "p"}], "var": {"K": "v"}, "name": "n"}));
        assert_eq!(text, r#"{"a":[{"password":"[masked]"}],"name":"n","var":"[masked]"}"#);
    }
}
