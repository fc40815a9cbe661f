//! Overload by decree: shards are told a level below which they may not go, and to let sessions go.
//!
//! Owner: the world, with a chance of its own. What a level sheds must come back, and nothing else
//! may be touched: the checkers look at pressed worlds as at all others.

use myriad::shard::Level;

use super::world::World;

impl World {
    /// Perhaps another level for one shard.
    pub(super) fn press_shards(&mut self) {
        if self.plan.pressed_per_mille == 0 || !self.press.per_mille(self.plan.pressed_per_mille) {
            return;
        }
        let Some(server) = &self.server else { return };
        let shard = self.press.index(server.shards.len());
        let levels = [Level::Normal, Level::Busy, Level::Strained, Level::Full];
        let level = levels[self.press.index(levels.len())];
        let sheds = level == Level::Full && self.press.per_mille(300);
        self.checks.trace(|| format!("shard {shard} is {}, sheds: {sheds}", level.name()));
        server.press(shard, level, sheds);
    }

    /// All shards are as they find themselves.
    pub(super) fn release_shards(&mut self) {
        let Some(server) = &self.server else { return };
        for shard in 0..server.shards.len() {
            server.press(shard, Level::Normal, false);
        }
    }
}
