//! The terminal client: lines in, lines out, ticks, presence and typing on the way.
//!
//! Owner: the thread that calls [`run`]; a second one only reads standard input. Invariants: what
//! the user wrote is in the state file (if there is one) before it is written to the server; the
//! client never ends because a connection does. Works with pipes: at the end of the input it waits
//! for the answers to what was sent, then ends.
//!
//! Deliberately not here: the rules (`wire::client`), sockets (`client`), encryption, a full
//! screen.

mod account;
mod command;
mod error;
mod events;
mod input;
mod people;
mod screen;
mod state_file;

pub use account::{Account, AccountError, AccountOptions};
pub use error::ChatError;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use client::{Address, Client, Session, SessionOptions, SessionState};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use wire::Stream;
use wire::client::backoff_ms;

use command::{Command, Peer};
use input::Line;
use people::Names;
use screen::Screen;

/// Longest sleep: retries, heartbeats and reconnects are at most so late.
const TURN: Duration = Duration::from_millis(200);
/// A token is renewed when this part of its time is over.
const RENEW_AFTER: f64 = 0.75;
/// When to try again if that failed.
const RENEW_RETRY: Duration = Duration::from_secs(5);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After the input ended so long is waited for answers.
const FAREWELL: Duration = Duration::from_secs(10);
/// The same if what is not answered is kept in a file.
const FAREWELL_KEPT: Duration = Duration::from_secs(3);
/// Own messages whose first words are kept to name them when their ticks come.
const WORDS_KEPT: usize = 1_000;
/// `kind` of a plain text.
const TEXT: u32 = 0;
const SOCKET: Token = Token(0);
const INPUT: Token = Token(1);

/// What the terminal client needs to know.
#[derive(Debug)]
pub struct ChatOptions {
    /// Where the server is: `ws://HOST:PORT/v1/chat` or `tcp://HOST:PORT`.
    pub server: String,
    /// The token to log in with.
    pub token: String,
    /// The user the token is for.
    pub user: u64,
    /// The device the token is for.
    pub device: u32,
    /// Whom to talk to at first: a number, with an account a name, with `#` a group.
    pub to: Option<String>,
    /// Where to keep the outbox and what was received over restarts.
    pub state: Option<PathBuf>,
    /// The account, if the token is one's.
    pub account: Option<Account>,
}

