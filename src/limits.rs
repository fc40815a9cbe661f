//! Every cap, size, timeout and budget, with its unit in its name and its reason beside it.
//!
//! `config.rs` lets an operator change some of them and takes its defaults from here. Relations
//! between limits are asserted at compile time at the end of the file.

mod api;
mod directory;
mod groups;
mod history;
mod overload;
mod people;
mod tokens;

pub use api::*;
pub use directory::*;
pub use groups::*;
pub use history::*;
pub use overload::*;
pub use people::*;
pub use tokens::*;

// ---- the wire ------------------------------------------------------------------------------

/// Largest payload of one message. 64 KiB carries any text; media travels over HTTP.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// What a frame adds to its payload at the most: ids, relation, token (tokens are the largest).
pub const FRAME_OVERHEAD_BYTES_MAX: usize = 4 * 1024;
/// Largest frame a logged-in client may send.
pub const FRAME_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX;
/// All a connection may send before it is logged in: the HTTP upgrade and a `Hello`.
pub const HELLO_BYTES_MAX: usize = 8 * 1024;
/// Time from accept to a valid `Hello`.
pub const HELLO_TIMEOUT_MS: u64 = 10_000;
/// Connections a shard holds that have not said a valid `Hello`; the oldest makes room.
pub const UNKNOWN_CONNS_MAX: usize = 16 * 1024;
/// Of these a shard lets in so many at a time as long as they get on; others wait in the kernel.
/// Enough for 8,000 logins a second and shard from clients half a second away.
pub const ADMITTED_AT_ONCE_MAX: usize = 4 * 1024;
/// How often is asked whether those who were let in get on.
pub const ADMISSION_LOOK_MS: u64 = 1_000;
/// The same per source (an IPv4 address, an IPv6 /64).
pub const UNKNOWN_CONNS_PER_SOURCE_MAX: usize = 4 * 1024;
/// Bytes a client may send ahead of its `Welcome`; they travel with a session that moves home.
pub const SURPLUS_BYTES_MAX: usize = 4 * 1024;
/// Token signatures a shard checks in one turn (an HS256 check is a few microseconds).
pub const SIGNATURES_PER_TURN_MAX: usize = 64;
/// Tokens larger than this are refused unread.
pub const TOKEN_BYTES_MAX: usize = 2 * 1024;
/// Users one `WatchPresence` may name.
pub const WATCHED_USERS_MAX: usize = 64;
/// Peers one `AskReceipts` may name.
pub const ASKED_PEERS_MAX: usize = 256;

/// Connections waiting in the kernel to be accepted, per shard (bounded by `somaxconn`). As many as
/// there may be: whoever finds no place is dropped and tries again after seconds, and a kernel that
/// falls back to cookies resets those who waited too long.
pub const LISTEN_BACKLOG: u32 = 65_535;
/// Descriptors a server needs besides those of its sessions.
pub const FILES_BESIDE_SESSIONS: usize = 256;
/// Descriptors that no connection gets: the log must be able to open its next segment.
pub const FILES_RESERVED: u64 = 64;
/// How often the main thread looks for signals, dead shards and what the log has to say.
pub const MAIN_LOOK_MS: u64 = 20;
/// How often it looks during a drain, which it is to end at once.
pub const DRAIN_LOOK_MS: u64 = 2;
/// Pause before the operator is told again that the host is out of the same thing.
pub const SCARCE_SILENCE_MS: u64 = 60_000;
/// How often a side thread looks for work that nobody rang for.
pub const SIDE_LOOK_MS: u64 = 100;
/// Tokens waiting for the thread that checks slow signatures.
pub const CHECKS_WAITING_MAX: usize = 16 * 1024;

// ---- sessions ------------------------------------------------------------------------------

