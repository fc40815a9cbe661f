//! Tells the operator what the log can't do: once when it begins, once when it is over; and what
//! the host ran out of.
//!
//! Owner: the main thread, with each of its looks. A full disk is not an end: messages are refused,
//! acks make room, and the server goes on by itself; but nobody would know why without a word.

use crate::limits;
use crate::log::Outlook;
use crate::remedy;

/// See the module.
#[derive(Debug)]
pub(super) struct Teller {
    log: Outlook,
    full: Episode,
    unscrubbed: Episode,
    scarce: remedy::News,
}

impl Teller {
    pub(super) fn new(log: Outlook) -> Self {
        let scarce = remedy::News::default();
        Self { log, full: Episode::default(), unscrubbed: Episode::default(), scarce }
    }

    /// Looks, and says what is news. `now_ms` is of a monotonic clock.
    pub(super) fn look(&mut self, now_ms: u64) {
        for news in self.scarce.look(now_ms) {
            eprintln!("myriad: {news}");
        }
        match self.full.news(self.log.full(), now_ms) {
            Some(News::Began(why)) => eprintln!(
                "myriad: the log has no room: {why}. Messages are refused with disk_full; what \
                 waits is still delivered and acked. Free space on its disk, or raise \
                 log_bytes_max if that was reached; the server goes on by itself"
            ),
            Some(News::Ended) => eprintln!("myriad: the log has room again: messages are taken"),
            None => {}
        }
        match self.unscrubbed.news(self.log.unscrubbed(), now_ms) {
            Some(News::Began(why)) => eprintln!(
                "myriad: {why}. What was deleted or acked stays on the disk there until then; \
                 check the disk"
            ),
            Some(News::Ended) => eprintln!("myriad: freed segments are overwritten again"),
            None => {}
        }
    }
}

/// Something that begins and ends, and may do so often within a moment.
#[derive(Debug, Default)]
struct Episode {
    told: bool,
    /// Since when it has been over, if its end was not told yet.
    over_since_ms: Option<u64>,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum News {
    Began(String),
    Ended,
}

impl Episode {
    /// What is news, given how it is now. It has ended when it was over for a while.
    fn news(&mut self, now: Option<String>, now_ms: u64) -> Option<News> {
        match now {
            Some(why) => {
                self.over_since_ms = None;
                let told = std::mem::replace(&mut self.told, true);
                (!told).then_some(News::Began(why))
            }
            None if self.told => {
                let since_ms = *self.over_since_ms.get_or_insert(now_ms);
                let ended = now_ms.saturating_sub(since_ms) >= limits::LOG_CALM_MS;
                ended.then(|| {
                    *self = Self::default();
                    News::Ended
                })
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_told_once_at_its_beginning_and_once_when_it_is_over() {
        let mut episode = Episode::default();
        let full = || Some("no room".to_owned());
        assert_eq!(episode.news(None, 0), None);
        assert_eq!(episode.news(full(), 20), Some(News::Began("no room".to_owned())));
        assert_eq!(episode.news(full(), 40), None);
        // Room for a moment, as on a disk that acks empty bit by bit.
        assert_eq!(episode.news(None, 60), None);
        assert_eq!(episode.news(full(), 80 + limits::LOG_CALM_MS), None);
        assert_eq!(episode.news(None, 100_000), None);
        assert_eq!(episode.news(None, 100_000 + limits::LOG_CALM_MS - 1), None);
        assert_eq!(episode.news(None, 100_000 + limits::LOG_CALM_MS), Some(News::Ended));
        assert_eq!(episode.news(None, 900_000), None);
        assert_eq!(episode.news(full(), 900_001), Some(News::Began("no room".to_owned())));
    }
}
