//! One body of checks, every driver: what `src/io/mod.rs` promises.
//!
//! Each check is a function over a [`World`]: drivers of a few shards and clients that can reach
//! them. The list at the end runs every check on the readiness driver over loopback sockets and on
//! the simulated one over a calm network and over several bad ones. What only real sockets have
//! (doorbells, descriptors that run out) follows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail by panicking, and its patterns wrap on purpose"
)]

use myriad::io::ready::Ready;
use myriad::io::sim::{ClientEnd, Faults, Heard, Sim, SimNet};
use myriad::io::socket::bind_group;
#[cfg(target_os = "linux")]
use myriad::io::uring::Uring;
use myriad::io::{Closed, Completion, Driver, How, Next};
use myriad::mem::{Slab, Token};
use socket2::SockRef;
use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

// ---- the worlds ------------------------------------------------------------------------------

trait World {
    type Driver: Driver;
    type Client: Client;
    /// Turns after which a check gives up waiting.
    const PATIENCE: usize;
    fn driver(&mut self, shard: usize) -> &mut Self::Driver;
    fn connect(&mut self, shard: usize) -> Self::Client;
}

trait Client {
    /// Bytes taken, possibly 0; `None` if the connection is gone.
    fn write(&mut self, bytes: &[u8]) -> Option<usize>;
    fn read(&mut self, out: &mut Vec<u8>) -> Heard;
    fn finish(&mut self);
    fn reset(self);
}

/// Drivers over loopback sockets.
struct SocketWorld<D> {
    drivers: Vec<D>,
    addresses: Vec<SocketAddr>,
}

impl<D> SocketWorld<D> {
    fn new(driver: impl Fn(TcpListener) -> D) -> Self {
        let mut world = Self { drivers: Vec::new(), addresses: Vec::new() };
        for _ in 0..2 {
            let listener = bind_group("127.0.0.1:0".parse().unwrap(), 1, 4096).unwrap().remove(0);
            world.addresses.push(listener.local_addr().unwrap());
            world.drivers.push(driver(listener));
        }
        world
    }
}

fn ready_world(receive_bytes: usize) -> SocketWorld<Ready> {
    SocketWorld::new(|listener| Ready::new(listener, 4096, receive_bytes).unwrap())
}

#[cfg(target_os = "linux")]
fn uring_world(receive_bytes: usize, slots_per_ring: u32) -> SocketWorld<Uring> {
    SocketWorld::new(|listener| Uring::new(listener, 4096, receive_bytes, slots_per_ring).unwrap())
}

impl<D: Driver<Socket = TcpStream>> World for SocketWorld<D> {
    type Driver = D;
    type Client = TcpStream;
    const PATIENCE: usize = 4_000;

    fn driver(&mut self, shard: usize) -> &mut D {
        &mut self.drivers[shard]
    }

    fn connect(&mut self, shard: usize) -> TcpStream {
        let client = TcpStream::connect(self.addresses[shard]).unwrap();
        client.set_nonblocking(true).unwrap();
        client.set_nodelay(true).unwrap();
        client
    }
}

