//! RFC 6455 frames: headers, masks, control frames, close codes.
//!
//! Pure functions of bytes; `framing.rs` strings them together. No extension is spoken, so every
//! RSV bit is 0. Deliberately not here: the HTTP upgrade (`handshake.rs`), fragments
//! (`framing.rs`).
//!
//! ```text
//! byte 0: FIN RSV1-3 opcode(4)   byte 1: MASK length(7)
//! length 126: u16 big-endian follows; 127: u64 big-endian follows; then the mask if MASK is set
//! ```

use crate::frame_error::FrameError;

/// The most a control frame carries.
pub const CONTROL_BYTES_MAX: usize = 125;
/// The longest header: two bytes, a 64-bit length, a mask.
pub const HEADER_BYTES_MAX: usize = 14;
/// "No code was given"; never on the wire, the code of an empty close frame.
pub const CLOSE_CODE_NONE: u16 = 1005;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// A control frame to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control<'a> {
    /// Asks the peer for a pong with the same payload (at most 125 bytes, the rest is cut).
    Ping(&'a [u8]),
    /// Answers a ping with its payload (at most 125 bytes, the rest is cut).
    Pong(&'a [u8]),
    /// Closes. A code that must not travel (1005 for one) makes an empty close frame; a reason of
    /// more than 123 bytes is cut between characters.
    Close {
        /// See `docs/protocol.md` for ours.
        code: u16,
        /// For people.
        reason: &'a str,
    },
}

/// What a frame is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Opcode {
    Continuation,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Self, FrameError> {
        match bits {
            0 => Ok(Self::Continuation),
            1 => Err(FrameError::TextMessage),
            2 => Ok(Self::Binary),
            8 => Ok(Self::Close),
            9 => Ok(Self::Ping),
            10 => Ok(Self::Pong),
            _ => Err(FrameError::UnknownOpcode),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    pub(crate) fn is_control(self) -> bool {
        self.bits() & 8 != 0
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) opcode: Opcode,
    /// Where the payload begins.
    pub(crate) header_bytes: usize,
    /// As announced; up to 2^63.
    pub(crate) payload_bytes: u64,
    pub(crate) masked: bool,
}

/// What the first bytes of a frame tell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeaderRead {
    /// At least so many more bytes are needed.
    Missing(usize),
    Whole(Header),
}

/// Reads a header; every fault shows as early as the byte that makes it one.
///
/// `masked` is what the role of the sender demands: true for clients.
pub(crate) fn read_header(input: &[u8], masked: bool) -> Result<HeaderRead, FrameError> {
    let Some(&first) = input.first() else { return Ok(HeaderRead::Missing(2)) };
    if first & RESERVED != 0 {
        return Err(FrameError::ReservedBits);
    }
    let opcode = Opcode::from_bits(first & OPCODE)?;
    let fin = first & FIN != 0;
    if opcode.is_control() && !fin {
        return Err(FrameError::ControlFragmented);
    }
    let Some(&second) = input.get(1) else { return Ok(HeaderRead::Missing(1)) };
    match (second & MASKED != 0, masked) {
        (false, true) => return Err(FrameError::Unmasked),
        (true, false) => return Err(FrameError::Masked),
        _ => {}
    }
    let short = second & LENGTH;
    if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(FrameError::ControlTooLong);
    }
    let length_bytes = match short {
        LENGTH_16 => 2,
        LENGTH_64 => 8,
        _ => 0,
    };
    let header_bytes = 2 + length_bytes + if masked { 4 } else { 0 };
    let Some(length) = input.get(2..2 + length_bytes) else {
        return Ok(HeaderRead::Missing(header_bytes - input.len()));
    };
    let payload_bytes = match length_bytes {
        0 => u64::from(short),
        _ => length.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)),
    };
    let minimal = match short {
        LENGTH_16 => payload_bytes >= u64::from(LENGTH_16),
        LENGTH_64 => payload_bytes > u64::from(u16::MAX),
        _ => true,
    };
    if !minimal || payload_bytes >> 63 != 0 {
        return Err(FrameError::LengthMalformed);
    }
    // The mask may still be missing: the caller judges the length before it waits for more.
    Ok(HeaderRead::Whole(Header { fin, opcode, header_bytes, payload_bytes, masked }))
}

