//! A proxy that knows frames and treats one delivery in so many badly: what the oracle must find.
//!
//! Deliveries are counted over all connections, and kinds of faults take turns. Deliberately not
//! here: judging; it only notes what it did to which message.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use loadgen::report::Wrong;
use wire::{Event, Parser, Policy, ServerFrame, Transport};

const FRAME_BYTES_MAX: usize = 128 * 1024;

/// Sender, recipient and sequence, as the payload has them.
pub(crate) type Name = (u64, u64, u64);

/// What it does, and what it did.
#[derive(Debug)]
pub(crate) struct Faults {
    /// Taken in turn.
    kinds: Vec<Wrong>,
    one_in: u64,
    deliveries: u64,
    pub(crate) done: Vec<(Wrong, Name)>,
}

impl Faults {
    /// What is to be done to the next delivery.
    fn next(&mut self, payload: &[u8]) -> Option<Wrong> {
        self.deliveries += 1;
        if !self.deliveries.is_multiple_of(self.one_in) {
            return None;
        }
        let kind = self.kinds[self.done.len() % self.kinds.len()];
        self.done.push((kind, name(payload)));
        Some(kind)
    }
}

/// A running proxy; it ends with the test.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) listen: String,
    pub(crate) faults: Arc<Mutex<Faults>>,
}

impl Proxy {
    /// In front of `upstream`.
    pub(crate) fn start(
        upstream: &str,
        transport: Transport,
        kinds: &[Wrong],
        one_in: u64,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = listener.local_addr().unwrap().to_string();
        let faults = Faults { kinds: kinds.to_vec(), one_in, deliveries: 0, done: Vec::new() };
        let faults = Arc::new(Mutex::new(faults));
        let (upstream, theirs) = (upstream.to_owned(), Arc::clone(&faults));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (from_client, to_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || copy(from_client, to_server));
                let faults = Arc::clone(&theirs);
                thread::spawn(move || relay(server, client, transport, &faults));
            }
        });
        Self { listen, faults }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// From the server to the client, frame by frame.
fn relay(mut from: TcpStream, mut to: TcpStream, transport: Transport, faults: &Mutex<Faults>) {
    let mut parser = Parser::client(transport);
    let (mut input, mut assembly, mut area) = (Vec::new(), Vec::new(), vec![0; 64 * 1024]);
    let mut upgraded = transport == Transport::Tcp;
    let mut held = None;
    let mut output = Vec::new();
    while let Ok(count @ 1..) = from.read(&mut area) {
        input.extend_from_slice(&area[..count]);
        let mut used = 0;
        if !upgraded {
            let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                continue;
            };
            upgraded = true;
            used = end + 4;
            output.extend_from_slice(&input[..used]);
        }
        let policy = Policy { frame_bytes_max: FRAME_BYTES_MAX, origins: &[] };
        while used < input.len() {
            // A server masks nothing, so the bytes of a frame are the same after it was parsed.
            let (count, event) =
                parser.next(&mut input[used..], &mut assembly, &policy).expect("a frame");
            let payload = match event {
                Event::More { .. } => break,
                Event::Frame(bytes) => match ServerFrame::decode(bytes).expect("a whole frame") {
                    // Groups change, too, which is no message of a run.
                    ServerFrame::Deliver(deliver) if deliver.change.is_none() => {
                        Some(deliver.payload.to_vec())
                    }
                    _ => None,
                },
                _ => None,
            };
            let raw = &input[used..used + count];
            match payload {
                Some(payload) => treat(&payload, raw, faults, &mut held, &mut output),
                None => output.extend_from_slice(raw),
            }
            used += count;
        }
        input.drain(..used);
        if to.write_all(&output).is_err() {
            break;
        }
        output.clear();
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Passes a delivery on, or does to it what is to be done to one in so many.
fn treat(
    payload: &[u8],
    raw: &[u8],
    faults: &Mutex<Faults>,
    held: &mut Option<Vec<u8>>,
    output: &mut Vec<u8>,
) {
    if let Some(earlier) = held.take() {
        output.extend_from_slice(raw);
        output.extend_from_slice(&earlier);
        return;
    }
    let fault = faults.lock().unwrap().next(payload);
    match fault {
        None => output.extend_from_slice(raw),
        Some(Wrong::Lost) => {}
        Some(Wrong::Duplicated) => {
            output.extend_from_slice(raw);
            output.extend_from_slice(raw);
        }
        Some(Wrong::Reordered) => *held = Some(raw.to_vec()),
        Some(Wrong::Corrupted) => {
            let at = raw.windows(payload.len()).position(|bytes| bytes == payload).unwrap();
            let start = output.len();
            output.extend_from_slice(raw);
            output[start + at + payload.len() - 1] ^= 1;
        }
    }
}

/// "MYLG", run u64, from u32, to u32 (of groups with the highest bit set), sequence u32.
fn name(payload: &[u8]) -> Name {
    assert!(payload.starts_with(b"MYLG"));
    let number = |at: usize| u64::from(u32::from_le_bytes(*payload[at..].first_chunk().unwrap()));
    (number(12), number(16), number(20))
}
