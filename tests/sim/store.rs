//! The one place where the simulation opens a log: for a start, for the end, for a backup.

use std::sync::Arc;

use myriad::log::{self, Committer, Record, SharedMemory, Stage, Wake};
use myriad::path::replay;
use myriad::state::Tables;
use myriad::state::placement::Placement;

/// Shards that never sleep need no waking.
struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

/// A log that runs.
pub(crate) struct OpenLog {
    /// A stage per shard.
    pub(crate) stages: Vec<Stage>,
    /// The other end.
    pub(crate) committer: Committer<SharedMemory>,
    /// The epoch of this start.
    pub(crate) epoch: u32,
}

/// Recovers the log on `disk` into `tables`, one per shard, and opens it. `seen` gets every record.
/// Fails as a real start would; the disk is as it was then.
pub(crate) fn open(
    disk: &SharedMemory,
    settings: &log::Settings,
    tables: &mut [Tables],
    wall_ms: u64,
    seen: &mut dyn FnMut(&Record<'_>),
) -> Result<OpenLog, String> {
    let placement = Placement::new(tables.len());
    let mut fits = Ok(());
    let (recovered, _) = log::recover(disk.clone(), settings, &mut |at, record| {
        seen(record);
        if fits.is_ok() {
            fits = replay::record(tables, placement, at, record);
        }
    })
    .map_err(|error| error.to_string())?;
    fits.map_err(|error| error.to_string())?;
    let epoch = log::next_epoch(recovered.highest_epoch, wall_ms);
    let wakes = tables.iter().map(|_| Arc::new(Awake) as Arc<dyn Wake>).collect();
    let (stages, committer) = recovered.start(epoch, wakes).map_err(|error| error.to_string())?;
    Ok(OpenLog { stages, committer, epoch })
}

/// Reads everything that a start would believe, and changes nothing. Gives the highest epoch.
pub(crate) fn read(
    disk: &SharedMemory,
    settings: &log::Settings,
    seen: &mut dyn FnMut(&Record<'_>),
) -> Result<u32, String> {
    let copy = disk.fork();
    copy.set_faults(log::Faults::default());
    log::recover(copy, settings, &mut |_, record| seen(record))
        .map(|(recovered, _)| recovered.highest_epoch)
        .map_err(|error| error.to_string())
}
