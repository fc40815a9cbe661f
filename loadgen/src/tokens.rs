//! Tokens for the clients a run plays: JWTs signed with the server's HS256 secret.
//!
//! Deliberately not here: checking tokens, and any other algorithm (the server's business).

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

/// Why tokens can't be minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The secret can't be read.
    #[error("can't read the secret {path}: {source}")]
    Secret {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The token can't be signed.
    #[error("can't sign a token: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

#[derive(Serialize)]
struct Claims {
    sub: String,
    device: u32,
    exp: u64,
}

/// Mints tokens from one secret.
pub struct Mint {
    key: EncodingKey,
}

impl std::fmt::Debug for Mint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Mint")
    }
}

impl Mint {
    /// With the secret as bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self { key: EncodingKey::from_secret(secret) }
    }

    /// With the secret in a file, read as the server reads it: without white space at its ends.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn from_file(path: &Path) -> Result<Self, MintError> {
        let secret = std::fs::read(path)
            .map_err(|source| MintError::Secret { path: path.display().to_string(), source })?;
        Ok(Self::new(secret.trim_ascii()))
    }

    /// A token for one device of one user, good for `ttl_s` seconds.
    ///
    /// # Errors
    /// It can't be signed.
    pub fn token(&self, user: u64, device: u32, ttl_s: u64) -> Result<String, MintError> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let claims = Claims { sub: user.to_string(), device, exp: now_s.saturating_add(ttl_s) };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key)?)
    }
}
