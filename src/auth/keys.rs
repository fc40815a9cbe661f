//! Reads keys from files, and refuses what would make tokens easy to forge.
//!
//! Owner: the main thread, at start. What is read stays in memory only, and no message and no
//! `Debug` output shows it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use jsonwebtoken::{Algorithm as JwtAlgorithm, DecodingKey, crypto};

use crate::config::{Algorithm, KeyFile};
use crate::limits;
use rsa::RsaPublicKey;
use rsa::pkcs1::DecodeRsaPublicKey as _;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;

/// Bytes of an Ed25519 public key.
const ED25519_BYTES: usize = 32;

/// Why a key can't be used. Its text names the file and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file can't be read.
    #[error(
        "The key file {path} can't be read: {cause}. Check that it exists and that this user \
         may read it."
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file is too large for a key.
    #[error(
        "The key file {path} is larger than {} bytes, so it is hardly a key. Name the \
             right file.",
        limits::KEY_FILE_BYTES_MAX
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The secret is too short.
    #[error(
        "The secret in {path} has {bytes} bytes, but HS256 needs at least {}. Make one with \
         `openssl rand -hex 32 > {path}`.",
        limits::SECRET_BYTES_MIN
    )]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Bytes found.
        bytes: usize,
    },
    /// PEM where a secret should be.
    #[error(
        "{path} holds a PEM key, which is no HS256 secret: a public key is known to everybody. \
         For an Ed25519 public key use auth_keys with alg EdDSA."
    )]
    PemAsSecret {
        /// The file.
        path: PathBuf,
    },
    /// Not an Ed25519 public key.
    #[error(
        "{path} is no Ed25519 public key in PEM. Write it with \
         `openssl pkey -in PRIVATE.pem -pubout -out {path}`; the private key stays with the \
         issuer."
    )]
    NotEd25519 {
        /// The file.
        path: PathBuf,
    },
    /// Not an RSA public key that can be used.
    #[error(
        "{path} is no RSA public key of 2048 to 4096 bits in PEM. Write it with \
         `openssl pkey -in PRIVATE.pem -pubout -out {path}`; the private key stays with the \
         issuer."
    )]
    NotRsa {
        /// The file.
        path: PathBuf,
    },
    /// Not a key set, or nothing in it can be used.
    #[error(
        "{path} is no JSON Web Key Set this server can use: {why}. Fetch it anew from its issuer."
    )]
    NotKeySet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// More keys of an algorithm than a token is tried against.
    #[error(
        "More than {} keys with {algorithm} are set. Remove the ones no token is signed with \
         any more.",
        limits::KEYS_PER_ALGORITHM_MAX
    )]
    TooMany {
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// Two keys of the same name.
    #[error("Two keys are called {kid}. Give each its own kid.")]
    SameName {
        /// The name.
        kid: String,
    },
    /// The secret of `--dev` belongs to a server that runs.
    #[error(
        "{path} is in use by a running server. Stop that one, or choose another --data folder."
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A secret of our own can't be written.
    #[error(
        "A fresh secret can't be written to {path}: {cause}. Let this user write there, or choose \
         another --data folder."
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// A key ready for use, with the one algorithm it is for.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    decoding: DecodingKey,
}

impl Key {
    /// Reads a key from the file a setting names.
    ///
    /// # Errors
    /// Unreadable, or not a usable key of its algorithm.
    pub(super) fn read(file: &KeyFile) -> Result<Self, KeyError> {
        let decoding = match file.alg {
            Algorithm::Hs256 => DecodingKey::from_secret(&read_secret(&file.file)?),
            Algorithm::Rs256 => read_rsa(&file.file)?,
            Algorithm::EdDsa => read_ed25519(&file.file)?,
        };
        Ok(Self { kid: file.kid.clone(), algorithm: file.alg, decoding })
    }