/// Devices per user; a ninth drops the one seen longest ago.
pub const DEVICES_PER_USER_MAX: usize = 8;
/// Heartbeat interval told to a client unless configured.
pub const HEARTBEAT_MS: u64 = 5_000;
/// Bounds of the configurable heartbeat interval.
pub const HEARTBEAT_MS_MIN: u64 = 1_000;
/// See [`HEARTBEAT_MS_MIN`].
pub const HEARTBEAT_MS_MAX: u64 = 300_000;
/// A client silent for this many halves of its interval is closed (5 halves: 2.5 intervals).
pub const SILENT_HALF_INTERVALS: u64 = 5;
/// Sessions a process plans its tables for unless configured.
pub const SESSIONS_MAX: usize = 100_000;
/// Users a process keeps unless configured.
pub const USERS_MAX: usize = 1_000_000;
/// Shards per process.
pub const SHARDS_MAX: usize = 64;

// ---- flow control --------------------------------------------------------------------------

/// Un-acked messages per device and stream; the cumulative `Ack` is the credit.
pub const UNACKED_MESSAGES_MAX: u32 = 64;
/// Un-acked payload bytes per device and stream (one message may always go).
pub const UNACKED_BYTES_MAX: u32 = 64 * 1024;
/// A device that acks nothing for so long while something is un-acked is closed.
pub const ACK_TIMEOUT_MS: u64 = 30_000;
/// Unconfirmed client ids per device: as many as `Confirmed.map` has bits.
pub const UNCONFIRMED_IDS_MAX: u64 = 64;
/// Bytes waiting to leave to one connection beyond which it is closed as too slow. Above the
/// un-acked window, so that only control traffic a client provokes and never reads gets there.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// Above this nothing more is read from the log for a connection, and presence and typing are
/// not told to it.
pub const OUTBOX_BYTES_HIGH: usize = 128 * 1024;
/// How long a frame may wait for a credit toward another shard before it is refused.
pub const CREDIT_WAIT_MS: u64 = 200;

/// Frames one session may send in a second; more is a broken or hostile client.
pub const FRAMES_PER_SECOND_MAX: u16 = 20_000;
/// How long a connection that was told goodbye may take to read it.
pub const LINGER_MS: u64 = 2_000;
/// Longest explanation in a `Goodbye`.
pub const DETAIL_BYTES_MAX: usize = 120;
/// What a `Renew` counts in that: a signature costs as much as very many frames.
pub const RENEW_COST_FRAMES: u16 = 1_000;
/// Sessions are looked at this often at least, whatever their deadlines say.
pub const LOOK_MS_MAX: u64 = 15_000;
/// Connections beyond the table that are kept just long enough to be told it is full.
pub const SPARE_CONNS: usize = 256;

// ---- quotas --------------------------------------------------------------------------------

/// Messages waiting in one inbox.
pub const INBOX_MESSAGES_MAX: u32 = 10_000;
/// Payload bytes waiting in one inbox.
pub const INBOX_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Messages of one sender waiting in one inbox.
pub const INBOX_MESSAGES_PER_SENDER_MAX: u32 = 2_000;
/// Payload bytes of one sender waiting in one inbox.
pub const INBOX_BYTES_PER_SENDER_MAX: u64 = 16 * 1024 * 1024;
/// Pairs (recipient, sender) whose marks a process remembers.
pub const PAIRS_MAX: usize = 4_000_000;

/// How long an un-acked message is kept unless configured: 30 days.
pub const RETENTION_S: u32 = 30 * 24 * 3600;
/// Bounds of the configurable retention.
pub const RETENTION_S_MIN: u32 = 60;
/// See [`RETENTION_S_MIN`].
pub const RETENTION_S_MAX: u32 = 365 * 24 * 3600;
/// How often mail that has waited too long is looked for.
pub const EXPIRY_LOOK_MS: u64 = 500;
/// Users looked at, and messages given up, per look.
pub const EXPIRED_PER_LOOK_MAX: usize = 256;
/// Records a shard remembers that are nobody's any more while the log has no room to say so; then
/// nothing further is given up, and messages that delete others are refused.
pub const BURIALS_MAX: usize = 4_096;
/// When to look again at a message that could not be read back.
pub const EXPIRY_RETRY_S: u32 = 3_600;
/// A wall clock further than this ahead of the newest record at the start is not believed: nothing
/// expires until the operator confirms it.
pub const CLOCK_AHEAD_MS_MAX: u64 = 24 * 3600 * 1000;
/// Messages of one sender that are read back to find the one to be deleted: all there may be.
pub const DELETE_LOOKS_MAX: usize = INBOX_MESSAGES_PER_SENDER_MAX as usize;

