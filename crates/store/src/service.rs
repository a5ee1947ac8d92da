//! Service instances that users provide, and their bindings to apps. Credentials are encrypted.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, json};
use crate::tx::Tx;
use model::id::{AppId, BindingId, OrgId, ServiceInstanceId, SpaceId};
use model::resource::{Binding, ServiceInstance};

/// Which service instances a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct ServiceFilter {
    pub ids: Option<Vec<ServiceInstanceId>>,
    pub names: Option<Vec<String>>,
    pub spaces: Option<Vec<SpaceId>>,
    pub orgs: Option<Vec<OrgId>>,
    pub common: Common,
}

/// Which bindings a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct BindingFilter {
    pub ids: Option<Vec<BindingId>>,
    pub names: Option<Vec<String>>,
    pub apps: Option<Vec<AppId>>,
    pub app_names: Option<Vec<String>>,
    pub instances: Option<Vec<ServiceInstanceId>>,
    /// Of service instances of these names.
    pub instance_names: Option<Vec<String>>,
    pub common: Common,
}

const INSTANCE: &str = "t.id, t.space_id, t.name, t.secrets_sealed, t.tags, t.metadata, t.created_at, t.updated_at";
const BINDING: &str = "t.id, t.instance_id, t.app_id, t.name, t.metadata, t.created_at, t.updated_at";