impl Client for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        match Write::write(self, bytes) {
            Ok(taken) => Some(taken),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
            Err(_) => None,
        }
    }

    fn read(&mut self, out: &mut Vec<u8>) -> Heard {
        let mut buffer = [0; 16 * 1024];
        match Read::read(self, &mut buffer) {
            Ok(0) => Heard::End,
            Ok(bytes) => {
                out.extend_from_slice(&buffer[..bytes]);
                Heard::Bytes(bytes)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Heard::Nothing,
            Err(_) => Heard::Reset,
        }
    }

    fn finish(&mut self) {
        self.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(self) {
        SockRef::from(&self).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

struct SimWorld {
    net: SimNet,
    drivers: Vec<Sim>,
}

fn sim_world(seed: u64, faults: Faults, receive_bytes: usize) -> SimWorld {
    let net = SimNet::new(seed, faults);
    let drivers = (0..2).map(|shard| net.driver(shard, 4096, receive_bytes)).collect();
    SimWorld { net, drivers }
}

impl World for SimWorld {
    type Driver = Sim;
    type Client = ClientEnd;
    const PATIENCE: usize = 200_000;

    fn driver(&mut self, shard: usize) -> &mut Sim {
        &mut self.drivers[shard]
    }

    fn connect(&mut self, shard: usize) -> ClientEnd {
        self.net.connect(shard)
    }
}

impl Client for ClientEnd {
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        ClientEnd::write(self, bytes).ok()
    }

    fn read(&mut self, out: &mut Vec<u8>) -> Heard {
        ClientEnd::read(self, out)
    }

    fn finish(&mut self) {
        ClientEnd::finish(self);
    }

    fn reset(mut self) {
        ClientEnd::reset(&mut self);
    }
}

// ---- a small server that writes down what it sees ---------------------------------------------

/// What happened to one connection.
#[derive(Default, Debug)]
struct Story {
    data: Vec<u8>,
    /// Sizes of the pieces.
    pieces: Vec<usize>,
    sent: usize,
    closed: Vec<Closed>,
}

struct Shard<S> {
    number: usize,
    /// Connections may move: they are not settled.
    moving: bool,
    tokens: Slab<()>,
    accepted: VecDeque<(S, IpAddr)>,
    stories: HashMap<Token, Story>,
}

type ShardOf<W> = Shard<<<W as World>::Driver as Driver>::Socket>;

fn shard<W: World>(number: usize) -> ShardOf<W> {
    let tokens = Slab::with_capacity(4096);
    Shard { number, moving: false, tokens, accepted: VecDeque::new(), stories: HashMap::new() }
}

impl<S> Shard<S> {
    fn story(&self, token: Token) -> &Story {
        &self.stories[&token]
    }

    /// One poll; `next` decides after each piece. Gives the tokens that got data, in order.
    fn turn_with<W: World>(
        &mut self,
        world: &mut W,
        events_max: usize,
        mut next: impl FnMut(Token) -> Next,
    ) -> Vec<Token>
    where
        W::Driver: Driver<Socket = S>,
    {
        let mut served = Vec::new();
        let wait = Some(Duration::from_millis(5));
        let sink = &mut |completion: Completion<'_, S>| match completion {
            Completion::Accepted { socket, source } => {
                self.accepted.push_back((socket, source));
                Next::Read
            }
            Completion::Data(token, bytes) => {
                assert!(!bytes.is_empty());
                let story = self.stories.get_mut(&token).expect("data for nobody");
                assert!(story.closed.is_empty(), "data after the end");
                story.data.extend_from_slice(bytes);
                story.pieces.push(bytes.len());
                bytes.fill(0); // the slice is ours to change
                served.push(token);
                next(token)
            }
            Completion::Sent(token, _buffer) => {
                self.stories.get_mut(&token).expect("sent for nobody").sent += 1;
                Next::Close // must be ignored
            }
            Completion::Closed(token, why) => {
                self.stories.get_mut(&token).expect("an end for nobody").closed.push(why);
                Next::Close // must be ignored
            }
        };
        world.driver(self.number).poll(wait, events_max, sink).unwrap();
        served
    }

    fn turn<W: World>(&mut self, world: &mut W) -> Vec<Token>
    where
        W::Driver: Driver<Socket = S>,
    {
        self.turn_with(world, 1024, |_| Next::Read)
    }

    fn turns<W: World>(&mut self, world: &mut W, turns: usize)
    where
        W::Driver: Driver<Socket = S>,
    {
        for _ in 0..turns {
            self.turn(world);
        }
    }

    /// Attaches a socket under a fresh token.
    fn attach<W: World>(&mut self, world: &mut W, socket: S) -> Token
    where
        W::Driver: Driver<Socket = S>,
    {
        let token = self.tokens.insert(()).unwrap();
        self.stories.insert(token, Story::default());
        world.driver(self.number).attach(token, socket).unwrap();
        if !self.moving {
            world.driver(self.number).settle(token);
        }
        token
    }

    /// Connects a client and attaches the server's side.
    fn meet<W: World>(&mut self, world: &mut W) -> (Token, W::Client)
    where
        W::Driver: Driver<Socket = S>,
    {
        let client = world.connect(self.number);
        until(world, |world| {
            self.turn(world);
            !self.accepted.is_empty()
        });
        let (socket, source) = self.accepted.pop_front().unwrap();
        assert!(source.is_loopback());
        (self.attach(world, socket), client)
    }
}

#[track_caller]
fn until<W: World>(world: &mut W, mut done: impl FnMut(&mut W) -> bool) {
    for _ in 0..W::PATIENCE {
        if done(world) {
            return;
        }
    }
    panic!("waited in vain");
}

/// Bytes that show where they belong.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Writes as much of `bytes` as fits and cuts it off.
fn push(client: &mut impl Client, bytes: &mut &[u8]) {
    let taken = client.write(bytes).expect("the connection is gone");
    *bytes = &bytes[taken..];
}

/// Writes all, while the server reads.
fn write_all<W: World>(world: &mut W, shard: &mut ShardOf<W>, client: &mut W::Client, all: &[u8]) {
    let mut rest = all;
    until(world, |world| {
        push(client, &mut rest);
        if !rest.is_empty() {
            shard.turn(world);
        }
        rest.is_empty()
    });
}

// ---- the checks ------------------------------------------------------------------------------

/// Sends everything read back, one send at a time, and compares at the client.
fn echo_keeps_order<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    let all = pattern(300_000);
    let (mut rest, mut heard) = (&all[..], Vec::new());
    let (mut echoed, mut under_way, mut delayed) = (0, false, 0);
    until(world, |world| {
        if !rest.is_empty() {
            push(&mut client, &mut rest);
        }
        shard.turn(world);
        if under_way && shard.story(token).sent == delayed {
            under_way = false;
        }
        let data = &shard.story(token).data;
        if !under_way && echoed < data.len() {
            let buffer = data[echoed..].to_vec();
            echoed = data.len();
            if world.driver(0).send(token, buffer).is_none() {
                under_way = true;
                delayed += 1;
            }
        }
        client.read(&mut heard);
        heard.len() == all.len()
    });
    assert_eq!(heard, all);
    assert_eq!(shard.story(token).data, all);
}

