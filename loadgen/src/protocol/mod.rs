//! How a server is spoken to: one small contract without I/O, one file per protocol.
//!
//! A [`Protocol`] is what the clients of a run share; a [`Speaker`] is one client of it over all
//! its connections. Bytes and the time are handed in, bytes and [`Event`]s come out, so that the
//! epoll and the io_uring engine drive the same code. What an engine does with a speaker:
//!
//! ```text
//!   TCP connects ─▶ connected ─▶ take_output ─▶ bytes to the socket
//!   bytes came   ─▶ receive (Ready, Acked, Read, Delivered, …) ─▶ take_output
//!   due          ─▶ send | read | tick                         ─▶ take_output
//!   TCP ended    ─▶ disconnected          (later perhaps `connected` again)
//! ```
//!
//! Invariants a speaker keeps: output is asked for only when everything before is written, so
//! what it holds back is bounded by what it was told to send; bytes of the server that were not
//! understood yet are at most one frame; an idle one holds no buffer. Deliberately not here:
//! sockets, schedules, what a payload means.

pub mod echo;
pub mod hostile;
pub mod mqtt;
pub mod myriad;
pub mod nats;
mod parts;
pub mod redis;
mod small;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use client::Address;

use crate::tokens::Mint;

/// What the clients of one run share: an address and how to log in.
pub trait Protocol: Debug + Send + Sync {
    /// Name for reports: `myriad over WebSocket`.
    fn name(&self) -> String;

    /// Host and port to connect to.
    fn target(&self) -> (&str, u16);

    /// What this protocol promises.
    fn promises(&self) -> Promises;

    /// The client of this number. Numbers count from 0; clients address each other by them.
    ///
    /// # Errors
    /// It can't be made: no secret for its token, say. The text is for the operator.
    fn speaker(&self, number: u32) -> Result<Box<dyn Speaker>, String>;

    /// The account of the client of this number, for what is done beside its connections.
    ///
    /// # Errors
    /// The protocol has none, or there is no token. The text is for the operator.
    fn account(&self, _number: u32) -> Result<Account, String> {
        Err(format!("{} has no accounts", self.name()))
    }

    /// The groups have been made: their ids, by number. Said once, before the first message to one.
    fn set_groups(&self, _ids: &[u64]) {}
}

/// Who a client is at the server.
#[derive(Debug)]
pub struct Account {
    /// The user.
    pub user: u64,
    /// Its token.
    pub token: String,
}

/// Who the clients are, where the protocol has names.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The server's HS256 secret, where the protocol has tokens.
    pub auth_secret_file: Option<&'a Path>,
    /// Number of the first user, where users have numbers; the others follow.
    pub first_user: u64,
}

impl Default for Identity<'_> {
    fn default() -> Self {
        Self { auth_secret_file: None, first_user: myriad::FIRST_USER }
    }
}

/// The protocol that a target's scheme names. With `reads`, senders follow their messages until
/// they are read, where the protocol can.
///
/// # Errors
/// No such scheme, or what it needs is missing. The text is for the operator.
pub fn open(
    target: &str,
    identity: Identity<'_>,
    reads: bool,
) -> Result<Arc<dyn Protocol>, String> {
    let opened = None
        .or_else(|| nats::Nats::parse(target).map(|peer| peer.map(shared)))
        .or_else(|| mqtt::Mqtt::parse(target).map(|peer| peer.map(shared)))
        .or_else(|| redis::Redis::parse(target).map(|peer| peer.map(shared)))
        .or_else(|| echo::Echo::parse(target).map(|peer| peer.map(shared)));
    if let Some(opened) = opened {
        return opened;
    }
    let scheme = target.split("://").next().unwrap_or_default();
    if !["ws", "tcp"].contains(&scheme) {
        return Err(format!(
            "`{target}`: no protocol has this scheme; there are ws:// and tcp:// (Myriad), \
             nats://, mqtt://, redis:// and echo+ws://"
        ));
    }
    let address = Address::parse(target).map_err(|error| error.to_string())?;
    let secret = identity.auth_secret_file.ok_or_else(|| {
        "a Myriad server lets nobody in without a token: give --auth-secret-file with the \
         server's HS256 secret"
            .to_owned()
    })?;
    let mint = Mint::from_file(secret).map_err(|error| error.to_string())?;
    Ok(Arc::new(myriad::Myriad::new(address, mint, identity.first_user, reads)))
}

