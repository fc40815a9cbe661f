//! At members' homes: messages of groups reach devices, acks and read marks become word for the
//! group's home.
//!
//! A seat that was pushed everything announced before is *live*: a message goes to it at once. Any
//! other is *behind*: it is told once (`GroupNews`), fetches, and is live again when it has acked
//! all there is. At most `UNACKED_*_MAX` are un-acked per seat.

use super::members::end_if_told;
use crate::limits;
use crate::path::session::for_each_conn;
use crate::state::circles::Seat;
use crate::state::conn::Phase;
use crate::state::groups::{Pushed, Stand, Typing};
use crate::state::outbox::Outboxes;
use crate::state::people::Marks;
use crate::state::{NONE, Tables};
use wire::{Deliver, GroupNews, MessageId, ReadSync, ServerFrame, Stream, Transport};

fn frame_of(pushed: &Pushed) -> ServerFrame<'_> {
    ServerFrame::Deliver(Deliver {
        stream: Some(Stream::Group(pushed.group)),
        position: pushed.position,
        id: pushed.id,
        time_ms: pushed.time_ms,
        kind: pushed.kind,
        payload: &pushed.payload,
        relation: pushed.relation,
        to: None,
        to_position: 0,
        change: pushed.change,
        request: false,
    })
}

/// What became of a push to one seat.
enum Push {
    /// It was pushed.
    Pushed,
    /// It has to be fetched.
    Behind,
    /// The connection is gone.
    Gone,
}

/// Pushes a record to the live seats of its group: one frame, encoded once per transport.
pub fn push(tables: &mut Tables, pushed: &Pushed) {
    let Some(circle) = tables.circles.find(pushed.group) else { return };
    let own = own_seat(tables, pushed);
    let Tables { circles, conns, outboxes, counters, .. } = tables;
    let mut frames = std::mem::take(&mut circles.frames);
    frames.iter_mut().for_each(Vec::clear);
    let bytes = u32::try_from(pushed.payload.len()).unwrap_or(u32::MAX);
    let frame = frame_of(pushed);
    let Some((here, seats, news)) = circles.with_seats(circle) else { return };
    here.head = here.head.max(pushed.position);
    let (mut slot, mut skipped) = (0, false);
    while let Some(&index) = here.seated.get(slot) {
        let Some(seat) = seats.get_mut(index as usize) else { break };
        slot += 1;
        if index == own && live(seat, pushed.after) {
            skipped = seat.skip(pushed.position);
            continue;
        }
        match push_to(seat, pushed, bytes, conns, outboxes, |transport| {
            let nth = usize::from(transport == Transport::WebSocket);
            if frames[nth].is_empty() {
                wire::write_server_frame(transport, &frame, &mut frames[nth]);
            }
            &frames[nth]
        }) {
            Push::Pushed => counters.delivered += 1,
            Push::Behind => list_news(seat, index, news),
            Push::Gone => {
                // Its place is taken by the last one, which comes next.
                slot -= 1;
                here.unseat(seats, index);
            }
        }
    }
    circles.frames = frames;
    if skipped {
        moved(tables, own);
    }
}

/// A seat that was pushed everything before this, and is not told to fetch.
fn live(seat: &Seat, after: u64) -> bool {
    !seat.behind && seat.pushed >= after
}

fn push_to<'a>(
    seat: &mut Seat,
    pushed: &Pushed,
    bytes: u32,
    conns: &mut crate::mem::Slab<crate::state::conn::Conn>,
    outboxes: &mut Outboxes,
    frame: impl FnOnce(Transport) -> &'a [u8],
) -> Push {
    if seat.behind {
        return Push::Behind;
    }
    let token = seat.token();
    let Some(conn) = conns.get_mut(token) else { return Push::Gone };
    if conn.phase != Phase::Session || conn.device != seat.device {
        return Push::Gone;
    }
    let (count, unacked_bytes) = seat.unacked();
    let has_room = count == 0
        || (count < limits::UNACKED_MESSAGES_MAX
            && unacked_bytes.saturating_add(bytes) <= limits::UNACKED_BYTES_MAX);
    if seat.pushed < pushed.after
        || !has_room
        || outboxes.waiting_bytes(conn) > limits::OUTBOX_BYTES_HIGH
    {
        seat.behind = true;
        return Push::Behind;
    }
    seat.count_pushed(pushed.position, bytes);
    let frame = frame(conn.transport());
    outboxes.write(token, conn, |out| out.extend_from_slice(frame));
    Push::Pushed
}

