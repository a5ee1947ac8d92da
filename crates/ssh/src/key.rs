//! The server's key: Ed25519, from 32 random bytes that whoever runs the server keeps.

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{HashAlg, PrivateKey};

/// The key that clients know the server by.
#[derive(Clone)]
pub struct HostKey(PrivateKey);

impl HostKey {
    /// The key that belongs to this secret.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Ed25519Keypair::from_seed(seed).into())
    }

    /// SHA-256 of the public key in base 64, 43 letters: what clients compare.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let text = self.0.public_key().fingerprint(HashAlg::Sha256).to_string();
        text.trim_start_matches("SHA256:").trim_end_matches('=').to_owned()
    }

    /// The public key as a line of a file of known hosts has it.
    #[must_use]
    pub fn public(&self) -> String {
        self.0.public_key().to_openssh().unwrap_or_default()
    }

    pub(crate) fn private(&self) -> PrivateKey {
        self.0.clone()
    }
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HostKey").field(&self.fingerprint()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_secret_is_the_same_key_and_is_not_printed() {
        let (key, other) = (HostKey::from_seed(&[7; 32]), HostKey::from_seed(&[8; 32]));
        assert_eq!(key.fingerprint(), HostKey::from_seed(&[7; 32]).fingerprint());
        assert_ne!(key.fingerprint(), other.fingerprint());
        assert_eq!(key.fingerprint().len(), 43);
        assert!(key.public().starts_with("ssh-ed25519 "));
        assert!(!format!("{key:?}").contains("07, 07"));
    }
}
