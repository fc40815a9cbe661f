//! Reads the bodies of the server's frames; a client's half.
//!
//! One function per frame, in the order of the schema. Each checks what the protocol requires and
//! skips what it does not know. Deliberately not here: the envelope (`schema.rs`).

use super::{
    Deliver, DeviceEvent, Expired, Goodbye, Limits, Pong, Presence, ReadSync, Receipt, Refused,
    Sent, TypingFrom, Welcome,
};
use crate::group_frame::ChangeParts;
use crate::reasons::{Parting, Refusal};
use crate::schema::{
    DecodeError, Fields, NO_ID, complete_id, complete_relation, read_id, read_reason,
    read_relation, read_stream, required, required32,
};
use crate::types::Mark;

fn read_limits(mut fields: Fields<'_>, limits: &mut Limits) -> Result<(), DecodeError> {
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => limits.payload_bytes_max = field.uint32("payload_bytes_max")?,
            2 => limits.unacked_messages_max = field.uint32("unacked_messages_max")?,
            3 => limits.unacked_bytes_max = field.uint32("unacked_bytes_max")?,
            4 => limits.unconfirmed_ids_max = field.uint32("unconfirmed_ids_max")?,
            5 => limits.watched_users_max = field.uint32("watched_users_max")?,
            6 => limits.asked_peers_max = field.uint32("asked_peers_max")?,
            _ => field.skip()?,
        }
    }
    Ok(())
}

pub(super) fn welcome(mut fields: Fields<'_>) -> Result<Welcome, DecodeError> {
    let mut welcome = Welcome {
        user: 0,
        device: 0,
        next_client_id: 0,
        heartbeat_ms: 0,
        limits: Limits::default(),
        server_time_ms: 0,
        cursor: 0,
    };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => welcome.user = field.uint64()?,
            2 => welcome.device = field.uint32("device")?,
            3 => welcome.next_client_id = field.uint64()?,
            4 => welcome.heartbeat_ms = field.uint32("heartbeat_ms")?,
            5 => read_limits(field.message()?, &mut welcome.limits)?,
            6 => welcome.server_time_ms = field.uint64()?,
            7 => welcome.cursor = field.fixed64()?,
            _ => field.skip()?,
        }
    }
    required(welcome.user, "user")?;
    required32(welcome.device, "device")?;
    required(welcome.next_client_id, "next_client_id")?;
    Ok(welcome)
}

pub(super) fn sent(mut fields: Fields<'_>) -> Result<Sent, DecodeError> {
    let mut sent = Sent { client_id: 0, position: 0, time_ms: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => sent.client_id = field.uint64()?,
            2 => sent.position = field.fixed64()?,
            3 => sent.time_ms = field.uint64()?,
            _ => field.skip()?,
        }
    }
    required(sent.client_id, "client_id")?;
    Ok(sent)
}

pub(super) fn refused(mut fields: Fields<'_>) -> Result<Refused, DecodeError> {
    let mut client_id = 0;
    let mut reason = None;
    let mut retriable = false;
    let mut retry_after_ms = 0;
    let mut next_client_id = 0;
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => client_id = field.uint64()?,
            2 => reason = read_reason(field, "reason", Refusal::from_code)?,
            3 => retriable = field.boolean()?,
            4 => retry_after_ms = field.uint32("retry_after_ms")?,
            5 => next_client_id = field.uint64()?,
            _ => field.skip()?,
        }
    }
    let client_id = required(client_id, "client_id")?;
    let reason = reason.ok_or(DecodeError::MissingField("reason"))?;
    Ok(Refused { client_id, reason, retriable, retry_after_ms, next_client_id })
}

pub(super) fn deliver(mut fields: Fields<'_>) -> Result<Deliver<'_>, DecodeError> {
    let mut deliver = Deliver {
        stream: None,
        position: 0,
        id: NO_ID,
        time_ms: 0,
        kind: 0,
        payload: &[],
        relation: None,
        to: None,
        to_position: 0,
        change: None,
        request: false,
    };
    let mut change = ChangeParts::default();
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => deliver.stream = read_stream(field.message()?, "stream")?,
            2 => deliver.position = field.fixed64()?,
            3 => read_id(field.message()?, &mut deliver.id)?,
            4 => deliver.time_ms = field.uint64()?,
            5 => deliver.kind = field.uint32("kind")?,
            6 => deliver.payload = field.bytes()?,
            7 => read_relation(field.message()?, &mut deliver.relation)?,
            8 => deliver.to = read_stream(field.message()?, "to")?,
            9 => deliver.to_position = field.fixed64()?,
            10 => change.read(field)?,
            11 => deliver.request = field.boolean()?,
            _ => field.skip()?,
        }
    }
    deliver.change = change.complete(deliver.id)?;
    complete_relation(deliver.relation)?;
    Ok(deliver)
}

