//! `myriad chat`: the flags of the terminal client.

use std::path::{Path, PathBuf};
use std::{env, fs};

use clap::{Args, value_parser};

use super::Failure;
use crate::chat::{self, Account, AccountOptions, ChatOptions};
use crate::{auth, clock, limits};

/// Where the HTTP API listens if the operator follows the documentation.
const DEFAULT_API: &str = "http://127.0.0.1:7880";

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
    /// Log in with the account of this name instead: asks for its password once, and keeps the
    /// login in --home
    #[arg(long, value_name = "NAME", group = "identity", conflicts_with = "auth_secret_file")]
    name: Option<String>,
    /// Make the account first
    #[arg(long, requires = "name")]
    register: bool,
    /// The code that lets you register, where the operator asks for one
    #[arg(long, value_name = "CODE", env = "MYRIAD_INVITE", hide_env_values = true)]
    invite: Option<String>,
    /// Read the password from this file (its first line) instead of asking; or from MYRIAD_PASSWORD
    #[arg(long, value_name = "FILE", requires = "name")]
    password_file: Option<PathBuf>,
    /// The server's HTTP API, for --name
    #[arg(long, value_name = "URL", default_value = DEFAULT_API)]
    api: String,
    /// Where logins and states of accounts are kept [default: .myriad in your home folder]
    #[arg(long, value_name = "FOLDER", env = "MYRIAD_HOME")]
    home: Option<PathBuf>,
    /// Mint a token with this secret instead, for --user and --device
    #[arg(long, value_name = "FILE", group = "identity", requires = "user")]
    auth_secret_file: Option<PathBuf>,
    /// Who you are, with --auth-secret-file
    #[arg(long, value_name = "NUMBER", conflicts_with = "name",
          value_parser = value_parser!(u64).range(1..))]
    user: Option<u64>,
    /// Which of your devices this is, with --auth-secret-file
    #[arg(long, value_name = "NUMBER", default_value_t = 1,
          value_parser = value_parser!(u32).range(1..))]
    device: u32,
    /// Whom to talk to at first: a user's number, with --name a user's name, or a group (#number)
    #[arg(long, value_name = "WHOM")]
    to: Option<String>,
    /// Keep what is not sent yet in this file, and go on from there next time
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

pub(super) fn run(flags: ChatFlags) -> Result<(), Failure> {
    chat::run(options(flags)?).map_err(Failure::failed)
}

/// Finds out who is chatting: from the token, or from the flags a token is minted for.
fn options(flags: ChatFlags) -> Result<ChatOptions, Failure> {
    if flags.name.is_some() {
        return with_account(flags);
    }
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
        _ => {
            let ways = "Give --name, or --token, or --auth-secret-file and --user.";
            return Err(Failure::refused(ways));
        }
    };
    let ChatFlags { server, to, state, .. } = flags;
    Ok(ChatOptions { server, token, user, device, to, state, account: None })
}

/// Logs in with an account.
fn with_account(flags: ChatFlags) -> Result<ChatOptions, Failure> {
    let home = flags.home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".myriad")));
    let home = home.ok_or_else(|| Failure::refused("There is no HOME: give --home FOLDER."))?;
    let password = match &flags.password_file {
        Some(path) => Some(first_line(path)?),
        None => env::var("MYRIAD_PASSWORD").ok(),
    };
    let account = Account::open(AccountOptions {
        api: flags.api,
        name: flags.name.unwrap_or_default(),
        register: flags.register,
        invite: flags.invite,
        password,
        home,
    });
    let account = account.map_err(Failure::failed)?;
    let login = account.login();
    Ok(ChatOptions {
        server: flags.server,
        token: login.access.clone(),
        user: login.user,
        device: login.device,
        to: flags.to,
        state: Some(flags.state.unwrap_or_else(|| account.state_path())),
        account: Some(account),
    })
}

fn first_line(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::refused(format!("{} can't be read: {error}", path.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
