//! Service instances that users provide, and their bindings. They reach an app with its next start.

use super::{By, fresh};
use crate::context::Context;
use crate::error::{Answer, Failure};
use api::v3;
use model::Secret;
use model::id::{BindingId, ServiceInstanceId};
use model::resource::{App, Binding, Metadata, ServiceInstance, ServiceSecrets, Space, Target};
use serde_json::json;
use store::Tx;

/// Longest name of a service instance or a binding, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Most bytes of credentials.
const MAX_CREDENTIALS_BYTES: usize = 65_536;
/// Most tags of an instance, and their bytes together.
const MAX_TAGS_BYTES: usize = 2048;
/// Most bindings of one app.
const MAX_BINDINGS: usize = 100;

fn target(instance: &ServiceInstance) -> Target {
    Target {
        guid: instance.id.to_string(),
        kind: "user_provided_service_instance".to_owned(),
        name: instance.name.clone(),
    }
}

fn taken(name: &str) -> Failure {
    Failure::refused(format!("The service instance name is taken: {name}."))
}

/// A new service instance.
pub async fn create(
    context: &Context,
    space: &Space,
    body: v3::ServiceInstanceWrite,
    by: &By,
) -> Answer<ServiceInstance> {
    match body.kind.as_deref() {
        Some("user-provided") => {}
        Some("managed") => {
            return Err(Failure::new(
                api::error::Code::NotImplemented,
                "Services of brokers are not available yet",
            )
            .hint("Provide credentials yourself: type user-provided"));
        }
        _ => return Err(Failure::refused("Type must be one of 'managed', 'user-provided'")),
    }
    let mut instance = ServiceInstance {
        id: fresh::<ServiceInstanceId>(),
        space: space.id,
        name: String::new(),
        secrets: ServiceSecrets {
            credentials: Secret::new("{}"),
            ..ServiceSecrets::default()
        },
        tags: Vec::new(),
        metadata: Metadata::default(),
        created_at: by.now,
        updated_at: by.now,
    };
    apply(&mut instance, body)?;
    if instance.name.is_empty() {
        return Err(Failure::refused("Name can't be blank"));
    }
    let tx = context.store.begin().await?;
    let created = tx.service_create(&instance).await;
    created.map_err(|error| Failure::or_taken(error, || taken(&instance.name)))?;
    let kind = "audit.user_provided_service_instance.create";
    tx.event(by.event(kind, target(&instance), Some(space), json!({"name": instance.name})));
    tx.commit().await?;
    Ok(instance)
}

/// Changes what is named. Bound apps get it with their next start.
pub async fn update(
    context: &Context,
    id: ServiceInstanceId,
    space: &Space,
    body: v3::ServiceInstanceWrite,
    by: &By,
) -> Answer<ServiceInstance> {
    let tx = context.store.begin().await?;
    let found = tx.service_fetch(id).await?;
    let mut instance = found.ok_or_else(|| Failure::not_found("Service instance"))?;
    apply(&mut instance, body)?;
    instance.updated_at = by.now;
    let updated = tx.service_update(&instance).await;
    updated.map_err(|error| Failure::or_taken(error, || taken(&instance.name)))?;
    let kind = "audit.user_provided_service_instance.update";
    tx.event(by.event(kind, target(&instance), Some(space), json!({"name": instance.name})));
    tx.commit().await?;
    Ok(instance)
}

fn apply(instance: &mut ServiceInstance, body: v3::ServiceInstanceWrite) -> Answer<()> {
    if let Some(name) = body.name {
        check_name(&name)?;
        instance.name = name;
    }
    if let Some(credentials) = body.credentials {
        let text = serde_json::Value::Object(credentials).to_string();
        if text.len() > MAX_CREDENTIALS_BYTES {
            return Err(Failure::refused(format!(
                "Credentials must have at most {MAX_CREDENTIALS_BYTES} bytes"
            )));
        }
        instance.secrets.credentials = Secret::new(text);
    }
    if let Some(tags) = body.tags {
        if tags.iter().map(String::len).sum::<usize>() > MAX_TAGS_BYTES {
            return Err(Failure::refused(format!(
                "Tags must have at most {MAX_TAGS_BYTES} bytes"
            )));
        }
        instance.tags = tags;
    }
    if let Some(drain) = body.syslog_drain_url {
        let schemes = ["syslog", "syslog-tls", "https"];
        instance.secrets.syslog_drain_url = checked_url("Syslog drain url", drain, &schemes)?;
    }
    if let Some(route) = body.route_service_url {
        instance.secrets.route_service_url = checked_url("Route service url", route, &["https"])?;
    }
    super::manifest::merge(&mut instance.metadata, &body.metadata.unwrap_or_default())?;
    Ok(())
}

