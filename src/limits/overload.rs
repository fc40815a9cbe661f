//! Limits of what is done under too much load, at the end of memory, and at the end of the server.

/// How often a shard asks itself how it stands.
pub const OVERLOAD_LOOK_MS: u64 = 100;
/// A level rises by one step after so many looks in a row that want it higher: one turn that took
/// long (a page that had to be read, a neighbour on the core) is no overload.
pub const OVERLOAD_RISE_LOOKS: u32 = 2;
/// A level falls by one step after so long a time in which half of its threshold was not reached.
pub const OVERLOAD_CALM_MS: u64 = 2_000;
/// A turn with fewer frames, sends and stored messages that took all there was is short by itself
/// and not timed.
pub const OVERLOAD_TIMED_EVENTS: u64 = 64;
/// Behind by this, all the time: presence and typing are shed. People don't notice it yet.
pub const BUSY_LATE_MS: u64 = 20;
/// Behind by this: read receipts are delayed, heartbeats stretched. People begin to notice.
pub const STRAINED_LATE_MS: u64 = 60;
/// Behind by this: new sessions are refused. Those who are in have waited as long as a `Send` may
/// wait for a busy shard.
pub const FULL_LATE_MS: u64 = 200;
/// Share of the credits toward another shard in use, or of the batches for the log beyond the half
/// that a slow disk keeps busy: busy.
pub const BUSY_QUEUE_PERCENT: u64 = 75;
/// The same: strained. There is no such bound for new sessions: they need neither.
pub const STRAINED_QUEUE_PERCENT: u64 = 95;
/// A busy shard lets in a quarter as many strangers at a time: they wait in the kernel, for free.
pub const BUSY_DOOR_SHRINK: u32 = 2;
/// A strained one a sixteenth: 256, four turns of signatures to check.
pub const STRAINED_DOOR_SHRINK: u32 = 4;
/// A strained server asks for heartbeats so many times as far apart.
pub const HEARTBEAT_STRETCH: u64 = 4;
/// Sessions told of it from one look to the next at the most: each costs a send.
pub const HEARTBEATS_TOLD_PER_LOOK_MAX: usize = 1_024;
/// Read marks of a strained server wait so long for company.
pub const READS_DELAYED_MS: u64 = 2_000;
/// The least time between two lines about the level of the server.
pub const LEVEL_TELL_MS: u64 = 1_000;

/// What a client is told to wait after `overloaded`, at the least.
pub const RETRY_AFTER_MS: u32 = 1_000;
/// What a full server tells new sessions to wait, on top of the spread below.
pub const FULL_RETRY_MS: u32 = 4_000;
/// Those who are told to come back later are spread over so long a time.
pub const RETRY_SPREAD_MS: u32 = 1_000;
/// The same of a full server.
pub const FULL_RETRY_SPREAD_MS: u32 = 8_000;
/// Those who are told that the server stops come back to each shard at this rate at the most: half
/// of the logins it takes.
pub const RETURNS_PER_SECOND: u32 = 4_000;
/// The longest time over which they are spread.
pub const RETURN_SPREAD_MS_MAX: u32 = 120_000;
/// Sessions a shard says goodbye to in one turn of its end: their buffers serve the next ones.
pub const GOODBYES_PER_TURN_MAX: usize = 1_024;
/// Places of the table it looks at for that.
pub const GOODBYE_LOOKS_PER_TURN_MAX: usize = 64 * 1024;
/// How often a shard that ends says what it has counted.
pub const DRAIN_REPORT_MS: u64 = 100;

/// How often the server looks at its memory.
pub const MEMORY_LOOK_MS: u64 = 1_000;
/// What the kernel keeps for a session: socket, inode, file, dentry (docs/performance.md).
pub const KERNEL_BYTES_PER_SESSION: u64 = 4_096;
/// From this share of the ceiling on new sessions are refused,
pub const MEMORY_FULL_PERCENT: u64 = 90;
/// until below this.
pub const MEMORY_EASED_PERCENT: u64 = 85;
/// From this share on sessions are shed,
pub const MEMORY_SHED_PERCENT: u64 = 97;
/// until below this.
pub const MEMORY_SHED_UNTIL_PERCENT: u64 = 95;
/// So many per look: 1,000 sessions a second and shard, a quarter of what may come back.
pub const SHED_SESSIONS_PER_LOOK: usize = 100;
/// Places of the table one look goes through.
pub const SHED_PLACES_PER_LOOK: usize = 16 * 1024;
/// Those go first whose user did nothing for so long; half of it after each round of the table.
pub const SHED_IDLE_S: u64 = 3_600;
/// Users who did something so lately keep their sessions whatever happens.
pub const SHED_IDLE_S_MIN: u64 = 10;
/// Below this share of the ceiling in the process's own use its sessions are not the cause.
pub const MEMORY_OWN_PERCENT_MIN: u64 = 10;

const _: () = assert!(BUSY_LATE_MS < STRAINED_LATE_MS && STRAINED_LATE_MS < FULL_LATE_MS);
const _: () = assert!(BUSY_QUEUE_PERCENT < STRAINED_QUEUE_PERCENT);
const _: () = assert!(MEMORY_EASED_PERCENT < MEMORY_FULL_PERCENT);
const _: () = assert!(MEMORY_FULL_PERCENT < MEMORY_SHED_UNTIL_PERCENT);
const _: () = assert!(MEMORY_SHED_UNTIL_PERCENT < MEMORY_SHED_PERCENT);
