//! Passwords: argon2id hashes in PHC form. Slow on purpose, so never on a thread that serves requests.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use model::Secret;

/// A hash that no password has, compared against where there is no user, so that both take as long.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRvZm5vYm9keQ$5HCV3CSbVFwHqTr2Qk4uG3Y2vLJm6iM1cB0yq3xqFZo";

/// The hash of a password.
///
/// # Errors
/// Where no random salt can be had.
pub async fn hash(password: Secret) -> Result<String, argon2::password_hash::Error> {
    let hashed = tokio::task::spawn_blocking(move || {
        Ok(Argon2::default()
            .hash_password(password.expose().as_bytes())?
            .to_string())
    });
    hashed.await.unwrap_or(Err(argon2::password_hash::Error::Crypto))
}

/// Whether `password` has this hash; never where there is none.
pub async fn verify(password: Secret, hash: Option<String>) -> bool {
    let verified = tokio::task::spawn_blocking(move || {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        let matches = PasswordHash::new(&hash).is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.expose().as_bytes(), &hash)
                .is_ok()
        });
        known && matches
    });
    verified.await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_verifies() {
        let hashed = hash(Secret::new("hunter2")).await.expect("hashes");
        assert!(!hashed.contains("hunter2"));
        assert!(verify(Secret::new("hunter2"), Some(hashed.clone())).await);
        assert!(!verify(Secret::new("hunter3"), Some(hashed)).await);
        assert!(!verify(Secret::new("hunter2"), None).await);
        assert!(!verify(Secret::new("x"), Some("nonsense".into())).await);
        assert!(PasswordHash::new(NOBODY).is_ok(), "or the comparison takes no time");
    }
}
