//! What an app gets of the services that it is bound to: `VCAP_SERVICES` and `DATABASE_URL`. Pure but for one read.

use crate::error::Answer;
use model::SecretEnv;
use model::resource::{App, Binding, ServiceInstance};
use serde_json::{Value, json};
use store::Db;

/// The label under which apps find what users provide.
const LABEL: &str = "user-provided";

/// Variables that operators give every app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// To instances and tasks.
    Running,
    /// To builds.
    Staging,
}

impl Group {
    /// CF's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Staging => "staging",
        }
    }

    /// The group of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Running, Self::Staging]
            .into_iter()
            .find(|group| group.name() == name)
    }

    const fn setting(self) -> &'static str {
        match self {
            Self::Running => "environment.running",
            Self::Staging => "environment.staging",
        }
    }

    /// The variables of the group.
    pub async fn read(self, db: &Db) -> store::Result<SecretEnv> {
        Ok(db.setting_fetch(self.setting()).await?.unwrap_or_default())
    }

    /// Sets the variables of the group.
    pub async fn write(self, tx: &store::Tx, env: &SecretEnv, now: model::Timestamp) -> store::Result<()> {
        tx.setting_set(self.setting(), env, now).await
    }
}

/// The group's variables, over them those of the app's services, and its own: what a version, a task or a build gets.
pub async fn environment(db: &Db, app: &App, group: Group) -> store::Result<SecretEnv> {
    let services = db.services_of_app(app.id).await?;
    let mut env = group.read(db).await?;
    env.0.extend(app.env.0.clone());
    Ok(with_services(&env, &services))
}

/// As [`environment`], for handlers that only show it.
pub async fn of_app(db: &Db, app: &App) -> Answer<Value> {
    Ok(vcap_services(&db.services_of_app(app.id).await?))
}

fn with_services(env: &SecretEnv, services: &[(Binding, ServiceInstance)]) -> SecretEnv {
    let mut env = env.clone();
    if services.is_empty() {
        return env;
    }
    env.set("VCAP_SERVICES", vcap_services(services).to_string());
    if !env.0.contains_key("DATABASE_URL")
        && let Some(url) = services.iter().find_map(|(_, instance)| database_url(instance))
    {
        env.set("DATABASE_URL", url);
    }
    env
}

/// `VCAP_SERVICES` as CF shapes it.
fn vcap_services(services: &[(Binding, ServiceInstance)]) -> Value {
    if services.is_empty() {
        return json!({});
    }
    let one = |(binding, instance): &(Binding, ServiceInstance)| {
        json!({
            "label": LABEL,
            "name": binding.name.as_ref().unwrap_or(&instance.name),
            "tags": instance.tags,
            "instance_guid": instance.id,
            "instance_name": instance.name,
            "binding_guid": binding.id,
            "binding_name": binding.name,
            "credentials": credentials(instance),
            "syslog_drain_url": instance.secrets.syslog_drain_url.as_ref().map(model::Secret::expose),
            "volume_mounts": [],
        })
    };
    json!({LABEL: services.iter().map(one).collect::<Vec<_>>()})
}

/// The credentials as JSON; they were checked to be an object when they came in.
pub(crate) fn credentials(instance: &ServiceInstance) -> Value {
    serde_json::from_str(instance.secrets.credentials.expose()).unwrap_or_else(|_| json!({}))
}

/// The first database's URL, with the scheme that frameworks expect.
fn database_url(instance: &ServiceInstance) -> Option<String> {
    let credentials = credentials(instance);
    let uri = credentials.get("uri")?.as_str()?;
    let (scheme, rest) = uri.split_once("://")?;
    let scheme = match scheme {
        "mysql" | "mysql2" => "mysql2",
        "postgres" | "postgresql" => "postgres",
        "db2" | "informix" => scheme,
        _ => return None,
    };
    Some(format!("{scheme}://{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::resource::{Metadata, ServiceSecrets};
    use model::{Secret, Timestamp};
    use uuid::Uuid;

    fn bound(name: &str, binding: Option<&str>, credentials: &Value) -> (Binding, ServiceInstance) {
        let at = Timestamp::UNIX_EPOCH;
        let instance = ServiceInstance {
            id: Uuid::from_u128(1).into(),
            space: Uuid::from_u128(2).into(),
            name: name.to_owned(),
            secrets: ServiceSecrets {
                credentials: Secret::new(credentials.to_string()),
                ..ServiceSecrets::default()
            },
            tags: vec!["sql".to_owned()],
            metadata: Metadata::default(),
            created_at: at,
            updated_at: at,
        };
        let binding = Binding {
            id: Uuid::from_u128(3).into(),
            instance: instance.id,
            app: Uuid::from_u128(4).into(),
            name: binding.map(ToOwned::to_owned),
            metadata: Metadata::default(),
            created_at: at,
            updated_at: at,
        };
        (binding, instance)
    }

    #[test]
    fn apps_find_their_services_under_the_names_they_chose() {
        let services = [
            bound("db", Some("main"), &json!({"a": 1})),
            bound("mail", None, &json!({})),
        ];
        let value = vcap_services(&services);
        let of = |at: usize| &value["user-provided"][at];
        assert_eq!(
            (&of(0)["name"], &of(0)["instance_name"]),
            (&json!("main"), &json!("db"))
        );
        assert_eq!((&of(1)["name"], &of(1)["binding_name"]), (&json!("mail"), &Value::Null));
        assert_eq!(of(0)["credentials"], json!({"a": 1}));
        assert_eq!(vcap_services(&[]), json!({}));
    }

    #[test]
    fn the_first_database_is_the_database_unless_the_app_says_which() {
        let database = bound("db", None, &json!({"uri": "postgresql://u:p@h/d"}));
        let other = bound("web", None, &json!({"uri": "https://h"}));
        let env = with_services(&SecretEnv::default(), &[other.clone(), database.clone()]);
        assert_eq!(env.0["DATABASE_URL"].expose(), "postgres://u:p@h/d");
        let mut own = SecretEnv::default();
        own.set("DATABASE_URL", "mine");
        let env = with_services(&own, &[database]);
        assert_eq!(env.0["DATABASE_URL"].expose(), "mine");
        assert!(
            !with_services(&SecretEnv::default(), &[other])
                .0
                .contains_key("DATABASE_URL")
        );
        assert!(with_services(&SecretEnv::default(), &[]).0.is_empty());
    }
}
