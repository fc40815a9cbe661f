//! Whether the wall clock is believed at a start: one that is far ahead of the log must not end
//! everybody's mail and history.
//!
//! Owner: the main thread, at start. What is stored while the clock is not believed carries its
//! time and would vouch for it at the next start. So the newest time before that stays in a file
//! of the data folder until the clock is believed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::limits;

/// The file in the data folder: milliseconds since 1970, in digits.
const FILE: &str = "clock-held";

/// Says whether nothing may expire. `newest_ms` is the newest time in the log, if there is any
/// record; `confirmed`: the operator says that `now_ms` is right.
pub(super) fn holds(data: &Path, newest_ms: Option<u64>, confirmed: bool, now_ms: u64) -> bool {
    let path = data.join(FILE);
    // A torn number says too early a time, one that can't be read the earliest: then it is held.
    let before_ms = match fs::read_to_string(&path) {
        Ok(text) => Some(text.trim().parse().unwrap_or(0)),
        Err(_) => None,
    };
    let newest_ms = newest_ms.map(|newest_ms| newest_ms.min(before_ms.unwrap_or(newest_ms)));
    let ahead_ms = newest_ms.map_or(0, |newest_ms| now_ms.saturating_sub(newest_ms));
    let held = ahead_ms > limits::CLOCK_AHEAD_MS_MAX && !confirmed;
    if held {
        eprintln!(
            "myriad: the clock is {} hours ahead of the newest record. Nothing expires until a \
             restart with --clock-confirmed says that the clock is right",
            ahead_ms / 3_600_000
        );
    }
    if let Err(error) = keep(&path, newest_ms.filter(|_| held)) {
        eprintln!(
            "myriad: {}: {error}. The next start may believe a clock that this one does not: \
             make the data folder writable",
            path.display()
        );
    }
    held
}

fn keep(path: &Path, newest_ms: Option<u64>) -> io::Result<()> {
    match newest_ms {
        Some(newest_ms) => fs::write(path, format!("{newest_ms}\n")),
        None => match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID_MS: u64 = 1_793_664_000_000;
    const FAR_MS: u64 = limits::CLOCK_AHEAD_MS_MAX + 1;

    #[test]
    fn a_clock_far_ahead_of_the_log_is_not_believed_until_somebody_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        assert!(!holds(data, None, false, SAID_MS), "there is nothing that could end");
        assert!(!holds(data, Some(SAID_MS), false, SAID_MS + FAR_MS - 1));
        assert!(holds(data, Some(SAID_MS), false, SAID_MS + FAR_MS));
        // What was stored meanwhile has the time of that clock.
        let stored_ms = SAID_MS + FAR_MS + 5_000;
        assert!(holds(data, Some(stored_ms), false, stored_ms + 5_000));
        assert!(!holds(data, Some(stored_ms), true, stored_ms + 10_000), "it was confirmed");
        assert!(!holds(data, Some(stored_ms), false, stored_ms + 15_000), "and stays so");
    }

    #[test]
    fn a_clock_that_was_put_right_is_believed_and_a_torn_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        assert!(holds(data, Some(SAID_MS), false, SAID_MS + FAR_MS));
        assert!(!holds(data, Some(SAID_MS + FAR_MS), false, SAID_MS + 60_000));
        assert!(!data.join(FILE).exists());
        fs::write(data.join(FILE), "17936").unwrap();
        assert!(holds(data, Some(SAID_MS), false, SAID_MS + 1));
    }
}
