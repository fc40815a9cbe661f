//! How much a shard has under way: for the simulator's check that everything is bounded (I6).

use super::Shard;
use crate::io::Driver;
use crate::log::Reader;
use crate::path::store::Refusals;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests and logins that wait for a commit.
    pub waiters: usize,
    /// Connections that wait for a credit with a frame.
    pub parked: usize,
    /// Own copies that wait for room in the staging ring.
    pub copies: usize,
    /// Sessions that wait to move home.
    pub movers: usize,
    /// Questions about other users that wait for a credit.
    pub errands: usize,
    /// Refusals remembered for one other shard, the most there are.
    pub refusals: usize,
    /// Records that are nobody's any more and wait for room to say so.
    pub burials: usize,
    /// Arrivals and departures in groups that wait for a credit, for one shard.
    pub tidings: usize,
    /// Something is staged for the log or under way to it.
    pub is_staged: bool,
}

impl<D: Driver, R: Reader> Shard<D, R> {
    /// What it has under way: for the simulator's checkers.
    pub fn load(&self) -> Load {
        let core = &self.core;
        Load {
            waiters: core.waiters.len(),
            parked: core.parked.len(),
            copies: core.copies.len(),
            movers: core.movers.len(),
            errands: core.errands.len(),
            refusals: core.refusals.iter().map(Refusals::count).max().unwrap_or(0),
            burials: core.burials.len(),
            tidings: core.grouping.waiting(),
            is_staged: !core.stage.is_idle(),
        }
    }
}
