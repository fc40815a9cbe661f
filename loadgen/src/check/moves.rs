//! The small moves the conversation is made of: sending, waiting for something or for nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use client::{ClientEvent, TickMark};

use super::{CheckError, text};
use crate::peer::{Peer, PeerError};

/// Longest wait for one thing to happen.
pub(super) const WAIT: Duration = Duration::from_secs(10);
/// After everything came, so long is waited for what must not come.
pub(super) const QUIET: Duration = Duration::from_millis(300);

pub(super) fn missing(what: &str) -> impl FnOnce(PeerError) -> CheckError {
    let what = what.to_owned();
    move |source| CheckError::Missing { what, source: Box::new(source) }
}

pub(super) fn wait(
    peer: &mut Peer,
    what: &str,
    wanted: impl FnMut(&ClientEvent) -> bool,
) -> Result<ClientEvent, CheckError> {
    peer.wait_for(wanted, WAIT).map_err(missing(what))
}

pub(super) fn absent(
    peer: &mut Peer,
    what: &str,
    unwanted: impl FnMut(&ClientEvent) -> bool,
) -> Result<(), CheckError> {
    match peer.wait_for(unwanted, QUIET) {
        Ok(event) => Err(CheckError::wrong(what, event)),
        Err(PeerError::Timeout { .. }) => Ok(()),
        Err(error) => Err(missing(what)(error)),
    }
}

pub(super) fn send(peer: &mut Peer, name: &str, to: u64, words: &str) -> Result<u64, CheckError> {
    let client_id = peer.send(to, words).map_err(missing(&format!("{name} sends")))?;
    let recipient = if to == 1 { "ann" } else { "bob" };
    crate::say!("{name:8} -> {recipient}: {words}");
    Ok(client_id)
}

pub(super) fn message(
    peer: &mut Peer,
    what: &str,
    from: u64,
    words: &str,
) -> Result<ClientEvent, CheckError> {
    let wanted = |event: &ClientEvent| {
        matches!(event, ClientEvent::Message { peer, repeat: false, .. } if *peer == from)
            && text(event) == words
    };
    wait(peer, what, wanted)
}

pub(super) fn tick(peer: &mut Peer, client_id: u64, mark: TickMark) -> Result<(), CheckError> {
    let wanted = |event: &ClientEvent| {
        matches!(event, ClientEvent::Tick { client_id: id, mark: seen, .. }
            if *id == client_id && *seen == mark)
    };
    wait(peer, &format!("message {client_id} gets the tick {mark:?}"), wanted)?;
    Ok(())
}

/// Reads what a dead server left in the socket.
pub(super) fn drain(peer: &mut Peer) {
    let deadline = Instant::now() + WAIT;
    while peer.client.is_connected() && Instant::now() < deadline {
        if peer.pump(Duration::from_millis(10)).is_err() {
            break; // reset: the rest is gone with the server
        }
    }
    peer.drop_connection();
}

/// Collects where messages stand according to their `Sent`.
pub(super) fn note_answers(peer: &mut Peer, answers: &mut BTreeMap<u64, u64>) {
    for event in peer.take_events() {
        if let ClientEvent::Tick { client_id, mark: TickMark::Sent, position, .. } = event {
            answers.insert(client_id, position);
        }
    }
}
