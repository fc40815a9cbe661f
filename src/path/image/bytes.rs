//! The bytes of items: numbers, and what lists are made of.

use super::{BadImage, DeviceImage, ENDED, UserImage};
use crate::state::inbox::Entry;
use crate::state::window::{Answer, Outcome};
use wire::Refusal;

/// What is left to be read of a piece.
#[derive(Debug)]
pub(in crate::path) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadImage> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(BadImage)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(in crate::path) fn u8(&mut self) -> Result<u8, BadImage> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(in crate::path) fn u32(&mut self) -> Result<u32, BadImage> {
        self.take().map(u32::from_le_bytes)
    }

    pub(in crate::path) fn u64(&mut self) -> Result<u64, BadImage> {
        self.take().map(u64::from_le_bytes)
    }

    pub(in crate::path) fn bytes(&mut self, count: usize) -> Result<&'a [u8], BadImage> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(BadImage)?;
        self.0 = rest;
        Ok(head)
    }

    pub(in crate::path) fn user(&mut self) -> Result<UserImage, BadImage> {
        let mut user = UserImage {
            id: self.u64()?,
            tail: self.u64()?,
            has: self.u64()?,
            has_from: self.u64()?,
            ids_floor: self.u64()?,
            ended: false,
            devices: Vec::new(),
        };
        let devices = self.u8()?;
        user.ended = devices & ENDED != 0;
        for _ in 0..devices & !ENDED {
            user.devices.push(DeviceImage {
                id: self.u32()?,
                seen_s: self.u32()?,
                cursor: self.u64()?,
                start: self.u64()?,
                base: self.u64()?,
                seen: self.u64()?,
                top: self.u64()?,
            });
            self.u64()?; // spare
        }
        Ok(user)
    }

    pub(in crate::path) fn answer(&mut self) -> Result<Answer, BadImage> {
        let (client_id, request_crc) = (self.u64()?, self.u32()?);
        let stream = u16::from_le_bytes(self.take()?);
        let copied = self.u8()? != 0;
        let outcome = self.outcome()?;
        Ok(Answer { client_id, request_crc, stream, copied, settling: false, outcome })
    }

    /// What became of a message.
    pub(in crate::path) fn outcome(&mut self) -> Result<Outcome, BadImage> {
        let code = self.u8()?;
        let (position, time_ms) = (self.u64()?, self.u64()?);
        Ok(match code {
            0 => Outcome::Sent { position, time_ms },
            code => Outcome::Refused(Refusal::from_code(code).ok_or(BadImage)?),
        })
    }

    pub(in crate::path) fn entry(&mut self) -> Result<Entry, BadImage> {
        let (position, at, from) = (self.u64()?, self.u64()?, (self.u64()?, self.u32()?));
        Ok(Entry::from_parts(position, at, from, self.u32()?, self.u32()?))
    }
}

pub(in crate::path) fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(in crate::path) fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// What became of a message, as [`Input::outcome`] reads it. Never of one that is under way.
pub(in crate::path) fn put_outcome(out: &mut Vec<u8>, outcome: Outcome) {
    let (code, position, time_ms) = match outcome {
        Outcome::Sent { position, time_ms } => (0, position, time_ms),
        Outcome::Refused(reason) => (reason.code(), 0, 0),
        Outcome::Pending => (Refusal::Overloaded.code(), 0, 0),
    };
    out.push(code);
    put_u64(out, position);
    put_u64(out, time_ms);
}

/// A waiting record, as [`Input::entry`] reads it.
pub(in crate::path) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    let (at, size, due_s) = entry.parts();
    put_u64(out, entry.position);
    put_u64(out, at);
    put_u64(out, entry.sender);
    put_u32(out, entry.device);
    put_u32(out, size);
    put_u32(out, due_s);
}