pub(super) fn receipt(mut fields: Fields<'_>) -> Result<Receipt, DecodeError> {
    let mut stream = None;
    let mut after = 0;
    let mut up_to = 0;
    let mut mark = None;
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => stream = read_stream(field.message()?, "stream")?,
            2 => after = field.fixed64()?,
            3 => up_to = field.fixed64()?,
            4 => mark = read_reason(field, "mark", Mark::from_code)?,
            _ => field.skip()?,
        }
    }
    if stream.is_none() {
        return Err(DecodeError::MissingField("stream"));
    }
    Ok(Receipt { stream, after, up_to, mark: mark.ok_or(DecodeError::MissingField("mark"))? })
}

pub(super) fn expired(mut fields: Fields<'_>) -> Result<Expired, DecodeError> {
    let mut expired = Expired { id: NO_ID, position: 0, to: None, to_position: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => read_id(field.message()?, &mut expired.id)?,
            2 => expired.position = field.fixed64()?,
            3 => expired.to = read_stream(field.message()?, "to")?,
            4 => expired.to_position = field.fixed64()?,
            _ => field.skip()?,
        }
    }
    complete_id(expired.id, "id")?;
    Ok(expired)
}

pub(super) fn pong(mut fields: Fields<'_>) -> Result<Pong, DecodeError> {
    let mut pong = Pong { server_time_ms: 0, heartbeat_ms: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => pong.server_time_ms = field.uint64()?,
            2 => pong.heartbeat_ms = field.uint32("heartbeat_ms")?,
            _ => field.skip()?,
        }
    }
    Ok(pong)
}

pub(super) fn goodbye(mut fields: Fields<'_>) -> Result<Goodbye<'_>, DecodeError> {
    let mut reason = None;
    let mut retry_after_ms = 0;
    let mut detail = "";
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => reason = read_reason(field, "reason", Parting::from_code)?,
            2 => retry_after_ms = field.uint32("retry_after_ms")?,
            3 => detail = field.text()?,
            _ => field.skip()?,
        }
    }
    let reason = reason.ok_or(DecodeError::MissingField("reason"))?;
    Ok(Goodbye { reason, retry_after_ms, detail })
}

pub(super) fn typing(mut fields: Fields<'_>) -> Result<TypingFrom, DecodeError> {
    let mut typing = TypingFrom { user: 0, stopped: false, group: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => typing.user = field.uint64()?,
            2 => typing.stopped = field.boolean()?,
            3 => typing.group = field.uint64()?,
            _ => field.skip()?,
        }
    }
    required(typing.user, "user")?;
    Ok(typing)
}

pub(super) fn presence(mut fields: Fields<'_>) -> Result<Presence, DecodeError> {
    let mut presence = Presence { user: 0, online: false, last_seen_ms: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => presence.user = field.uint64()?,
            2 => presence.online = field.boolean()?,
            3 => presence.last_seen_ms = field.uint64()?,
            _ => field.skip()?,
        }
    }
    required(presence.user, "user")?;
    Ok(presence)
}

pub(super) fn read_sync(mut fields: Fields<'_>) -> Result<ReadSync, DecodeError> {
    let mut sync = ReadSync { stream: None, up_to: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => sync.stream = read_stream(field.message()?, "stream")?,
            2 => sync.up_to = field.fixed64()?,
            _ => field.skip()?,
        }
    }
    Ok(sync)
}

pub(super) fn device_event(mut fields: Fields<'_>) -> Result<DeviceEvent, DecodeError> {
    let mut event = DeviceEvent { device: 0, added: false };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => event.device = field.uint32("device")?,
            2 => event.added = field.boolean()?,
            _ => field.skip()?,
        }
    }
    required32(event.device, "device")?;
    Ok(event)
}
