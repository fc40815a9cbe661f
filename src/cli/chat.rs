//! `myriad chat`: the flags of the terminal client.

use std::path::PathBuf;

use clap::{Args, value_parser};

use super::Failure;
use crate::chat::{self, ChatOptions};
use crate::{auth, clock, limits};

/// The flags of `myriad chat`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("identity").required(true).multiple(true))]
pub(super) struct ChatFlags {
    /// The server: ws://HOST:PORT/v1/chat or tcp://HOST:PORT
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:7878/v1/chat")]
    server: String,
    /// A token from whoever runs the server; better in the environment, where others on this
    /// machine do not see it
    #[arg(
        long,
        value_name = "TOKEN",
        env = "MYRIAD_TOKEN",
        hide_env_values = true,
        group = "identity"
    )]
    token: Option<String>,
    /// Mint a token with this secret instead, for --user and --device
    #[arg(long, value_name = "FILE", group = "identity", requires = "user")]
    auth_secret_file: Option<PathBuf>,
    /// Who you are, with --auth-secret-file
    #[arg(long, value_name = "NUMBER",
          value_parser = value_parser!(u64).range(1..))]
    user: Option<u64>,
    /// Which of your devices this is, with --auth-secret-file
    #[arg(long, value_name = "NUMBER", default_value_t = 1,
          value_parser = value_parser!(u32).range(1..))]
    device: u32,
    /// The user to talk to at first
    #[arg(long, value_name = "USER", value_parser = value_parser!(u64).range(1..))]
    to: Option<u64>,
    /// Keep what is not sent yet in this file, and go on from there next time
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

pub(super) fn run(flags: ChatFlags) -> Result<(), Failure> {
    chat::run(options(flags)?).map_err(Failure::failed)
}

/// Finds out who is chatting: from the token, or from the flags a token is minted for.
fn options(flags: ChatFlags) -> Result<ChatOptions, Failure> {
    let (token, user, device) = match (flags.token, flags.auth_secret_file, flags.user) {
        // Both can only be given if the token is in the environment: the flag is meant.
        (_, Some(path), Some(user)) => {
            let secret = auth::read_secret(&path).map_err(Failure::refused)?;
            let now_s = clock::wall_ms() / 1000;
            let token = auth::mint(&secret, user, flags.device, limits::TOKEN_TTL_S, now_s);
            (token, user, flags.device)
        }
        (Some(token), _, _) => {
            let claims = auth::read_own(&token).map_err(|fault| {
                Failure::refused(format!("--token can't be used: {fault}; {}.", fault.advice()))
            })?;
            (token, claims.user, claims.device)
        }
        _ => return Err(Failure::refused("Give --token, or --auth-secret-file and --user.")),
    };
    let ChatFlags { server, to, state, .. } = flags;
    Ok(ChatOptions { server, token, user, device, to, state })
}
