//! Step 2: bytes become frames. One call takes one unit from the front of the input.

use crate::limits;
use crate::path::Rules;
use crate::state::conn::{Conn, Phase};
use wire::{ClientFrame, Event, FrameError, Parting, Policy};

/// What stood at the front of the input.
#[derive(Debug)]
pub enum Unit<'a> {
    /// Nothing complete: keep the rest.
    More,
    /// Nothing to do: go on.
    Nothing,
    /// An HTTP upgrade to answer.
    Upgraded(wire::Handshake),
    /// A frame, to be decoded.
    Frame(&'a [u8]),
    /// A WebSocket ping to answer with these bytes.
    Ping(&'a [u8]),
    /// The peer says goodbye on the WebSocket layer.
    Close(u16),
    /// Not the protocol; say so (with this close code on a WebSocket) and close.
    Bad(Parting, u16, String),
    /// Not even a handshake; this HTTP response says why.
    NotUpgraded(&'static str),
}

/// Takes the next unit from `input`; says how many bytes it used up.
pub fn next<'a>(
    conn: &mut Conn,
    rules: &Rules,
    input: &'a mut [u8],
    assembly: &'a mut Vec<u8>,
) -> (usize, Unit<'a>) {
    let greeting = conn.phase == Phase::Greeting;
    let frame_bytes_max = if greeting { limits::HELLO_BYTES_MAX } else { limits::FRAME_BYTES_MAX };
    let policy = Policy { frame_bytes_max, origins: &rules.origins };
    match conn.parser.next(input, assembly, &policy) {
        Ok((used, event)) => (used, unit(event)),
        Err(error) => (0, refused(error)),
    }
}

fn unit(event: Event<'_>) -> Unit<'_> {
    match event {
        Event::More { .. } => Unit::More,
        Event::Skip | Event::Opened | Event::Pong => Unit::Nothing,
        Event::Upgraded(handshake) => Unit::Upgraded(handshake),
        Event::Ping(bytes) => Unit::Ping(bytes),
        Event::Close { code } => Unit::Close(code),
        Event::Frame(bytes) => Unit::Frame(bytes),
    }
}

/// What is in a frame.
///
/// # Errors
/// No frame of the protocol; the unit says why and ends the connection.
pub fn decode(bytes: &[u8]) -> Result<ClientFrame<'_>, Unit<'_>> {
    ClientFrame::decode(bytes).map_err(|error| {
        let parting = Parting::BadFrame;
        Unit::Bad(parting, parting.close_code(), error.to_string())
    })
}

fn refused<'a>(error: FrameError) -> Unit<'a> {
    match error.http_response() {
        Some(response) => Unit::NotUpgraded(response),
        None => Unit::Bad(error.parting(), error.close_code(), error.to_string()),
    }
}
