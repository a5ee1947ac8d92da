//! Feature flags: what operators switch for everybody but administrators. Those that nothing here depends on are kept and
//! shown, as CF's clients list all of them.

use crate::auth::Caller;
use crate::error::{Answer, Failure};
use api::error::Code;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::{Db, Tx};

const SETTING: &str = "feature_flags";

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $default:literal;)+) => {
        /// A flag.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Flag {$($(#[$doc])* $name,)+}

        impl Flag {
            /// Each of them, by name.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// CF's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {$(Self::$name => $word,)+}
            }

            /// How it stands where nobody set it.
            #[must_use]
            pub const fn default(self) -> bool {
                match self {$(Self::$name => $default,)+}
            }
        }
    };
}

flags! {
    /// Upload of packages.
    AppBitsUpload = "app_bits_upload", true;
    /// Changes of instances and limits.
    AppScaling = "app_scaling", true;
    /// Cloud Native Buildpacks as a lifecycle of their own.
    DiegoCnb = "diego_cnb", false;
    /// Apps from images.
    DiegoDocker = "diego_docker", false;
    /// Environments are shown to those who may see secrets.
    EnvVarVisibility = "env_var_visibility", true;
    /// Requests are spread by the hash of a field of theirs.
    HashBasedRouting = "hash_based_routing", false;
    /// Nothing: there is no marketplace.
    HideMarketplace = "hide_marketplace_from_unauthenticated_users", false;
    /// Domains of organisations.
    PrivateDomainCreation = "private_domain_creation", true;
    /// Known files need no upload.
    ResourceMatching = "resource_matching", true;
    /// New routes.
    RouteCreation = "route_creation", true;
    /// Nothing: routes are not shared.
    RouteSharing = "route_sharing", false;
    /// New service instances.
    ServiceInstanceCreation = "service_instance_creation", true;
    /// Nothing: service instances are not shared.
    ServiceInstanceSharing = "service_instance_sharing", false;
    /// Roles are given by the names of users.
    SetRolesByUsername = "set_roles_by_username", true;
    /// Environments are shown to developers.
    SpaceDeveloperEnvVarVisibility = "space_developer_env_var_visibility", true;
    /// Nothing: there are no brokers.
    SpaceScopedPrivateBrokerCreation = "space_scoped_private_broker_creation", true;
    /// New tasks.
    TaskCreation = "task_creation", true;
    /// Nothing: roles are taken by their ids.
    UnsetRolesByUsername = "unset_roles_by_username", true;
    /// Everybody may make organisations.
    UserOrgCreation = "user_org_creation", false;
}

/// How a flag was set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    pub enabled: bool,
    /// Told to those whom the flag refuses.
    pub custom_error_message: Option<String>,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub updated_at: Option<model::Timestamp>,
}

impl Flag {
    /// The flag of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|flag| flag.name() == name)
    }

    const fn unset(self) -> Set {
        Set {
            enabled: self.default(),
            custom_error_message: None,
            updated_at: None,
        }
    }

    /// How it stands.
    pub async fn read(self, db: &Db) -> Answer<Set> {
        let all = all(db).await?;
        Ok(all.get(self.name()).cloned().unwrap_or_else(|| self.unset()))
    }

    /// Refuses a caller who is no administrator, where it is off.
    pub async fn require(self, db: &Db, caller: &Caller) -> Answer<()> {
        if caller.admin {
            return Ok(());
        }
        let set = self.read(db).await?;
        if set.enabled {
            return Ok(());
        }
        let why = set.custom_error_message.unwrap_or_else(|| self.name().to_owned());
        Err(Failure::new(Code::FeatureDisabled, format!("Feature Disabled: {why}"))
            .hint("An operator switched this off for everybody"))
    }

    /// Refuses everybody, where it is off: CF exempts administrators from some flags only.
    pub async fn require_on(self, db: &Db) -> Answer<()> {
        let set = self.read(db).await?;
        if set.enabled {
            return Ok(());
        }
        let why = set.custom_error_message.unwrap_or_else(|| self.name().to_owned());
        Err(
            Failure::new(Code::FeatureDisabled, format!("Feature Disabled: {why}")).hint(format!(
                "An operator switches it on: paas enable-feature-flag {}",
                self.name()
            )),
        )
    }

    /// Sets it.
    pub async fn write(self, tx: &Tx, set: Set, now: model::Timestamp) -> Answer<()> {
        let mut all = all(tx).await?;
        all.insert(self.name().to_owned(), set);
        Ok(tx.setting_set(SETTING, &all, now).await?)
    }
}

/// How each of them stands, by name.
pub async fn every(db: &Db) -> Answer<Vec<(Flag, Set)>> {
    let mut set = all(db).await?;
    let one = |flag: &Flag| (*flag, set.remove(flag.name()).unwrap_or_else(|| flag.unset()));
    Ok(Flag::ALL.iter().map(one).collect())
}

async fn all(db: &Db) -> Answer<BTreeMap<String, Set>> {
    Ok(db.setting_fetch(SETTING).await?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_by_name_and_listed_in_order() {
        assert_eq!(Flag::by_name("app_scaling"), Some(Flag::AppScaling));
        assert_eq!(Flag::by_name("nonsense"), None);
        assert!(Flag::ALL.iter().map(|flag| flag.name()).is_sorted());
        assert!(Flag::TaskCreation.unset().enabled && !Flag::UserOrgCreation.unset().enabled);
    }
}