// ---- presence ------------------------------------------------------------------------------

/// User activity younger than this, plus 1.5 intervals of that client, shows "online".
pub const ONLINE_THRESHOLD_MS: u64 = 5_000;
/// A watch is a lease of this length.
pub const WATCH_LEASE_MS: u64 = 60_000;
/// Users a device may ask about in a minute, in `WatchPresence` and `AskReceipts` together; what
/// is above is dropped.
pub const QUESTIONS_PER_MINUTE_MAX: u16 = 4_096;
/// Watchers per user; further ones are not told of changes.
pub const WATCHERS_PER_USER_MAX: usize = 4_096;
/// Watches a shard keeps in all.
pub const WATCHES_PER_SHARD_MAX: usize = 1_000_000;
/// How often last-seen times reach the disk.
pub const LAST_SEEN_FLUSH_MS: u64 = 30_000;

/// How often changes of watched users are looked at.
pub const PRESENCE_LOOK_MS: u64 = 100;
/// How often all watched users are looked at: presence also ends by the passing of time.
pub const PRESENCE_SWEEP_MS: u64 = 1_000;
/// Questions about other users that wait for a credit; more are dropped (shed).
pub const ERRANDS_MAX: usize = 64 * 1024;

// ---- between shards ------------------------------------------------------------------------

/// Requests one shard may have under way to all others together.
pub const CREDITS_PER_SHARD: usize = 16 * 1024;
/// Requests one shard may have under way to another, at the most and at the least: the queues of
/// a process take shards x shards x 2 x credits x 64 bytes.
pub const CREDITS_PER_PAIR_MAX: usize = 4_096;
/// See [`CREDITS_PER_PAIR_MAX`].
pub const CREDITS_PER_PAIR_MIN: usize = 64;
/// Events one turn handles at the most.
pub const EVENTS_PER_TURN_MAX: usize = 4_096;
/// The receive area a shard shares among its connections.
pub const RECEIVE_BYTES: usize = 64 * 1024;
/// The longest a shard sleeps.
pub const SLEEP_MS_MAX: u64 = 1_000;
/// A turn this late is blamed on the server: deadlines of clients do not see the time beyond it.
pub const LATE_MS_MAX: u64 = 100;
/// Own copies that wait for room in a shard's staging ring; further ones are lost, and counted.
pub const COPIES_WAITING_MAX: usize = 4_096;
/// Letters from other shards one turn reads.
pub const LETTERS_PER_TURN_MAX: usize = 4_096;
/// Connections one turn looks at because a deadline may have come.
pub const EXPIRIES_PER_TURN_MAX: usize = 4_096;

// ---- the drivers ---------------------------------------------------------------------------

