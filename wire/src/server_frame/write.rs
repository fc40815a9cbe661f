//! The fields of the one frame that has very many.

use super::{Limits, Welcome};
use crate::schema::Sink;

pub(super) fn welcome(sink: &mut impl Sink, welcome: &Welcome) {
    sink.uint64(1, welcome.user);
    sink.uint64(2, u64::from(welcome.device));
    sink.uint64(3, welcome.next_client_id);
    sink.uint64(4, u64::from(welcome.heartbeat_ms));
    let allowed = welcome.limits;
    sink.message(5, |sink| limits(sink, allowed));
    sink.uint64(6, welcome.server_time_ms);
    sink.fixed64(7, welcome.cursor);
}

fn limits(sink: &mut impl Sink, allowed: Limits) {
    sink.uint64(1, u64::from(allowed.payload_bytes_max));
    sink.uint64(2, u64::from(allowed.unacked_messages_max));
    sink.uint64(3, u64::from(allowed.unacked_bytes_max));
    sink.uint64(4, u64::from(allowed.unconfirmed_ids_max));
    sink.uint64(5, u64::from(allowed.watched_users_max));
    sink.uint64(6, u64::from(allowed.asked_peers_max));
}
