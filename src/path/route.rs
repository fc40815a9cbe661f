//! Step 4: a `Send` at its sender's home. Repeats are answered, ids are checked, and what is new
//! becomes a request for the recipient's home.
//!
//! ```text
//!  client id          answer
//!  confirmed          stale_id
//!  known, same CRC    the first answer again (or nothing yet, while under way)
//!  known, other CRC   id_reused
//!  above base + 64    window_full, may be tried again
//!  below a stored one  stale_id, after a restart that forgot that it was refused
//!  above a held id    held, may be tried again (M8: nothing overtakes what was refused)
//!  else               a request
//! ```

use crate::canary::{self, Canary};
use crate::limits;
use crate::path::session::CLIENT_ID_MAX;
use crate::path::{Rules, people};
use crate::state::device::Device;
use crate::state::order::POST_DEVICE;
use crate::state::people::Marks;
use crate::state::request::{Request, Staged};
use crate::state::window::{Answer, Outcome, stream_tag};
use crate::state::{NONE, Tables};
use wire::{Refusal, Send, ServerFrame, Stream};

/// What a `Send` is.
#[derive(Clone, Copy, Debug)]
pub enum Looked {
    /// New, for the user or group with this id: [`begin`] it. Only that takes a credit: a repeat of
    /// one that is under way or answered must not be refused for want of a credit, and one that is
    /// too late must not be told to try again, because by then nobody might know any more that it
    /// is (I3).
    New(u64),
    /// Known under this number: [`repeat`] it.
    Known(Answer),
    /// Refused without touching the id; `stale_id` and `id_reused` name the next good one.
    Refused(Refusal),
}

/// What to do with a `Send` that is a repeat.
#[derive(Debug)]
pub enum Repeated {
    /// Stored long ago, but the copy for the sender's other devices is missing.
    CopyMissing(Box<Request>),
    /// It was answered from memory with this; pending: it is under way.
    Answered(Outcome),
    /// It is not the same message.
    Refused(Refusal),
}

/// Looks at a `Send` of `device`.
pub fn look(tables: &mut Tables, rules: &Rules, device: u32, send: &Send<'_>) -> Looked {
    let (Stream::User(to) | Stream::Group(to)) = send.to;
    if send.client_id == 0 || send.client_id > CLIENT_ID_MAX {
        return Looked::Refused(Refusal::Invalid);
    }
    if send.payload.len() > rules.payload_bytes_max {
        return Looked::Refused(Refusal::PayloadTooLarge);
    }
    let user = tables.users.device(device).user;
    if tables.users.user(user).marks.any(Marks::SUSPENDED) {
        return Looked::Refused(Refusal::Suspended);
    }
    let here = tables.users.device_mut(device);
    let Some(bit) = here.bit(send.client_id) else {
        let above = send.client_id > here.base;
        return Looked::Refused(if above { Refusal::WindowFull } else { Refusal::StaleId });
    };
    if here.seen & bit != 0 {
        return Looked::Refused(Refusal::StaleId);
    }
    let (window, top) = (here.window, here.top);
    debug_assert!(tables.windows.of(window).all(|answer| answer.client_id <= top));
    if send.client_id <= top {
        if let Some(answer) = tables.windows.find(window, send.client_id) {
            return Looked::Known(*answer);
        }
        // Refused for good, but a crash took the note of that, and what came behind it was stored:
        // too late for this id (I3).
        if tables.windows.is_overtaken(window, send.client_id, stream_tag(send.to)) {
            return Looked::Refused(Refusal::StaleId);
        }
    }
    if here.held & (bit - 1) != 0 && !canary::is(Canary::OvertakeRefused) {
        here.held |= bit;
        return Looked::Refused(Refusal::Held);
    }
    Looked::New(to)
}