fn a_byte_at_a_time_arrives<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    let all = pattern(300);
    for byte in &all {
        write_all(world, &mut shard, &mut client, std::slice::from_ref(byte));
        shard.turn(world);
    }
    until(world, |world| {
        shard.turn(world);
        shard.story(token).data.len() == all.len()
    });
    assert_eq!(shard.story(token).data, all);
}

fn a_large_buffer_leaves_through_a_slow_reader<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    // Loopback buffers can grow to several megabytes.
    let all = pattern(16 << 20);
    assert!(world.driver(0).send(token, all.clone()).is_none(), "it can't all fit");
    shard.turns(world, 20);
    assert_eq!(shard.story(token).sent, 0, "nobody has read it");
    // Its input is served meanwhile.
    write_all(world, &mut shard, &mut client, b"still here");
    until(world, |world| {
        shard.turn(world);
        shard.story(token).data == b"still here"
    });
    let mut heard = Vec::new();
    until(world, |world| {
        while let Heard::Bytes(_) = client.read(&mut heard) {}
        shard.turn(world);
        heard.len() == all.len()
    });
    assert!(heard == all);
    until(world, |world| {
        shard.turn(world);
        shard.story(token).sent == 1
    });
    shard.turns(world, 3);
    assert_eq!(shard.story(token).sent, 1);
    assert!(shard.story(token).closed.is_empty());
    // And the next send goes its way.
    let _ = world.driver(0).send(token, b"more".to_vec());
    let mut heard = Vec::new();
    until(world, |world| {
        shard.turn(world);
        client.read(&mut heard);
        heard == b"more"
    });
}

fn a_pause_keeps_bytes_and_the_end<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    write_all(world, &mut shard, &mut client, b"first");
    until(world, |world| !shard.turn_with(world, 64, |_| Next::Pause).is_empty());
    let before = shard.story(token).data.len();
    let mut rest: &[u8] = b" second";
    until(world, |_| {
        push(&mut client, &mut rest);
        rest.is_empty()
    });
    client.finish();
    for _ in 0..20 {
        assert!(shard.turn(world).is_empty(), "data during a pause");
    }
    assert_eq!(shard.story(token).data.len(), before);
    assert!(shard.story(token).closed.is_empty(), "the end comes after the bytes");
    world.driver(0).resume(token);
    until(world, |world| {
        shard.turn(world);
        !shard.story(token).closed.is_empty()
    });
    assert_eq!(shard.story(token).data, b"first second");
    assert_eq!(shard.story(token).closed, [Closed::Peer]);
}

fn pausing_from_outside_holds_too<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    world.driver(0).pause(token);
    let mut rest: &[u8] = b"wait";
    until(world, |_| {
        push(&mut client, &mut rest);
        rest.is_empty()
    });
    shard.turns(world, 20);
    assert!(shard.story(token).data.is_empty());
    world.driver(0).resume(token);
    until(world, |world| {
        shard.turn(world);
        shard.story(token).data == b"wait"
    });
}

fn sending_goes_on_during_a_pause<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    world.driver(0).pause(token);
    let all = pattern(16 << 20);
    assert!(world.driver(0).send(token, all.clone()).is_none());
    let mut heard = Vec::new();
    until(world, |world| {
        while let Heard::Bytes(_) = client.read(&mut heard) {}
        shard.turn(world);
        shard.story(token).sent == 1
    });
    // The peer's end is found by a send, pause or not.
    client.reset();
    until(world, |world| {
        if shard.story(token).closed.is_empty() {
            let _ = world.driver(0).send(token, b"anybody?".to_vec());
        }
        shard.turn(world);
        !shard.story(token).closed.is_empty()
    });
    assert_eq!(shard.story(token).closed, [Closed::Reset]);
}