/// The seat of the device that sent this, if it is one of this shard.
fn own_seat(tables: &Tables, pushed: &Pushed) -> u32 {
    let MessageId { sender, device, .. } = pushed.id;
    let own = || {
        let user = tables.users.find(sender).filter(|_| device != 0)?;
        let membership = tables.circles.membership_of(user, pushed.group)?;
        let device = tables.users.device_of(user, device)?;
        tables.circles.seat_of(membership, device)
    };
    own().unwrap_or(NONE)
}

/// A seat that is behind is told so, unless it was told and has not done anything since.
fn list_news(seat: &mut Seat, index: u32, news: &mut std::collections::VecDeque<u32>) {
    if seat.told == 0 && !std::mem::replace(&mut seat.listed, true) {
        news.push_back(index);
    }
}

/// There is something in this group that was not pushed.
pub fn head(tables: &mut Tables, group: u64, head: u64) {
    let Some(circle) = tables.circles.find(group) else { return };
    let circles = &mut tables.circles;
    let Some((here, seats, news)) = circles.with_seats(circle) else { return };
    here.head = here.head.max(head);
    let head = here.head;
    for &index in &here.seated {
        let Some(seat) = seats.get_mut(index as usize) else { continue };
        if seat.pushed < head {
            seat.behind = true;
            list_news(seat, index, news);
        }
    }
}

/// Tells seats that there is something for them to fetch, a bounded number of them.
pub fn tell_news(tables: &mut Tables) {
    for _ in 0..tables.circles.news.len().min(limits::GROUP_NEWS_PER_TURN_MAX) {
        let Some(index) = tables.circles.news.pop_front() else { return };
        let Some(seat) = tables.circles.seat(index).filter(|seat| seat.listed) else { continue };
        let (token, membership, cursor) = (seat.token(), seat.membership, seat.cursor);
        let Some(conn) = tables.conns.get(token) else {
            // Gone without a word: it is told at its next login, also that it was removed.
            tables.circles.disconnect(index);
            if let Some(seat) = tables.circles.seat_mut(index) {
                seat.listed = false;
            }
            continue;
        };
        if tables.outboxes.waiting_bytes(conn) > limits::OUTBOX_BYTES_HIGH {
            tables.circles.news.push_back(index);
            continue;
        }
        let Some(here) = tables.circles.membership(membership) else { continue };
        let (group, left) = (here.group, here.left);
        let known = tables.circles.circle(here.circle).map_or(0, |circle| circle.head);
        let head = if left == 0 { known } else { left };
        if let Some(seat) = tables.circles.seat_mut(index) {
            (seat.listed, seat.told) = (false, head);
            // Only who is behind is told: its ack is what ends both.
            if left == 0 && (!seat.is_seated() || !seat.behind || seat.cursor >= head) {
                seat.told = 0;
                continue; // gone meanwhile, or live again, or it has everything
            }
        }
        let news = GroupNews { group, head, cursor, left: left != 0 };
        tables.write(token, &ServerFrame::GroupNews(news));
        if left != 0 {
            tables.circles.remove_seat(index);
            end_if_told(tables, membership);
        }
    }
}