/// Makes a request of a `Send` that is new.
pub fn begin(tables: &mut Tables, device: u32, to: u64, send: &Send<'_>) -> Box<Request> {
    let user = tables.users.device(device).user;
    if !matches!(send.to, Stream::Group(_)) {
        people::wrote(tables, user, to);
    }
    let here = tables.users.device_mut(device);
    if let Some(bit) = here.bit(send.client_id) {
        here.held &= !bit;
    }
    here.top = here.top.max(send.client_id);
    let request_crc = request_crc(send);
    let (client_id, outcome, stream) = (send.client_id, Outcome::Pending, stream_tag(send.to));
    let answer = Answer { client_id, request_crc, stream, copied: false, settling: false, outcome };
    tables.windows.insert(&mut here.window, answer);
    request(tables, device, to, request_crc, send)
}

/// Refuses a `Send` that can't even be looked at for want of room toward its recipient's home.
pub fn hold(tables: &mut Tables, device: u32, client_id: u64) {
    let here = tables.users.device_mut(device);
    if let Some(bit) = here.bit(client_id) {
        here.held |= bit;
    }
}

/// Looks at a `Send` whose number was used before.
pub fn repeat(tables: &mut Tables, device: u32, send: &Send<'_>, answer: Answer) -> Repeated {
    let request_crc = request_crc(send);
    if answer.request_crc != request_crc {
        return Repeated::Refused(Refusal::IdReused);
    }
    tables.counters.repeats += 1;
    if answer.settling {
        return Repeated::Answered(Outcome::Pending);
    }
    match answer.outcome {
        Outcome::Sent { .. } if !answer.copied && wants_copy(tables, device, send.to) => {
            let Stream::User(to) = send.to else { return Repeated::Answered(answer.outcome) };
            let window = tables.users.device(device).window;
            if let Some(known) = tables.windows.find(window, send.client_id) {
                known.settling = true;
            }
            let mut request = request(tables, device, to, request_crc, send);
            request.outcome = answer.outcome;
            Repeated::CopyMissing(request)
        }
        Outcome::Sent { position, time_ms } if canary::is(Canary::AnswerAnew) => {
            Repeated::Answered(Outcome::Sent { position, time_ms: time_ms + 1 })
        }
        outcome => Repeated::Answered(outcome),
    }
}

/// Whether a message from `device` should also be stored for the sender's other devices.
#[must_use]
pub fn wants_copy(tables: &Tables, device: u32, to: Stream) -> bool {
    let here = tables.users.device(device);
    let to_self = to == Stream::User(tables.users.user(here.user).id);
    // The user's other devices get what is sent to a group as members' devices.
    let in_group = matches!(to, Stream::Group(_));
    !to_self && !in_group && tables.users.devices_of(here.user).nth(1).is_some()
}

fn request(
    tables: &mut Tables,
    device: u32,
    to: u64,
    request_crc: u32,
    send: &Send<'_>,
) -> Box<Request> {
    let mut request = tables.requests.take();
    let here = tables.users.device(device);
    request.sender = tables.users.user(here.user).id;
    request.device = here.id;
    request.device_at = device;
    fill(&mut request, to, request_crc, send);
    request
}

/// Writes into a request all that does not depend on the device it comes from.
pub fn fill(request: &mut Request, to: u64, request_crc: u32, send: &Send<'_>) {
    request.client_id = send.client_id;
    request.to = to;
    request.in_group = matches!(send.to, Stream::Group(_));
    request.request_crc = request_crc;
    request.kind = send.kind;
    request.ttl_s = send.ttl_seconds;
    request.relation = send.relation;
    request.payload.clear();
    request.payload.extend_from_slice(send.payload);
    request.outcome = Outcome::Pending;
    request.retry = None;
    request.stage = Staged::Message;
}