fn moving_to_another_shard_keeps_bytes<W: World>(world: &mut W) {
    let mut from = shard::<W>(0);
    from.moving = true;
    let mut to = shard::<W>(1);
    for unread in [0, 1, 3000] {
        let (token, mut client) = from.meet(world);
        let all = pattern(5000 + unread);
        write_all(world, &mut from, &mut client, &all[..2000]);
        until(world, |world| {
            from.turn(world);
            from.story(token).data.len() >= 2000
        });
        // Some bytes are in the kernel when it moves, the others come later.
        let mut rest = &all[2000..2000 + unread];
        until(world, |world| {
            push(&mut client, &mut rest);
            if !rest.is_empty() {
                from.turn(world);
            }
            rest.is_empty()
        });
        let socket = world.driver(0).detach(token).expect("attached");
        assert!(world.driver(0).detach(token).is_none());
        let moved = to.attach(world, socket);
        let mut rest = &all[2000 + unread..];
        until(world, |world| {
            push(&mut client, &mut rest);
            from.turn(world);
            to.turn(world);
            let seen = from.story(token).data.len() + to.story(moved).data.len();
            seen == all.len()
        });
        let mut seen = from.story(token).data.clone();
        seen.extend_from_slice(&to.story(moved).data);
        assert_eq!(seen, all);
        // It works there in both directions, and the old name means nothing any more.
        assert!(from.story(token).closed.is_empty());
        let mut heard = Vec::new();
        let _ = world.driver(1).send(moved, b"at home".to_vec());
        until(world, |world| {
            to.turn(world);
            client.read(&mut heard);
            heard == b"at home"
        });
    }
}

fn a_graceful_close_delivers_what_was_sent<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    // Input that nobody has read must not turn the end into a reset.
    let mut rest: &[u8] = b"unread input";
    until(world, |_| {
        push(&mut client, &mut rest);
        rest.is_empty()
    });
    if world.driver(0).send(token, b"goodbye".to_vec()).is_none() {
        until(world, |world| {
            shard.turn(world);
            shard.story(token).sent == 1
        });
    }
    world.driver(0).close(token, How::Graceful);
    let mut heard = Vec::new();
    let mut last = Heard::Nothing;
    until(world, |world| {
        shard.turn(world);
        last = client.read(&mut heard);
        matches!(last, Heard::End | Heard::Reset)
    });
    assert_eq!((heard.as_slice(), last), (&b"goodbye"[..], Heard::End));
}

fn a_close_is_the_last_word<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    for how in [How::Graceful, How::Reset] {
        for under_way in [false, true] {
            let (token, mut client) = shard.meet(world);
            write_all(world, &mut shard, &mut client, b"data that nobody will see");
            if under_way {
                let _ = world.driver(0).send(token, pattern(16 << 20));
            }
            let before = shard.story(token).data.len();
            world.driver(0).close(token, how);
            shard.turns(world, 5);
            let mut heard = Vec::new();
            let mut last = Heard::Nothing;
            until(world, |world| {
                shard.turn(world);
                last = client.read(&mut heard);
                matches!(last, Heard::End | Heard::Reset)
            });
            if how == How::Reset {
                assert_eq!(last, Heard::Reset);
            }
            drop(client);
            shard.turns(world, 5);
            let story = shard.story(token);
            assert_eq!((story.data.len(), story.sent, story.closed.len()), (before, 0, 0));
        }
    }
}

fn closing_from_the_sink_works<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    let mut rest: &[u8] = b"nonsense";
    until(world, |world| {
        if !rest.is_empty() {
            push(&mut client, &mut rest);
        }
        !shard.turn_with(world, 64, |_| Next::Close).is_empty()
    });
    let mut heard = Vec::new();
    until(world, |world| {
        shard.turn(world);
        matches!(client.read(&mut heard), Heard::End | Heard::Reset)
    });
    shard.turns(world, 5);
    assert_eq!(shard.story(token).pieces.len(), 1);
    assert!(shard.story(token).closed.is_empty());
    assert!(world.driver(0).detach(token).is_none());
}

