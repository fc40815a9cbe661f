//! `myriad token`: mints a token with the secret the server checks it with.

use std::path::PathBuf;

use clap::{Args, value_parser};

use super::{Failure, print};
use crate::{auth, clock, limits};

/// The flags of `myriad token`.
#[derive(Args, Debug)]
pub(super) struct TokenFlags {
    /// File with the HS256 secret the server was started with
    #[arg(long, value_name = "FILE", env = "MYRIAD_AUTH_SECRET_FILE")]
    auth_secret_file: PathBuf,
    /// The user the token speaks for
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u64).range(1..))]
    user: u64,
    /// The device of that user
    #[arg(long, value_name = "NUMBER", default_value_t = 1,
          value_parser = value_parser!(u32).range(1..))]
    device: u32,
    /// How long the token lasts (seconds, up to a year)
    #[arg(long, value_name = "SECONDS", default_value_t = limits::TOKEN_TTL_S,
          value_parser = value_parser!(u64).range(1..=limits::TOKEN_TTL_S_MAX))]
    ttl_s: u64,
}

pub(super) fn run(flags: &TokenFlags) -> Result<(), Failure> {
    let secret = auth::read_secret(&flags.auth_secret_file).map_err(Failure::refused)?;
    let now_s = clock::wall_ms() / 1000;
    let token = auth::mint(&secret, flags.user, flags.device, flags.ttl_s, now_s);
    print(&format!("{token}\n"))
}
