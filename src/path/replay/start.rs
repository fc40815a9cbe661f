//! A start's way from a log to tables, the same for the server, the simulation and the benchmark.

use super::{Replay, ReplayError};
use crate::log::{self, At, Record, RecoverError, Recovered, Report, Store, Visit};
use crate::path::{Rules, group};
use crate::state::Tables;
use crate::state::placement::Placement;

/// Why there are no tables.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log can't be read, or something that was durable is not there any more.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// What it holds does not fit.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

impl StartError {
    /// Whether something that was durable is damaged or gone.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        use ReplayError::{CutImage, Missing, MissingInGroup};
        matches!(
            self,
            Self::Recover(RecoverError::Corrupt(_))
                | Self::Replay(CutImage | Missing { .. } | MissingInGroup { .. })
        )
    }
}

/// Reads the log in `store` into `tables`, one per shard, and shows each record to `seen`. Every
/// segment that holds waiting mail is there then. Changes nothing on the disk but, if need be,
/// makes a segment.
///
/// # Errors
/// [`StartError`]; the tables are of no use then.
pub fn start<S: Store>(
    store: S,
    settings: &log::Settings,
    rules: &Rules,
    tables: &mut [Tables],
    seen: &mut dyn FnMut(&Record<'_>),
) -> Result<(Recovered<S>, Report), StartError> {
    let replay = Replay::new(Placement::new(tables.len()), rules);
    let mut start = Start { replay, tables, seen, outcome: Ok(()) };
    let (mut recovered, report) = log::recover_into(store, settings, &mut start)?;
    let Start { replay, tables, outcome, .. } = start;
    outcome?;
    replay.finish()?;
    group::replay::tell_homes(tables, Placement::new(tables.len()));
    for tables in &mut *tables {
        tables.inboxes.settle();
    }
    recovered.check_live(tables.iter().flat_map(|tables| tables.live.segments()))?;
    recovered.free_all_but(tables.iter().flat_map(|tables| tables.live.segments()));
    Ok((recovered, report))
}

struct Start<'a> {
    replay: Replay,
    tables: &'a mut [Tables],
    seen: &'a mut dyn FnMut(&Record<'_>),
    /// What went wrong first; nothing is replayed behind it.
    outcome: Result<(), ReplayError>,
}

impl Visit for Start<'_> {
    fn ahead(&mut self, records: &[(At, Record<'_>)]) {
        self.replay.ahead(self.tables, records);
    }

    fn record(&mut self, at: At, record: &Record<'_>) {
        (self.seen)(record);
        if self.outcome.is_ok() {
            self.outcome = self.replay.record(self.tables, at, record);
        }
    }
}
