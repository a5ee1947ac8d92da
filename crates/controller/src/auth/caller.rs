//! The caller of a request, from its bearer token, with roles.

use super::rate::{RateSlot, exceeded};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::ActorSlot;
use api::error::Code;
use axum::extract::FromRequestParts;
use http::request::Parts;
use model::id::{OrgId, UserId};
use model::resource::{Actor, Role, RoleType, Space};
use store::Scope;

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    pub id: UserId,
    pub name: String,
    pub admin: bool,
    /// Empty for administrators, who need none.
    roles: Vec<Role>,
}

impl FromRequestParts<Context> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Failure> {
        let header = parts.headers.get(http::header::AUTHORIZATION).ok_or_else(|| {
            Failure::new(Code::NotAuthenticated, "Authentication error").hint("Log in and send the token")
        })?;
        let invalid = || Failure::new(Code::InvalidAuthToken, "Invalid Auth Token");
        let text = header.to_str().map_err(|_| invalid())?;
        let (kind, token) = text.split_once(' ').ok_or_else(invalid)?;
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err(invalid());
        }
        let claims = context
            .tokens
            .verify_shared(&context.store, token.trim(), &context.clock)
            .await
            .map_err(Failure::internal)?
            .ok_or_else(invalid)?;
        let id = claims.sub.parse().map_err(|_| invalid())?;
        // The user may have been deleted, or be no administrator any more, since the token was made.
        let caller = Self::of(context, id).await?.ok_or_else(invalid)?;
        let limits = &context.config.limits.rate;
        if limits.requests > 0 && !caller.admin {
            let standing = context
                .rates
                .take(&caller.id.to_string(), limits.requests, limits.window, context.now());
            if let Some(slot) = parts.extensions.get::<RateSlot>() {
                slot.set(standing);
            }
            if standing.exceeded {
                return Err(exceeded());
            }
        }
        if let Some(slot) = parts.extensions.get::<ActorSlot>() {
            slot.set(&caller.name);
        }
        Ok(caller)
    }
}

impl Caller {
    /// The user with this id, as they are now; `None` where there is none any more.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn of(context: &Context, id: UserId) -> Answer<Option<Self>> {
        let Some(user) = context.store.user_fetch(id).await? else {
            return Ok(None);
        };
        let roles = if user.admin {
            Vec::new()
        } else {
            context.store.roles_of_user(id).await?
        };
        Ok(Some(Self {
            id,
            name: user.name,
            admin: user.admin,
            roles,
        }))
    }

    /// Refuses whoever is no operator.
    ///
    /// # Errors
    /// CF's refusal.
    pub fn operator(&self) -> Answer<()> {
        if self.admin { Ok(()) } else { Err(Failure::forbidden()) }
    }

    /// What lists show.
    #[must_use]
    pub fn scope(&self) -> Scope {
        if self.admin { Scope::All } else { Scope::User(self.id) }
    }

    /// As the actor of an event.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor {
            guid: self.id.to_string(),
            kind: "user".to_owned(),
            name: self.name.clone(),
        }
    }

    fn has_in_space(&self, space: &Space, wanted: &[RoleType]) -> bool {
        let mut roles = self.roles.iter();
        self.admin || roles.any(|role| role.space == Some(space.id) && wanted.contains(&role.role))
    }

    fn has_in_org(&self, org: OrgId, wanted: &[RoleType]) -> bool {
        let mut roles = self.roles.iter();
        self.admin || roles.any(|role| role.space.is_none() && role.org == org && wanted.contains(&role.role))
    }

    /// Whether a space and what is in it may be seen.
    #[must_use]
    pub fn reads_space(&self, space: &Space) -> bool {
        self.manages_org(space.org) || self.roles.iter().any(|role| role.space == Some(space.id))
    }

    /// Whether apps, packages, routes and the like of a space may be made and changed.
    #[must_use]
    pub fn develops(&self, space: &Space) -> bool {
        self.has_in_space(space, &[RoleType::SpaceDeveloper])
    }

    /// Whether apps of a space may be started, stopped, scaled and routed to.
    #[must_use]
    pub fn operates(&self, space: &Space) -> bool {
        self.has_in_space(space, &[RoleType::SpaceDeveloper, RoleType::SpaceSupporter])
    }

    /// Whether roles and the name of a space may be changed.
    #[must_use]
    pub fn manages_space(&self, space: &Space) -> bool {
        self.manages_org(space.org) || self.has_in_space(space, &[RoleType::SpaceManager])
    }

    /// Whether spaces and roles of an organisation may be made and changed.
    #[must_use]
    pub fn manages_org(&self, org: OrgId) -> bool {
        self.has_in_org(org, &[RoleType::OrganizationManager])
    }

    /// Whether an organisation may be seen: by any role in it or in a space of it.
    #[must_use]
    pub fn reads_org(&self, org: OrgId) -> bool {
        self.admin || self.roles.iter().any(|role| role.org == org)
    }
}
