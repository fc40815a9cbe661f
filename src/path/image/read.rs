//! Beside the message path: the bytes of an image become items again.

use super::{ANSWERED, ANSWERS, ENTRIES, Input, PAIRS, POSTS, USER, VOIDS, WAITING_VOIDS, groups};
use crate::state::inbox::Entry;
use crate::state::people::Span;
use crate::state::posts::PostKey;
use crate::state::voids::Void;
use crate::state::window::{Answer, Outcome};

/// One thing of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A user with its devices, oldest first.
    User(Box<UserImage>),
    /// An answer of a device.
    Answer {
        /// Whose device.
        user: u64,
        /// Its id.
        device: u32,
        /// The answer.
        answer: Answer,
    },
    /// A waiting record.
    Entry {
        /// In whose stream.
        user: u64,
        /// What is known of it.
        entry: Entry,
    },
    /// When to look for mail that has waited too long.
    Date {
        /// In whose inbox.
        user: u64,
        /// Seconds since 1970.
        due_s: u32,
    },
    /// Marks of a conversation.
    Pair {
        /// Who got messages,
        recipient: u64,
        /// from whom,
        sender: u64,
        /// the last one where,
        last: u64,
        /// and read up to here.
        read: u64,
    },
    /// The recipient of a conversation wrote back.
    Answered {
        /// Who got messages and wrote back,
        recipient: u64,
        /// to whom.
        sender: u64,
    },
    /// What somebody wrote while blocked.
    Voids {
        /// Who blocks,
        recipient: u64,
        /// whom.
        sender: u64,
        /// The positions.
        spans: Vec<Span>,
    },
    /// Something of a group.
    Group(groups::Item),
    /// One of these that waits for its time.
    WaitingVoid {
        /// Who blocks.
        recipient: u64,
        /// Where it stands.
        position: u64,
        /// Whose it is.
        void: Void,
    },
    /// What became of a message from outside a session.
    Post {
        /// Its sender, and the caller's number of it.
        key: PostKey,
        /// CRC-32C of the request.
        request_crc: u32,
        /// What became of it.
        outcome: Outcome,
    },
}

/// A user as an image knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserImage {
    /// The id on the wire.
    pub id: u64,
    /// The highest position of its stream.
    pub tail: u64,
    /// Tick 2 up to here,
    pub has: u64,
    /// from here.
    pub has_from: u64,
    /// No id of a dropped device lies above this.
    pub ids_floor: u64,
    /// The account is gone.
    pub ended: bool,
    /// Its devices.
    pub devices: Vec<DeviceImage>,
}

/// A device as an image knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceImage {
    /// The id on the wire.
    pub id: u32,
    /// Seconds since 1970 of its last login.
    pub seen_s: u32,
    /// Acked up to here.
    pub cursor: u64,
    /// Where its cursor started.
    pub start: u64,
    /// Ids up to here are confirmed,
    pub base: u64,
    /// and these above.
    pub seen: u64,
    /// The highest id it used.
    pub top: u64,
}

/// The bytes are not the items of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a piece of a checkpoint can't be read")]
pub struct BadImage;

/// Reads the items of one piece.
///
/// # Errors
/// The bytes are no piece; items before the flaw have been handed out.
pub fn read<E: From<BadImage>>(
    bytes: &[u8],
    mut each: impl FnMut(Item) -> Result<(), E>,
) -> Result<(), E> {
    let mut input = Input(bytes);
    while !input.0.is_empty() {
        match input.u8()? {
            USER => each(Item::User(Box::new(input.user()?)))?,
            ANSWERS => {
                let (user, device, count) = (input.u64()?, input.u32()?, input.u32()?);
                for _ in 0..count {
                    let answer = input.answer()?;
                    each(Item::Answer { user, device, answer })?;
                }
            }
            ENTRIES => {
                let (user, count, date) = (input.u64()?, input.u32()?, input.u32()?);
                for _ in 0..count {
                    each(Item::Entry { user, entry: input.entry()? })?;
                }
                if date != 0 {
                    each(Item::Date { user, due_s: date })?;
                }
            }
            PAIRS => {
                for _ in 0..input.u32()? {
                    let (recipient, sender) = (input.u64()?, input.u64()?);
                    let (last, read) = (input.u64()?, input.u64()?);
                    each(Item::Pair { recipient, sender, last, read })?;
                }
            }
            ANSWERED => {
                for _ in 0..input.u32()? {
                    let (recipient, sender) = (input.u64()?, input.u64()?);
                    each(Item::Answered { recipient, sender })?;
                }
            }
            VOIDS => {
                let (recipient, sender, count) = (input.u64()?, input.u64()?, input.u32()?);
                let mut spans = Vec::new();
                for _ in 0..count {
                    spans.push(Span { first: input.u64()?, last: input.u64()? });
                }
                each(Item::Voids { recipient, sender, spans })?;
            }
            WAITING_VOIDS => {
                for _ in 0..input.u32()? {
                    let (recipient, position) = (input.u64()?, input.u64()?);
                    let (sender, client_id) = (input.u64()?, input.u64()?);
                    let (device, due_s, bytes) = (input.u32()?, input.u32()?, input.u32()?);
                    let void = Void { sender, device, client_id, due_s, bytes };
                    each(Item::WaitingVoid { recipient, position, void })?;
                }
            }
            POSTS => {
                for _ in 0..input.u32()? {
                    let (key, request_crc) = ((input.u64()?, input.u64()?), input.u32()?);
                    each(Item::Post { key, request_crc, outcome: input.outcome()? })?;
                }
            }
            tag @ groups::GROUP..=groups::GROUP_ENTRIES => {
                groups::read(tag, &mut input, &mut |item| each(Item::Group(item)))?;
            }
            _ => return Err(BadImage.into()),
        }
    }
    Ok(())
}
