//! The directory's place in the server's life: it opens before the shards' tables are final, hands
//! over what they need to know, and ends after the shards.

use super::ServeError;
use crate::auth::{Keys, OwnKey};
use crate::clock::wall_ms;
use crate::config::Config;
use crate::directory::{Clock, Options, Rules, Threads, is_there};
use crate::shard::Desk;
use crate::state::Tables;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where it lives in the data folder.
pub(super) const FOLDER: &str = "directory";
/// The key that signs access tokens, in that folder.
pub(super) const KEY: &str = "token-key";

/// A directory that is open, and whose key is among those that check tokens.
pub(super) struct Open {
    pub(super) threads: Threads,
}

impl Open {
    /// Opens it, if this server keeps one, adds its key to `keys`, and hands over to `tables` what
    /// shards need to know.
    pub(super) fn start(
        config: &Config,
        keys: Keys,
        tables: &mut [Tables],
    ) -> Result<(Option<Self>, Keys), ServeError> {
        let folder = folder(&config.data);
        let wanted = config.api.listen.is_some() || is_there(&folder);
        if !config.directory.unwrap_or(wanted) {
            return Ok((None, keys));
        }
        let own = OwnKey::open(&folder.join(KEY))
            .map_err(|error| ServeError::Directory(error.to_string()))?;
        let keys = keys.and_own(&own);
        let rules = Rules {
            registration: config.registration,
            users_max: config.users_max as u64,
            access_s: config.access_token_s,
            foreign: config.has_operator_keys(),
            webhook: config.api.webhook.is_some(),
            own,
        };
        let clock: Clock = Arc::new(|| wall_ms() / 1_000);
        let password_threads = config.password_threads;
        let threads = Threads::start(Options { folder, rules, password_threads, clock })
            .map_err(|error| ServeError::Directory(error.to_string()))?;
        let open = Self { threads };
        open.fill(tables)?;
        Ok((Some(open), keys))
    }

    /// Hands over what shards need to know: nobody can connect yet.
    fn fill(&self, tables: &mut [Tables]) -> Result<(), ServeError> {
        let filled = self
            .threads
            .fill(tables, wall_ms() / 1_000)
            .map_err(|error| ServeError::Directory(error.to_string()))?;
        if filled.users > 0 {
            eprintln!(
                "myriad: the directory knows {} users with {} contacts and blocks",
                filled.users, filled.ties
            );
        }
        Ok(())
    }

    /// From now on shards are told of changes.
    pub(super) fn hang(&self, desk: &Desk) {
        let desk = desk.clone();
        self.threads.hang(Box::new(move |order, reply| desk.send(order, reply)));
    }
}

/// The directory's folder in a data folder.
pub(super) fn folder(data: &Path) -> PathBuf {
    data.join(FOLDER)
}
