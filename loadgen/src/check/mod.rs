//! A conversation that shows that a server works: played against a real process, told in lines a
//! person can read, judged at every step.
//!
//! Deliberately not here: load ([`crate::crash`], [`crate::bench`]).

mod accounts;
mod moves;
mod script;

use std::path::PathBuf;
use std::time::Instant;

use client::{AddressError, ClientEvent};

use crate::peer::PeerError;
use crate::process::{Home, ProcessError, ServeOptions};

pub use script::STEPS;

/// What to check.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `myriad` binary.
    pub server_binary: PathBuf,
    /// `ws` or `tcp`.
    pub transport: String,
}

/// The first thing that was not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The server can't be started or stopped.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Something did not come.
    #[error("{what}: {source}")]
    Missing {
        /// What was waited for.
        what: String,
        /// What happened instead.
        source: Box<PeerError>,
    },
    /// The HTTP API refused.
    #[error("{what}: {source}")]
    Api {
        /// What was tried.
        what: String,
        /// What it said.
        source: client::api::ApiError,
    },
    /// Something came that must not.
    #[error("{what}: {seen}")]
    Wrong {
        /// What must hold.
        what: String,
        /// What was seen.
        seen: String,
    },
}

impl CheckError {
    fn wrong(what: &str, seen: impl std::fmt::Debug) -> Self {
        Self::Wrong { what: what.to_owned(), seen: format!("{seen:?}") }
    }
}

/// Plays the whole conversation and prints it on standard output.
///
/// # Errors
/// The first failure.
pub fn run(options: &Options) -> Result<(), CheckError> {
    let started = Instant::now();
    let home = Home::new()?;
    let serve = ServeOptions::new(&options.server_binary);
    let result = script::play(&serve, &options.transport, &home);
    let result = result.and_then(|()| accounts::play(&serve, &options.transport));
    if result.is_ok() {
        let seconds = started.elapsed().as_secs_f64();
        crate::say!("check passed: {STEPS} over {} in {seconds:.1} s", options.transport);
    } else {
        let log = home.log_tail();
        if !log.is_empty() {
            crate::say!("the server's last words:\n{log}");
        }
    }
    result
}

/// The text of a message event.
fn text(event: &ClientEvent) -> String {
    match event {
        ClientEvent::Message { payload, .. } | ClientEvent::OwnCopy { payload, .. } => {
            String::from_utf8_lossy(payload).into_owned()
        }
        _ => String::new(),
    }
}
