//! Machines of the platform: what they are, and how they are named in certificates and messages.

use crate::Timestamp;
use crate::resource::CellInfo;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// End of the names in machines' certificates. It is in no DNS.
const SUFFIX: &str = ".machine.paas";

/// What a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Serves the API and schedules.
    Controller,
    /// Passes requests on to instances.
    Router,
    /// Runs work.
    Cell,
}

/// A word that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role: there are controller, router and cell")]
pub struct UnknownRole(String);

impl Role {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Router => "router",
            Self::Cell => "cell",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let roles = [Self::Controller, Self::Router, Self::Cell];
        let found = roles.into_iter().find(|role| role.word() == text);
        found.ok_or_else(|| UnknownRole(text.chars().take(32).collect()))
    }
}

/// One machine: what a certificate says who it is. Written `cell/<uuid>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Machine {
    /// What it is.
    pub role: Role,
    /// Which.
    pub id: Uuid,
}

impl Machine {
    /// Its name in a certificate, such as `cell.0190….machine.paas`.
    #[must_use]
    pub fn certificate_name(&self) -> String {
        format!("{}.{}{SUFFIX}", self.role, self.id.as_simple())
    }

    /// Who a name in a certificate means; `None` where it means no machine.
    #[must_use]
    pub fn of_certificate_name(name: &str) -> Option<Self> {
        let (role, id) = name.strip_suffix(SUFFIX)?.split_once('.')?;
        Some(Self {
            role: role.parse().ok()?,
            id: Uuid::try_parse(id).ok()?,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.id)
    }
}

/// A cell and its standing.
#[derive(Debug, Clone)]
pub struct Cell {
    pub info: CellInfo,
    /// Takes no new work.
    pub cordoned: bool,
    /// Instances move away, so many at once; 0 where they stay.
    pub draining: u32,
    /// It is alive until then.
    pub lease_until: Timestamp,
    /// Of its assignment set; grows whenever the set changes.
    pub revision: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_certificates_say_who_it_is() {
        for role in [Role::Controller, Role::Router, Role::Cell] {
            let machine = Machine {
                role,
                id: Uuid::from_u128(7),
            };
            assert_eq!(Machine::of_certificate_name(&machine.certificate_name()), Some(machine));
            assert_eq!(role.word().parse(), Ok(role));
        }
        for name in [
            "",
            "cell",
            "cell.x.machine.paas",
            "king.00000000000000000000000000000007.machine.paas",
            "a.b.example.com",
        ] {
            assert_eq!(Machine::of_certificate_name(name), None, "{name}");
        }
    }
}