fn shared<P: Protocol + 'static>(protocol: P) -> Arc<dyn Protocol> {
    Arc::new(protocol)
}

/// What a protocol promises, and so what a run may check and measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Promises {
    /// The server answers each message ([`Event::Acked`]).
    pub acks: bool,
    /// An answered message survives a crash of the server, and comes to people who were offline.
    pub durable: bool,
    /// The recipient's [`Speaker::read`] comes back to the sender as [`Event::Read`].
    pub reads: bool,
    /// A message sent while offline leaves after the next login.
    pub resends: bool,
    /// Whatever a client sends comes back to that very client; nobody else can be written to.
    pub echoes: bool,
    /// Groups can be written to ([`Speaker::send_to_group`]).
    pub groups: bool,
}

/// Something that happened to a speaker while it took in bytes.
#[derive(Debug)]
pub enum Event<'a> {
    /// Logged in: it may send, and it receives.
    Ready,
    /// The server has taken this message; durably, if the protocol promises that.
    Acked {
        /// As given to [`Speaker::send`].
        tag: u64,
    },
    /// The recipient read this message.
    Read {
        /// As given to [`Speaker::send`].
        tag: u64,
    },
    /// The server will not take this message.
    Refused {
        /// As given to [`Speaker::send`].
        tag: u64,
        /// Why, for people.
        reason: String,
    },
    /// A message came.
    Delivered {
        /// As its sender gave it to [`Speaker::send`].
        payload: &'a [u8],
        /// For [`Speaker::read`]; 0 where there is no such thing.
        mark: ReadMark,
    },
    /// The server says that it will close, or whom it does not let in.
    Goodbye {
        /// Why, for people.
        reason: String,
        /// Come back no sooner than this.
        retry_after_ms: u32,
        /// Coming back can't help: a wrong token.
        hopeless: bool,
    },
}

/// What [`Speaker::read`] needs to know of a delivered message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadMark {
    /// Who wrote it, as the protocol names him.
    pub peer: u64,
    /// Where it stands: in a group for all members alike.
    pub position: u64,
    /// The number of the group it came in; that of no group if it is not one of this run.
    pub group: Option<u32>,
}

/// A message can't be taken now: too many wait for the server already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too many messages wait for the server")]
pub struct Full;

/// One client, over all its connections. See the module.
pub trait Speaker: Debug + Send {
    /// A TCP connection stands. The next output opens the conversation.
    fn connected(&mut self, now_ms: u64);

    /// The connection is gone. What was unanswered is sent again after the next login, if the
    /// protocol resends.
    fn disconnected(&mut self);

    /// Takes in bytes, which may be changed in place, and tells what they meant.
    ///
    /// # Errors
    /// The server sent what can't be read, or closed in the protocol's own way: close the socket.
    /// The text is for the operator. Output may be due all the same (the answer to a close).
    fn receive(
        &mut self,
        bytes: &mut [u8],
        now_ms: u64,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), String>;

    /// Queues a message for the client of number `to`. `tag` names it in events: larger for each
    /// further message of this speaker. If the protocol resends, this works while offline too.
    ///
    /// # Errors
    /// Too many wait already, or it is not logged in and the protocol does not resend.
    fn send(&mut self, to: u32, tag: u64, payload: &[u8]) -> Result<(), Full>;

    /// The same for the group of a number: it goes to all other members.
    ///
    /// # Errors
    /// As for [`Speaker::send`], or the protocol has no groups.
    fn send_to_group(&mut self, _group: u32, _tag: u64, _payload: &[u8]) -> Result<(), Full> {
        Err(Full)
    }

    /// The person saw this message.
    fn read(&mut self, mark: ReadMark);

    /// Time passes: heartbeats, retries. Called a few times a second while connected.
    ///
    /// # Errors
    /// The server gave no sign of life for too long: close the socket.
    fn tick(&mut self, now_ms: u64) -> Result<(), String>;

    /// Appends what is to be written now. Called only when everything before is written.
    fn take_output(&mut self, out: &mut Vec<u8>);

    /// Appends a goodbye in the protocol's way, if it has one. The connection is closed next.
    fn close(&mut self, out: &mut Vec<u8>);

    /// Whether it is logged in.
    fn is_ready(&self) -> bool;

    /// Messages the server has not answered: 0 where it never answers.
    fn unanswered(&self) -> usize;
}
