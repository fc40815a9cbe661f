//! The conversation, step by step. Each step is a function that prints what it saw.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use client::{ClientEvent, TickMark};
use wire::{MessageId, Parting, Stream};

use super::moves::{QUIET, WAIT, absent, drain, message, missing, note_answers, send, tick, wait};
use super::{CheckError, text};
use crate::peer::{Peer, PeerError};
use crate::process::{Home, ServeOptions, ServerProcess, token};

/// What the check shows, for the closing line.
pub const STEPS: &str = "login, presence, typing, three ticks, several devices, offline spell, \
                         kill -9 and restart, orderly end; accounts and a group";

/// Messages during the offline spell.
const OFFLINE_MESSAGES: usize = 20;
/// Messages written around the kill.
const BURST_MESSAGES: usize = 300;
/// Longest wait for the server to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

const ANN: u64 = 1;
const BOB: u64 = 2;

/// The people, and the server they talk through.
struct Cast {
    server: ServerProcess,
    ann: Peer,
    /// Ann's tablet.
    tablet: Peer,
    bob: Peer,
    /// Bob's other device: away during the crash, it reads afterwards what is stored.
    laptop: Peer,
}

/// Plays everything.
pub(super) fn play(serve: &ServeOptions, transport: &str, home: &Home) -> Result<(), CheckError> {
    let mut cast = enter(serve, transport, home)?;
    presence(&mut cast)?;
    typing(&mut cast)?;
    three_ticks(&mut cast)?;
    several_devices(&mut cast)?;
    offline_spell(&mut cast)?;
    let cast = crash(cast, serve, transport, home)?;
    orderly_end(cast, home)?;
    Ok(())
}

fn enter(serve: &ServeOptions, transport: &str, home: &Home) -> Result<Cast, CheckError> {
    let server = ServerProcess::start(serve, home)?;
    crate::say!("server   {}", server.first_line());
    let url = server.url(transport);
    let log_in = |user: u64, device: u32, name: &str| -> Result<Peer, CheckError> {
        let token = token(&serve.binary, home, user, device)?;
        let peer = Peer::login(&url, &token).map_err(missing(&format!("{name} logs in")))?;
        let session = &peer.client.session;
        if (session.user(), session.device()) != (user, device) {
            let seen = (session.user(), session.device());
            return Err(CheckError::wrong("Welcome names who the token names", seen));
        }
        crate::say!("{name:8} logged in as user {user}, device {device}");
        Ok(peer)
    };
    let mut ann = log_in(ANN, 1, "ann")?;
    let bob = log_in(BOB, 1, "bob")?;
    let mut tablet = log_in(ANN, 2, "tablet")?;
    let mut laptop = log_in(BOB, 2, "laptop")?;
    // Both have their cursor now; they come back later.
    laptop.client.close();
    tablet.client.close();
    ann.take_events();
    Ok(Cast { server, ann, tablet, bob, laptop })
}

fn presence(cast: &mut Cast) -> Result<(), CheckError> {
    cast.ann.watch(&[BOB]).map_err(missing("ann watches bob"))?;
    let online = |event: &ClientEvent| {
        matches!(event, ClientEvent::Presence { user: BOB, online: true, .. })
    };
    wait(&mut cast.ann, "bob is shown online", online)?;
    crate::say!("ann      sees bob online");
    Ok(())
}

fn typing(cast: &mut Cast) -> Result<(), CheckError> {
    cast.ann.typing(BOB, false).map_err(missing("ann types"))?;
    let types =
        |event: &ClientEvent| matches!(event, ClientEvent::Typing { user: ANN, stopped: false });
    wait(&mut cast.bob, "bob sees that ann types", types)?;
    crate::say!("bob      sees ann typing");
    Ok(())
}

fn three_ticks(cast: &mut Cast) -> Result<(), CheckError> {
    let client_id = send(&mut cast.ann, "ann", BOB, "Hello Bob")?;
    let event = message(&mut cast.bob, "bob gets it", ANN, "Hello Bob")?;
    crate::say!("bob      <- ann: {}", text(&event));
    tick(&mut cast.ann, client_id, TickMark::Sent)?;
    crate::say!("ann      ✓  sent");
    tick(&mut cast.ann, client_id, TickMark::Has)?;
    crate::say!("ann      ✓✓ delivered");
    let ClientEvent::Message { position, .. } = event else {
        return Err(CheckError::wrong("a message is a message", event));
    };
    cast.bob.read(ANN, position).map_err(missing("bob reads it"))?;
    tick(&mut cast.ann, client_id, TickMark::Read)?;
    crate::say!("ann      ✓✓ read");
    Ok(())
}