/// Slots of one ring of the `io_uring` driver, and never more than the process may have files: a
/// shard opens another ring when they are taken. The kernel finds what is to be cancelled in one of
/// 256 buckets per ring, so this bounds a close (128 steps).
pub const URING_SLOTS_MAX: u32 = 32 * 1024;
/// Entries of a ring's submission queue (64 bytes each); a fuller one is handed over early.
pub const URING_SUBMISSIONS: u32 = 512;
/// Entries of a ring's completion queue (16 bytes each). As many as give the 256 buckets above.
pub const URING_COMPLETIONS: u32 = 8 * 1024;
/// Receive areas of a shard: reads the kernel is asked for at once.
pub const URING_AREAS_MAX: usize = 64;
/// From this cost of a system call on `auto` takes the `io_uring` driver. One message costs two to
/// three of them with readiness; gathering them costs about as much as this (docs/performance.md).
pub const URING_SYSCALL_NS_MIN: u64 = 250;
/// How long a shard that could not open another ring goes without trying again.
pub const URING_GROW_PAUSE_MS: u64 = 1_000;
/// Connections accepted in one turn at the most, so that a connection storm leaves time for those
/// who are already in.
pub const ACCEPTS_PER_TURN_MAX: usize = 512;
/// How long accepting rests when the system has no descriptor or memory for another connection.
pub const ACCEPT_PAUSE_MS: u64 = 100;
/// Full receive areas of input that an orderly close throws away at the most, so that what the
/// peer sent unasked does not turn the end of the stream into a reset.
pub const CLOSE_READS_MAX: usize = 4;
/// Sent bytes that the peer's host leaves un-acknowledged for so long end the connection (Linux;
/// elsewhere the system's own limit does, some minutes). Above [`ACK_TIMEOUT_MS`], which is the
/// rule for clients that live but do not answer.
pub const USER_TIMEOUT_MS: u64 = 60_000;

// ---- the log -------------------------------------------------------------------------------

/// Size of one segment of the log.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Share of a segment kept for acks and cursors when no new segment can be had (percent).
pub const RESERVE_PERCENT: u64 = 5;
/// Commits are padded to this, so that a page that was acknowledged is never written again.
pub const COMMIT_ALIGN_BYTES: usize = 4096;
/// A batch is handed to the committer when it has grown to this.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Batches a shard may have under way to the committer.
pub const BATCHES_PER_SHARD_MAX: usize = 64;
/// While as many of these are under way a checkpoint stages one piece per batch: all of them would
/// be filled by each checkpoint, and stay in memory for ever (16 MiB per shard).
pub const IMAGE_BATCHES_MAX: usize = 4;
/// Pause between the end of one commit and the start of the next.
pub const COMMIT_GAP_US: u64 = 1_000;
/// Largest commit: bounds what recovery holds in memory and how long a sync takes.
pub const COMMIT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How long a record nobody waits for (a cursor) may wait for company.
pub const COMMIT_LAZY_MS: u64 = 50;
/// The same on a full disk: each commit costs a page of the reserve.
pub const COMMIT_LAZY_FULL_MS: u64 = 1_000;
/// Room a shard takes from the common store at once, while there is plenty.
pub const ROOM_LEASE_BYTES: u64 = 64 * 1024;
/// Bytes of log after which the next checkpoint begins, in segments: a restart reads about so much
/// beside the checkpoint itself, and reclaim lags behind by about so much.
pub const CHECKPOINT_SEGMENTS: u64 = 4;
/// Pause between checkpoints that are made because something has to go from the disk.
pub const CHECKPOINT_GAP_MS: u64 = 60_000;
/// The same while no further segment can be had and senders wait for room. Doubles after each
/// checkpoint that freed nothing, up to [`CHECKPOINT_GAP_MS`]: each costs some of the reserve.
pub const CHECKPOINT_FULL_GAP_MS: u64 = 1_000;
/// The longest time between checkpoints: 6 hours.
pub const CHECKPOINT_MS_MAX: u64 = 6 * 3_600_000;
/// A segment this old is emptied even if most of it is waited for: what nobody waits for any more
/// is off the disk a day later, and a checkpoint or two.
pub const SCRUB_AGE_MS: u64 = 24 * 3_600_000;
/// How often the control thread looks whether somebody knocks.
pub const CONTROL_LOOK_MS: u64 = 100;
/// Longest request on the control socket: a path and its frame.
pub const CONTROL_LINE_BYTES_MAX: usize = 8 * 1024;
/// How long whoever opened the control socket may take to say what it wants.
pub const CONTROL_WAIT_MS: u64 = 2_000;
/// Largest manifest of a backup that is read: some hundred thousand files.
pub const MANIFEST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Segments with payloads that have to go which a checkpoint names for the next start: one page.
/// If there are more, the others are emptied when they are old.
pub const SCRUBS_NAMED_MAX: usize = 900;
/// Largest payload of one piece of an image.
pub const IMAGE_BYTES_MAX: usize = 32 * 1024;
/// Bytes of images (and of records copied forward) a shard stages in one turn at the most.
pub const IMAGE_BYTES_PER_TURN_MAX: usize = 128 * 1024;
/// Freed segments that are kept ready; beyond that they are removed.
pub const SPARE_SEGMENTS_MAX: usize = 4;
/// Pause before making a segment is tried again after it failed.
pub const SEGMENT_RETRY_MS: u64 = 1_000;
/// How long the log has to have room before it is said that it has again: near its end it has some
/// for a moment whenever somebody acks.
pub const LOG_CALM_MS: u64 = 5_000;
/// Segments a shard keeps mapped; beyond that the one with the lowest number goes.
pub const MAPPED_SEGMENTS_MAX: usize = 1_024;

