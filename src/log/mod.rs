//! The append log: what makes `Sent` true.
//!
//! ```text
//!  shard a: Stage ==batches==>\                          /==> FileStore (segments, pwrite, sync)
//!  shard b: Stage ==batches==> >  Committer (one thread) ====> SharedMemory (tests, simulation)
//!           Stage <=placed====/
//!           Reader: records back by their place (`MapReader` maps segments read-only)
//! ```
//!
//! Read in this order: `record` and `format` (bytes; `docs/log-format.md` is their specification),
//! `store` (the disk as the log sees it), `staging` (a shard's end), `room` (why an append that was
//! granted cannot fail for want of space), `commit` (the other end), `cycle`, `checkpoint` and
//! `reclaim` (what a restart may skip, and what nobody needs), `scan`, `recovery` and `reopen`
//! (what a restart believes), `reader` and `map` (reading back), `follow` and `pins` (reading
//! along), `inspect`, `gaps`, `verify`, `repair` and `copy` (for people). `head` and `look` read
//! what lies in a segment for all of these, `people` names places.
//!
//! Owner threads: a `Stage` and a `Reader` belong to a shard, the `Committer` to the committer
//! thread, `recover` runs before either. Nothing here reads a clock except [`run_committer`].
//!
//! Invariants
//! - A batch is announced by [`Stage::committed`] only after its commit was written and synced.
//! - One commit at a time: commit n is written after commit n - 1 was synced.
//! - A page that was synced is never written again, except by the repair described in `recovery`.
//! - [`Refused::Full`] is said before anything was staged, never after.
//! - After a failed write or sync nothing is announced any more.
//! - A segment is freed only after the commit that says so is durable, and overwritten then.
//!
//! Deliberately not here: what a record means, and so what is live; shards say so (`cycle`).

mod bell;
mod bytes;
mod checkpoint;
mod commit;
mod copy;
mod cycle;
mod file;
mod follow;
mod format;
mod fuzz;
mod gaps;
mod head;
mod inspect;
mod look;
mod make;
mod map;
mod memory;
#[cfg(all(test, feature = "models"))]
mod models;
mod pages;
mod partition;
mod people;
mod pins;
mod reader;
mod reclaim;
mod record;
mod recovery;
mod reopen;
mod repair;
mod report;
mod room;
mod salvage;
mod scan;
mod segment;
mod settings;
mod spare;
mod staging;
mod store;
mod thread;
mod verify;
mod whole;

pub use bell::Bell;
pub use checkpoint::{CHECKPOINT_BEGIN, CHECKPOINT_COMPLETE, CHECKPOINT_END, CHECKPOINT_IMAGE};
pub use commit::{Committer, Step};
pub use copy::{Copied, CopyError, copy_commits};
pub use cycle::{Live, LiveReport, Phase};
pub use file::{FileStore, OpenError, RESTORING, segment_file_name};
pub use follow::{Durable, FollowError, Follower};
pub use format::{COMMIT_HEAD_BYTES, FIRST_COMMIT, FORMAT_VERSION, MAGIC, next_epoch};
pub use fuzz::fuzz_recover;
pub use inspect::{Filter, InspectError, inspect};
pub use map::MapReader;
pub use memory::{Faults, MemoryStore, SharedMemory};
pub use partition::{PARTITIONS, partition_of};
pub use people::Position;
pub use pins::{Pin, Pins};
pub use reader::{Reader, StoreReader};
pub use record::{
    At, Kind, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, RELATION_BYTES, Record, Relation,
    STREAM_GROUP, STREAM_USER, encoded_bytes,
};
pub use recovery::{Recovered, recover, recover_into};
pub use repair::{MendError, Mended, bury, left_out, mend};
pub use report::{Corrupt, RecoverError, Report};
pub use room::Outlook;
pub use salvage::Lost;
pub use settings::Settings;
pub use staging::{Health, Lane, Placed, Refused, Stage, Ticket, Wake};
pub use store::{Creator, Store};
pub use thread::{Written, run_committer};
pub use verify::{Finding, VerifyReport, replayed, unreadable, verify};
pub use whole::Visit;
