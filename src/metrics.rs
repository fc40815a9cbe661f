//! Counters of one shard: plain integers, owned by its thread, summed when somebody asks.
//!
//! Deliberately not here: histograms and an endpoint; they come with the admin listener.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a shard counted since it started.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// Adds what another shard counted.
            pub fn add(&mut self, other: &Self) { $(self.$name += other.$name;)* }

            /// Every counter with its name, for logs and tests.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Turns of the loop.
    turns,
    /// Connections taken from the listener.
    accepted,
    /// Connections closed at once because a table was full.
    conns_refused,
    /// Connections that had not said `Hello` and made room for newer ones.
    evicted,
    /// Sessions that logged in here.
    logins,
    /// Sessions that moved to another shard.
    moved,
    /// Frames understood.
    frames,
    /// Pieces of input the driver handed out.
    receives,
    /// Buffers handed to the driver to send.
    sends,
    /// Messages stored.
    stored,
    /// Of these: their sender is blocked, nobody gets them.
    voided,
    /// `Deliver` frames written.
    delivered,
    /// `Sent` frames written.
    sent,
    /// `Refused` frames written.
    refused,
    /// Sends that repeated an id whose answer was still known.
    repeats,
    /// `Receipt` frames written.
    receipts,
    /// `Ack` and `Read` beyond what exists, clamped.
    clamped,
    /// Completions of connections that were gone.
    stale,
    /// Presence and typing dropped because there was no room, or too much to do.
    shed,
    /// Milliseconds at the level `busy` (presence and typing are shed),
    busy_ms,
    /// at `strained` (read receipts are delayed, heartbeats stretched),
    strained_ms,
    /// and at `full` (new sessions are refused).
    full_ms,
    /// Times that the level rose.
    levels_raised,
    /// Read marks whose receipts were delayed.
    reads_delayed,
    /// Sessions that were asked for heartbeats less often.
    stretched,
    /// Logins refused because the shard was full.
    turned_away,
    /// Idle sessions let go because memory was short.
    sessions_shed,
    /// Own copies that were not stored: no room in the log, or too many wait for a device.
    own_copies_lost,
    /// Messages given up because they waited too long; their senders are told.
    expired,
    /// Messages deleted by their authors before everybody had them.
    deleted,
    /// Members of groups for whom the table of users had no room: they hear nothing of them.
    members_lost,
    /// Words of that for which the sender's inbox had no room.
    notices_lost,
    /// Waiting records that could not be read back from the log.
    unreadable,
    /// Sessions closed by the server, for any reason.
    goodbyes,
    /// Of these: reset without a word, because they did not read what they were sent.
    too_slow,
}