fn several_devices(cast: &mut Cast) -> Result<(), CheckError> {
    cast.tablet.reconnect().map_err(missing("ann's tablet logs in"))?;
    let is_copy = |wanted: &'static str| {
        move |event: &ClientEvent| {
            matches!(event, ClientEvent::OwnCopy { to: Stream::User(BOB), .. })
                && text(event) == wanted
        }
    };
    wait(
        &mut cast.tablet,
        "the tablet gets what was sent while it was away",
        is_copy("Hello Bob"),
    )?;
    crate::say!("tablet   <- copy of: Hello Bob (sent while it was away)");
    let client_id = send(&mut cast.ann, "ann", BOB, "Shall we meet?")?;
    message(&mut cast.bob, "bob gets it", ANN, "Shall we meet?")?;
    wait(&mut cast.tablet, "the tablet gets a copy", is_copy("Shall we meet?"))?;
    crate::say!("tablet   <- copy of: Shall we meet?");
    tick(&mut cast.ann, client_id, TickMark::Has)?;
    let ticked = |event: &ClientEvent| {
        matches!(event, ClientEvent::Tick { client_id: id, mark: TickMark::Has, .. }
            if *id == client_id)
    };
    wait(&mut cast.tablet, "the tablet sees the tick of what the phone sent", ticked)?;
    crate::say!("tablet   ✓✓ delivered (what the phone sent)");
    send(&mut cast.bob, "bob", ANN, "Yes, at six")?;
    let event = message(&mut cast.ann, "ann gets the answer", BOB, "Yes, at six")?;
    message(&mut cast.tablet, "the tablet gets the answer", BOB, "Yes, at six")?;
    crate::say!("ann      <- bob: Yes, at six   (on both devices)");
    let ClientEvent::Message { position, .. } = event else {
        return Err(CheckError::wrong("a message is a message", event));
    };
    cast.ann.read(BOB, position).map_err(missing("ann reads it"))?;
    let synced = |event: &ClientEvent| {
        matches!(event, ClientEvent::ReadSync { stream, up_to }
            if *stream == Some(Stream::User(BOB)) && *up_to >= position)
    };
    wait(&mut cast.tablet, "the tablet hears that it was read", synced)?;
    crate::say!("tablet   sees that ann read it on the phone");
    cast.tablet.client.close();
    Ok(())
}

fn offline_spell(cast: &mut Cast) -> Result<(), CheckError> {
    cast.bob.client.close();
    let offline = |event: &ClientEvent| {
        matches!(event, ClientEvent::Presence { user: BOB, online: false, .. })
    };
    wait(&mut cast.ann, "bob is shown offline", offline)?;
    crate::say!("ann      sees bob offline");
    let mut ids = Vec::new();
    for number in 1..=OFFLINE_MESSAGES {
        let words = format!("while you were away {number}");
        ids.push(cast.ann.send(BOB, words).map_err(missing("ann sends"))?);
    }
    for client_id in &ids {
        tick(&mut cast.ann, *client_id, TickMark::Sent)?;
    }
    crate::say!("ann      -> bob: {OFFLINE_MESSAGES} messages   ✓ sent, bob is away");
    let early = |event: &ClientEvent| {
        matches!(event, ClientEvent::Tick { client_id, mark, .. }
            if ids.contains(client_id) && *mark > TickMark::Sent)
    };
    absent(&mut cast.ann, "nothing is delivered to a device that is away", early)?;
    cast.bob.reconnect().map_err(missing("bob comes back"))?;
    for number in 1..=OFFLINE_MESSAGES {
        let next = |event: &ClientEvent| matches!(event, ClientEvent::Message { .. });
        let event = wait(&mut cast.bob, "bob gets what he missed", next)?;
        if text(&event) != format!("while you were away {number}") {
            return Err(CheckError::wrong("what bob missed comes in order", text(&event)));
        }
    }
    crate::say!("bob      is back and gets all {OFFLINE_MESSAGES} in order");
    for client_id in &ids {
        tick(&mut cast.ann, *client_id, TickMark::Has)?;
    }
    crate::say!("ann      ✓✓ delivered, all {OFFLINE_MESSAGES}");
    Ok(())
}

