//! What an operator may say, by flag, environment or file, before anything is checked.
//!
//! Owner: the main thread, at start. One struct is all three at once: its fields are the flags
//! (`--heartbeat-ms`), the variables (`MYRIAD_HEARTBEAT_MS`) and the keys (`heartbeat_ms`), and
//! their doc comments are the help. Every name carries its unit. Bounds are not here but in
//! `bounds`, which also adds them to the help; `mod.rs` checks the merged whole.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::api::ApiSettings;
use super::bounds;

/// The flags of `myriad serve`.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeFlags {
    /// TOML file with any of the settings below; `myriad config example` prints one
    #[arg(long, value_name = "FILE", env = "MYRIAD_CONFIG")]
    pub config: Option<PathBuf>,
    /// The settings themselves; a flag wins over the environment, that over the file.
    #[command(flatten)]
    pub settings: Settings,
}

/// Every setting, `None` where nothing was said. Their bounds are added to the help.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[command(mut_args = bounds::tell)]
pub struct Settings {
    /// Address and port to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Folder for everything that must survive a restart (local disk)
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Threads that serve, each with its own users; default: one per allowed core
    #[arg(long, value_name = "COUNT")]
    pub shards: Option<usize>,
    /// How sockets are driven: auto, ready (epoll, kqueue), or uring (Linux)
    #[arg(long, value_name = "NAME", value_enum, hide_possible_values = true)]
    pub driver: Option<Driver>,
    /// File with the HS256 secret that signs tokens (at least 32 bytes)
    #[arg(long, value_name = "FILE")]
    pub auth_secret_file: Option<PathBuf>,
    /// Further keys for tokens, two or more while keys rotate; repeat the flag for each
    #[arg(long, value_name = "[KID:]ALG:FILE", value_delimiter = ',')]
    pub auth_keys: Option<Vec<KeyFile>>,
    /// File with further keys as a JSON Web Key Set, as many issuers publish it
    #[arg(long, value_name = "FILE")]
    pub auth_jwks_file: Option<PathBuf>,
    /// For trying things out: loopback only, fresh random secret in DIR/dev-secret
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub dev: Option<bool>,
    /// Listen off loopback without TLS (somebody else encrypts, or nobody does)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub allow_plaintext: Option<bool>,
    /// Browser origins that may connect, like https://chat.example.org; "*" allows all
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    pub origins: Option<Vec<String>>,
    /// How often a client shows that it lives
    #[arg(long, value_name = "MS")]
    pub heartbeat_ms: Option<u64>,
    /// Sessions at once, over all shards; the tables are made for it
    #[arg(long, value_name = "COUNT")]
    pub sessions_max: Option<usize>,
    /// Users the server remembers
    #[arg(long, value_name = "COUNT")]
    pub users_max: Option<usize>,
    /// Pairs of users whose delivery and read marks are remembered
    #[arg(long, value_name = "COUNT")]
    pub pairs_max: Option<usize>,
    /// Let messages wait for users that never logged in (default: with dev, else they are refused)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub unknown_users_allowed: Option<bool>,
    /// Connections without a login from one source address at once
    #[arg(long, value_name = "COUNT")]
    pub unknown_conns_per_source_max: Option<usize>,
    /// Messages one user may send in a second, for a moment twice as many; 0: no bound
    #[arg(long, value_name = "COUNT")]
    pub messages_per_second_max: Option<u32>,
    /// Logins a shard takes from one source address in a second, for a moment ten times as many;
    /// 0: no bound
    #[arg(long, value_name = "COUNT")]
    pub logins_per_second_max: Option<u32>,
    /// How long an un-acked message is kept before its sender is told that it expired
    #[arg(long, value_name = "S")]
    pub retention_s: Option<u32>,
    /// For one start, as a flag only: the clock is right although it is more than a day ahead of
    /// the log, so expire by it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub clock_confirmed: Option<bool>,
    /// Largest payload of one message
    #[arg(long, value_name = "BYTES")]
    pub payload_bytes_max: Option<usize>,
    /// Messages that may wait in one inbox
    #[arg(long, value_name = "COUNT")]
    pub inbox_messages_max: Option<u32>,
    /// Payload that may wait in one inbox
    #[arg(long, value_name = "BYTES")]
    pub inbox_bytes_max: Option<u64>,
    /// Messages of one sender that may wait in one inbox
    #[arg(long, value_name = "COUNT")]
    pub inbox_messages_per_sender_max: Option<u32>,
    /// Payload of one sender that may wait in one inbox
    #[arg(long, value_name = "BYTES")]
    pub inbox_bytes_per_sender_max: Option<u64>,
    /// Members of one group
    #[arg(long, value_name = "COUNT")]
    pub group_members_max: Option<u32>,
    /// Members up to which a group's messages are pushed; in larger groups members are told that
    /// there are some, and fetch them
    #[arg(long, value_name = "COUNT")]
    pub group_push_max: Option<u32>,
    /// Members above which nobody is told of others who come and go
    #[arg(long, value_name = "COUNT")]
    pub group_quiet_above: Option<u32>,
    /// Messages that may wait in one group for its members
    #[arg(long, value_name = "COUNT")]
    pub group_messages_max: Option<u32>,
    /// Payload that may wait in one group
    #[arg(long, value_name = "BYTES")]
    pub group_bytes_max: Option<u64>,
    /// Space the log may take; default: what the disk has
    #[arg(long, value_name = "BYTES")]
    pub log_bytes_max: Option<u64>,
    /// Size of one file of the log, a multiple of 4096; two are made at the first start
    #[arg(long, value_name = "BYTES")]
    pub segment_bytes: Option<u64>,
    /// Pause between two syncs of the log: longer saves CPU, shorter answers sooner
    #[arg(long, value_name = "US")]
    pub commit_gap_us: Option<u64>,
    /// Keep history: conversations that can be read again after everybody acked them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub history: Option<bool>,
    /// How long history keeps a conversation whose user chose nothing: until-acked, permanent, or
    /// a time from 1s to 3650d (90s, 15m, 12h, 30d)
    #[arg(long, value_name = "RETENTION")]
    pub history_default: Option<String>,
    /// Messages history keeps of each side of a conversation, the newest
    #[arg(long, value_name = "COUNT")]
    pub history_messages_max: Option<u32>,
    /// Keep accounts, contacts and settings (default: with the HTTP API, or if there are any)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub directory: Option<bool>,
    /// Who may register an account: closed (nobody), invite (who has a code), or open
    #[arg(long, value_name = "NAME", value_enum, hide_possible_values = true)]
    pub registration: Option<Registration>,
    /// How long a token is good that an account gets at login; its refresh token fetches the next
    #[arg(long, value_name = "S")]
    pub access_token_s: Option<u64>,
    /// Threads that hash passwords; each takes some 20 ms and 19 MiB per login
    #[arg(long, value_name = "COUNT")]
    pub password_threads: Option<usize>,
    /// Memory near which new sessions are refused and idle ones let go; 0: what the control group
    /// or the host has
    #[arg(long, value_name = "BYTES")]
    pub memory_max_bytes: Option<u64>,
    /// Time a stopping server takes to finish what is under way
    #[arg(long, value_name = "MS")]
    pub drain_ms: Option<u64>,
    /// Of the HTTP API
    #[command(flatten)]
    #[serde(flatten)]
    pub api: ApiSettings,
}

