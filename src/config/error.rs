//! Why a configuration is refused: whole sentences that end with what to do about it.
//!
//! Nothing here is seen by a peer; these are words to an operator at start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a configuration is refused. Its text names the place, the fault and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can't be read.
    #[error(
        "The configuration file {path} can't be read: {cause}. Name an existing, readable file \
         with --config, or leave the flag out to run on flags, environment and defaults."
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file is too large to be a configuration.
    #[error(
        "The configuration file {path} is larger than {bytes_max} bytes, so it is hardly one. \
         Name the right file with --config."
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read, in bytes.
        bytes_max: u64,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error(
        "The configuration file {path} is not usable: {detail}. Compare it with what \
         `myriad config example` prints."
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        detail: String,
    },
    /// A key or variable nobody knows.
    #[error("{place} sets {key}, which is no setting.{hint} {known}")]
    UnknownKey {
        /// Where it stands.
        place: String,
        /// The key as written.
        key: String,
        /// The nearest known key as a question, or nothing.
        hint: String,
        /// The sentence with every known key.
        known: String,
    },
    /// A setting that is a flag and nothing else.
    #[error(
        "{place} sets {key}, which is for one start and only ever a flag: it says that somebody \
         has looked at the clock today. Take it out there and start once with {flag}."
    )]
    FlagOnly {
        /// Where it stands.
        place: String,
        /// The key.
        key: String,
        /// The flag.
        flag: String,
    },
    /// A variable whose value can't be read.
    #[error("The environment variable {variable} is not usable: {detail}. Correct or unset it.")]
    Variable {
        /// The variable.
        variable: String,
        /// What is wrong with its value.
        detail: String,
    },
    /// A value that can't be used at all.
    #[error("{key} is not usable: {detail}.")]
    Unusable {
        /// The key.
        key: &'static str,
        /// What is wrong and what to write instead.
        detail: String,
    },
    /// A number beyond its bounds.
    #[error("{key} is {value}, but must be from {min} to {max}. Choose a number in between.")]
    OutOfRange {
        /// The key; its name carries the unit.
        key: &'static str,
        /// What was asked for.
        value: u64,
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// No data folder.
    #[error(
        "No data folder is set. Give --data DIR on a local disk; the folder is made if it does \
         not exist. (With --dev it is ./myriad-data by itself.)"
    )]
    NoData,
    /// No key to check tokens with.
    #[error(
        "No key to check tokens with is set. Give --auth-secret-file FILE \
         (`openssl rand -hex 32 > FILE` makes one), auth_keys or auth_jwks_file, keep accounts \
         with --directory, or try things out with --dev."
    )]
    NoKey,
    /// `--dev` on an address others can reach.
    #[error(
        "--dev is for this machine only, but {listen} can be reached from others. Listen on \
         127.0.0.1 or [::1], or leave --dev out and give --auth-secret-file."
    )]
    DevOffLoopback {
        /// The address asked for.
        listen: SocketAddr,
    },
    /// `--dev` together with keys.
    #[error(
        "--dev makes a fresh secret by itself, but auth_secret_file, auth_keys or auth_jwks_file \
         is set as well. Leave one of the two out."
    )]
    DevWithKeys,
    /// Plaintext on an address others can reach.
    #[error(
        "{listen} can be reached from other machines, and this server speaks plaintext. Listen \
         on 127.0.0.1 or [::1] behind something that terminates TLS, or accept that anybody on \
         the way can read and change everything by giving --allow-plaintext."
    )]
    PlaintextOffLoopback {
        /// The address asked for.
        listen: SocketAddr,
    },
    /// The io_uring driver is for Linux.
    #[error("The driver uring needs Linux. Use --driver ready, or auto, which picks it.")]
    UringIsLinux,
}