fn instance(db: &Db, row: &Row) -> Result<ServiceInstance> {
    let id: ServiceInstanceId = row.id("id")?;
    Ok(ServiceInstance {
        id,
        space: row.id("space_id")?,
        name: row.text("name")?,
        secrets: db.keys.open_json(id.0, &row.get::<Vec<u8>>("secrets_sealed")?)?,
        tags: row.json("tags")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn binding(_: &Db, row: &Row) -> Result<Binding> {
    Ok(Binding {
        id: row.id("id")?,
        instance: row.id("instance_id")?,
        app: row.id("app_id")?,
        name: row.text_opt("name")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

impl Db {
    /// A service instance by id.
    pub async fn service_fetch(&self, id: ServiceInstanceId) -> Result<Option<ServiceInstance>> {
        let query = Query::new("service_fetch", id, "")
            .push(&format!("SELECT {INSTANCE} FROM service_instances t WHERE t.id = "))
            .push_arg(id);
        self.find(query, instance).await
    }

    /// Service instances of spaces within `scope`.
    pub async fn service_list(
        &self,
        filter: &ServiceFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<ServiceInstance>> {
        let query = Query::new(
            "service_list",
            "a list",
            "FROM service_instances t JOIN spaces s ON s.id = t.space_id WHERE 1 = 1",
        );
        let query = scope
            .spaces(query, "t.space_id")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.name", filter.names.as_deref())
            .and_in_some("t.space_id", filter.spaces.as_deref())
            .and_in_some("s.org_id", filter.orgs.as_deref());
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(INSTANCE, query, &order.sql(Some("t.name"), true), page, instance)
            .await
    }

    /// A binding by id.
    pub async fn binding_fetch(&self, id: BindingId) -> Result<Option<Binding>> {
        let query = Query::new("binding_fetch", id, "")
            .push(&format!("SELECT {BINDING} FROM service_bindings t WHERE t.id = "))
            .push_arg(id);
        self.find(query, binding).await
    }

    /// Bindings of apps within `scope`.
    pub async fn binding_list(
        &self,
        filter: &BindingFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Binding>> {
        let query = Query::new(
            "binding_list",
            "a list",
            "FROM service_bindings t JOIN service_instances i ON i.id = t.instance_id WHERE 1 = 1",
        );
        let query = scope
            .spaces(query, "i.space_id")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.name", filter.names.as_deref())
            .and_in_some("t.app_id", filter.apps.as_deref())
            .and_in_some("t.instance_id", filter.instances.as_deref())
            .and_in_some("i.name", filter.instance_names.as_deref());
        let query = match filter.app_names.as_deref() {
            None => query,
            Some(names) => query
                .push(" AND t.app_id IN (SELECT id FROM apps WHERE 1 = 1")
                .and_in_some("name", Some(names))
                .push(")"),
        };
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(BINDING, query, &order.sql(Some("t.name"), true), page, binding)
            .await
    }

    /// What an app is bound to, oldest binding first.
    pub async fn services_of_app(&self, app: AppId) -> Result<Vec<(Binding, ServiceInstance)>> {
        let query = Query::new("services_of_app", app, "")
            .push(&format!("SELECT {BINDING} FROM service_bindings t WHERE t.app_id = "))
            .push_arg(app)
            .push(" ORDER BY t.created_at, t.id");
        let bindings = self.map(query, binding).await?;
        if bindings.is_empty() {
            return Ok(Vec::new());
        }
        let query = Query::new("services_of_app", app, "")
            .push(&format!("SELECT {INSTANCE} FROM service_instances t WHERE 1 = 1"))
            .and_in("t.id", bindings.iter().map(|binding| binding.instance));
        let instances = self.map(query, instance).await?;
        let of = |binding: Binding| {
            let instance = instances.iter().find(|instance| instance.id == binding.instance)?;
            Some((binding, instance.clone()))
        };
        Ok(bindings.into_iter().filter_map(of).collect())
    }
}

impl Tx {
    /// A new service instance. Taken: `service instance name`.
    pub async fn service_create(&self, instance: &ServiceInstance) -> Result<()> {
        let query = Query::new(
            "service_create",
            instance.id,
            "INSERT INTO service_instances (id, space_id, name, secrets_sealed, tags, metadata, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .taken("service instance name")
        .arg(instance.id)
        .arg(instance.space)
        .arg(instance.name.as_str())
        .arg(self.keys.seal_json(instance.id.0, &instance.secrets)?)
        .arg(json(&instance.tags)?)
        .arg(json(&instance.metadata)?)
        .arg(instance.created_at)
        .arg(instance.updated_at);
        self.execute(query).await?;
        self.usage_of_service(instance, "CREATED").await
    }

    /// Everything but its space as given. Taken: `service instance name`.
    pub async fn service_update(&self, instance: &ServiceInstance) -> Result<bool> {
        let before = self.service_fetch(instance.id).await?;
        if before.is_some_and(|before| before.name != instance.name) {
            self.usage_of_service(instance, "UPDATED").await?;
        }
        let query = Query::new(
            "service_update",
            instance.id,
            "UPDATE service_instances SET name = $1, secrets_sealed = $2, tags = $3, metadata = $4, updated_at = $5 \
             WHERE id = $6",
        )
        .taken("service instance name")
        .arg(instance.name.as_str())
        .arg(self.keys.seal_json(instance.id.0, &instance.secrets)?)
        .arg(json(&instance.tags)?)
        .arg(json(&instance.metadata)?)
        .arg(instance.updated_at)
        .arg(instance.id);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes a service instance with its bindings. What runs keeps the credentials until it is started anew.
    pub async fn service_delete(&self, id: ServiceInstanceId) -> Result<bool> {
        if let Some(instance) = self.service_fetch(id).await? {
            self.usage_of_service(&instance, "DELETED").await?;
        }
        let query = Query::new("service_delete", id, "DELETE FROM service_instances WHERE id = $1").arg(id);
        Ok(self.execute(query).await? > 0)
    }

    /// A new binding. Taken: `binding`.
    pub async fn binding_create(&self, binding: &Binding) -> Result<()> {
        let query = Query::new(
            "binding_create",
            binding.id,
            "INSERT INTO service_bindings (id, instance_id, app_id, name, metadata, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .taken("binding")
        .arg(binding.id)
        .arg(binding.instance)
        .arg(binding.app)
        .arg(binding.name.clone())
        .arg(json(&binding.metadata)?)
        .arg(binding.created_at)
        .arg(binding.updated_at);
        self.execute(query).await.map(drop)
    }

    /// Metadata as given.
    pub async fn binding_update(&self, binding: &Binding) -> Result<bool> {
        let query = Query::new(
            "binding_update",
            binding.id,
            "UPDATE service_bindings SET metadata = $1, updated_at = $2 WHERE id = $3",
        )
        .arg(json(&binding.metadata)?)
        .arg(binding.updated_at)
        .arg(binding.id);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes a binding. What runs keeps the credentials until it is started anew.
    pub async fn binding_delete(&self, id: BindingId) -> Result<bool> {
        let query = Query::new("binding_delete", id, "DELETE FROM service_bindings WHERE id = $1").arg(id);
        Ok(self.execute(query).await? > 0)
    }
}