/// CRC-32C over what makes a request this request and no other.
#[must_use]
pub fn request_crc(send: &Send<'_>) -> u32 {
    let (kind, to) = match send.to {
        Stream::User(user) => (1u32, user),
        Stream::Group(group) => (2, group),
    };
    let mut bytes = [0u8; REQUEST_HEAD_BYTES + SHORT_PAYLOAD_BYTES];
    let (head, rest) = bytes.split_at_mut(REQUEST_HEAD_BYTES);
    head[0..4].copy_from_slice(&kind.to_le_bytes());
    head[4..12].copy_from_slice(&to.to_le_bytes());
    head[12..16].copy_from_slice(&send.kind.to_le_bytes());
    head[16..20].copy_from_slice(&send.ttl_seconds.to_le_bytes());
    if let Some(relation) = &send.relation {
        head[20..24].copy_from_slice(&relation.kind.to_le_bytes());
        head[24..32].copy_from_slice(&relation.target.sender.to_le_bytes());
        head[32..36].copy_from_slice(&relation.target.device.to_le_bytes());
        head[36..44].copy_from_slice(&relation.target.client_id.to_le_bytes());
    }
    // In one piece, because every call costs as much as a hundred bytes.
    if let Some(room) = rest.get_mut(..send.payload.len()) {
        room.copy_from_slice(send.payload);
        return crc32c::crc32c(&bytes[..REQUEST_HEAD_BYTES + send.payload.len()]);
    }
    crc32c::crc32c_append(crc32c::crc32c(head), send.payload)
}

/// What makes a request besides its payload.
const REQUEST_HEAD_BYTES: usize = 44;
/// Payloads up to this are moved behind that to be summed up.
const SHORT_PAYLOAD_BYTES: usize = 212;

/// What the sender's home does with a request that came back.
#[derive(Debug)]
pub enum Finish {
    /// Store this copy for the sender's other devices first, then settle.
    Copy(Box<Request>),
    /// Note the refusal in the log first, then settle.
    NoteRefusal(Box<Request>),
    /// Answered.
    Done(Box<Request>),
}

/// The recipient's home has decided: what has to be durable before the answer?
pub fn finish(tables: &mut Tables, request: Box<Request>) -> Finish {
    if request.device == POST_DEVICE {
        return finish_post(tables, request);
    }
    let Some(device) = sender_device(tables, &request) else { return Finish::Done(request) };
    let planted = canary::is(Canary::PushThenRefuse) && request.client_id % 7 == 3;
    if let Some(reason) = request.retry.or_else(|| planted.then_some(Refusal::Overloaded)) {
        forget_for_retry(tables, device, &request);
        refuse(tables, device, request.client_id, reason);
        return Finish::Done(request);
    }
    match request.outcome {
        Outcome::Refused(_) => Finish::NoteRefusal(request),
        Outcome::Sent { .. } if wants_copy(tables, device, request.stream()) => {
            // A checkpoint made meanwhile must know that the message is safe.
            let window = tables.users.device(device).window;
            if let Some(answer) = tables.windows.find(window, request.client_id) {
                (answer.outcome, answer.settling) = (request.outcome, true);
            }
            Finish::Copy(request)
        }
        _ => {
            // No copy is wanted: a device that joins later starts behind this message, and a repeat
            // must not append one out of its order.
            settle_at(tables, device, &request, true);
            Finish::Done(request)
        }
    }
}

/// The same for a message from outside a session: a copy goes to every device its sender has.
fn finish_post(tables: &Tables, request: Box<Request>) -> Finish {
    let is_sent = request.retry.is_none() && matches!(request.outcome, Outcome::Sent { .. });
    let sender = tables.users.find(request.sender).filter(|_| request.sender != request.to);
    let wants_copy = sender.is_some_and(|user| tables.users.devices_of(user).next().is_some());
    if is_sent && wants_copy { Finish::Copy(request) } else { Finish::Done(request) }
}

/// Everything about the request is durable: remember the answer and give it.
pub fn settle(tables: &mut Tables, request: &Request, copied: bool) {
    if let Some(device) = sender_device(tables, request) {
        settle_at(tables, device, request, copied);
    }
}

fn settle_at(tables: &mut Tables, device: u32, request: &Request, copied: bool) {
    let window = tables.users.device(device).window;
    if let Some(answer) = tables.windows.find(window, request.client_id) {
        answer.outcome = request.outcome;
        answer.settling = false;
        answer.copied |= copied;
    }
    answer(tables, device, request.client_id, request.outcome);
}