/// A device has everything of a group up to `up_to`.
pub fn ack(tables: &mut Tables, device: u32, group: u64, up_to: u64) {
    let user = tables.users.device(device).user;
    let circles = &mut tables.circles;
    let Some(membership) = circles.membership_of(user, group) else { return };
    let Some(index) = circles.seat_of(membership, device) else { return };
    let circle = circles.membership(membership).map_or(NONE, |here| here.circle);
    let head = circles.circle(circle).map_or(0, |circle| circle.head);
    let Some(seat) = circles.seat_mut(index) else { return };
    if up_to > head {
        tables.counters.clamped += 1;
    }
    let moves = seat.ack(up_to.min(head));
    if seat.behind && seat.is_seated() {
        if seat.cursor >= head {
            (seat.behind, seat.told, seat.pushed) = (false, 0, seat.cursor);
        } else if seat.cursor >= seat.told {
            seat.told = 0; // it has what it was told of, and there is more
            circles.list_news(index);
        }
    }
    if moves {
        moved(tables, index);
    }
}

/// A seat's cursor moved: what the membership has may have, too.
fn moved(tables: &mut Tables, seat: u32) {
    let Some(here) = tables.circles.seat(seat) else { return };
    let (membership, cursor) = (here.membership, here.cursor);
    if let Some(here) = tables.circles.membership_mut(membership)
        && cursor > here.has
    {
        here.has = cursor;
        tables.circles.touch(membership);
    }
    settle(tables, membership);
}

/// What all devices of a membership have.
pub(super) fn settle(tables: &mut Tables, membership: u32) {
    let circles = &tables.circles;
    let cursors = circles.seats_of(membership).filter_map(|at| circles.seat(at));
    let Some(least) = cursors.map(|seat| seat.cursor).min() else { return };
    if let Some(here) = tables.circles.membership_mut(membership)
        && least > here.acked
    {
        here.acked = least;
        tables.circles.touch(membership);
    }
}

/// A user has read a group up to `up_to`; the other devices are told.
pub fn read(tables: &mut Tables, device: u32, group: u64, up_to: u64) {
    let user = tables.users.device(device).user;
    let circles = &mut tables.circles;
    let Some(membership) = circles.membership_of(user, group) else { return };
    let circle = circles.membership(membership).map_or(NONE, |here| here.circle);
    let head = circles.circle(circle).map_or(0, |circle| circle.head);
    let Some(here) = circles.membership_mut(membership) else { return };
    if up_to > head {
        tables.counters.clamped += 1;
    }
    let up_to = up_to.min(head);
    if up_to <= here.read {
        return;
    }
    here.read = up_to;
    circles.touch(membership);
    let frame = ServerFrame::ReadSync(ReadSync { stream: Some(Stream::Group(group)), up_to });
    for_each_conn(tables, user, device, |tables, token| tables.write(token, &frame));
}

/// Where a membership stands, for the group's home.
#[must_use]
pub fn stand(tables: &Tables, membership: u32) -> Option<Stand> {
    let here = tables.circles.membership(membership).filter(|here| here.left == 0)?;
    let owner = tables.users.user(here.user);
    let silent = owner.marks.any(Marks::RECEIPTS_OFF);
    let read = if silent { 0 } else { here.read }; // marks only rise: this one tells nothing
    let (group, user, has, acked) = (here.group, owner.id, here.has, here.acked);
    Some(Stand { group, user, has, read, acked })
}

/// Somebody types in a group: members who are here are told, but for those who read slowly.
pub fn typing(tables: &mut Tables, typing: Typing) {
    let Typing { group, from, stopped } = typing;
    let Some(circle) = tables.circles.find(group) else { return };
    let frame = ServerFrame::Typing(wire::TypingFrom { user: from, stopped, group });
    let typist = tables.users.find(from);
    let Tables { circles, conns, outboxes, counters, users, .. } = tables;
    let Some((here, seats, _)) = circles.with_seats(circle) else { return };
    for &index in &here.seated {
        let Some(seat) = seats.get(index as usize) else { continue };
        if typist.is_some_and(|user| users.device(seat.device).user == user) {
            continue;
        }
        let token = seat.token();
        let Some(conn) = conns.get_mut(token) else { continue };
        if outboxes.waiting_bytes(conn) > limits::OUTBOX_BYTES_HIGH {
            counters.shed += 1;
        } else if conn.phase == Phase::Session {
            outboxes.frame(token, conn, &frame);
        }
    }
}
