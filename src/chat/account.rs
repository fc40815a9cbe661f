//! Logging in with an account: registering, passwords, and what is kept so that a password is asked
//! for once.
//!
//! Invariant: a refresh token that was given out is on disk before the one it replaces is lost: it
//! is used once, and a device whose token nobody has any more has to log in with its password.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use client::api::{Api, ApiError, Login};
use serde::{Deserialize, Serialize};

use super::state_file;

/// How to log in with an account.
#[derive(Clone)]
pub struct AccountOptions {
    /// The HTTP API, such as `http://127.0.0.1:7880`.
    pub api: String,
    /// The account's name.
    pub name: String,
    /// Make the account first.
    pub register: bool,
    /// What the operator gave to whoever may register.
    pub invite: Option<String>,
    /// The password; asked for on the terminal if there is none and it is needed.
    pub password: Option<String>,
    /// Where logins and states are kept, a file per account.
    pub home: PathBuf,
}

impl std::fmt::Debug for AccountOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { api, name, register, home, .. } = self;
        f.debug_struct("AccountOptions")
            .field("api", api)
            .field("name", name)
            .field("register", register)
            .field("home", home)
            .finish_non_exhaustive()
    }
}

/// Why an account can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The server said no, or nothing.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The folder of logins can't be used.
    #[error("{path} can't be used: {source}. Name another folder with --home")]
    Home {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No password and nobody to ask.
    #[error(
        "{0} needs a password and there is no terminal to ask on; put it into the environment \
         (MYRIAD_PASSWORD) or a file (--password-file)"
    )]
    NoPassword(String),
    /// Somebody has that name.
    #[error("the name {0} is taken; if it is yours, leave --register out, else choose another")]
    Taken(String),
    /// A name that can be no file.
    #[error("{0} is no name of an account: 3 to 32 of a-z, 0-9, _ and ., not digits alone")]
    Name(String),
}

#[derive(Serialize, Deserialize)]
struct Kept {
    api: String,
    user: u64,
    device: u32,
    refresh: String,
}

/// An account that is logged in.
#[derive(Debug)]
pub struct Account {
    options: AccountOptions,
    api: Api,
    login: Login,
}

impl Account {
    /// Registers or logs in, with what was kept if that still holds.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub fn open(options: AccountOptions) -> Result<Self, AccountError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c);
        let name = options.name.to_lowercase();
        let digits = name.chars().all(|c| c.is_ascii_digit());
        if !(3..=32).contains(&name.len()) || !name.chars().all(plain) || digits {
            return Err(AccountError::Name(options.name));
        }
        let options = AccountOptions { name, ..options };
        let unusable = |source| AccountError::Home { path: options.home.clone(), source };
        let mut folder = fs::DirBuilder::new();
        folder.recursive(true).mode(0o700).create(&options.home).map_err(unusable)?;
        let api = Api::new(&options.api);
        let kept = read(&login_path(&options)).filter(|kept| kept.api == api.base());
        let login = log_in(&api, &options, kept)?;
        let account = Self { api: api.with_token(&login.access), options, login };
        account.keep()?;
        Ok(account)
    }

    /// Who and where.
    #[must_use]
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// The API, as this user.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// What the account is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Where the state of this device is kept.
    #[must_use]
    pub fn state_path(&self) -> PathBuf {
        let Login { user, device, .. } = self.login;
        self.options.home.join(format!("{}-{user}-{device}.state", self.options.name))
    }

    /// Gets the next token.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub fn renew(&mut self) -> Result<(), AccountError> {
        self.login = self.api.refresh(&self.login.refresh)?;
        self.api = self.api.with_token(&self.login.access);
        self.keep()
    }

    /// Logs this device out and forgets it.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub fn log_out(&self) -> Result<(), AccountError> {
        self.api.log_out()?;
        for path in [login_path(&self.options), self.state_path()] {
            let _was_never_there = fs::remove_file(path);
        }
        Ok(())
    }

    fn keep(&self) -> Result<(), AccountError> {
        let Login { user, device, refresh, .. } = &self.login;
        let (api, refresh) = (self.api.base().to_owned(), refresh.clone());
        let kept = Kept { api, user: *user, device: *device, refresh };
        let path = login_path(&self.options);
        serde_json::to_vec(&kept)
            .map_err(io::Error::from)
            .and_then(|bytes| state_file::replace(&path, &bytes))
            .map_err(|source| AccountError::Home { path, source })
    }
}

/// With the kept token if it still holds; else with the password.
fn log_in(api: &Api, options: &AccountOptions, kept: Option<Kept>) -> Result<Login, AccountError> {
    let label = "myriad chat";
    let AccountOptions { name, invite, register, .. } = options;
    if *register {
        let password = password(options)?;
        return api.register(name, &password, invite.as_deref(), label).map_err(|error| {
            let taken = matches!(&error, ApiError::Refused { code, .. } if code == "handle_taken");
            if taken { AccountError::Taken(name.clone()) } else { error.into() }
        });
    }
    let device = kept.as_ref().map(|kept| kept.device);
    if let Some(kept) = kept {
        match api.refresh(&kept.refresh) {
            Ok(login) => return Ok(login),
            // Spent, too old, or logged out elsewhere: the password tells who this is.
            Err(error) if matches!(error.status(), Some(400..=404)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let password = password(options)?;
    match api.log_in(name, &password, device, label) {
        // That device is none of the account's any more.
        Err(error) if device.is_some() && matches!(error.status(), Some(404 | 409 | 422)) => {
            Ok(api.log_in(name, &password, None, label)?)
        }
        result => Ok(result?),
    }
}

fn password(options: &AccountOptions) -> Result<String, AccountError> {
    if let Some(password) = &options.password {
        return Ok(password.clone());
    }
    if !io::stdin().is_terminal() {
        return Err(AccountError::NoPassword(options.name.clone()));
    }
    rpassword::prompt_password(format!("Password of {}: ", options.name))
        .map_err(|_| AccountError::NoPassword(options.name.clone()))
}

fn login_path(options: &AccountOptions) -> PathBuf {
    options.home.join(format!("{}.login", options.name))
}

/// What was kept; what can't be read counts as not kept, and the password is asked for.
fn read(path: &Path) -> Option<Kept> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
