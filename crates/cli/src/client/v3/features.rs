//! Feature flags and environment variable groups.

use super::super::http::{Call, Client};
use crate::errors::Error;
use ::http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A switch of the platform.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FeatureFlag {
    pub name: String,
    pub enabled: bool,
    #[serde(default)]
    pub custom_error_message: Option<String>,
}

/// Variables of all that runs, or of all that is staged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnvironmentVariableGroup {
    pub name: String,
    pub var: Map<String, Value>,
}

impl Client {
    /// All feature flags.
    pub async fn feature_flags(&self) -> Result<Vec<FeatureFlag>, Error> {
        self.list(Call::new(Method::GET, "/v3/feature_flags")).await
    }

    /// A feature flag.
    pub async fn feature_flag(&self, name: &str) -> Result<FeatureFlag, Error> {
        self.get(Call::new(Method::GET, format!("/v3/feature_flags/{name}")))
            .await
    }

    /// Sets a feature flag.
    pub async fn set_feature_flag(&self, name: &str, enabled: bool) -> Result<FeatureFlag, Error> {
        let call = Call::new(Method::PATCH, format!("/v3/feature_flags/{name}"));
        self.get(call.json(json!({"enabled": enabled}))).await
    }

    /// The variables of all that is `running`, or `staging`.
    pub async fn variable_group(&self, name: &str) -> Result<EnvironmentVariableGroup, Error> {
        let path = format!("/v3/environment_variable_groups/{name}");
        self.get(Call::new(Method::GET, path)).await
    }

    /// Changes them; `null` takes one away.
    pub async fn change_variable_group(
        &self,
        name: &str,
        change: Map<String, Value>,
    ) -> Result<EnvironmentVariableGroup, Error> {
        let path = format!("/v3/environment_variable_groups/{name}");
        self.get(Call::new(Method::PATCH, path).json(json!({"var": change})))
            .await
    }
}
