//! (room not yet furnished)

use std::path::PathBuf;

/// What the terminal client needs to know.
#[derive(Clone, Debug)]
pub struct ChatOptions {
    /// Where the server is.
    pub server: String,
    /// The token to log in with.
    pub token: String,
    /// The user the token is for.
    pub user: u64,
    /// The device the token is for.
    pub device: u32,
    /// Whom to talk to at first.
    pub to: Option<u64>,
    /// Where to keep the outbox.
    pub state: Option<PathBuf>,
}

/// Why the client stopped.
#[derive(Debug, thiserror::Error)]
#[error("the terminal client is not part of this build")]
pub struct ChatError;

/// Runs the client.
///
/// # Errors
/// Always, yet.
pub fn run(options: ChatOptions) -> Result<(), ChatError> {
    drop(options);
    Err(ChatError)
}
