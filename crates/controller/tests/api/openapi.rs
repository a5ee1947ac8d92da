//! The OpenAPI document: made of the route table, the types of the handlers and what lists say they can be narrowed by.
//!
//! It is committed as `docs/openapi.json` and served from there. The test fails where that is not what is found here, or
//! where a route is not in it. `UPDATE=1` in the environment writes it anew.

use crate::client::*;
use crate::malformed::parameters;
use crate::oauth::PUBLIC;
use crate::roles;
use crate::world::world;
use api::error::Envelope;
use api::schema::{Described, Operation};
use api::v3::logcache::QueryError;
use api::v3::oauth::TokenError;
use api::v3::operations::OPERATIONS;
use api::v3::{CF_API_VERSION, MAX_PER_PAGE, ROUTES};
use http::Method;
use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use store::testing::{Engine, TestStore};

/// What the errors of a route look like.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "is only described")]
#[serde(untagged)]
enum Error {
    /// Of the API.
    Api(Envelope),
    /// Of the token server.
    Token(TokenError),
    /// Of queries for metrics.
    Query(QueryError),
}

/// Where types are described as requests have them; in answers they are whole, under their own names.
const REQUEST: &str = "Request.";
const SCHEMAS: &str = "#/components/schemas/";

fn generator(contract: Contract) -> SchemaGenerator {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    settings.contract = contract;
    settings.into_generator()
}

/// What bodies of requests and of answers consist of: a type may be written in part and answered whole.
struct Bodies {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Bodies {
    fn content(described: &Described, generator: &mut SchemaGenerator) -> Value {
        json!({described.kind: {"schema": (described.schema)(generator)}})
    }

    /// All types that were named.
    fn schemas(mut self) -> Map<String, Value> {
        let mut schemas = self.answers.take_definitions(true);
        for (name, schema) in self.requests.take_definitions(true) {
            schemas.insert(format!("{REQUEST}{name}"), as_request(&schema));
        }
        schemas
    }
}

/// With references to types as requests have them.
fn as_request(schema: &Value) -> Value {
    let text = schema.to_string().replace(SCHEMAS, &format!("{SCHEMAS}{REQUEST}"));
    serde_json::from_str(&text).expect("JSON")
}

fn responses(operation: &Operation, bodies: &mut Bodies) -> Value {
    let mut good = json!({"description": match operation.status {
        201 => "Made",
        202 => "Begun",
        204 => "Done",
        _ => "As asked",
    }});
    match &operation.answers {
        Some(described) => good["content"] = Bodies::content(described, &mut bodies.answers),
        None if operation.status == 202 => {
            let location = json!({"description": "The job that does it", "schema": {"type": "string"}});
            good["headers"] = json!({"Location": location});
        }
        None => {}
    }
    let error = bodies.answers.subschema_for::<Error>();
    json!({
        operation.status.to_string(): good,
        "default": {"description": "An error", "content": {"application/json": {"schema": error}}},
    })
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| {
            let schema = match name {
                "index" => json!({"type": "integer", "minimum": 0}),
                "type" | "name" | "group" | "client" => json!({"type": "string", "minLength": 1}),
                _ => json!({"type": "string", "format": "uuid"}),
            };
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        })
        .collect()
}

/// What every list can be asked for.
fn common_parameters() -> Map<String, Value> {
    let number = |most: u32| json!({"type": "integer", "minimum": 1, "maximum": most});
    let mut all = vec![
        ("page".to_owned(), number(1_000_000)),
        ("per_page".to_owned(), number(MAX_PER_PAGE)),
        ("order_by".to_owned(), json!({"type": "string"})),
        ("include".to_owned(), json!({"type": "string"})),
        ("label_selector".to_owned(), json!({"type": "string"})),
    ];
    for name in ["created_ats", "updated_ats"] {
        for sign in ["", "[lt]", "[lte]", "[gt]", "[gte]"] {
            all.push((
                format!("{name}{sign}"),
                json!({"type": "string", "format": "date-time"}),
            ));
        }
    }
    let parameter = |(name, schema): (String, Value)| {
        let described = json!({"name": name, "in": "query", "schema": schema});
        (name.replace('[', ".").replace(']', ""), described)
    };
    all.into_iter().map(parameter).collect()
}

