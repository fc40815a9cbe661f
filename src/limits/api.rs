//! Limits of the HTTP API: connections, requests, pages, and what is remembered of them.

/// Threads of the API. Requests wait for the directory and for shards, not for these.
pub const API_THREADS: usize = 2;
/// Connections to the API at once; more wait in the kernel. A request has its own connection, so
/// this is above [`API_REQUESTS_MAX`]: the others are kept alive between two requests.
pub const API_CONNS_MAX: usize = 1_024;
/// The same from one address (an IPv4 address, an IPv6 /64); more are closed unanswered.
pub const API_CONNS_PER_SOURCE_MAX: usize = 256;
/// Connections that wait in the kernel for the API.
pub const API_BACKLOG: u32 = 1_024;
/// Requests under way at once; more are told to come again.
pub const API_REQUESTS_MAX: usize = 512;
/// What those are told to wait.
pub const API_RETRY_MS: u32 = 1_000;
/// Bytes of a request's line and headers; a bearer token is the largest of them.
pub const API_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request.
pub const API_HEADERS_MAX: usize = 64;
/// Time for line and headers, and for the next request on a connection that is kept.
pub const API_HEAD_MS: u64 = 15_000;
/// Bytes of a request's body: the largest payload in base64, and the JSON around it.
pub const API_BODY_BYTES_MAX: usize = 128 * 1024;
/// Time for the body.
pub const API_BODY_MS: u64 = 10_000;
/// Time for the answer. Longer than any of the waits below it: a password's hash in a queue, a
/// commit of the directory, a record of the log.
pub const API_ANSWER_MS: u64 = 20_000;
/// Items of one page.
pub const API_PAGE_MAX: u32 = 200;
/// The same unless asked for.
pub const API_PAGE: u32 = 50;
/// Letters of an `Idempotency-Key`: a UUID is 36.
pub const API_KEY_LETTERS_MAX: usize = 64;
/// Answers with secrets in them are kept for repeats in memory only, so many,
pub const API_SECRET_KEYS_MAX: usize = 4_096;
/// and so long.
pub const API_SECRET_KEY_MS: u64 = 10 * 60_000;
/// Buckets of one kind: addresses, users or names that were here lately.
pub const API_BUCKETS_MAX: usize = 100_000;
/// Requests from one address in a row: the people of an office behind one address,
pub const API_REQUESTS_BURST: u32 = 2_000;
/// and then so many a second.
pub const API_REQUESTS_PER_S: u32 = 500;
/// Tries at passwords, and registrations, from one address in a row,
pub const API_ATTEMPTS_BURST: u32 = 60;
/// and then so many a second: a hash takes some 20 ms of a thread.
pub const API_ATTEMPTS_PER_S: u32 = 1;
/// Tries at the password of one name in a row,
pub const API_NAME_BURST: u32 = 10;
/// and one more each so many seconds: about 1,500 guesses a day.
pub const API_NAME_EVERY_S: u32 = 60;
/// Letters of a name that count for that.
pub const API_NAME_LETTERS_MAX: usize = 64;
/// Requests of one user in a row,
pub const API_CALLER_BURST: u32 = 600;
/// and then so many a second.
pub const API_CALLER_PER_S: u32 = 50;
/// Looks of one user at others in a row: a phone's address book,
pub const API_LOOKUPS_BURST: u32 = 1_000;
/// and then so many a second.
pub const API_LOOKUPS_PER_S: u32 = 1;
/// Events that are fetched for the webhook at once.
pub const WEBHOOK_EVENTS_MAX: u32 = 32;
/// Time for whom the webhook tells to answer.
pub const WEBHOOK_ANSWER_MS: u64 = 10_000;
/// How often new events are looked for.
pub const WEBHOOK_LOOK_MS: u64 = 500;
/// The longest time before an event that was not told is tried again.
pub const WEBHOOK_PAUSE_S_MAX: u64 = 3_600;
/// Pause after accepting failed (no descriptor left, most likely).
pub const API_ACCEPT_PAUSE_MS: u64 = 100;
/// Bits of the ids that the server chooses: what JavaScript's numbers hold.
pub const ID_BITS: u32 = 53;
/// How often another id is tried when the one drawn is taken.
pub const API_ID_TRIES: usize = 3;

const _: () = assert!(API_BODY_BYTES_MAX > super::PAYLOAD_BYTES_MAX.div_ceil(3) * 4 + 4_096);
const _: () = assert!(API_HEAD_BYTES_MAX >= 8_192 && API_HEAD_BYTES_MAX > super::TOKEN_BYTES_MAX);
const _: () = assert!(API_KEY_LETTERS_MAX <= super::IDEMPOTENCY_KEY_BYTES_MAX);
const _: () = assert!(API_PAGE_MAX <= super::PAGE_ROWS_MAX);
const _: () = assert!(API_PAGE <= API_PAGE_MAX && API_REQUESTS_MAX <= API_CONNS_MAX);
