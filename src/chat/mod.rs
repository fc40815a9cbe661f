//! The terminal client: lines in, lines out, ticks, presence and typing on the way.
//!
//! Owner: the thread that calls [`run`]; a second one only reads standard input. Invariants: what
//! the user wrote is in the state file (if there is one) before it is written to the server; the
//! client never ends because a connection does. Works with pipes: at the end of the input it waits
//! for the answers to what was sent, then ends.
//!
//! Deliberately not here: the rules (`wire::client`), sockets (`client`), encryption, a full
//! screen.

mod command;
mod events;
mod input;
mod screen;
mod state_file;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use client::{Address, Client, Session, SessionOptions, SessionState};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use wire::client::backoff_ms;
use wire::{Parting, Stream};

use command::Command;
use input::Line;
use screen::Screen;

/// Longest sleep: retries, heartbeats and reconnects are at most so late.
const TURN: Duration = Duration::from_millis(200);
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
#[derive(Clone, Debug)]
pub struct ChatOptions {
    /// Where the server is: `ws://HOST:PORT/v1/chat` or `tcp://HOST:PORT`.
    pub server: String,
    /// The token to log in with.
    pub token: String,
    /// The user the token is for.
    pub user: u64,
    /// The device the token is for.
    pub device: u32,
    /// Whom to talk to at first.
    pub to: Option<u64>,
    /// Where to keep the outbox and what was received over restarts.
    pub state: Option<PathBuf>,
}

/// Why the client stopped.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The address can't be used.
    #[error(transparent)]
    Address(#[from] client::AddressError),
    /// Terminal or poll failed.
    #[error("the terminal failed: {0}")]
    Terminal(#[from] io::Error),
    /// The state file can't be used.
    #[error(transparent)]
    State(#[from] state_file::StateError),
    /// The server does not want this client back.
    #[error("the server said goodbye ({}): {}", .reason.name(), .reason.advice())]
    Goodbye {
        /// Why.
        reason: Parting,
    },
    /// The token is another user's.
    #[error("the token is for user {user}, device {device}; give --user and --device to match")]
    Stranger {
        /// Whose it is.
        user: u64,
        /// Which device's.
        device: u32,
    },
    /// The input ended before everything was answered.
    #[error("{0} messages were not sent; with --state FILE they would leave next time")]
    Unsent(usize),
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
    /// Whom a line of text goes to.
    to: Option<u64>,
    watched: Vec<u64>,
    /// Own messages, by id: their first words.
    words: BTreeMap<u64, String>,
    saved: SessionState,
    /// The input ended; the client ends at the latest then.
    farewell: Option<Instant>,
}

impl Chat {
    fn open(options: ChatOptions) -> Result<Self, ChatError> {
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
            to: options.to,
            watched: Vec::new(),
            words,
            saved,
            farewell: None,
            options,
        })
    }

    fn greet(&mut self) -> Result<(), ChatError> {
        let Self { options, .. } = self;
        let line = format!("user {}, device {} at {}", options.user, options.device, self.address);
        self.screen.note(&line)?;
        match self.to {
            Some(user) => self.talk_to(user)?,
            None => self.screen.note("/to USER chooses whom to talk to, /help tells the rest")?,
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
            Command::To(user) => self.talk_to(user)?,
            Command::Who(users) => self.watch(&users)?,
            Command::Read => {
                let up_to = self.client.session.received_up_to();
                self.client.session.read(None, up_to);
            }
            Command::Typing => match self.to {
                Some(user) => self.client.session.typing(user, false),
                None => self.screen.note("nobody to type to: /to USER first")?,
            },
            Command::Quit => return Ok(true),
            Command::Help => self.screen.help()?,
            Command::Wrong(why) => self.screen.note(&why)?,
        }
        Ok(false)
    }

    fn say(&mut self, words: &str) -> Result<(), ChatError> {
        let Some(to) = self.to else {
            self.screen.note("nobody to talk to: /to USER first")?;
            return Ok(());
        };
        match self.client.session.send(Stream::User(to), words.as_bytes(), TEXT) {
            Ok(client_id) => {
                self.keep_words(client_id, screen::first_words(words.as_bytes()));
                self.screen.own(to, words)?;
            }
            Err(full) => self.screen.note(&format!("not taken: {full}"))?,
        }
        Ok(())
    }

    fn talk_to(&mut self, user: u64) -> Result<(), ChatError> {
        self.to = Some(user);
        self.screen.note(&format!("talking to {user}"))?;
        self.watch(&[user])
    }

    /// Watches these users as well; with too many the first ones are let go.
    fn watch(&mut self, users: &[u64]) -> Result<(), ChatError> {
        for user in users {
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
