//! Limits of what a server knows of people beside their mail.

/// Contacts and blocks of one user together. A change copies the list, and one as long as this
/// (80 KB) takes some microseconds.
pub const TIES_PER_USER_MAX: usize = 10_000;
/// Devices of one user whose tokens are refused for themselves; of further ones the eldest counts
/// for all devices. Twice as many as a user has.
pub const REVOCATIONS_PER_USER_MAX: usize = 16;
/// Pairs of users of a shard of which somebody wrote while blocked. Beyond that, what somebody else
/// writes while blocked is refused like a message to a full inbox.
pub const VOIDED_PAIRS_MAX: usize = 1_000_000;
/// How often one user can block and unblock another, with messages at both times, before the
/// eldest two of these times count as one.
pub const VOID_SPANS_MAX: usize = 16;
/// Messages from outside a session whose answers a shard remembers: some seconds of what an API
/// takes in. Whoever repeats one later gets the same message once more, under its id.
pub const POSTS_REMEMBERED_MAX: usize = 16 * 1024;
/// Of these, how many may be under way.
pub const POSTS_UNDER_WAY_MAX: usize = 1_024;
