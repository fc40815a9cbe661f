//! Limits of history.

/// Questions to history that wait, of all shards; more are refused.
pub const HISTORY_ASKS_MAX: usize = 1_024;
/// Answers of history that wait for one shard. History waits when there is no room.
pub const HISTORY_ANSWERS_MAX: usize = 64;
/// Payload bytes of one page, but for a single larger item: a page must fit an outbox whole.
pub const HISTORY_PAGE_BYTES_MAX: usize = 64 * 1024;
/// What a question to history counts in frames of a second: it reads a disk.
pub const HISTORY_ASK_COST_FRAMES: u16 = 200;
/// Records applied in one transaction at the least, if there are so many; the last commit is
/// applied whole. Questions wait behind a transaction.
pub const HISTORY_BATCH_RECORDS: usize = 1_000;
/// Payload bytes of one transaction at the least, in the same way.
pub const HISTORY_BATCH_BYTES: usize = 1024 * 1024;
/// The shortest time between the beginnings of two transactions that follow the log, unless more
/// than a batch waits: each costs two syncs.
pub const HISTORY_GAP_MS: u64 = 100;
/// How often history looks for items that ended.
pub const HISTORY_SWEEP_MS: u64 = 1_000;
/// Items one look removes at the most; then questions are answered first.
pub const HISTORY_SWEEP_ITEMS_MAX: usize = 1_000;
/// Pause before history tries again what a disk refused.
pub const HISTORY_RETRY_MS: u64 = 1_000;
/// Pause before history says again that a question could not be answered: one payload that can't be
/// read may be asked for all day.
pub const HISTORY_COMPLAINT_MS: u64 = 60_000;
/// Pause of history while a shard takes no answers.
pub const HISTORY_ANSWER_PAUSE_MS: u64 = 1;
/// Commits history may be behind before it says so.
pub const HISTORY_BEHIND_COMMITS: u64 = 10_000;
/// Size of one payload file: the space of what ended returns file by file.
pub const HISTORY_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Room for payloads not yet written that history keeps between two transactions.
pub const HISTORY_PENDING_KEPT_BYTES: usize = 256 * 1024;
/// Cache of the tables.
pub const HISTORY_CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Messages kept of one side of a conversation unless configured.
pub const HISTORY_MESSAGES_MAX: u32 = 10_000;
/// Bound of that setting: a change of retention looks at all of them in one transaction.
pub const HISTORY_MESSAGES_SETTING_MAX: u32 = 100_000;