    /// A key from what a set says.
    pub(super) fn of_set(kid: Option<String>, algorithm: Algorithm, decoding: DecodingKey) -> Self {
        Self { kid, algorithm, decoding }
    }

    /// A key from an HS256 secret in memory.
    pub(super) fn from_secret(secret: &[u8]) -> Self {
        let decoding = DecodingKey::from_secret(secret);
        Self { kid: None, algorithm: Algorithm::Hs256, decoding }
    }

    /// The same with a name.
    pub(super) fn named(secret: &[u8], kid: String) -> Self {
        Self { kid: Some(kid), ..Self::from_secret(secret) }
    }

    /// Whether this key made `signature` (base64url) over `signed`.
    pub(super) fn signed(&self, signed: &str, signature: &str) -> bool {
        let algorithm = match self.algorithm {
            Algorithm::Hs256 => JwtAlgorithm::HS256,
            Algorithm::Rs256 => JwtAlgorithm::RS256,
            Algorithm::EdDsa => JwtAlgorithm::EdDSA,
        };
        crypto::verify(signature, signed.as_bytes(), &self.decoding, algorithm).unwrap_or(false)
    }
}

/// Reads an HS256 secret.
///
/// The secret is the file's bytes. If they are text (UTF-8), one line end after it does not
/// count, because editors and shells put it there.
///
/// # Errors
/// Unreadable, shorter than [`limits::SECRET_BYTES_MIN`], or a PEM key.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, KeyError> {
    let mut secret = read_key_file(path)?;
    if std::str::from_utf8(&secret).is_ok() && secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    if secret.starts_with(b"-----BEGIN") {
        return Err(KeyError::PemAsSecret { path: path.to_owned() });
    }
    if secret.len() < limits::SECRET_BYTES_MIN {
        return Err(KeyError::TooShort { path: path.to_owned(), bytes: secret.len() });
    }
    Ok(secret)
}

fn read_ed25519(path: &Path) -> Result<DecodingKey, KeyError> {
    let key = DecodingKey::from_ed_pem(&read_key_file(path)?).ok();
    key.and_then(checked_ed25519).ok_or_else(|| KeyError::NotEd25519 { path: path.to_owned() })
}

/// An Ed25519 key if it is one.
pub(super) fn checked_ed25519(key: DecodingKey) -> Option<DecodingKey> {
    // The length is checked before the first use: the crate slices 32 bytes out of it unasked.
    if key.try_get_as_bytes().ok()?.len() != ED25519_BYTES {
        return None;
    }
    // Bytes that are no point of the curve fail here, at start, and not at the first login.
    crypto::verify("", b"", &key, JwtAlgorithm::EdDSA).ok()?;
    Some(key)
}

fn read_rsa(path: &Path) -> Result<DecodingKey, KeyError> {
    let text = read_key_file(path)?;
    let text = String::from_utf8_lossy(&text);
    let key = RsaPublicKey::from_public_key_pem(&text).ok();
    let key = key.or_else(|| RsaPublicKey::from_pkcs1_pem(&text).ok());
    key.and_then(|key| checked_rsa(&key)).ok_or_else(|| KeyError::NotRsa { path: path.to_owned() })
}

/// An RSA key if it is neither weak nor larger than what a check should cost. That its numbers
/// are those of a key was checked when it was made.
pub(super) fn checked_rsa(key: &RsaPublicKey) -> Option<DecodingKey> {
    let (modulus, exponent) = (key.n().to_bytes_be(), key.e().to_bytes_be());
    let is_usable = (limits::RSA_BITS_MIN..=limits::RSA_BITS_MAX).contains(&key.n().bits());
    is_usable.then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

pub(super) fn read_key_file(path: &Path) -> Result<Vec<u8>, KeyError> {
    let unreadable = |cause| KeyError::Unreadable { path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(unreadable)?
        .take(limits::KEY_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > limits::KEY_FILE_BYTES_MAX {
        return Err(KeyError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}