/// A half-close may be carried out later than it was asked for; whoever has the place of the one it
/// was meant for by then must not be hit.
fn a_late_half_close_hits_nobody_else<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    for _ in 0..100 {
        let leaving: Vec<_> = (0..3).map(|_| shard.meet(world)).collect();
        shard.turns(world, 2);
        let coming: Vec<_> = (0..3).map(|_| world.connect(0)).collect();
        until(world, |world| {
            shard.turn(world);
            shard.accepted.len() == coming.len()
        });
        for (token, _) in &leaving {
            world.driver(0).finish(*token);
            world.driver(0).close(*token, How::Graceful);
        }
        let mut clients = Vec::new();
        for client in coming {
            let (socket, _) = shard.accepted.pop_front().unwrap();
            clients.push((shard.attach(world, socket), client));
        }
        // Who came in which order is not known: what is said to all must reach all.
        for (token, client) in &mut clients {
            write_all(world, &mut shard, client, b"question");
            let _sent_or_under_way = world.driver(0).send(*token, b"answer".to_vec());
        }
        let mut heard = vec![Vec::new(); clients.len()];
        until(world, |world| {
            shard.turn(world);
            for ((_, client), heard) in clients.iter_mut().zip(&mut heard) {
                assert!(!matches!(client.read(heard), Heard::End | Heard::Reset));
            }
            let asked = clients.iter().all(|(token, _)| shard.story(*token).data == b"question");
            asked && heard.iter().all(|heard| heard == b"answer")
        });
        for (token, client) in clients {
            assert!(shard.story(token).closed.is_empty());
            world.driver(0).close(token, How::Graceful);
            drop(client);
        }
    }
}

fn a_half_close_ends_after_the_last_byte<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    // Also exactly full buffers, and an end that comes with the bytes.
    for bytes in [0, 1, 64, 128, 1000, 1024, 65_536] {
        let (token, mut client) = shard.meet(world);
        let all = pattern(bytes);
        let mut rest = &all[..];
        until(world, |world| {
            if !rest.is_empty() {
                push(&mut client, &mut rest);
            }
            if !rest.is_empty() {
                shard.turn(world);
            }
            rest.is_empty()
        });
        client.finish();
        until(world, |world| {
            shard.turn(world);
            !shard.story(token).closed.is_empty()
        });
        assert_eq!(shard.story(token).data, all);
        shard.turns(world, 3);
        assert_eq!(shard.story(token).closed, [Closed::Peer]);
        // The driver has let go: the client sees the end too.
        let mut heard = Vec::new();
        until(world, |world| {
            shard.turn(world);
            client.read(&mut heard) == Heard::End
        });
    }
}

fn an_end_that_comes_later_is_noticed<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    write_all(world, &mut shard, &mut client, b"hello");
    until(world, |world| {
        shard.turn(world);
        shard.story(token).data == b"hello"
    });
    shard.turns(world, 3);
    assert!(shard.story(token).closed.is_empty());
    drop(client);
    until(world, |world| {
        shard.turn(world);
        !shard.story(token).closed.is_empty()
    });
    assert_eq!(shard.story(token).closed, [Closed::Peer]);
}

fn a_reset_is_told_once<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    for sending in [false, true] {
        let (token, client) = shard.meet(world);
        if sending {
            assert!(world.driver(0).send(token, pattern(16 << 20)).is_none());
        }
        client.reset();
        until(world, |world| {
            shard.turn(world);
            !shard.story(token).closed.is_empty()
        });
        shard.turns(world, 5);
        assert_eq!(shard.story(token).closed, [Closed::Reset]);
        assert_eq!(world.driver(0).send(token, b"late".to_vec()), Some(b"late".to_vec()));
    }
}

fn sends_to_a_peer_that_left_end_in_one_closed<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, client) = shard.meet(world);
    drop(client);
    let mut under_way = 0;
    until(world, |world| {
        let story = shard.story(token);
        let ended = !story.closed.is_empty();
        if !ended && story.sent == under_way && world.driver(0).send(token, vec![7]).is_none() {
            under_way += 1;
        }
        shard.turn(world);
        ended
    });
    shard.turns(world, 5);
    assert_eq!(shard.story(token).closed.len(), 1);
}

fn a_stale_token_harms_nobody<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (old, client) = shard.meet(world);
    world.driver(0).close(old, How::Graceful);
    shard.tokens.remove(old);
    drop(client);
    let (token, mut client) = shard.meet(world);
    assert_eq!(token.index, old.index);
    let stale = world.driver(0).counts().stale;
    world.driver(0).pause(old);
    world.driver(0).close(old, How::Reset);
    world.driver(0).resume(old);
    assert!(world.driver(0).detach(old).is_none());
    assert_eq!(world.driver(0).send(old, b"no".to_vec()), Some(b"no".to_vec()));
    assert_eq!(world.driver(0).counts().stale, stale + 5);
    write_all(world, &mut shard, &mut client, b"new tenant");
    until(world, |world| {
        shard.turn(world);
        shard.story(token).data == b"new tenant"
    });
    assert!(shard.story(old).data.is_empty());
    let beyond = Token { index: 4096, generation: 1 };
    world.driver(0).close(beyond, How::Reset);
    assert!(world.driver(0).detach(beyond).is_none());
}

