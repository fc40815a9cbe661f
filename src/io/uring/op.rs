//! What the driver asks of the kernel, and the names by which the answers are told apart.

/// What a completion is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Op {
    /// Something to read, or the end. Goes on until it is cancelled.
    Watch = 1,
    /// Room to write.
    Room = 2,
    /// A read into the area of this number.
    Receive = 3,
    /// A send of the buffer of this number.
    Send = 4,
    /// The slot was emptied.
    Close = 5,
    /// A file of the driver's own has something (`Rings::watch_file`); the slot says which.
    File = 6,
    /// The ring of this number has completions.
    Ring = 7,
    /// Something with no more to say than that its slot is not used by it any more.
    Counted = 8,
    /// Nobody waits for it.
    Other = 9,
}

impl Op {
    fn from_bits(bits: u64) -> Self {
        match bits {
            1 => Self::Watch,
            2 => Self::Room,
            3 => Self::Receive,
            4 => Self::Send,
            5 => Self::Close,
            6 => Self::File,
            7 => Self::Ring,
            8 => Self::Counted,
            _ => Self::Other,
        }
    }
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) op: Op,
    pub(super) slot: u32,
    /// Of the area, the buffer or the ring.
    pub(super) number: u32,
    /// Bytes or events, or a negated error.
    pub(super) result: i32,
    /// The operation goes on.
    pub(super) more: bool,
}

/// The name of an operation, which its completions carry.
pub(super) fn name(op: Op, slot: u32, number: u32) -> u64 {
    (op as u64) << 56 | u64::from(slot & 0xff_ffff) << 32 | u64::from(number)
}

/// The reverse of [`name`].
#[allow(clippy::cast_possible_truncation, reason = "each part is cut out by its mask first")]
pub(super) fn named(name: u64) -> (Op, u32, u32) {
    (Op::from_bits(name >> 56), (name >> 32) as u32 & 0xff_ffff, name as u32)
}

#[cfg(test)]
mod tests {
    use super::{Op, name, named};

    #[test]
    fn a_name_gives_back_what_was_put_in() {
        for op in [Op::Watch, Op::Room, Op::Receive, Op::Send, Op::Close, Op::File, Op::Ring] {
            assert_eq!(named(name(op, 0xff_fffe, 0xdead_beef)), (op, 0xff_fffe, 0xdead_beef));
        }
    }
}