/// Writes the answer to the device, if it is connected.
pub fn answer(tables: &mut Tables, device: u32, client_id: u64, outcome: Outcome) {
    if canary::is(Canary::SwallowSend) && client_id % 11 == 5 {
        return;
    }
    match outcome {
        Outcome::Pending => {}
        Outcome::Refused(reason) => refuse(tables, device, client_id, reason),
        Outcome::Sent { position, time_ms } => {
            let Some(token) = tables.users.device(device).conn() else { return };
            tables.counters.sent += 1;
            tables.write(token, &ServerFrame::Sent(wire::Sent { client_id, position, time_ms }));
        }
    }
}

/// Writes a refusal to the device, if it is connected.
pub fn refuse(tables: &mut Tables, device: u32, client_id: u64, reason: Refusal) {
    let retry_after_ms = if reason.retriable() { limits::RETRY_AFTER_MS } else { 0 };
    refuse_for(tables, device, client_id, reason, retry_after_ms);
}

/// The same for so long, in milliseconds; 0: for good.
pub fn refuse_for(
    tables: &mut Tables,
    device: u32,
    client_id: u64,
    reason: Refusal,
    retry_after_ms: u32,
) {
    let here = tables.users.device(device);
    let names_next = matches!(reason, Refusal::StaleId | Refusal::IdReused);
    let next_client_id = if names_next { here.next_client_id() } else { 0 };
    let retriable = reason.retriable();
    let Some(token) = here.conn() else { return };
    tables.counters.refused += 1;
    tables.write(
        token,
        &ServerFrame::Refused(wire::Refused {
            client_id,
            reason,
            retriable,
            retry_after_ms,
            next_client_id,
        }),
    );
}

/// The id is free again; later ids wait until it is sent again or given up.
fn forget_for_retry(tables: &mut Tables, device: u32, request: &Request) {
    let mut window = tables.users.device(device).window;
    tables.windows.retain(&mut window, |answer| answer.client_id != request.client_id);
    let here = tables.users.device_mut(device);
    here.window = window;
    if let Some(bit) = here.bit(request.client_id)
        && here.seen & bit == 0
    {
        here.held |= bit;
    }
}

/// The device a request came from, if it was not dropped meanwhile.
#[must_use]
pub fn sender_device(tables: &Tables, request: &Request) -> Option<u32> {
    let here = tables.users.device_if_any(request.device_at);
    let is_same = |here: &Device| {
        here.id == request.device && tables.users.user(here.user).id == request.sender
    };
    if here.is_some_and(is_same) {
        return Some(request.device_at);
    }
    let user = tables.users.find(request.sender)?;
    tables.users.device_of(user, request.device).filter(|&device| device != NONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Confirmed;

    #[test]
    fn an_id_that_comes_too_late_is_not_told_to_try_again() {
        let mut tables = Tables::new(4, 4, 4);
        let user = tables.users.find_or_add(7).unwrap();
        let device = tables.users.add_device(user, 1, 0);
        // After a restart: id 5 to user 8 is in the log, and what became of id 4 is not.
        let mut window = tables.users.device(device).window;
        let outcome = Outcome::Sent { position: 1, time_ms: 1 };
        let stream = stream_tag(Stream::User(8));
        let answer =
            Answer { client_id: 5, request_crc: 0, stream, copied: true, settling: false, outcome };
        tables.windows.insert(&mut window, answer);
        tables.users.device_mut(device).window = window;
        tables.users.device_mut(device).top = 5;
        let mut look = |client_id, to| {
            let (confirmed, to) = (Confirmed::default(), Stream::User(to));
            let (payload, relation): (&[u8], _) = (&[], None);
            let (ttl_seconds, kind, automatic) = (0, 0, false);
            let send =
                Send { client_id, confirmed, to, payload, ttl_seconds, kind, relation, automatic };
            look(&mut tables, &Rules::default(), device, &send)
        };
        assert!(matches!(look(4, 8), Looked::Refused(Refusal::StaleId)), "refused at once");
        assert!(matches!(look(4, 9), Looked::New(9)), "another stream");
        assert!(matches!(look(6, 8), Looked::New(8)));
    }
}
