//! Limits of what a server knows of people beside their mail.

/// Contacts and blocks of one user together. A change copies the list, and one as long as this
/// (80 KB) takes some microseconds.
pub const TIES_PER_USER_MAX: usize = 10_000;
/// Devices of one user whose tokens are refused for themselves; of further ones the eldest counts
/// for all devices. Twice as many as a user has.
pub const REVOCATIONS_PER_USER_MAX: usize = 16;
/// Rows a shard and the directory keep for each user that `users_max` allows: accounts that are
/// gone keep their id, which is never given again, and what their messages were numbered up to. So
/// as many may be gone as may be there.
pub const ROWS_PER_USER_MAX: usize = 2;
/// Pairs of users of a shard of which somebody wrote while blocked. Beyond that, what somebody else
/// writes while blocked is refused like a message to a full inbox.
pub const VOIDED_PAIRS_MAX: usize = 1_000_000;
/// Messages of blocked senders that a shard remembers until their time is over; refused beyond in
/// the same way.
pub const VOIDS_WAITING_MAX: usize = 1_000_000;
/// How often one user can block and unblock another, with messages at both times, before the
/// eldest two of these times count as one.
pub const VOID_SPANS_MAX: usize = 16;
/// Messages from outside a session whose answers a shard remembers: some seconds of what an API
/// takes in. Whoever repeats one later gets the same message once more, under its id.
pub const POSTS_REMEMBERED_MAX: usize = 16 * 1024;
/// Of these, how many may be under way.
pub const POSTS_UNDER_WAY_MAX: usize = 1_024;

// ---- rates ---------------------------------------------------------------------------------

/// Messages a user may send in a second unless configured: as many frames as one session may.
pub const MESSAGES_PER_SECOND_MAX: u32 = 20_000;
/// The seconds whose messages a user who was silent may send at once.
pub const MESSAGES_BURST_S: u32 = 2;
/// Logins from one source (an IPv4 address, an IPv6 /64) a shard takes in a second unless
/// configured: more than it can serve, so that a load generator on one host meets no bound.
pub const LOGINS_PER_SECOND_MAX: u32 = 20_000;
/// The seconds whose logins a source that was silent may begin at once: behind an address may be
/// a whole office that comes back after an outage.
pub const LOGINS_BURST_S: u32 = 10;
/// Users, and sources, whose rates a shard watches at the same time; who finds no room is refused
/// for a second. Those who did nothing for a while need none.
pub const RATES_WATCHED_MAX: usize = 64 * 1024;
/// Bound of the configurable rates.
pub const RATE_SETTING_MAX: u32 = 1_000_000;
/// So many bytes of a frame count as another frame in [`super::FRAMES_PER_SECOND_MAX`]: 80 MB a
/// second and session.
pub const FRAME_COST_BYTES: usize = 4 * 1024;

const _: () = assert!(MESSAGES_PER_SECOND_MAX <= RATE_SETTING_MAX);
const _: () = assert!(LOGINS_PER_SECOND_MAX <= RATE_SETTING_MAX);

// ---- orders --------------------------------------------------------------------------------

/// Orders of the directory and the HTTP API that may wait for one shard; more are told to try
/// again.
pub const ORDERS_WAITING_MAX: usize = 4 * 1024;
/// Orders a shard obeys in one turn: none of them takes longer than a message.
pub const ORDERS_PER_TURN_MAX: usize = 64;
/// Pairs (recipient, sender) whose marks moved that one turn looks at: half a millisecond. Who
/// turns receipts on again may have a hundred thousand.
pub const RECEIPT_PAIRS_PER_TURN_MAX: usize = 16 * 1024;
/// Batches of last-seen times that may wait for the disk; more are dropped: the next has newer.
pub const SEEN_WAITING_MAX: usize = 256;
