//! The controllers that a cell or a router may talk to: any of them, and the next where one does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most addresses.
const MOST: usize = 32;

/// Addresses of controllers, and which of them is talked to. Clones share it.
#[derive(Debug, Clone)]
pub struct Controllers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    addresses: Vec<String>,
    at: AtomicUsize,
}

/// Addresses that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidControllers {
    /// There is none, or there are too many.
    #[error("there have to be 1 to {MOST} addresses of controllers, not {count}")]
    Count {
        /// How many there are.
        count: usize,
    },
    /// One is not the address of a server.
    #[error("{address:?} is not an http:// or https:// address")]
    Address {
        /// The address.
        address: String,
    },
}

impl Controllers {
    /// Takes addresses such as `http://10.0.0.1:8181`.
    ///
    /// # Errors
    /// Names the first that can't be used.
    pub fn new(addresses: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, InvalidControllers> {
        let addresses: Vec<String> = addresses
            .into_iter()
            .map(|address| address.into().trim_end_matches('/').to_owned())
            .collect();
        if addresses.is_empty() || addresses.len() > MOST {
            return Err(InvalidControllers::Count { count: addresses.len() });
        }
        let is_server = |address: &&String| address.starts_with("http://") || address.starts_with("https://");
        if let Some(address) = addresses.iter().find(|address| !is_server(address)) {
            let address = address.clone();
            return Err(InvalidControllers::Address { address });
        }
        Ok(Self(Arc::new(Inner {
            addresses,
            at: AtomicUsize::new(0),
        })))
    }

    /// The one to talk to: its number, for [`Controllers::failed`], and its address without a slash at the end.
    #[must_use]
    pub fn current(&self) -> (usize, &str) {
        let at = self.0.at.load(Ordering::Relaxed) % self.0.addresses.len();
        (at, &self.0.addresses[at])
    }

    /// That one did not answer: the next is tried. Does nothing where another request has moved on already.
    pub fn failed(&self, number: usize) {
        let next = (number + 1) % self.0.addresses.len();
        // Whoever lost the race has nothing to do.
        let _ = self
            .0
            .at
            .compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_is_tried_once_for_all_that_failed_together() {
        let controllers = Controllers::new(["http://a/", "https://b", "http://c"]).expect("sound");
        let (first, address) = controllers.current();
        assert_eq!(address, "http://a");
        controllers.failed(first);
        controllers.failed(first);
        assert_eq!(controllers.current(), (1, "https://b"));
        controllers.failed(1);
        controllers.clone().failed(2);
        assert_eq!(controllers.current().1, "http://a");
    }

    #[test]
    fn what_is_no_address_is_named() {
        let none: [&str; 0] = [];
        assert_eq!(
            Controllers::new(none).unwrap_err(),
            InvalidControllers::Count { count: 0 }
        );
        let error = Controllers::new(["http://a", "ftp://b"]).unwrap_err();
        assert!(error.to_string().contains("\"ftp://b\""), "{error}");
    }
}