fn an_index_beyond_the_plan_is_refused<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let _client = world.connect(0);
    until(world, |world| {
        shard.turn(world);
        !shard.accepted.is_empty()
    });
    let (socket, _) = shard.accepted.pop_front().unwrap();
    let error = world.driver(0).attach(Token { index: 4096, generation: 1 }, socket).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

fn accepting_stops_and_starts<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let (token, mut client) = shard.meet(world);
    world.driver(0).accept(false);
    let _waiting: Vec<_> = (0..3).map(|_| world.connect(0)).collect();
    shard.turns(world, 10);
    assert!(shard.accepted.is_empty());
    write_all(world, &mut shard, &mut client, b"we go on");
    until(world, |world| {
        shard.turn(world);
        shard.story(token).data == b"we go on"
    });
    world.driver(0).accept(true);
    until(world, |world| {
        shard.turn(world);
        shard.accepted.len() == 3
    });
}

fn a_socket_dropped_unattached_closes<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let mut client = world.connect(0);
    until(world, |world| {
        shard.turn(world);
        shard.accepted.pop_front().is_some()
    });
    let mut heard = Vec::new();
    until(world, |world| {
        shard.turn(world);
        matches!(client.read(&mut heard), Heard::End | Heard::Reset)
    });
}

/// With a small receive buffer (the list below says so) a greedy client is ready all the time.
fn nobody_is_served_twice_before_the_others<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let mut clients: Vec<_> = (0..4).map(|_| shard.meet(world)).collect();
    let greed = pattern(60_000);
    let mut rest = &greed[..];
    for _ in 0..200 {
        for (at, (_, client)) in clients.iter_mut().enumerate() {
            if at == 0 && !rest.is_empty() {
                push(client, &mut rest);
            } else if at > 0 {
                let _ = client.write(b"me too");
            }
        }
        let served = shard.turn(world);
        let mut once = served.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), served.len(), "served twice in one poll");
    }
    until(world, |world| {
        if !rest.is_empty() {
            push(&mut clients[0].1, &mut rest);
        }
        shard.turn(world);
        shard.story(clients[0].0).data.len() == greed.len()
    });
    for (token, _) in &clients[1..] {
        assert!(shard.story(*token).pieces.len() > 20, "starved");
    }
}

fn a_turn_serves_no_more_than_it_is_told<W: World>(world: &mut W) {
    let mut shard = shard::<W>(0);
    let mut clients: Vec<_> = (0..20).map(|_| shard.meet(world)).collect();
    for (_, client) in &mut clients {
        let mut rest: &[u8] = b"!";
        until(world, |_| {
            push(client, &mut rest);
            rest.is_empty()
        });
    }
    let mut served = 0;
    until(world, |world| {
        let now = shard.turn_with(world, 3, |_| Next::Read).len();
        assert!(now <= 3);
        served += now;
        served == 20
    });
    for (token, _) in &clients {
        assert_eq!(shard.story(*token).data, b"!");
    }
}

fn two_thousand_connections_at_once<W: World>(world: &mut W) {
    const CONNS: usize = 2_000;
    let mut shard = shard::<W>(0);
    let mut clients: Vec<_> = (0..CONNS).map(|_| world.connect(0)).collect();
    let mut tokens = Vec::new();
    until(world, |world| {
        shard.turn(world);
        while let Some((socket, _)) = shard.accepted.pop_front() {
            tokens.push(shard.attach(world, socket));
        }
        tokens.len() == CONNS
    });
    for (at, client) in clients.iter_mut().enumerate() {
        let line = format!("{at:04}");
        let mut rest = line.as_bytes();
        until(world, |_| {
            push(client, &mut rest);
            rest.is_empty()
        });
    }
    let mut answered = 0;
    until(world, |world| {
        for token in shard.turn(world) {
            let data = shard.story(token).data.clone();
            if data.len() == 4 {
                let _ = world.driver(0).send(token, data);
                answered += 1;
            }
        }
        answered == CONNS
    });
    for (at, client) in clients.iter_mut().enumerate() {
        let mut heard = Vec::new();
        until(world, |world| {
            if client.read(&mut heard) == Heard::Nothing {
                shard.turn(world);
            }
            heard.len() == 4
        });
        assert_eq!(heard, format!("{at:04}").as_bytes());
    }
    drop(clients);
    until(world, |world| {
        shard.turn(world);
        shard.stories.values().all(|story| story.closed == [Closed::Peer])
    });
}

// ---- every check on every driver ----------------------------------------------------------------