/// What a list can be asked for, by the names that it says itself.
fn query_parameters(names: &[String], common: &Map<String, Value>) -> Vec<Value> {
    let refer = |key: &String| json!({"$ref": format!("#/components/parameters/{key}")});
    let mut parameters = Vec::new();
    for name in names {
        let dotted = format!("{name}.");
        match common.get(name) {
            Some(_) => parameters.extend(
                common
                    .keys()
                    .filter(|key| *key == name || key.starts_with(&dotted))
                    .map(refer),
            ),
            // A map of its own by resource: `fields[space.organization]=name`.
            None if name == "fields" => {}
            None => parameters.push(json!({"name": name, "in": "query", "schema": {"type": "string"}})),
        }
    }
    parameters
}

/// Such as `get_v3_apps_guid`.
fn id(method: &str, path: &str) -> String {
    let words = path.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!("{}_{}", method.to_lowercase(), words.join("_"))
        .trim_end_matches('_')
        .to_owned()
}

fn tag(path: &str) -> &str {
    let part = path.trim_start_matches("/v3").split('/').nth(1).unwrap_or_default();
    match part {
        "" | "info" | "openapi.json" => "root",
        "api" => "logs",
        _ if path.starts_with("/v3") => part,
        _ => "tokens",
    }
}

async fn document(admin: &Client<'_>) -> Value {
    let mut bodies = Bodies {
        requests: generator(Contract::Deserialize),
        answers: generator(Contract::Serialize),
    };
    let world = world(admin, "asked").await;
    let (mut paths, common) = (Map::new(), common_parameters());
    for operation in OPERATIONS {
        let (method, path) = (operation.route.method, operation.route.path);
        let mut described = json!({
            "operationId": id(method, path),
            "tags": [tag(path)],
            "responses": responses(operation, &mut bodies),
        });
        let mut parameters_of = path_parameters(path);
        if method == "GET" {
            let names = parameters(admin, &roles::path(path, &world)).await;
            parameters_of.extend(query_parameters(&names, &common));
        }
        if !parameters_of.is_empty() {
            described["parameters"] = parameters_of.into();
        }
        if let Some(takes) = &operation.takes {
            let content = as_request(&Bodies::content(takes, &mut bodies.requests));
            described["requestBody"] = json!({"required": true, "content": content});
        }
        if PUBLIC.contains(&path) {
            described["security"] = json!([]);
        }
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[method.to_lowercase()] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Cloud Foundry v3 API",
            "version": CF_API_VERSION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "What of Cloud Foundry's v3 API, of its token server and of its log cache is served.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": bodies.schemas(),
            "parameters": common,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    })
}

/// As text: a line for each operation and each type, so that a change of one is a line of the difference.
fn written(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(map) if depth < 3 && !map.is_empty() => {
            for (n, (name, value)) in map.iter().enumerate() {
                text.push_str(if n == 0 { "{" } else { "," });
                write!(text, "\n{:1$}{name:?}: ", "", depth + 1).expect("written");
                written(value, depth + 1, text);
            }
            write!(text, "\n{:1$}}}", "", depth).expect("written");
        }
        other => text.push_str(&other.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_is_what_is_served() {
    let routes: BTreeSet<_> = ROUTES.iter().map(|route| (route.path, route.method)).collect();
    let described: BTreeSet<_> = OPERATIONS.iter().map(|of| (of.route.path, of.route.method)).collect();
    let missing: Vec<_> = routes.difference(&described).collect();
    assert!(
        missing.is_empty(),
        "routes without an operation in api::v3::operations: {missing:?}"
    );
    let stale: Vec<_> = described.difference(&routes).collect();
    assert!(stale.is_empty(), "operations of no route: {stale:?}");

    let store = TestStore::open(Engine::Sqlite).await;
    let platform = platform(&store).await;
    let mut text = String::new();
    written(&document(&platform.admin().await).await, 0, &mut text);
    text.push('\n');
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(text.lines()).find(|(old, new)| old != new);
    assert!(
        committed == text,
        "docs/openapi.json is not what was found (UPDATE=1 writes it), such as: {differs:.600?}"
    );
    let served = platform.plain(Method::GET, "/v3/openapi.json").await.expect(200);
    // Written anew, it is served once it is compiled in.
    assert!(served.text == text || std::env::var_os("UPDATE").is_some());
    store.remove().await;
}