// ---- what an operator may set --------------------------------------------------------------

/// Largest configuration file that is read.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Time a stopping server takes to answer what is under way, unless configured.
pub const DRAIN_MS: u64 = 5_000;
/// Bound of the configurable time to drain.
pub const DRAIN_MS_SETTING_MAX: u64 = 600_000;
/// Browser origins one server may list.
pub const ORIGINS_MAX: usize = 64;
/// Bound of the configurable `sessions_max`: some room above ten million.
pub const SESSIONS_SETTING_MAX: usize = 16 * 1024 * 1024;
/// Bound of the configurable `users_max`; their handles are 32 bits wide.
pub const USERS_SETTING_MAX: usize = 1024 * 1024 * 1024;
/// Bound of the configurable `pairs_max`.
pub const PAIRS_SETTING_MAX: usize = 1024 * 1024 * 1024;
/// Bound of the configurable message counts of an inbox.
pub const INBOX_MESSAGES_SETTING_MAX: u32 = 10_000_000;
/// Bound of the configurable bytes of an inbox.
pub const INBOX_BYTES_SETTING_MAX: u64 = 1024 * 1024 * 1024 * 1024;
/// Bounds of the configurable segment size; an offset in a segment is 32 bits wide.
pub const SEGMENT_BYTES_SETTING_MIN: u64 = 4 * 1024 * 1024;
/// See [`SEGMENT_BYTES_SETTING_MIN`].
pub const SEGMENT_BYTES_SETTING_MAX: u64 = 1024 * 1024 * 1024;
/// A capped log needs at least so many segments: one written, one prepared, one being left.
pub const LOG_SEGMENTS_MIN: u64 = 3;
/// Bound of the configurable pause between commits.
pub const COMMIT_GAP_US_SETTING_MAX: u64 = 1_000_000;