fn crash(
    cast: Cast,
    serve: &ServeOptions,
    transport: &str,
    home: &Home,
) -> Result<Cast, CheckError> {
    let Cast { server, mut ann, tablet, mut bob, mut laptop } = cast;
    ann.take_events();
    bob.take_events();
    let mut ids = Vec::new();
    for number in 1..=BURST_MESSAGES {
        let words = format!("burst {number}");
        ids.push(ann.send(BOB, words).map_err(missing("ann sends a burst"))?);
    }
    // Some are answered, many are under way.
    tick(&mut ann, ids.get(ids.len() / 10).copied().unwrap_or(0), TickMark::Sent)?;
    server.kill()?;
    let mut first_answers: BTreeMap<u64, u64> = BTreeMap::new();
    drain(&mut ann);
    drain(&mut bob);
    note_answers(&mut ann, &mut first_answers);
    let before = first_answers.len() + 1;
    crate::say!("server   killed with kill -9; ann saw {before} of {BURST_MESSAGES} as sent");

    let server = ServerProcess::start(serve, home)?;
    crate::say!("server   {}", server.first_line());
    let url = server.url(transport);
    ann.reconnect_to(&url).map_err(missing("ann comes back"))?;
    bob.reconnect_to(&url).map_err(missing("bob comes back"))?;
    let deadline = Instant::now() + WAIT;
    while ann.client.session.unanswered() > 0 && Instant::now() < deadline {
        ann.pump(Duration::from_millis(20)).map_err(missing("ann retries"))?;
        bob.pump(Duration::from_millis(1)).map_err(missing("bob reads"))?;
    }
    if ann.client.session.unanswered() > 0 {
        let left = ann.client.session.unanswered();
        return Err(CheckError::wrong("every retry is answered", format!("{left} are not")));
    }
    note_answers(&mut ann, &mut first_answers);
    crate::say!("ann      retried; all {BURST_MESSAGES} are sent");
    laptop.reconnect_to(&url).map_err(missing("bob's laptop logs in"))?;
    let stored = read_store(&mut laptop, &ids)?;
    for (client_id, position) in &first_answers {
        if stored.get(client_id) != Some(position) {
            let seen = (client_id, position, stored.get(client_id));
            return Err(CheckError::wrong("a message stays where its Sent said", seen));
        }
    }
    crate::say!(
        "laptop   reads what is stored: all {BURST_MESSAGES}, each once, in order, in place"
    );
    everything_reached(&mut bob, &ids)?;
    crate::say!("bob      has all {BURST_MESSAGES}");
    Ok(Cast { server, ann, tablet, bob, laptop })
}

/// Reads the laptop's tail up to the end of the burst: each of `ids` once, in order. Returns
/// where they stand.
fn read_store(laptop: &mut Peer, ids: &[u64]) -> Result<BTreeMap<u64, u64>, CheckError> {
    let last = ids.last().copied().unwrap_or(0);
    let mut stored = BTreeMap::new();
    let mut order = Vec::new();
    let mut by_position: BTreeMap<u64, MessageId> = BTreeMap::new();
    loop {
        let any = |event: &ClientEvent| {
            matches!(event, ClientEvent::Message { .. } | ClientEvent::OwnCopy { .. })
        };
        let event = if order.last() == Some(&last) {
            match laptop.wait_for(any, QUIET) {
                Ok(event) => event,
                Err(PeerError::Timeout { .. }) => break,
                Err(error) => return Err(missing("the laptop reads")(error)),
            }
        } else {
            wait(laptop, "the laptop gets everything that is stored", any)?
        };
        let (id, position) = match &event {
            ClientEvent::Message { id, position, .. }
            | ClientEvent::OwnCopy { id, position, .. } => (id, position),
            _ => continue,
        };
        if by_position.insert(*position, *id).is_some() {
            return Err(CheckError::wrong("a position stands for one message", position));
        }
        if id.sender != ANN || !ids.contains(&id.client_id) {
            continue;
        }
        order.push(id.client_id);
        if stored.insert(id.client_id, *position).is_some() {
            return Err(CheckError::wrong("a retry is stored once", id));
        }
    }
    if order != ids {
        return Err(CheckError::wrong("everything is stored in order", order));
    }
    Ok(stored)
}

/// Bob's phone saw each of them, however often.
fn everything_reached(bob: &mut Peer, ids: &[u64]) -> Result<(), CheckError> {
    let mut missing_ids: Vec<u64> = ids.to_vec();
    let deadline = Instant::now() + WAIT;
    loop {
        for event in bob.take_events() {
            if let ClientEvent::Message { id, .. } = event {
                missing_ids.retain(|client_id| *client_id != id.client_id);
            }
        }
        if missing_ids.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(CheckError::wrong("nothing that was sent is lost", missing_ids));
        }
        bob.pump(Duration::from_millis(20)).map_err(missing("bob reads"))?;
    }
}

fn orderly_end(cast: Cast, home: &Home) -> Result<(), CheckError> {
    let Cast { server, mut ann, .. } = cast;
    server.terminate()?;
    let goodbye = |event: &ClientEvent| matches!(event, ClientEvent::Goodbye { .. });
    let event = wait(&mut ann, "ann is told that the server ends", goodbye)?;
    let ClientEvent::Goodbye { reason, reconnect, .. } = &event else {
        return Err(CheckError::wrong("a goodbye is a goodbye", event));
    };
    if *reason != Parting::Shutdown || !reconnect {
        return Err(CheckError::wrong("the goodbye says shutdown", event));
    }
    crate::say!("ann      is told goodbye: {}", reason.name());
    let status = server.wait(STOP_TIMEOUT, home)?;
    if !status.success() {
        return Err(CheckError::wrong("the server ends with 0 after SIGTERM", status));
    }
    crate::say!("server   drained and ended with 0");
    Ok(())
}
