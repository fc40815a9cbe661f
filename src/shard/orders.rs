//! Orders from outside the message path: taken out once per turn, a bounded number of them.

use super::Core;
use crate::limits;
use crate::log::Reader;
use crate::ring::{Doorbell, Inlet};
use crate::state::order::{Fault, Order, Ordered, Reply};
use crate::state::placement::Placement;
use std::sync::Arc;

/// The ways into all shards.
#[derive(Clone, Debug)]
pub struct Desk {
    inlets: Vec<Arc<Inlet<Ordered>>>,
    placement: Placement,
}

impl Desk {
    /// A way into each of the shards that these doorbells wake.
    #[must_use]
    pub fn new(doorbells: &[Doorbell]) -> Self {
        let inlet =
            |bell: &Doorbell| Arc::new(Inlet::new(limits::ORDERS_WAITING_MAX, bell.clone()));
        let inlets: Vec<_> = doorbells.iter().map(inlet).collect();
        Self { placement: Placement::new(inlets.len()), inlets }
    }

    /// Hands an order to the home it is for. If that has no room for it, it is answered
    /// [`Fault::Overloaded`] at once, on the calling thread.
    pub fn send(&self, order: Order, reply: Reply) {
        let home = self.placement.home(order.home());
        if let Err(ordered) = self.inlets[home].push(Ordered { order, reply }) {
            (ordered.reply)(Err(Fault::Overloaded));
        }
    }

    /// The end of one shard.
    #[must_use]
    pub fn of(&self, shard: usize) -> Arc<Inlet<Ordered>> {
        Arc::clone(&self.inlets[shard])
    }
}

impl<S, R: Reader> Core<S, R> {
    /// What was ordered since the last turn.
    pub(super) fn take_orders(&mut self) {
        for _ in 0..limits::ORDERS_PER_TURN_MAX {
            let Some(Ordered { order, reply }) = self.orders.pop() else { return };
            self.obey(order, reply);
        }
    }

    fn obey(&mut self, order: Order, reply: Reply) {
        match order {
            Order::Person { .. }
            | Order::Relate { .. }
            | Order::EndDevice { .. }
            | Order::EndUser { .. }
            | Order::Post(_) => self.obey_people(order, reply),
            order @ (Order::GroupCreate { .. }
            | Order::GroupEdit { .. }
            | Order::GroupLook { .. }
            | Order::GroupMembers { .. }
            | Order::GroupMarks { .. }
            | Order::GroupsOf { .. }) => self.obey_for_groups(order, reply),
        }
    }
}
