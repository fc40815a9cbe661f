//! Limits of the directory: accounts and what belongs to them, kept in SQLite off the shards.

/// Commands under way in the directory, wherever they wait; more are told to try again.
pub const DIRECTORY_COMMANDS_MAX: usize = 4 * 1024;
/// Changes in one transaction at the most: they share its sync, and wait for each other.
pub const DIRECTORY_CHANGES_PER_COMMIT_MAX: usize = 256;
/// Threads that answer questions beside the one that writes, so that none waits for a sync.
pub const DIRECTORY_READERS: usize = 2;
/// Pages SQLite keeps in memory per connection, in KiB.
pub const DIRECTORY_CACHE_KIB: i64 = 16 * 1024;
/// Size to which SQLite cuts its write-ahead log back after it grew, in bytes.
pub const DIRECTORY_WAL_BYTES: i64 = 16 * 1024 * 1024;
/// How long a connection waits for another one's lock; only a start after a crash takes one.
pub const DIRECTORY_LOCK_MS: u64 = 10_000;
/// How often what has ended by time is looked for.
pub const DIRECTORY_SWEEP_MS: u64 = 30_000;
/// Rows of each kind that one look removes: it shall not hold up the changes that wait.
pub const DIRECTORY_SWEPT_MAX: u32 = 256;
/// When an order a shard had no room for is sent again.
pub const ORDER_RETRY_MS: u64 = 20;
/// The same when the log took nothing.
pub const ORDER_RETRY_STORE_MS: u64 = 1_000;
/// Silence before the operator is told again that the directory can't use its files.
pub const DIRECTORY_SILENCE_MS: u64 = 60_000;

/// Memory one password hash takes, in KiB. With the next two: the least OWASP advises for Argon2id.
pub const PASSWORD_MEMORY_KIB: u32 = 19 * 1024;
/// Passes over that memory.
pub const PASSWORD_PASSES: u32 = 2;
/// Lanes of it: one thread per hash.
pub const PASSWORD_LANES: u32 = 1;
/// Threads that hash passwords unless configured: a hash takes some 20 ms of one.
pub const PASSWORD_THREADS: usize = 2;
/// Most of them that can be configured: each holds the memory of a hash.
pub const PASSWORD_THREADS_MAX: usize = 64;
/// Hashes that may wait: seconds of work, longer than which nobody waits for a login.
pub const PASSWORDS_WAITING_MAX: usize = 256;
/// Shortest password.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Longest password.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// How long an access token is good unless configured, in seconds.
pub const ACCESS_TOKEN_S: u64 = 3_600;
/// Bounds of that.
pub const ACCESS_TOKEN_S_MIN: u64 = 60;
/// See [`ACCESS_TOKEN_S_MIN`]. A day: so long a device that was logged out has to be remembered.
pub const ACCESS_TOKEN_S_MAX: u64 = 24 * 3_600;
/// How long a refresh token is good that is not used, in seconds: 90 days, then the device is
/// logged out.
pub const REFRESH_TOKEN_S: u64 = 90 * 24 * 3_600;
/// How long the end of a device or an account is remembered to shards, in seconds. An operator's
/// own tokens should not live longer: 30 days.
pub const REVOCATION_S: u64 = 30 * 24 * 3_600;

/// Largest id of a user the directory gives: what JavaScript can count to.
pub const USER_ID_MAX: u64 = (1 << 53) - 1;
/// Shortest name.
pub const NAME_CHARS_MIN: usize = 3;
/// Longest name.
pub const NAME_CHARS_MAX: usize = 32;
/// Fewest digits of a phone number.
pub const PHONE_DIGITS_MIN: usize = 7;
/// Most digits of a phone number (E.164).
pub const PHONE_DIGITS_MAX: usize = 15;
/// What a user calls a device; the reason of a report.
pub const LABEL_BYTES_MAX: usize = 64;
/// The name others see; what a user calls a contact.
pub const DISPLAY_BYTES_MAX: usize = 128;
/// The line about a user.
pub const ABOUT_BYTES_MAX: usize = 512;
/// The media id of a picture.
pub const AVATAR_BYTES_MAX: usize = 128;
/// An operator's note.
pub const NOTE_BYTES_MAX: usize = 1_024;
/// What a reporter says and shows.
pub const REPORT_BYTES_MAX: usize = 16 * 1024;

/// Rows of one page; a larger `limit` is this one.
pub const PAGE_ROWS_MAX: u32 = 500;
/// Invitations to groups that wait for one user; the oldest makes room.
pub const INVITATIONS_PER_USER_MAX: i64 = 256;
/// How long an invitation to a group waits, in seconds: 30 days.
pub const INVITATION_S: u64 = 30 * 24 * 3_600;
/// How many may register with one code.
pub const INVITE_USES_MAX: u32 = 10_000;
/// Codes that are good at once.
pub const INVITES_MAX: u64 = 100_000;
/// How long a code may be good, in seconds: a year.
pub const INVITE_S_MAX: u32 = 365 * 24 * 3_600;
/// Reports of one user that nobody closed.
pub const REPORTS_OPEN_PER_USER_MAX: u64 = 100;

/// Longest idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
/// Largest answer that is kept under one.
pub const IDEMPOTENCY_BODY_BYTES_MAX: usize = 64 * 1024;
/// How long it is kept, in seconds: a day.
pub const IDEMPOTENCY_S: u64 = 24 * 3_600;
/// Answers kept for one user.
pub const IDEMPOTENCY_PER_USER_MAX: u64 = 1_000;
/// Answers kept for the operator and those who are not logged in, together.
pub const IDEMPOTENCY_NOBODY_MAX: u64 = 10_000;

/// Events that wait for the webhook; the oldest makes room, and is counted.
pub const EVENTS_WAITING_MAX: u64 = 100_000;
/// Largest body of an event, and longest name of its kind.
pub const EVENT_BYTES_MAX: usize = 16 * 1024;
