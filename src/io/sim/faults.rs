//! What a simulated network does wrong, and how often.
//!
//! Owner: whoever builds the network. Plain numbers; the choices are the network's, by its seed.

/// What the network does worse than it must.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Chance (percent) that a read of the server gets only a part of what is there.
    pub short_reads_percent: u32,
    /// Chance (percent) that a write, of either side, takes only a part of what would fit.
    pub short_writes_percent: u32,
    /// Chance (in a million) that a read or write of the server finds the connection reset.
    pub resets_per_million: u32,
    /// Bytes arrive up to so many steps late.
    pub delay_steps_max: u32,
    /// Chance (in a million) that one direction of a connection stalls when something is written:
    /// a route that is gone for a while. What comes later waits behind it, as with TCP.
    pub stalls_per_million: u32,
    /// Steps a stall lasts at the most.
    pub stall_steps_max: u32,
    /// What each direction of a connection holds: written and not yet read.
    pub buffer_bytes: usize,
}

impl Faults {
    /// A network that does its best, with buffers of 64 KiB.
    #[must_use]
    pub fn none() -> Self {
        Self {
            short_reads_percent: 0,
            short_writes_percent: 0,
            resets_per_million: 0,
            delay_steps_max: 0,
            stalls_per_million: 0,
            stall_steps_max: 0,
            buffer_bytes: 64 * 1024,
        }
    }

    /// Small pieces, small buffers, delays; no resets.
    #[must_use]
    pub fn pieces() -> Self {
        Self {
            short_reads_percent: 50,
            short_writes_percent: 30,
            resets_per_million: 0,
            delay_steps_max: 5,
            stalls_per_million: 0,
            stall_steps_max: 0,
            buffer_bytes: 4 * 1024,
        }
    }
}
