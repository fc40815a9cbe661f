//! The server's own key: signs the access tokens of accounts that live in its directory.
//!
//! Owner: the main thread reads or makes it at start; the directory signs with it, [`super::Keys`]
//! checks with it. It is HS256, because nobody else has to check its tokens and a shard checks
//! them itself. Its name is in every token (`kid`), so that it never meets an operator's.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use jsonwebtoken::EncodingKey;
use sha2::{Digest as _, Sha256};

use super::keys::{Key, KeyError, read_secret};
use super::mint::{sign, write_hex};
use crate::limits;

/// The server's own key. Cheap to clone.
#[derive(Clone)]
pub struct OwnKey {
    kid: String,
    signing: EncodingKey,
    checking: Key,
}

impl OwnKey {
    /// Reads the key from `path`, or makes one there, for its owner only, and the folder if need
    /// be. Once this returns the file is durable.
    ///
    /// # Errors
    /// It can't be read or made, or what is there is no key.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        if !path.exists() {
            make(path).map_err(|cause| KeyError::Unwritable { path: path.to_owned(), cause })?;
        }
        Ok(Self::from_secret(&read_secret(path)?))
    }

    /// A key from a secret in memory: for tests.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        let kid = format!("myriad-{}", write_hex(&Sha256::digest(secret)[..4]));
        let checking = Key::named(secret, kid.clone());
        Self { kid, signing: EncodingKey::from_secret(secret), checking }
    }

    /// A token for a device of a user that lasts `ttl_s` seconds from `now_s` (seconds since
    /// 1970).
    #[must_use]
    pub fn mint(&self, user: u64, device: u32, ttl_s: u64, now_s: u64) -> String {
        sign(&self.signing, Some(&self.kid), user, device, (ttl_s, now_s))
    }

    /// What checks its tokens.
    pub(super) fn checking(&self) -> Key {
        self.checking.clone()
    }
}

impl fmt::Debug for OwnKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("OwnKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Writes a fresh key beside its place and moves it there: a crash leaves all of it or nothing.
fn make(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut random = [0u8; limits::SECRET_BYTES_MIN];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    writeln!(file, "{}", write_hex(&random))?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}
