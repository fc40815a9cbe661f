//! Limits of groups.

/// Members of one group unless configured.
pub const GROUP_MEMBERS_MAX: u32 = 100_000;
/// Bound of that setting: a start looks at all of them, at some hundred bytes each.
pub const GROUP_MEMBERS_SETTING_MAX: u32 = 1_000_000;
/// Members up to which messages are pushed, unless configured.
pub const GROUP_PUSH_MAX: u32 = 1_024;
/// Bound of that setting: a push to all members of a shard is one piece of work.
pub const GROUP_PUSH_SETTING_MAX: u32 = 16 * 1024;
/// Members above which nobody is told of arrivals and departures, unless configured.
pub const GROUP_QUIET_ABOVE: u32 = 256;
/// Messages waiting in one group unless configured. One absent member makes all of them wait, so
/// there is more room than in an inbox.
pub const GROUP_MESSAGES_MAX: u32 = 100_000;
/// Changes of one group that are kept for those who fetch: all members of the largest group by
/// default come, and as many again come and go. Of further ones only those hear who are pushed to.
pub const GROUP_CHANGES_MAX: usize = 2 * GROUP_MEMBERS_MAX as usize;
/// Payload bytes waiting in one group unless configured.
pub const GROUP_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Longest name of a group: two lines on a phone.
pub const GROUP_NAME_BYTES_MAX: usize = 256;
/// Groups of one shard: an empty one takes some hundred bytes.
pub const GROUPS_PER_SHARD_MAX: usize = 4_000_000;
/// Groups of one user: at a login all of them are looked at.
pub const GROUPS_PER_USER_MAX: usize = 1_000;
/// Former members of a group that may still pull what was said while they were in it; the one who
/// went first is forgotten.
pub const GROUP_FORMER_MAX: usize = 1_024;
/// Members and groups an order answers in one page at the most.
pub const GROUP_PAGE_MAX: usize = 1_000;
/// Authors per group who are told of ticks when they are due; others ask at their next login.
pub const GROUP_AUTHORS_MAX: usize = 256;
/// Pause between two words to one shard that there is something in a group that does not push.
pub const GROUP_HEAD_MS: u64 = 1_000;
/// Devices that one turn tells that there is something in a group.
pub const GROUP_NEWS_PER_TURN_MAX: usize = 1_024;
/// Marks of members in one letter.
pub const GROUP_MARKS_PER_LETTER_MAX: usize = 256;
/// Groups whose marks or heads one turn looks at.
pub const GROUPS_PER_TURN_MAX: usize = 1_024;
/// Members and records of groups that are over which one turn takes apart, and members of such
/// groups whom one turn makes leave: a tenth of a millisecond or two.
pub const GROUP_APART_PER_TURN_MAX: usize = 512;
/// Arrivals and departures that wait for a credit toward one shard; then changes are refused.
pub const GROUP_TIDINGS_MAX: usize = 4_096;
/// What a `Fetch` from a group counts in frames of a second: it reads the log.
pub const GROUP_FETCH_COST_FRAMES: u16 = 50;
/// Payload bytes of one page, but for a single larger item.
pub const GROUP_PAGE_BYTES_MAX: usize = 64 * 1024;
/// How often the log is told of what groups let go: so much more may be kept after a crash.
pub const GROUP_RELEASE_TELL_MS: u64 = 30_000;

const _: () = assert!(GROUP_PUSH_MAX <= GROUP_MEMBERS_MAX && GROUP_QUIET_ABOVE <= GROUP_PUSH_MAX);
const _: () = assert!(GROUP_MEMBERS_MAX <= GROUP_MEMBERS_SETTING_MAX);
