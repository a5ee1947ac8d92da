//! Security groups.

use super::super::http::{Call, Client};
use crate::errors::Error;
use ::http::Method;
use api::v3::{SecurityGroup, SpaceRelationships};
use model::id::{SecurityGroupId, SpaceId};
use serde::Deserialize;
use serde_json::{Value, json};

const GROUPS: &str = "/v3/security_groups";

/// A space that a group may be bound to.
#[derive(Debug, Clone, Deserialize)]
pub struct Place {
    pub guid: SpaceId,
    pub name: String,
    pub relationships: SpaceRelationships,
}

impl Client {
    /// The security groups that the user may see. With `globally`, only those in force everywhere for that use.
    pub async fn security_groups(&self, globally: Option<&'static str>) -> Result<Vec<SecurityGroup>, Error> {
        let call = Call::new(Method::GET, GROUPS).query("order_by", "name");
        let call = match globally {
            Some("running") => call.query("globally_enabled_running", "true"),
            Some(_) => call.query("globally_enabled_staging", "true"),
            None => call,
        };
        self.list(call).await
    }

    /// A security group by name.
    pub async fn security_group(&self, name: &str) -> Result<Option<SecurityGroup>, Error> {
        self.by_name(Call::new(Method::GET, GROUPS), name).await
    }

    /// Makes a security group.
    pub async fn create_security_group(&self, name: &str, rules: Value) -> Result<SecurityGroup, Error> {
        let body = json!({"name": name, "rules": rules});
        self.get(Call::new(Method::POST, GROUPS).json(body)).await
    }

    /// Changes a security group.
    pub async fn update_security_group(&self, group: SecurityGroupId, change: Value) -> Result<SecurityGroup, Error> {
        let path = format!("{GROUPS}/{group}");
        self.get(Call::new(Method::PATCH, path).json(change)).await
    }

    /// Deletes a security group and waits until it is gone.
    pub async fn delete_security_group(&self, group: SecurityGroupId) -> Result<(), Error> {
        let answer = self
            .send(Call::new(Method::DELETE, format!("{GROUPS}/{group}")))
            .await?;
        self.job(&answer, "deleting the security group").await
    }

    /// Binds a security group to spaces for a use, `running` or `staging`.
    pub async fn bind_security_group(
        &self,
        group: SecurityGroupId,
        spaces: &[String],
        use_: &str,
    ) -> Result<(), Error> {
        let data: Vec<Value> = spaces.iter().map(|guid| json!({"guid": guid})).collect();
        let path = format!("{GROUPS}/{group}/relationships/{use_}_spaces");
        let call = Call::new(Method::POST, path).json(json!({"data": data}));
        self.send(call).await.map(drop)
    }

    /// Takes a security group off a space.
    pub async fn unbind_security_group(&self, group: SecurityGroupId, space: &str, use_: &str) -> Result<(), Error> {
        let path = format!("{GROUPS}/{group}/relationships/{use_}_spaces/{space}");
        self.send(Call::new(Method::DELETE, path)).await.map(drop)
    }

    /// These spaces, as far as the user may see them.
    pub async fn spaces_by_ids(&self, ids: &[SpaceId]) -> Result<Vec<Place>, Error> {
        let mut all = Vec::with_capacity(ids.len());
        // What fits into a request line.
        for ids in ids.chunks(100) {
            let guids: Vec<String> = ids.iter().map(SpaceId::to_string).collect();
            let call = Call::new(Method::GET, "/v3/spaces").query("guids", guids.join(","));
            all.extend(self.list::<Place>(call).await?);
        }
        Ok(all)
    }
}
