//! I3, order: each stream is delivered in the order of its positions, and two messages of one
//! device to one stream never swap.

use wire::{MessageId, Stream};

use super::{Checks, Name, Place};

impl Checks {
    /// Positions rise on a connection; new messages of one sender come in their order.
    pub(super) fn checks_i3_order(
        &mut self,
        name: Name,
        id: MessageId,
        position: u64,
        copy_for: Option<Stream>,
    ) {
        let view = self.views.entry(name).or_default();
        let former = std::mem::replace(&mut view.last_position, position);
        let is_new = !view.ids.contains(&id);
        if is_new {
            let last = view.last_id.entry((id.sender, id.device, copy_for)).or_insert(0);
            let promised = copy_for.is_none() || !self.copies_lost;
            if *last >= id.client_id && promised {
                self.swaps.push((name, id, *last, copy_for.is_some()));
            }
            *last = id.client_id.max(*last);
        }
        if former >= position {
            self.violated(format!("I3: {name:?} got position {position:x} after {former:x}"));
        }
    }

    /// In the log, too, messages of one device to one stream stand in their order.
    pub(super) fn checks_i3_stored_in_order(&mut self, id: MessageId, place: Place) {
        let key = (place.0, id.sender, id.device);
        let last = self.last_stored.insert(key, (id.client_id, place.1)).unwrap_or((0, 0));
        if last.0 >= id.client_id || last.1 >= place.1 {
            self.violated(format!("I3: {id:?} is stored at {:x} after {last:x?}", place.1));
        }
    }

    /// At the end. What was pushed before a crash and lost may have come early, in the wake of
    /// something that was refused; in the stream it stands where it belongs. A backup knows
    /// nothing of what was delivered after it was made.
    pub(crate) fn checks_i3_swaps_were_mended(&mut self) {
        let mut wrong = Vec::new();
        for (name, late, ahead, copy) in &self.swaps {
            let ahead = MessageId { client_id: *ahead, ..*late };
            if [late, &ahead].iter().any(|id| self.lost_with_disk.contains(*id)) {
                continue;
            }
            let place = |id: &MessageId| {
                self.stored.get(&(*id, *copy)).or_else(|| self.placed.get(&(*id, *copy)))
            };
            let places = (place(late), place(&ahead));
            if !matches!(places, (Some(late), Some(ahead)) if late < ahead) {
                let ahead = ahead.client_id;
                wrong.push(format!("I3: {name:?} got {late:?} (copy: {copy}) after {ahead}"));
            }
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }
}
