//! From the bytes of a connection to frames, and back: both transports, both directions.
//!
//! [`Parser`] is what a connection remembers between two reads: six bytes. It takes one unit from
//! the front of the bytes that arrived and says how many of them it used up; the caller keeps the
//! rest and calls again. Nothing is copied except the fragments of a fragmented message.
//!
//! ```text
//!             "MYR" 1                 u32 length, frame; u32 length, frame; ...
//! Undecided ───────────▶ Tcp
//!     │       GET ... 101             WebSocket frames
//!     └────────────────▶ WebSocket
//! ```
//!
//! Invariants: a length above the bound is refused as soon as it is there, before its bytes are;
//! a call costs what the unit it returns costs, or a header if it returns [`Event::More`], so that
//! a frame that comes byte by byte costs no more than its length; parsing a unit again from the
//! same bytes with a copy of the parser made before gives the same event (masks are replaced by
//! zeros when they are taken off), which is how a caller puts back a frame it has no room for.
//!
//! Deliberately not here: what frames mean, when a connection has said nothing for too long.

pub use crate::frame_error::FrameError;

use crate::client_frame::ClientFrame;
use crate::handshake::{HANDSHAKE_BYTES_MAX, Handshake, head_end, read_request};
use crate::server_frame::{Goodbye, ServerFrame};
use crate::websocket::{
    Control, Header, HeaderRead, Opcode, apply_mask, put_binary_header, put_last, read_close,
    read_header, unmask, write_control,
};

/// What a client opens a plain TCP connection with: the name and the version of the framing.
pub const TCP_PREAMBLE: [u8; 4] = *b"MYR\x01";
/// The little-endian `u32` before each frame on plain TCP: how long the frame is, without itself.
pub const TCP_HEADER_BYTES: usize = 4;
/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// What carries the frames of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Transport {
    /// The first bytes have not told yet.
    #[default]
    Undecided,
    /// Length-prefixed frames.
    Tcp,
    /// RFC 6455 binary messages.
    WebSocket,
}

/// What the caller allows.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'p> {
    /// The largest frame in bytes, without its framing; smaller before login.
    pub frame_bytes_max: usize,
    /// Browser Origins that may connect: `https://chat.example`, or `*` for all. The Origin of the
    /// host itself always may. Clients that are no browsers send none.
    pub origins: &'p [String],
}

/// One unit of what a peer sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// Nothing complete is left: keep what was not used up and call again with more.
    More {
        /// At least so many bytes are missing; at least 1.
        missing: usize,
    },
    /// A WebSocket client asked to upgrade: send [`Handshake::write_response`].
    Upgraded(Handshake),
    /// A plain TCP client opened.
    Opened,
    /// One protobuf frame.
    Frame(&'a [u8]),
    /// A WebSocket ping: answer with a pong of the same payload.
    Ping(&'a [u8]),
    /// A WebSocket pong.
    Pong,
    /// The peer closes: answer with the same code (1005: with an empty close frame) and close.
    Close {
        /// The peer's code; 1005 if it gave none.
        code: u16,
    },
    /// A fragment was taken in: call again.
    Skip,
}

/// What a connection remembers between two reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Parser {
    transport: Transport,
    /// The peer is a server: its WebSocket frames come unmasked.
    from_server: bool,
    /// Inside a fragmented message, whose fragments so far are in `assembly`.
    fragmented: bool,
    /// The peer sent a close frame; what follows is not read.
    closed: bool,
    /// How much of an unfinished request head was searched for its end.
    searched: u16,
}

const _: () = assert!(size_of::<Parser>() <= 8);
const _: () = assert!(HANDSHAKE_BYTES_MAX <= u16::MAX as usize);

impl Parser {
    /// For the server's end of a fresh connection.
    pub fn server() -> Self {
        Self::default()
    }

    /// For the client's end: the answers on a TCP connection after the preamble was sent, or on a
    /// WebSocket after its handshake was checked. `Undecided` counts as `Tcp`.
    pub fn client(transport: Transport) -> Self {
        let transport = match transport {
            Transport::Undecided | Transport::Tcp => Transport::Tcp,
            Transport::WebSocket => Transport::WebSocket,
        };
        Self { transport, from_server: true, ..Self::default() }
    }