/// Runs the client until the user quits or its input ends.
///
/// # Errors
/// See [`ChatError`]; a lost connection is none.
pub fn run(options: ChatOptions) -> Result<(), ChatError> {
    let mut chat = Chat::open(options)?;
    let lines = input::listen(Waker::new(chat.poll.registry(), INPUT)?)?;
    chat.greet()?;
    match chat.talk(&lines) {
        // Whoever read our output has seen enough.
        Err(ChatError::Terminal(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// When to get the next token, of one that lasts so long from now.
fn renewal(lasts_s: u64) -> Instant {
    Instant::now() + Duration::from_secs(lasts_s).mul_f64(RENEW_AFTER)
}

/// When to connect next.
#[derive(Debug)]
struct Schedule {
    attempt: u32,
    retry_after_ms: u32,
    next: Option<Instant>,
}

struct Chat {
    options: ChatOptions,
    address: Address,
    client: Client,
    poll: Poll,
    screen: Screen<io::Stdout>,
    started: Instant,
    schedule: Schedule,
    account: Option<Account>,
    /// When to get the next token.
    renew_at: Option<Instant>,
    names: Names,
    /// Whom a line of text goes to.
    to: Option<Stream>,
    watched: Vec<u64>,
    /// Own messages, by id: their first words.
    words: BTreeMap<u64, String>,
    saved: SessionState,
    /// The input ended; the client ends at the latest then.
    farewell: Option<Instant>,
}

impl Chat {
    fn open(mut options: ChatOptions) -> Result<Self, ChatError> {
        let account = options.account.take();
        let renew_at = account.as_ref().map(|account| renewal(account.login().access_s));
        let address = Address::parse(&options.server)?;
        let saved = match &options.state {
            Some(path) => state_file::load(path, options.user, options.device)?,
            None => SessionState::default(),
        };
        let mut words = BTreeMap::new();
        for pending in &saved.outbox {
            words.insert(pending.client_id, screen::first_words(&pending.message.payload));
        }
        let session = Session::restore(&*options.token, SessionOptions::default(), &saved);
        let colours = io::stdout().is_terminal();
        Ok(Self {
            address,
            client: Client::new(session),
            poll: Poll::new()?,
            screen: Screen::new(io::stdout(), colours),
            started: Instant::now(),
            schedule: Schedule { attempt: 0, retry_after_ms: 0, next: Some(Instant::now()) },
            account,
            renew_at,
            names: Names::default(),
            to: None,
            watched: Vec::new(),
            words,
            saved,
            farewell: None,
            options,
        })
    }

    fn greet(&mut self) -> Result<(), ChatError> {
        let Self { options, .. } = self;
        let mut line =
            format!("user {}, device {} at {}", options.user, options.device, self.address);
        if let Some(account) = &self.account {
            line = format!("{}: {line}", account.name());
        }
        self.screen.note(&line)?;
        match self.options.to.take().map(|to| Command::parse(&format!("/to {to}"))) {
            Some(Command::To(peer)) => self.turn_to(&peer)?,
            Some(_) => self.screen.note("--to is no user and no group")?,
            None => self.screen.note("/to WHOM chooses whom to talk to, /help tells the rest")?,
        }
        let waiting = self.client.session.unanswered();
        if waiting > 0 {
            self.screen.note(&format!("{waiting} messages wait in the outbox"))?;
        }
        Ok(())
    }

    fn talk(&mut self, lines: &input::Lines) -> Result<(), ChatError> {
        let mut events = Events::with_capacity(8);
        loop {
            self.renew_when_due()?;
            self.reconnect_when_due()?;
            match self.poll.poll(&mut events, Some(TURN)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(error.into());
                }
                _ => {}
            }
            while let Some(line) = lines.next() {
                if self.obey(line)? {
                    self.client.close();
                    return Ok(());
                }
            }
            self.listen()?;
            let now_ms = self.now_ms();
            self.client.tick(now_ms);
            self.save()?;
            // A failure shows as a lost connection at the next look.
            let _ = self.client.flush();
            if let Some(deadline) = self.farewell {
                let left = self.client.session.unanswered();
                if left == 0 || Instant::now() >= deadline {
                    self.client.close();
                    return if left == 0 || self.options.state.is_some() {
                        Ok(())
                    } else {
                        Err(ChatError::Unsent(left))
                    };
                }
            }
        }
    }

    // ---- the user --------------------------------------------------------------------------

    /// Does what a line says; returns whether the user wants to quit.
    fn obey(&mut self, line: Line) -> Result<bool, ChatError> {
        let Line::Text(line) = line else {
            let wait = if self.options.state.is_some() { FAREWELL_KEPT } else { FAREWELL };
            self.farewell = Some(Instant::now() + wait);
            return Ok(false);
        };
        match Command::parse(&line) {
            Command::Nothing => {}
            Command::Say(words) => self.say(&words)?,
            Command::To(peer) => self.turn_to(&peer)?,
            Command::Who(people) => {
                let users: Result<Vec<_>, _> = people.iter().map(|who| self.resolve(who)).collect();
                match users {
                    Ok(users) => self.watch(&users)?,
                    Err(why) => self.screen.note(&why)?,
                }
            }
            Command::Account(wish) => return self.wish(&wish),
            Command::Read => {
                let up_to = self.client.session.received_up_to();
                self.client.session.read(None, up_to);
            }
            Command::Typing => match self.to {
                Some(Stream::User(user)) => self.client.session.typing(user, false),
                Some(Stream::Group(group)) => self.client.session.typing_in(group, false),
                None => self.screen.note("nobody to type to: /to WHOM first")?,
            },
            Command::Quit => return Ok(true),
            Command::Help => self.screen.help()?,
            Command::Wrong(why) => self.screen.note(&why)?,
        }
        Ok(false)
    }

    fn say(&mut self, words: &str) -> Result<(), ChatError> {
        let Some(to) = self.to else {
            self.screen.note("nobody to talk to: /to WHOM first")?;
            return Ok(());
        };
        match self.client.session.send(to, words.as_bytes(), TEXT) {
            Ok(client_id) => {
                self.keep_words(client_id, screen::first_words(words.as_bytes()));
                let name = self.called(to);
                self.screen.own(&name, words)?;
            }
            Err(full) => self.screen.note(&format!("not taken: {full}"))?,
        }
        Ok(())
    }

    fn turn_to(&mut self, peer: &Peer) -> Result<(), ChatError> {
        match self.resolve(peer) {
            Ok(to) => self.talk_to(to),
            Err(why) => Ok(self.screen.note(&why)?),
        }
    }

    fn talk_to(&mut self, to: Stream) -> Result<(), ChatError> {
        self.to = Some(to);
        let name = self.called(to);
        self.screen.note(&format!("talking to {name}"))?;
        self.watch(&[to])
    }

    /// Watches these users as well; with too many the first ones are let go. Groups are not seen.
    fn watch(&mut self, streams: &[Stream]) -> Result<(), ChatError> {
        for stream in streams {
            let Stream::User(user) = stream else { continue };
            self.watched.retain(|other| other != user);
            self.watched.push(*user);
        }
        let surplus = self.watched.len().saturating_sub(wire::client::WATCHED_MAX);
        self.watched.drain(..surplus);
        if let Err(error) = self.client.session.watch(&self.watched) {
            self.screen.note(&error.to_string())?;
        }
        Ok(())
    }

    fn keep_words(&mut self, client_id: u64, words: String) {
        self.words.insert(client_id, words);
        while self.words.len() > WORDS_KEPT {
            self.words.pop_first();
        }
    }

    // ---- the server ------------------------------------------------------------------------

    fn reconnect_when_due(&mut self) -> Result<(), ChatError> {
        if self.client.is_connected() {
            return Ok(());
        }
        let Some(next) = self.schedule.next else {
            let Schedule { attempt, retry_after_ms, .. } = self.schedule;
            let wait_ms = backoff_ms(attempt, retry_after_ms, client::random_bits());
            self.schedule.next = Some(Instant::now() + Duration::from_millis(wait_ms));
            let wait_s = Duration::from_millis(wait_ms).as_secs_f64();
            self.screen.note(&format!("not connected; next attempt in {wait_s:.1} s"))?;
            return Ok(());
        };
        if Instant::now() < next {
            return Ok(());
        }
        self.schedule.next = None;
        self.schedule.attempt += 1;
        self.schedule.retry_after_ms = 0;
        self.save()?;
        let now_ms = self.now_ms();
        if let Err(error) = self.client.connect(&self.address, None, CONNECT_TIMEOUT, now_ms) {
            self.screen.note(&error.to_string())?;
        } else if let Some(connection) = self.client.connection() {
            connection.stream().set_nonblocking(true)?;
            let fd = connection.as_raw_fd();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut SourceFd(&fd), SOCKET, interest)?;
        }
        Ok(())
    }

    /// Reads until there is nothing more and shows what came.
    fn listen(&mut self) -> Result<(), ChatError> {
        let mut events = Vec::new();
        while self.client.is_connected() {
            let now_ms = self.now_ms();
            match self.client.receive(now_ms, &mut events) {
                Ok(Some(client::Received::Bytes { .. })) => {}
                Ok(_) => break,
                Err(error) => self.screen.note(&error.to_string())?,
            }
        }
        for event in events {
            self.show(event)?;
        }
        Ok(())
    }

    fn name_of(&self, client_id: u64) -> String {
        self.words.get(&client_id).map_or_else(|| format!("message {client_id}"), Clone::clone)
    }

    // ---- the state -------------------------------------------------------------------------

    /// Saves what changed, before anything that depends on it leaves.
    fn save(&mut self) -> Result<(), ChatError> {
        let Some(path) = &self.options.state else { return Ok(()) };
        let state = self.client.session.state();
        if state != self.saved {
            state_file::save(path, self.options.user, self.options.device, &state)?;
            self.saved = state;
        }
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
