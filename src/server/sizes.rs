//! How large tables are, per shard, and what the process's limit of files leaves of them.

use crate::config::{Config, Driver};
use crate::limits;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Sessions: the next one is told that the server is full.
    pub(crate) sessions_max: usize,
    /// Connections that have not said who they are.
    pub(crate) strangers_max: usize,
    /// So many of them are let in at a time.
    pub(crate) admitted_at_once_max: usize,
    /// Connections in all.
    pub(crate) conns_max: usize,
    pub(crate) users_max: usize,
    pub(crate) pairs_max: usize,
    /// Files the process may open.
    pub(crate) files: u64,
}

impl Sizes {
    /// Homes are dealt by hash: a shard may get an eighth more than its share.
    ///
    /// With readiness every connection is a file; with `io_uring` only strangers are. Where files
    /// are scarce there are fewer of both, so that the log always finds one for its next segment
    /// and whoever comes too late is told so.
    pub(crate) fn of(config: &Config, files: u64, driver: Driver) -> Self {
        let share = |all: usize| all.div_ceil(config.shards) * 9 / 8 + 64;
        let files_here = usize::try_from(files).unwrap_or(usize::MAX);
        let files_here =
            files_here.saturating_sub(limits::FILES_BESIDE_SESSIONS).max(4) / config.shards;
        let mut sessions_max = share(config.sessions_max);
        let mut strangers_max = limits::UNKNOWN_CONNS_MAX.min(sessions_max);
        let mut spare = limits::SPARE_CONNS;
        if driver == Driver::Ready {
            spare = spare.min(files_here / 8);
            strangers_max = strangers_max.min(files_here / 8);
            sessions_max = sessions_max.min(files_here - strangers_max - spare);
        } else {
            strangers_max = strangers_max.min(files_here / 4 * 3);
        }
        let (sessions_max, strangers_max) = (sessions_max.max(1), strangers_max.max(1));
        Self {
            sessions_max,
            strangers_max,
            admitted_at_once_max: limits::ADMITTED_AT_ONCE_MAX.min(strangers_max / 2).max(1),
            conns_max: sessions_max + strangers_max + spare,
            users_max: share(config.users_max),
            pairs_max: share(config.pairs_max),
            files,
        }
    }

    /// Sessions that the process can hold because of its files, if they are fewer than configured.
    pub(crate) fn short_of_files(&self, config: &Config) -> Option<usize> {
        let all = self.sessions_max * config.shards;
        (all < config.sessions_max).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Driver, Sizes};
    use crate::config::Settings;
    use crate::limits;

    fn sizes(sessions: usize, files: u64, driver: Driver) -> (Config, Sizes) {
        let settings = Settings {
            dev: Some(true),
            shards: Some(2),
            sessions_max: Some(sessions),
            ..Settings::default()
        };
        let config = Config::from_settings(&settings).unwrap();
        (config.clone(), Sizes::of(&config, files, driver))
    }

    #[test]
    fn with_files_enough_everybody_finds_a_place() {
        let (config, sizes) = sizes(100_000, 1_048_576, Driver::Ready);
        assert!(sizes.sessions_max * 2 >= 100_000);
        assert_eq!(sizes.strangers_max, limits::UNKNOWN_CONNS_MAX);
        assert_eq!(sizes.short_of_files(&config), None);
    }

    #[test]
    fn connections_never_take_the_files_of_the_log() {
        for files in [64, 300, 1_024, 20_000, 65_536] {
            let (_, sizes) = sizes(1_000_000, files, Driver::Ready);
            let taken = 2 * sizes.conns_max as u64;
            let left = files.saturating_sub(taken);
            let beside = (limits::FILES_BESIDE_SESSIONS as u64).min(files);
            assert!(left + 8 >= beside, "{files} files, {taken} taken");
            assert!(sizes.admitted_at_once_max >= 1);
        }
    }

    #[test]
    fn sessions_of_io_uring_are_not_bounded_by_files() {
        let (config, sizes) = sizes(1_000_000, 20_000, Driver::Uring);
        assert_eq!(sizes.short_of_files(&config), None);
        assert!(2 * sizes.strangers_max < 20_000);
    }
}