    /// What carries the frames.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether a fragmented message has begun and not ended. Its fragments are in `assembly`, which
    /// may still be empty.
    pub fn is_fragmented(&self) -> bool {
        self.fragmented
    }

    /// Takes the next unit from the front of `input`, which may be unmasked in place.
    ///
    /// Returns how many bytes of `input` are used up and what they were. `assembly` collects the
    /// fragments of one message and never holds more than `policy.frame_bytes_max`; the call after
    /// the one that returned the message empties it, so it is worth keeping with the connection
    /// only while it is not empty.
    ///
    /// To put a unit back, restore a copy of the parser from before the call, truncate `assembly`
    /// to its former length and leave `input` as it is.
    ///
    /// # Errors
    /// The connection can't be read on: answer with [`FrameError::http_response`] or a goodbye and
    /// a close frame of [`FrameError::close_code`], and close.
    pub fn next<'a>(
        &mut self,
        input: &'a mut [u8],
        assembly: &'a mut Vec<u8>,
        policy: &Policy<'_>,
    ) -> Result<(usize, Event<'a>), FrameError> {
        if !self.fragmented {
            assembly.clear();
        }
        match self.transport {
            Transport::Undecided => self.open(input, policy.origins),
            Transport::Tcp => next_length_prefixed(input, policy.frame_bytes_max),
            Transport::WebSocket => self.next_websocket(input, assembly, policy.frame_bytes_max),
        }
    }

    /// Tells the transports apart by their first bytes.
    fn open(
        &mut self,
        input: &[u8],
        origins: &[String],
    ) -> Result<(usize, Event<'static>), FrameError> {
        let Some(&first) = input.first() else { return Ok((0, Event::More { missing: 4 })) };
        let known = input.len().min(TCP_PREAMBLE.len());
        if input[..known] == TCP_PREAMBLE[..known] {
            if known < TCP_PREAMBLE.len() {
                return Ok((0, Event::More { missing: TCP_PREAMBLE.len() - known }));
            }
            self.transport = Transport::Tcp;
            return Ok((known, Event::Opened));
        }
        if input.starts_with(&TCP_PREAMBLE[..3]) {
            return Err(FrameError::UnknownVersion);
        }
        if first == TLS_HANDSHAKE {
            return Err(FrameError::TlsOnPlaintext);
        }
        // A request begins with a method. Lower case is legal for extension methods nobody has.
        let method = input.iter().take_while(|byte| byte.is_ascii_uppercase()).take(16).count();
        let method_ends_well = input.get(method).is_none_or(|byte| *byte == b' ');
        if method == 0 || method == 16 || !method_ends_well {
            return Err(FrameError::UnknownPreamble);
        }
        self.upgrade(input, origins)
    }

    fn upgrade(
        &mut self,
        input: &[u8],
        origins: &[String],
    ) -> Result<(usize, Event<'static>), FrameError> {
        let window = &input[..input.len().min(HANDSHAKE_BYTES_MAX)];
        let Some(length) = head_end(window, usize::from(self.searched)) else {
            if window.len() == HANDSHAKE_BYTES_MAX {
                return Err(FrameError::HeadTooLarge);
            }
            self.searched = u16::try_from(window.len()).unwrap_or(u16::MAX);
            return Ok((0, Event::More { missing: 1 }));
        };
        let handshake = read_request(&window[..length], origins)?;
        self.transport = Transport::WebSocket;
        self.searched = 0;
        Ok((length, Event::Upgraded(handshake)))
    }

    fn next_websocket<'a>(
        &mut self,
        input: &'a mut [u8],
        assembly: &'a mut Vec<u8>,
        frame_bytes_max: usize,
    ) -> Result<(usize, Event<'a>), FrameError> {
        if self.closed {
            return Ok((input.len(), Event::More { missing: 1 }));
        }
        let header = match read_header(input, !self.from_server)? {
            HeaderRead::Missing(missing) => return Ok((0, Event::More { missing })),
            HeaderRead::Whole(header) => header,
        };
        let payload_bytes = self.admit(&header, assembly.len(), frame_bytes_max)?;
        let length = header.header_bytes + payload_bytes;
        let available = input.len();
        let Some(frame) = input.get_mut(..length) else {
            return Ok((0, Event::More { missing: length - available }));
        };
        unmask(frame, &header);
        let payload = &frame[header.header_bytes..];
        let event = match header.opcode {
            Opcode::Ping => Event::Ping(payload),
            Opcode::Pong => Event::Pong,
            Opcode::Close => {
                let code = read_close(payload)?;
                self.closed = true;
                Event::Close { code }
            }
            Opcode::Binary if header.fin => Event::Frame(payload),
            Opcode::Binary | Opcode::Continuation => {
                assembly.extend_from_slice(payload);
                self.fragmented = !header.fin;
                if header.fin { Event::Frame(assembly) } else { Event::Skip }
            }
        };
        Ok((length, event))
    }

    /// Judges a header before its payload has come; returns the payload's length.
    fn admit(
        &self,
        header: &Header,
        assembled_bytes: usize,
        frame_bytes_max: usize,
    ) -> Result<usize, FrameError> {
        match header.opcode {
            Opcode::Continuation if !self.fragmented => {
                return Err(FrameError::ContinuationUnexpected);
            }
            Opcode::Binary if self.fragmented => return Err(FrameError::MessageInterrupted),
            _ => {}
        }
        let payload_bytes =
            usize::try_from(header.payload_bytes).map_err(|_| FrameError::FrameTooLarge)?;
        let room = frame_bytes_max.saturating_sub(assembled_bytes);
        if !header.opcode.is_control() && payload_bytes > room {
            return Err(FrameError::FrameTooLarge);
        }
        Ok(payload_bytes)
    }
}

