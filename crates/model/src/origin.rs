//! Where users sign in: here, or at an identity provider by its name. How they do is the controller's.

use crate::resource::User;

impl User {
    /// The origin of those who sign in here, as CF names it.
    pub const HERE: &str = "uaa";
}
