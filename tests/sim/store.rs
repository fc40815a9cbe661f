//! The one place where the simulation opens a log: for a start, for the end, for a backup.

use std::sync::Arc;

use myriad::log::{
    self, Committer, Kind, Reader as _, Record, RecoverError, Recovered, SharedMemory, Stage,
    StoreReader, Wake,
};
use myriad::path::replay::{StartError, start};
use myriad::state::Tables;
use wire::MessageId;

use super::checks::Name;
use super::fast::{FastMap, FastSet};
use super::server::Setup;

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
    /// What the server remembers now.
    pub(crate) contents: Contents,
}

/// What a server that has just started remembers.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// What waits for some device, by stream and position; of each the message, if its record can
    /// be read.
    pub(crate) waiting: FastMap<(u64, u64), Option<MessageId>>,
    /// Messages whose senders have word waiting that they ended.
    pub(crate) noticed: FastSet<MessageId>,
    /// The devices.
    pub(crate) devices: FastSet<Name>,
    /// The highest epoch before the start.
    pub(crate) highest_epoch: u32,
}

/// Recovers the log on `disk` into `tables`, one per shard, and opens it. `seen` gets every record
/// that is read. Fails as a real start would; the disk is as it was then.
pub(crate) fn open(
    disk: &SharedMemory,
    setup: &Setup,
    tables: &mut [Tables],
    wall_ms: u64,
    seen: &mut dyn FnMut(&Record<'_>),
) -> Result<OpenLog, StartError> {
    disk.reopen();
    let recovered = recover(disk, setup, tables, seen)?;
    let highest_epoch = recovered.highest_epoch;
    let epoch = log::next_epoch(highest_epoch, wall_ms);
    let wakes = tables.iter().map(|_| Arc::new(Awake) as Arc<dyn Wake>).collect();
    let (stages, committer) = recovered
        .start(epoch, wakes)
        .map_err(|error| RecoverError::Io { what: "opening".to_owned(), error })?;
    let contents = contents(disk, tables, highest_epoch);
    Ok(OpenLog { stages, committer, epoch, contents })
}

/// Reads everything that a start would believe, and changes nothing.
pub(crate) fn read(
    disk: &SharedMemory,
    setup: &Setup,
    seen: &mut dyn FnMut(&Record<'_>),
) -> Result<Contents, StartError> {
    let copy = disk.fork();
    copy.set_faults(log::Faults::default());
    let mut tables = [Tables::new(64, 64, 1024)];
    let recovered = recover(&copy, setup, &mut tables, seen)?;
    Ok(contents(&copy, &tables, recovered.highest_epoch))
}

fn recover(
    disk: &SharedMemory,
    setup: &Setup,
    tables: &mut [Tables],
    seen: &mut dyn FnMut(&Record<'_>),
) -> Result<Recovered<SharedMemory>, StartError> {
    start(disk.clone(), &setup.log, &setup.rules, tables, seen).map(|(recovered, _)| recovered)
}

fn contents(disk: &SharedMemory, tables: &[Tables], highest_epoch: u32) -> Contents {
    let mut contents = Contents { highest_epoch, ..Contents::default() };
    let mut reader = StoreReader::new(disk.clone());
    for tables in tables {
        for index in 0..u32::try_from(tables.users.count()).unwrap_or(u32::MAX) {
            let user = tables.users.user(index);
            let device = |device| (user.id, tables.users.device(device).id);
            contents.devices.extend(tables.users.devices_of(index).map(device));
            let waiting = tables.inboxes.get(user.inbox).into_iter();
            for entry in waiting.flat_map(|inbox| inbox.after(0)) {
                let record = entry.at().and_then(|at| reader.read(at));
                let record = record.filter(|record| record.position == entry.position);
                let id = record.map(|record| {
                    let Record { sender, device, client_id, .. } = record;
                    let id = MessageId { sender, device, client_id };
                    if record.kind == Kind::Notice {
                        contents.noticed.insert(id);
                    }
                    id
                });
                contents.waiting.insert((user.id, entry.position), id);
            }
        }
    }
    contents
}