macro_rules! conformance {
    ($($check:ident $(with $receive_bytes:literal)?;)*) => {
        mod ready {
            $(#[test] fn $check() {
                let receive_bytes = [4096 $(, $receive_bytes)?];
                let mut world = super::ready_world(*receive_bytes.last().unwrap());
                super::$check(&mut world);
            })*
        }
        #[cfg(target_os = "linux")]
        mod uring {
            $(#[test] fn $check() {
                let receive_bytes = [4096 $(, $receive_bytes)?];
                let receive_bytes = *receive_bytes.last().unwrap();
                // One ring that holds all, then very many.
                for slots_per_ring in [4096, 16] {
                    eprintln!("{slots_per_ring} slots per ring");
                    super::$check(&mut super::uring_world(receive_bytes, slots_per_ring));
                }
            })*
        }
        mod sim {
            use myriad::io::sim::Faults;
            $(#[test] fn $check() {
                let receive_bytes = [4096 $(, $receive_bytes)?];
                let receive_bytes = *receive_bytes.last().unwrap();
                super::$check(&mut super::sim_world(0, Faults::none(), receive_bytes));
                for seed in 1..6 {
                    eprintln!("seed {seed}");
                    super::$check(&mut super::sim_world(seed, Faults::pieces(), receive_bytes));
                }
            })*
        }
    };
}

conformance! {
    echo_keeps_order;
    a_byte_at_a_time_arrives;
    a_large_buffer_leaves_through_a_slow_reader with 65536;
    a_pause_keeps_bytes_and_the_end;
    pausing_from_outside_holds_too;
    sending_goes_on_during_a_pause;
    moving_to_another_shard_keeps_bytes;
    a_graceful_close_delivers_what_was_sent;
    a_close_is_the_last_word;
    closing_from_the_sink_works;
    a_late_half_close_hits_nobody_else;
    a_half_close_ends_after_the_last_byte with 64;
    an_end_that_comes_later_is_noticed;
    a_reset_is_told_once;
    sends_to_a_peer_that_left_end_in_one_closed;
    a_stale_token_harms_nobody;
    an_index_beyond_the_plan_is_refused;
    accepting_stops_and_starts;
    a_socket_dropped_unattached_closes;
    nobody_is_served_twice_before_the_others with 16;
    a_turn_serves_no_more_than_it_is_told;
    two_thousand_connections_at_once;
}

// ---- what only real sockets have ----------------------------------------------------------------

#[test]
fn a_doorbell_ends_a_sleep_without_end() {
    let mut world = ready_world(64);
    let doorbell = world.driver(0).doorbell();
    let mut quiet = |_: Completion<'_, TcpStream>| Next::Read;
    world.driver(0).poll(Some(Duration::ZERO), 8, &mut quiet).unwrap();
    // Rung before the sleep begins, and during it.
    for early in [true, false] {
        doorbell.prepare_sleep();
        let ringer = doorbell.clone();
        let thread = std::thread::spawn(move || {
            if !early {
                std::thread::sleep(Duration::from_millis(50));
            }
            ringer.ring();
        });
        if early {
            thread.join().unwrap();
            world.driver(0).poll(None, 8, &mut quiet).unwrap();
        } else {
            world.driver(0).poll(None, 8, &mut quiet).unwrap();
            thread.join().unwrap();
        }
        doorbell.awake();
    }
}

/// Sixteen slots have a queue of sixteen completions: sends alone fill it, and whatever the kernel
/// has to report meanwhile of the listener, the bell and the sockets finds no room.
#[test]
#[cfg(target_os = "linux")]
fn a_full_completion_queue_loses_neither_door_nor_bell_nor_data() {
    let mut world = uring_world(64, 16);
    let mut shard = shard::<SocketWorld<Uring>>(0);
    let mut clients: Vec<_> = (0..40).map(|_| shard.meet(&mut world)).collect();
    shard.turns(&mut world, 5);
    let doorbell = world.driver(0).doorbell();
    for round in 1..=20 {
        let sent: Vec<_> = clients.iter().map(|(token, _)| shard.story(*token).sent).collect();
        for (token, _) in &clients {
            assert!(world.driver(0).send(*token, b"answer".to_vec()).is_none());
        }
        for (_, client) in &mut clients {
            assert_eq!(Client::write(client, b"question"), Some(8));
        }
        let newcomer = world.connect(0);
        doorbell.prepare_sleep();
        doorbell.ring();
        until(&mut world, |world| {
            shard.turn(world);
            let done = |((token, _), sent): (&(Token, TcpStream), &usize)| {
                let story = shard.story(*token);
                story.sent == sent + 1 && story.data.len() == 8 * round
            };
            shard.accepted.len() == round && clients.iter().zip(&sent).all(done)
        });
        drop(newcomer);
    }
    // And the bell still ends a sleep without end.
    doorbell.prepare_sleep();
    let ringer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        doorbell.ring();
    });
    world.driver(0).poll(None, 8, &mut |_| Next::Read).unwrap();
    ringer.join().unwrap();
}

