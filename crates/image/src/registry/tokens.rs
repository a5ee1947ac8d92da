//! Tokens that were given, by what they are for.

use model::Secret;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values of `Authorization` by scope.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<String, Secret>>);

impl Tokens {
    pub(super) fn get(&self, scope: &str) -> Option<Secret> {
        self.lock().get(scope).cloned()
    }

    pub(super) fn set(&self, scope: &str, authorization: Secret) {
        self.lock().insert(scope.to_owned(), authorization);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Secret>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
