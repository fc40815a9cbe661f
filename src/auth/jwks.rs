//! Reads a JSON Web Key Set (RFC 7517): the keys of an issuer, as many publish them.
//!
//! Owner: the main thread, at start. Keys for other uses or algorithms are passed over, because a
//! set often holds some; a set in which none is left is refused. A key's algorithm is fixed here,
//! by its type: whatever a token says, it is used with no other one.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use rsa::{BigUint, RsaPublicKey};
use serde::Deserialize;

use super::keys::{Key, KeyError, checked_ed25519, checked_rsa, read_key_file};
use crate::config::Algorithm;
use crate::limits;

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// What of a key concerns us. Never shown: `k` is a secret.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<String>,
}

/// Reads all keys of a set that can be used.
///
/// # Errors
/// Unreadable, too large, no set, a key that is broken, or no key left.
pub(super) fn read(path: &Path) -> Result<Vec<Key>, KeyError> {
    let refuse = |why: String| KeyError::NotKeySet { path: path.to_owned(), why };
    let text = read_key_file(path)?;
    // Not with the words of the parser: they may quote a secret.
    let set: Set = serde_json::from_slice(&text)
        .map_err(|fault| refuse(format!("it is not one (line {})", fault.line())))?;
    let mut keys = Vec::new();
    for (index, jwk) in set.keys.iter().enumerate() {
        let Some(algorithm) = algorithm(jwk) else { continue };
        let Some(key) = decoding(algorithm, jwk) else {
            return Err(refuse(format!("key {} is broken or weak", index + 1)));
        };
        keys.push(Key::of_set(jwk.kid.clone(), algorithm, key));
    }
    if keys.is_empty() {
        return Err(refuse("it has no key for RS256, EdDSA or HS256".to_owned()));
    }
    Ok(keys)
}

/// The algorithm a key is for, if that is one of ours.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    if jwk.usage.as_ref().is_some_and(|usage| usage != "sig") {
        return None;
    }
    let algorithm = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Algorithm::Rs256,
        ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
        ("oct", _) => Algorithm::Hs256,
        _ => return None,
    };
    let named = jwk.alg.as_ref().is_none_or(|alg| alg == algorithm.name());
    // The newer name of the same.
    let ed25519 = algorithm == Algorithm::EdDsa && jwk.alg.as_deref() == Some("Ed25519");
    (named || ed25519).then_some(algorithm)
}

fn decoding(algorithm: Algorithm, jwk: &Jwk) -> Option<DecodingKey> {
    match algorithm {
        Algorithm::Rs256 => {
            let (modulus, exponent) = (bytes(jwk.n.as_ref())?, bytes(jwk.e.as_ref())?);
            let number = |bytes: Vec<u8>| BigUint::from_bytes_be(&bytes);
            checked_rsa(&RsaPublicKey::new(number(modulus), number(exponent)).ok()?)
        }
        Algorithm::EdDsa => checked_ed25519(DecodingKey::from_ed_der(&bytes(jwk.x.as_ref())?)),
        Algorithm::Hs256 => {
            let secret = bytes(jwk.k.as_ref())?;
            let is_long = secret.len() >= limits::SECRET_BYTES_MIN;
            is_long.then(|| DecodingKey::from_secret(&secret))
        }
    }
}

fn bytes(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}