fn next_length_prefixed(
    input: &[u8],
    frame_bytes_max: usize,
) -> Result<(usize, Event<'_>), FrameError> {
    let Some((prefix, rest)) = input.split_first_chunk::<TCP_HEADER_BYTES>() else {
        return Ok((0, Event::More { missing: TCP_HEADER_BYTES - input.len() }));
    };
    let length = usize::try_from(u32::from_le_bytes(*prefix))
        .ok()
        .filter(|length| *length <= frame_bytes_max)
        .ok_or(FrameError::FrameTooLarge)?;
    match rest.get(..length) {
        Some(frame) => Ok((TCP_HEADER_BYTES + length, Event::Frame(frame))),
        None => Ok((0, Event::More { missing: length - rest.len() })),
    }
}

/// Puts the length of a frame on plain TCP at the end of the room before it.
fn put_length(before: &mut [u8], length: usize) -> usize {
    // Frames are bounded far below 4 GiB; one that is not would be refused by its reader.
    put_last(before, u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes())
}

/// Appends a frame from the server with its framing. Nothing while the transport is `Undecided`:
/// the peer understands no frame yet.
pub fn write_server_frame(transport: Transport, frame: &ServerFrame<'_>, out: &mut Vec<u8>) {
    match transport {
        Transport::Undecided => {}
        Transport::Tcp => {
            frame.write(out, put_length);
        }
        Transport::WebSocket => {
            frame.write(out, |before, length| put_binary_header(before, length, None));
        }
    }
}

/// Appends all a server says when it closes: the `Goodbye` and, on a WebSocket, a close frame with
/// `close_code` and the reason's name. Nothing while the transport is `Undecided`.
pub fn write_goodbye(
    transport: Transport,
    goodbye: &Goodbye<'_>,
    close_code: u16,
    out: &mut Vec<u8>,
) {
    write_server_frame(transport, &ServerFrame::Goodbye(*goodbye), out);
    if transport == Transport::WebSocket {
        let close = Control::Close { code: close_code, reason: goodbye.reason.name() };
        write_control(close, None, out);
    }
}

/// Appends a frame from a client with its framing; `mask` is fresh random bytes, used on a
/// WebSocket only. `Undecided` counts as `Tcp`, whose preamble the caller has sent.
pub fn write_client_frame(
    transport: Transport,
    mask: [u8; 4],
    frame: &ClientFrame<'_>,
    out: &mut Vec<u8>,
) {
    match transport {
        Transport::Undecided | Transport::Tcp => {
            frame.write(out, put_length);
        }
        Transport::WebSocket => {
            let frame_at =
                frame.write(out, |before, length| put_binary_header(before, length, Some(mask)));
            apply_mask(mask, &mut out[frame_at..]);
        }
    }
}
