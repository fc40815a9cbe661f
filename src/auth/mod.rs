//! Tokens: who a connection speaks for.
//!
//! A token is a JWT that names a user and a device, signed by Myriad's own accounts or by the
//! operator's existing system. [`Keys`] is read once at start, immutable and shared by all
//! shards; [`Keys::verify`] is pure and gets the time handed in. HS256 costs some microseconds
//! and runs on the shard; a check of `EdDSA` or RS256 costs over twenty times that, so
//! [`Keys::is_slow`] tells the shard to hand it to a side thread.
//!
//! Invariants: a key is used with one algorithm only, whatever a token asks for; no claim is
//! read before the signature was checked; nothing in a token makes this code panic.
//! Deliberately not here: sessions, revocation, and claims beyond user, device and time.

mod jwks;
mod keys;
mod mint;
mod own;
mod token;

#[cfg(test)]
mod tests;

use self::keys::Key;
pub use self::keys::{KeyError, read_secret};
pub use self::mint::{FreshSecret, mint, write_fresh_secret};
pub use self::own::OwnKey;
pub use self::token::{Claims, TokenError};
use self::token::{Header, Parts};
use crate::config::{Algorithm, Config, KeyFile};
use crate::limits;

/// Every key this server checks tokens with: at least one, at most
/// [`limits::KEYS_PER_ALGORITHM_MAX`] per algorithm, names unique.
#[derive(Clone, Debug)]
pub struct Keys {
    keys: Vec<Key>,
}

impl Keys {
    /// Reads the keys a configuration names.
    ///
    /// # Errors
    /// A file that can't be read, a weak secret, no public key where one should be, too many
    /// keys, a name used twice.
    pub fn load(config: &Config) -> Result<Self, KeyError> {
        let unnamed = config.auth_secret_file.iter().map(|file| KeyFile {
            kid: None,
            alg: Algorithm::Hs256,
            file: file.clone(),
        });
        let mut keys: Vec<Key> = Vec::new();
        for file in unnamed.chain(config.auth_keys.iter().cloned()) {
            if let Some(kid) = &file.kid
                && keys.iter().any(|key| key.kid.as_ref() == Some(kid))
            {
                return Err(KeyError::SameName { kid: kid.clone() });
            }
            keys.push(Key::read(&file)?);
        }
        for key in config.auth_jwks_file.as_deref().map(jwks::read).transpose()?.unwrap_or_default()
        {
            if let Some(kid) = &key.kid
                && keys.iter().any(|known| known.kid.as_ref() == Some(kid))
            {
                return Err(KeyError::SameName { kid: kid.clone() });
            }
            keys.push(key);
        }
        for algorithm in Algorithm::ALL {
            let count = keys.iter().filter(|key| key.algorithm == algorithm).count();
            if count > limits::KEYS_PER_ALGORITHM_MAX {
                return Err(KeyError::TooMany { algorithm });
            }
        }
        Ok(Self { keys })
    }

    /// The same keys and the server's own. Its name is its alone: a key of the operator's that is
    /// called so is not tried any more.
    #[must_use]
    pub fn and_own(mut self, own: &OwnKey) -> Self {
        self.keys.insert(0, own.checking());
        self
    }

    /// One HS256 secret, held in memory: for tests and the simulator.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        Self { keys: vec![Key::from_secret(secret)] }
    }

    /// Checks a token at the time `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// Any [`TokenError`]. Which one is safe to tell the peer.
    pub fn verify(&self, token: &str, now_s: u64) -> Result<Claims, TokenError> {
        let parts = Parts::split(token)?;
        let header = parts.header()?;
        let signed = |key: &&Key| key.signed(parts.signed, parts.signature);
        self.candidates(&header)?.find(signed).ok_or(TokenError::BadSignature)?;
        parts.claims(now_s)
    }

    /// Whether checking this token takes so long that it belongs on a side thread.
    #[must_use]
    pub fn is_slow(&self, token: &str) -> bool {
        let header = Parts::split(token).and_then(|parts| parts.header());
        let algorithm = header.ok().and_then(|header| Algorithm::from_name(&header.alg));
        algorithm.is_some_and(|algorithm| {
            algorithm != Algorithm::Hs256 && self.keys.iter().any(|key| key.algorithm == algorithm)
        })
    }

    /// The keys a header allows to be tried.
    ///
    /// A token without `kid` may be by any key of its algorithm. One with `kid` is by the key
    /// of that name, or, if there is none, by one that has no name.
    fn candidates(&self, header: &Header) -> Result<impl Iterator<Item = &Key>, TokenError> {
        let named = self.keys.iter().find(|key| header.kid.is_some() && key.kid == header.kid);
        let algorithm = Algorithm::from_name(&header.alg)
            .filter(|algorithm| match named {
                Some(key) => key.algorithm == *algorithm,
                None => self.keys.iter().any(|key| key.algorithm == *algorithm),
            })
            .ok_or(TokenError::AlgorithmNotAllowed)?;
        let allowed = move |key: &&Key| {
            key.algorithm == algorithm
                && (header.kid.is_none()
                    || key.kid == header.kid
                    || named.is_none() && key.kid.is_none())
        };
        if !self.keys.iter().any(|key| allowed(&key)) {
            return Err(TokenError::UnknownKey);
        }
        Ok(self.keys.iter().filter(allowed))
    }
}

/// Reads the claims of a token one holds oneself, without checking signature or time: what the
/// terminal client shows. Never for a token that came from a peer.
///
/// # Errors
/// Too large, malformed, claims missing or unusable.
pub fn read_own(token: &str) -> Result<Claims, TokenError> {
    Parts::split(token)?.raw_claims().map(|(claims, _)| claims)
}
