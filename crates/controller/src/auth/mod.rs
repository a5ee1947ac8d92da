//! Who calls, and what they may: tokens, passwords, roles.
//!
//! One rule for all resources: who may not read a thing gets 404, who may read it but not do this gets 403.

mod access;
mod caller;
mod keys;
mod lockout;
mod password;
mod rate;

pub use access::{Need, app_for, org_for, space_for};
pub use caller::Caller;
pub use keys::{ACCESS_SECONDS, KeyError, Keys, REFRESH_SECONDS};
pub use lockout::Lockout;
pub use password::{hash, verify};
pub use rate::RateLimits;
pub(crate) use rate::{RateSlot, Rates, exceeded_by_address};
