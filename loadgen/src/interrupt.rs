//! Ctrl-C and SIGTERM ask for an end instead of forcing one, so that child processes and
//! temporary folders are cleaned up on the way out.
//!
//! Owner: the process; the flag is set by a signal and read by every loop that waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Listens for the signals from now on. Without this call they end the process as usual.
///
/// # Errors
/// The host refuses the handlers.
pub fn listen() -> std::io::Result<()> {
    let flag = REQUESTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one of a kind ends the process at once.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(flag))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// Whether an end was asked for.
#[must_use]
pub fn requested() -> bool {
    REQUESTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}