const _: () = assert!(HEARTBEAT_MS >= HEARTBEAT_MS_MIN && HEARTBEAT_MS <= HEARTBEAT_MS_MAX);
const _: () = assert!(SESSIONS_MAX <= SESSIONS_SETTING_MAX && USERS_MAX <= USERS_SETTING_MAX);
const _: () = assert!(PAIRS_MAX <= PAIRS_SETTING_MAX && DRAIN_MS <= DRAIN_MS_SETTING_MAX);
const _: () = assert!(INBOX_MESSAGES_MAX <= INBOX_MESSAGES_SETTING_MAX);
const _: () = assert!(INBOX_BYTES_MAX <= INBOX_BYTES_SETTING_MAX);
const _: () = assert!(SEGMENT_BYTES_SETTING_MIN > 8 * BATCH_BYTES_MAX as u64);
const _: () = assert!(SEGMENT_BYTES_SETTING_MAX < u32::MAX as u64);
const _: () = assert!(COMMIT_GAP_US <= COMMIT_GAP_US_SETTING_MAX);
const _: () = assert!(TOKEN_BYTES_MAX < HELLO_BYTES_MAX && SURPLUS_BYTES_MAX <= HELLO_BYTES_MAX);
const _: () = assert!(OUTBOX_BYTES_HIGH > FRAME_BYTES_MAX);
const _: () = assert!(OUTBOX_BYTES_MAX > OUTBOX_BYTES_HIGH + FRAME_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX > 2 * FRAME_BYTES_MAX);
const _: () = assert!(SEGMENT_BYTES > 8 * BATCH_BYTES_MAX as u64);
const _: () = assert!(COMMIT_BYTES_MAX > BATCH_BYTES_MAX as u64);
const _: () = assert!(ROOM_LEASE_BYTES.is_multiple_of(COMMIT_ALIGN_BYTES as u64));
const _: () = assert!(UNCONFIRMED_IDS_MAX == u64::BITS as u64);
const _: () = assert!(UNACKED_MESSAGES_MAX < u8::MAX as u32, "counted in a byte per device");
const _: () = assert!(USER_TIMEOUT_MS > ACK_TIMEOUT_MS);
const _: () = assert!(
    OUTBOX_BYTES_HIGH + HISTORY_PAGE_BYTES_MAX + wire::PAGE_ITEMS_MAX as usize * 256
        <= OUTBOX_BYTES_MAX
);
const _: () = assert!(HISTORY_FILE_BYTES > PAYLOAD_BYTES_MAX as u64);
const _: () = assert!(HISTORY_FILE_BYTES < u32::MAX as u64);
const _: () = assert!(HISTORY_MESSAGES_MAX <= HISTORY_MESSAGES_SETTING_MAX);

#[cfg(test)]
mod tests {
    /// The constants of this room, as they are written there.
    const SOURCE: &str = concat!(
        include_str!("limits.rs"),
        include_str!("limits/api.rs"),
        include_str!("limits/directory.rs"),
        include_str!("limits/groups.rs"),
        include_str!("limits/history.rs"),
        include_str!("limits/overload.rs"),
        include_str!("limits/people.rs"),
        include_str!("limits/tokens.rs"),
    );

    /// The value of a constant whose text is a product of numbers, or of another constant's name.
    fn value_of(name: &str) -> u64 {
        let start = format!("pub const {name}: ");
        let line = SOURCE.lines().find(|line| line.starts_with(&start));
        let text = line.and_then(|line| line.split_once(" = ")).map(|(_, text)| text);
        let Some(text) = text else { panic!("{name} is no constant of limits.rs") };
        let factors = text.trim_end_matches(';').split(" * ");
        factors.map(|factor| factor.replace('_', "").parse::<u64>().unwrap()).product()
    }

    #[test]
    fn documents_state_the_limits_in_force() {
        assert_eq!(value_of("SEGMENT_BYTES"), super::SEGMENT_BYTES);
        for document in [
            include_str!("../docs/operations.md"),
            include_str!("../docs/history.md"),
            include_str!("../docs/http-api.md"),
            include_str!("../docs/accounts.md"),
        ] {
            let (_, table) = document.split_once("<!-- table: limits -->").unwrap();
            let rows = table.trim_start().lines().skip(2).take_while(|line| line.starts_with('|'));
            let mut count = 0;
            for row in rows {
                let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
                let stated: u64 = cells[1].replace(',', "").parse().unwrap();
                let name = cells[0].trim_matches('`');
                assert_eq!(stated, value_of(name), "{name}");
                assert!(document.matches(name).count() > 1, "{name} is beside no time");
                count += 1;
            }
            assert!(count > 5, "the table is read");
        }
    }
}
