//! The HTTP API: its address is taken before anything runs, its requests when all else does.

use super::{ServeError, directory, shards};
use crate::api::{Api, Parts, Settings, Webhook};
use crate::auth::{self, Keys};
use crate::config::{ApiConfig, Config};
use crate::io::socket;
use crate::limits;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

/// An address that is taken, with what the API needs to know.
pub(super) struct Door {
    listener: TcpListener,
    settings: Settings,
}

impl Door {
    /// Takes the address, if there is to be an API.
    pub(super) fn open(config: &Config) -> Result<Option<Self>, ServeError> {
        let Some(listen) = config.api.listen else { return Ok(None) };
        let settings = settings(&config.api)?;
        let fail = |error| ServeError::Listen(listen, error);
        let mut bound = socket::bind_group(listen, 1, limits::API_BACKLOG).map_err(fail)?;
        Ok(bound.pop().map(|listener| Self { listener, settings }))
    }
}

/// Begins to serve, now that there is somebody to ask.
pub(super) fn start(
    door: Option<Door>,
    accounts: Option<&directory::Open>,
    shards: &shards::Running,
    keys: Arc<Keys>,
) -> Result<Option<Api>, ServeError> {
    // A configuration with an API and without a directory is refused.
    let (Some(Door { listener, settings }), Some(accounts)) = (door, accounts) else {
        return Ok(None);
    };
    let parts = Parts {
        directory: accounts.threads.directory(),
        desk: shards.desk().clone(),
        keys,
        pressures: shards.pressures().to_vec(),
    };
    Api::start(listener, settings, parts).map(Some).map_err(ServeError::Thread)
}

fn settings(config: &ApiConfig) -> Result<Settings, ServeError> {
    let admin_token = config.admin_token_file.as_deref().map(token).transpose()?;
    let webhook = match (&config.webhook, &config.webhook_secret_file) {
        (Some(to), Some(file)) => Some(Webhook { to: to.clone(), secret: token(file)? }),
        _ => None,
    };
    let (access_log, behind_proxy) = (config.access_log, config.behind_proxy);
    Ok(Settings { access_log, behind_proxy, admin_token, webhook })
}

/// A secret of the operator's, as long as the other ones.
fn token(path: &Path) -> Result<Vec<u8>, ServeError> {
    let told = |error: auth::KeyError| ServeError::Token(path.to_owned(), error.to_string());
    auth::read_secret(path).map_err(told)
}
