//! Why the terminal client stops.

use std::io;

use wire::Parting;

use super::{AccountError, state_file};

/// Why the client stopped.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The address can't be used.
    #[error(transparent)]
    Address(#[from] client::AddressError),
    /// Terminal or poll failed.
    #[error("the terminal failed: {0}")]
    Terminal(#[from] io::Error),
    /// The state file can't be used.
    #[error(transparent)]
    State(#[from] state_file::StateError),
    /// The server does not want this client back.
    #[error("the server said goodbye ({}): {}", .reason.name(), .reason.advice())]
    Goodbye {
        /// Why.
        reason: Parting,
    },
    /// The account can't be used.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The token is another user's.
    #[error("the token is for user {user}, device {device}; give --user and --device to match")]
    Stranger {
        /// Whose it is.
        user: u64,
        /// Which device's.
        device: u32,
    },
    /// The input ended before everything was answered.
    #[error("{0} messages were not sent; with --state FILE they would leave next time")]
    Unsent(usize),
}