#[test]
fn accepted_sockets_are_ready_for_chat() {
    let mut world = ready_world(64);
    let mut shard = shard::<SocketWorld<Ready>>(0);
    let _client = world.connect(0);
    until(&mut world, |world| {
        shard.turn(world);
        !shard.accepted.is_empty()
    });
    let (mut socket, source) = shard.accepted.pop_front().unwrap();
    assert_eq!(source, IpAddr::from([127, 0, 0, 1]));
    assert!(socket.nodelay().unwrap(), "inherited from the listener");
    #[cfg(target_os = "linux")]
    assert_eq!(
        SockRef::from(&socket).tcp_user_timeout().unwrap(),
        Some(Duration::from_millis(myriad::limits::USER_TIMEOUT_MS)),
        "inherited from the listener"
    );
    let error = Read::read(&mut socket, &mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

/// Lowering the limit concerns the whole process, so a process of its own plays this.
#[test]
fn running_out_of_descriptors_rests_and_recovers() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_without_descriptors", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("1 passed"), "{text}{said}");
}

#[test]
#[ignore = "run by running_out_of_descriptors_rests_and_recovers"]
fn child_without_descriptors() {
    use std::os::fd::AsRawFd;
    let mut world = ready_world(64);
    let mut shard = shard::<SocketWorld<Ready>>(0);
    let (token, mut client) = shard.meet(&mut world);
    let (_, hard) = myriad::sys::nofile().unwrap();
    let waiting: Vec<_> = (0..20).map(|_| world.connect(0)).collect();
    let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    myriad::sys::set_nofile(u64::try_from(next).unwrap() + 4).unwrap();

    let (start, mut polls) = (Instant::now(), 0);
    let mut rest: &[u8] = b"established";
    while start.elapsed() < Duration::from_millis(550) {
        shard.turn_with(&mut world, 64, |_| Next::Read);
        polls += 1;
        if !rest.is_empty() {
            push(&mut client, &mut rest);
        }
    }
    assert_eq!(shard.accepted.len(), 4);
    assert_eq!(shard.story(token).data, b"established", "those who are in go on");
    let counts = world.driver(0).counts();
    assert!((1..=7).contains(&counts.accept_pauses), "{counts:?}");
    assert!(polls < 250, "{polls} polls of 5 ms in 550 ms: it spins");

    shard.accepted.clear();
    until(&mut world, |world| {
        shard.turn(world);
        shard.accepted.len() == 4
    });
    myriad::sys::set_nofile(hard).unwrap();
    until(&mut world, |world| {
        shard.turn(world);
        shard.accepted.len() == 16
    });
    assert_eq!(waiting.len(), 20);
}

// ---- what only the simulation has -------------------------------------------------------------

/// What happens with this seed, as text.
fn trace(seed: u64) -> Vec<String> {
    let faults = Faults { resets_per_million: 20_000, ..Faults::pieces() };
    let mut world = sim_world(seed, faults, 256);
    let mut slab = Slab::with_capacity(4096);
    let mut clients: Vec<_> = (0..10).map(|_| world.connect(0)).collect();
    let mut trace = Vec::new();
    for step in 0..200 {
        for client in &mut clients {
            let _ = client.write(&pattern(100));
        }
        let mut sockets = Vec::new();
        world.drivers[0]
            .poll(None, 5, &mut |completion| {
                if let Completion::Accepted { socket, .. } = completion {
                    sockets.push(socket);
                } else {
                    trace.push(format!("{step} {completion:?}"));
                }
                Next::Read
            })
            .unwrap();
        for socket in sockets {
            let token = slab.insert(()).unwrap();
            world.drivers[0].attach(token, socket).unwrap();
        }
    }
    trace
}

#[test]
fn the_same_seed_gives_the_same_story() {
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
    assert!(trace(7).iter().any(|line| line.contains("Reset")));
}

#[test]
fn a_client_that_vanishes_leaves_a_bounded_half_open_connection() {
    let mut world = sim_world(1, Faults::none(), 64);
    let mut shard = shard::<SimWorld>(0);
    let (token, client) = shard.meet(&mut world);
    client.vanish();
    assert!(world.drivers[0].send(token, pattern(1 << 20)).is_none());
    shard.turns(&mut world, 100);
    assert!(shard.story(token).closed.is_empty());
    assert_eq!(shard.story(token).sent, 0);
    world.drivers[0].close(token, How::Reset);
}
