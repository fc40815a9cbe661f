//! I6, bounded: what a shard holds is within its limits, after every turn.

use myriad::limits;
use myriad::state::NONE;

use super::super::server::SimShard;
use super::Checks;

impl Checks {
    /// I6: what a shard holds is within its limits.
    pub(crate) fn checks_i6_bounded(&mut self, me: usize, shard: &SimShard, credits: usize) {
        let tables = shard.tables();
        let load = shard.load();
        self.copies_lost |= tables.counters.own_copies_lost > 0;
        self.notices_lost |= tables.counters.notices_lost > 0;
        let mut wrong = Vec::new();
        let mut bound = |what: &str, is: usize, most: usize| {
            if is > most {
                wrong.push(format!("I6: {what} of shard {me}: {is}, at most {most}"));
            }
        };
        let conns = tables.conns.len();
        bound("refusals", load.refusals, credits);
        bound("movers", load.movers, conns);
        bound("parked connections", load.parked, conns);
        bound("errands", load.errands, limits::ERRANDS_MAX);
        bound("partial inputs", tables.partials.count(), conns);
        bound("doomed connections", tables.doomed.len(), 2 * conns);
        bound("copies", load.copies, limits::COPIES_WAITING_MAX);
        // Those under way when the list filled come on top: each holds a credit, or a place among
        // those looked at together.
        let most = limits::BURIALS_MAX + limits::EXPIRED_PER_LOOK_MAX + 64 * credits;
        bound("burials", load.burials, most);
        bound("dirty read marks", tables.dirty_reads.len(), tables.pairs.count());
        for (_, conn) in tables.conns.iter() {
            let most = limits::OUTBOX_BYTES_MAX + limits::FRAME_BYTES_MAX + 1024;
            bound("bytes of an outbox", tables.outboxes.waiting_bytes(conn), most);
        }
        let mut devices = 0;
        for user in 0..u32::try_from(tables.users.count()).unwrap_or(NONE) {
            let owner = tables.users.user(user);
            for index in tables.users.devices_of(user) {
                devices += 1;
                let device = tables.users.device(index);
                let most = limits::UNACKED_MESSAGES_MAX as usize;
                bound("un-acked messages", usize::from(device.unacked), most);
                if device.unacked > 1 {
                    let most = limits::UNACKED_BYTES_MAX as usize;
                    bound("un-acked bytes", device.unacked_bytes as usize, most);
                }
                let most = usize::try_from(limits::UNCONFIRMED_IDS_MAX).unwrap_or(0);
                bound("answers of a device", tables.windows.answers(device.window), most);
                bound("cursor, beyond pushed", usize::from(device.cursor > device.pushed), 0);
                bound("pushed, beyond tail", usize::from(device.pushed > owner.tail), 0);
            }
        }
        bound("dirty cursors", tables.dirty_cursors.len(), devices);
        wrong.into_iter().for_each(|what| self.violated(what));
    }
}