fn check_name(name: &str) -> Answer<()> {
    if name.trim().is_empty() {
        return Err(Failure::refused("Name can't be blank"));
    }
    if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(Failure::refused(format!(
            "Name must have at most {MAX_NAME_BYTES} bytes and no control characters"
        )));
    }
    Ok(())
}

fn checked_url(what: &str, text: Option<String>, schemes: &[&str]) -> Answer<Option<Secret>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let url = url::Url::parse(&text).ok().filter(|url| url.host_str().is_some());
    if url.is_some_and(|url| schemes.contains(&url.scheme())) {
        return Ok(Some(Secret::new(text)));
    }
    Err(Failure::refused(format!(
        "{what} must be a valid URL that begins with {}://",
        schemes.join("://, ")
    )))
}

/// Removes a service instance with its bindings.
pub async fn delete(context: &Context, instance: &ServiceInstance, space: &Space, by: &By) -> Answer<()> {
    let tx = context.store.begin().await?;
    tx.service_delete(instance.id).await?;
    let kind = "audit.user_provided_service_instance.delete";
    tx.event(by.event(kind, target(instance), Some(space), json!({"name": instance.name})));
    tx.commit().await?;
    Ok(())
}

/// Binds an app to an instance of its space.
pub async fn bind(
    context: &Context,
    app: &App,
    instance: &ServiceInstance,
    space: &Space,
    body: &v3::ServiceBindingCreate,
    by: &By,
) -> Answer<Binding> {
    let mut metadata = Metadata::default();
    super::manifest::merge(&mut metadata, &body.metadata.clone().unwrap_or_default())?;
    let tx = context.store.begin().await?;
    let binding = bind_on(&tx, app, instance, space, body.name.clone(), metadata, by).await?;
    tx.commit().await?;
    Ok(binding)
}

/// Writes a binding.
pub async fn bind_on(
    tx: &Tx,
    app: &App,
    instance: &ServiceInstance,
    space: &Space,
    name: Option<String>,
    metadata: Metadata,
    by: &By,
) -> Answer<Binding> {
    if instance.space != app.space {
        return Err(Failure::refused(
            "The service instance and the app are in different spaces",
        ));
    }
    if let Some(name) = &name {
        check_name(name)?;
    }
    let binding = Binding {
        id: fresh::<BindingId>(),
        instance: instance.id,
        app: app.id,
        name,
        metadata,
        created_at: by.now,
        updated_at: by.now,
    };
    refuse_duplicate(tx, app, &binding).await?;
    let created = tx.binding_create(&binding).await;
    created.map_err(|error| {
        Failure::or_taken(error, || {
            Failure::refused("The app is already bound to the service instance")
        })
    })?;
    let data = json!({"binding": binding.id, "service_instance": instance.id, "name": binding.name});
    tx.event(by.app_event("audit.service_binding.create", app, space, data));
    Ok(binding)
}

async fn refuse_duplicate(tx: &Tx, app: &App, binding: &Binding) -> Answer<()> {
    let bound = tx.services_of_app(app.id).await?;
    if bound.iter().any(|(other, _)| other.instance == binding.instance) {
        return Err(Failure::refused("The app is already bound to the service instance"));
    }
    if let Some(name) = &binding.name
        && bound.iter().any(|(other, _)| other.name.as_ref() == Some(name))
    {
        return Err(Failure::refused(format!(
            "The binding name is invalid. App binding names must be unique. The app already has a binding with name \
             '{name}'."
        )));
    }
    if bound.len() >= MAX_BINDINGS {
        return Err(Failure::refused(format!(
            "An app can be bound to at most {MAX_BINDINGS} service instances"
        )));
    }
    Ok(())
}

/// Removes a binding.
pub async fn unbind(context: &Context, binding: &Binding, app: &App, space: &Space, by: &By) -> Answer<()> {
    let tx = context.store.begin().await?;
    tx.binding_delete(binding.id).await?;
    let data = json!({"binding": binding.id, "service_instance": binding.instance});
    tx.event(by.app_event("audit.service_binding.delete", app, space, data));
    tx.commit().await?;
    Ok(())
}

/// Changes the metadata of a binding.
pub async fn update_binding(context: &Context, mut binding: Binding, change: &Metadata, by: &By) -> Answer<Binding> {
    super::manifest::merge(&mut binding.metadata, change)?;
    binding.updated_at = by.now;
    let tx = context.store.begin().await?;
    tx.binding_update(&binding).await?;
    tx.commit().await?;
    Ok(binding)
}
