//! (room not yet furnished)

use crate::auth::Keys;
use crate::config::Config;

/// Why the server stopped.
#[derive(Debug, thiserror::Error)]
#[error("the server is not part of this build")]
pub struct ServeError;

/// Serves until told to stop.
///
/// # Errors
/// Always, yet.
pub fn run(config: Config, keys: Keys) -> Result<(), ServeError> {
    drop((config, keys));
    Err(ServeError)
}
