//! Makes tokens and secrets: for `myriad token`, the terminal client, `--dev` and tests.
//!
//! A production issuer is the operator's own system; nothing here runs on a shard.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use jsonwebtoken::{Algorithm as JwtAlgorithm, EncodingKey, Header};
use serde::Serialize;

use super::keys::KeyError;
use crate::limits;

#[derive(Serialize)]
struct MintedClaims {
    /// As text: JavaScript cannot read every 64-bit number.
    sub: String,
    device: u32,
    iat: u64,
    exp: u64,
}

/// Mints an HS256 token for a device of a user that lasts `ttl_s` seconds from `now_s` (seconds
/// since 1970). User and device should not be 0: no server accepts such a token.
#[must_use]
pub fn mint(secret: &[u8], user: u64, device: u32, ttl_s: u64, now_s: u64) -> String {
    sign(&EncodingKey::from_secret(secret), None, user, device, (ttl_s, now_s))
}

/// The same with a key and its name; `(ttl_s, now_s)` as above.
#[allow(clippy::expect_used, reason = "numbers and their text always are JSON")]
pub(super) fn sign(
    key: &EncodingKey,
    kid: Option<&str>,
    user: u64,
    device: u32,
    (ttl_s, now_s): (u64, u64),
) -> String {
    let exp = now_s.saturating_add(ttl_s);
    let claims = MintedClaims { sub: user.to_string(), device, iat: now_s, exp };
    let mut header = Header::new(JwtAlgorithm::HS256);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, &claims, key)
        .expect("an HMAC key of any length signs a claim set of numbers")
}

/// Writes a fresh random secret (64 hexadecimal digits) to `path`, readable by its owner only,
/// and makes the folder if need be. A secret of an earlier start is replaced.
///
/// The file is locked as long as the answer lives, so that a second server started by mistake
/// does not change the secret of the first.
///
/// # Errors
/// Another server holds it, it can't be written, or the system gives no random bytes.
pub fn write_fresh_secret(path: &Path) -> Result<FreshSecret, KeyError> {
    let unwritable = |cause| KeyError::Unwritable { path: path.to_owned(), cause };
    let mut random = [0u8; limits::SECRET_BYTES_MIN];
    getrandom::fill(&mut random).map_err(|fault| unwritable(io::Error::other(fault)))?;
    let text = write_hex(&random);
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unwritable)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path).map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(KeyError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(cause)) => return Err(unwritable(cause)),
    }
    file.set_permissions(Permissions::from_mode(0o600)).map_err(unwritable)?;
    file.set_len(0).map_err(unwritable)?;
    writeln!(file, "{text}").map_err(unwritable)?;
    Ok(FreshSecret { _locked: file })
}

/// Bytes as hexadecimal digits.
pub(super) fn write_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Holds the secret of `--dev` as long as its server runs.
#[derive(Debug)]
#[must_use = "another server may replace the secret once this is dropped"]
pub struct FreshSecret {
    _locked: File,
}