/// Who may register an account.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Nobody: the operator makes accounts.
    #[default]
    Closed,
    /// Who has a code of the operator's.
    Invite,
    /// Everybody.
    Open,
}

/// How sockets are driven.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// What fits this host: chosen at the start, with a line that says why.
    Auto,
    /// Readiness: epoll on Linux, kqueue on FreeBSD.
    Ready,
    /// Completions: `io_uring` (Linux). Sessions need no descriptors.
    Uring,
}

impl Driver {
    /// The name an operator writes, and `serve` prints.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ready => "ready",
            Self::Uring => "uring",
        }
    }
}

/// A key that signs tokens, its algorithm pinned.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// The name a token's header gives in `kid`. Without one the key serves tokens that name
    /// none, or one that no key has.
    pub kid: Option<String>,
    /// The one algorithm this key is ever used with.
    pub alg: Algorithm,
    /// HS256: the secret. RS256, `EdDSA`: the public RSA or Ed25519 key as PEM.
    pub file: PathBuf,
}

/// Algorithms of token signatures.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Algorithm {
    /// HMAC with SHA-256: one shared secret signs and checks.
    #[serde(rename = "HS256")]
    Hs256,
    /// RSA (PKCS #1 v1.5) with SHA-256: the issuer's private key signs, its public key checks.
    #[serde(rename = "RS256")]
    Rs256,
    /// Ed25519: likewise.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hs256, Self::Rs256, Self::EdDsa];

    /// The name in a token's header (`alg`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm with this exact name, if it is one of ours.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl FromStr for KeyFile {
    type Err = String;

    /// Reads `[KID:]ALG:FILE`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || {
            format!(
                "'{text}' is not a key: write [KID:]ALG:FILE with HS256, RS256 or EdDSA for \
                 ALG, like 2026:EdDSA:/etc/myriad/issuer.pem"
            )
        };
        let (first, rest) = text.split_once(':').ok_or_else(wanted)?;
        let (kid, alg, file) = match Algorithm::from_name(first) {
            Some(alg) => (None, alg, rest),
            None => {
                let (name, file) = rest.split_once(':').ok_or_else(wanted)?;
                let alg = Algorithm::from_name(name).ok_or_else(wanted)?;
                (Some(first.to_owned()), alg, file)
            }
        };
        if file.is_empty() || kid.as_deref() == Some("") {
            return Err(wanted());
        }
        Ok(Self { kid, alg, file: PathBuf::from(file) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_with_and_without_its_name() {
        let key: KeyFile = "2026:EdDSA:/etc/k:1.pem".parse().unwrap();
        assert_eq!(key.kid.as_deref(), Some("2026"));
        assert_eq!(key.alg, Algorithm::EdDsa);
        assert_eq!(key.file, PathBuf::from("/etc/k:1.pem"));
        let key: KeyFile = "HS256:secret".parse().unwrap();
        assert_eq!((key.kid, key.alg), (None, Algorithm::Hs256));
    }

    #[test]
    fn a_key_that_is_none_is_refused_with_the_form_to_write() {
        for text in ["", "HS256", "HS256:", "a:b:c", "none:file", ":HS256:file", "hs256:file"] {
            let refusal = text.parse::<KeyFile>().unwrap_err();
            assert!(refusal.contains("[KID:]ALG:FILE"), "{text}: {refusal}");
        }
    }
}
