//! A small server that writes down what it sees.

use crate::worlds::{Client, World};
use myriad::io::{Closed, Completion, Driver, Next};
use myriad::mem::{Slab, Token};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// What happened to one connection.
#[derive(Default, Debug)]
pub(crate) struct Story {
    pub(crate) data: Vec<u8>,
    /// Sizes of the pieces.
    pub(crate) pieces: Vec<usize>,
    pub(crate) sent: usize,
    pub(crate) closed: Vec<Closed>,
}

pub(crate) struct Shard<S> {
    pub(crate) number: usize,
    /// Connections may move: they are not settled.
    pub(crate) moving: bool,
    pub(crate) tokens: Slab<()>,
    pub(crate) accepted: VecDeque<(S, IpAddr)>,
    pub(crate) stories: HashMap<Token, Story>,
}

pub(crate) type ShardOf<W> = Shard<<<W as World>::Driver as Driver>::Socket>;

pub(crate) fn shard<W: World>(number: usize) -> ShardOf<W> {
    let tokens = Slab::with_capacity(4096);
    Shard { number, moving: false, tokens, accepted: VecDeque::new(), stories: HashMap::new() }
}

impl<S> Shard<S> {
    pub(crate) fn story(&self, token: Token) -> &Story {
        &self.stories[&token]
    }

    /// One poll; `next` decides after each piece. Gives the tokens that got data, in order.
    pub(crate) fn turn_with<W: World>(
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

    pub(crate) fn turn<W: World>(&mut self, world: &mut W) -> Vec<Token>
    where
        W::Driver: Driver<Socket = S>,
    {
        self.turn_with(world, 1024, |_| Next::Read)
    }

    pub(crate) fn turns<W: World>(&mut self, world: &mut W, turns: usize)
    where
        W::Driver: Driver<Socket = S>,
    {
        for _ in 0..turns {
            self.turn(world);
        }
    }

    /// Attaches a socket under a fresh token.
    pub(crate) fn attach<W: World>(&mut self, world: &mut W, socket: S) -> Token
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
    pub(crate) fn meet<W: World>(&mut self, world: &mut W) -> (Token, W::Client)
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
pub(crate) fn until<W: World>(world: &mut W, mut done: impl FnMut(&mut W) -> bool) {
    for _ in 0..W::PATIENCE {
        if done(world) {
            return;
        }
    }
    panic!("waited in vain");
}

/// Bytes that show where they belong.
pub(crate) fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Writes as much of `bytes` as fits and cuts it off.
pub(crate) fn push(client: &mut impl Client, bytes: &mut &[u8]) {
    let taken = client.write(bytes).expect("the connection is gone");
    *bytes = &bytes[taken..];
}

/// Writes all, while the server reads.
pub(crate) fn write_all<W: World>(
    world: &mut W,
    shard: &mut ShardOf<W>,
    client: &mut W::Client,
    all: &[u8],
) {
    let mut rest = all;
    until(world, |world| {
        push(client, &mut rest);
        if !rest.is_empty() {
            shard.turn(world);
        }
        rest.is_empty()
    });
}