/// Takes the mask off `payload`, whose frame begins at the front of `frame`, and writes a mask of
/// zeros in its place: a caller that puts the frame back may have it parsed again.
pub(crate) fn unmask(frame: &mut [u8], header: &Header) {
    if !header.masked {
        return;
    }
    let (head, payload) = frame.split_at_mut(header.header_bytes);
    let Some(key) = head.last_chunk_mut::<4>() else { return };
    apply_mask(*key, payload);
    *key = [0; 4];
}

/// Masks or unmasks in place.
pub(crate) fn apply_mask(key: [u8; 4], bytes: &mut [u8]) {
    let wide = u64::from(u32::from_le_bytes(key));
    let wide = wide << 32 | wide;
    let (lines, rest) = bytes.as_chunks_mut::<32>(); // two or four steps of a vector
    for line in lines {
        for word in line.as_chunks_mut::<8>().0 {
            *word = (u64::from_le_bytes(*word) ^ wide).to_le_bytes();
        }
    }
    let (words, rest) = rest.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ wide).to_le_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Puts bytes at the end of `room`, which holds them; says how many.
#[inline]
pub(crate) fn put_last<const N: usize>(room: &mut [u8], bytes: [u8; N]) -> usize {
    let at = room.len() - N;
    room[at..].copy_from_slice(&bytes);
    N
}

/// Puts the header of an unfragmented binary message at the end of the room before its payload;
/// says how much it takes, at most [`HEADER_BYTES_MAX`].
#[inline]
pub(crate) fn put_binary_header(
    before: &mut [u8],
    payload_bytes: usize,
    mask: Option<[u8; 4]>,
) -> usize {
    put_header(before, Opcode::Binary, payload_bytes, mask)
}

#[inline]
fn put_header(
    before: &mut [u8],
    opcode: Opcode,
    payload_bytes: usize,
    mask: Option<[u8; 4]>,
) -> usize {
    let key_bytes = mask.map_or(0, |key| put_last(before, key));
    let rest = before.len() - key_bytes;
    let before = &mut before[..rest];
    let (first, masked) = (FIN | opcode.bits(), if mask.is_some() { MASKED } else { 0 });
    key_bytes
        + if let Some(short) = u8::try_from(payload_bytes).ok().filter(|it| *it < LENGTH_16) {
            put_last(before, [first, masked | short])
        } else if let Ok(length) = u16::try_from(payload_bytes) {
            let [high, low] = length.to_be_bytes();
            put_last(before, [first, masked | LENGTH_16, high, low])
        } else {
            let length_bytes = put_last(before, (payload_bytes as u64).to_be_bytes());
            let rest = before.len() - length_bytes;
            length_bytes + put_last(&mut before[..rest], [first, masked | LENGTH_64])
        }
}

/// Appends a control frame; `mask` is `Some` on a client.
pub fn write_control(control: Control<'_>, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let code_bytes;
    let (opcode, code, payload): (_, &[u8], &[u8]) = match control {
        Control::Ping(payload) => (Opcode::Ping, &[], payload),
        Control::Pong(payload) => (Opcode::Pong, &[], payload),
        Control::Close { code, .. } if !close_code_is_valid(code) => (Opcode::Close, &[], &[]),
        Control::Close { code, reason } => {
            code_bytes = code.to_be_bytes();
            let cut = reason.floor_char_boundary(CONTROL_BYTES_MAX - code_bytes.len());
            (Opcode::Close, &code_bytes, &reason.as_bytes()[..cut])
        }
    };
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    let mut header = [0; HEADER_BYTES_MAX];
    let header_bytes = put_header(&mut header, opcode, code.len() + payload.len(), mask);
    out.extend_from_slice(&header[HEADER_BYTES_MAX - header_bytes..]);
    let start = out.len();
    out.extend_from_slice(code);
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        apply_mask(key, &mut out[start..]);
    }
}

/// Whether a close code may travel: defined by RFC 6455, registered since, or in the ranges for
/// libraries and applications.
pub fn close_code_is_valid(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Reads the payload of a close frame to its code; [`CLOSE_CODE_NONE`] if it is empty.
pub(crate) fn read_close(payload: &[u8]) -> Result<u16, FrameError> {
    match payload {
        [] => Ok(CLOSE_CODE_NONE),
        [_] => Err(FrameError::CloseMalformed),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !close_code_is_valid(code) {
                return Err(FrameError::CloseCodeInvalid);
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(FrameError::CloseReasonNotText);
            }
            Ok(code)
        }
    }
}
