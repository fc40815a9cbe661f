//! What the small protocols have in common: a connection that is logged in or not, bytes that wait
//! for the rest of their frame, bytes that wait to be written.
//!
//! A [`Dialect`] is what a protocol has of its own; [`Small`] makes a [`Speaker`] of it. Invariant:
//! idle, nothing here holds a buffer. Deliberately not here: Myriad, whose session is the client
//! library's.

use std::fmt::Debug;

use super::parts::{Input, OUTPUT_BYTES_MAX};
use super::{Event, Full, ReadMark, Speaker};

/// One connection, as a dialect sees it.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Logged in.
    pub(super) is_ready: bool,
    /// What is to be written next.
    pub(super) output: Vec<u8>,
}

impl Link {
    /// The server let it in; told once.
    pub(super) fn let_in(&mut self, events: &mut dyn FnMut(Event<'_>)) {
        if !self.is_ready {
            self.is_ready = true;
            events(Event::Ready);
        }
    }

    /// Whether a message may be written now.
    ///
    /// # Errors
    /// Not logged in, or too much waits already.
    pub(super) fn room(&self) -> Result<(), Full> {
        if self.is_ready && self.output.len() <= OUTPUT_BYTES_MAX { Ok(()) } else { Err(Full) }
    }
}

/// What a small protocol has of its own. See [`Speaker`] for what is not explained here.
pub(super) trait Dialect: Debug + Send {
    /// A connection stands: writes what opens the conversation.
    fn open(&mut self, now_ms: u64, link: &mut Link);

    /// A connection is gone.
    fn forget(&mut self) {}

    /// Takes whole frames from the front; returns how many bytes they were.
    fn parse(
        &mut self,
        bytes: &mut [u8],
        now_ms: u64,
        link: &mut Link,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<usize, String>;

    fn send(&mut self, to: u32, tag: u64, payload: &[u8], link: &mut Link) -> Result<(), Full>;

    /// Nothing, for servers that ask for signs of life themselves, or want none.
    fn tick(&mut self, _now_ms: u64, _link: &mut Link) -> Result<(), String> {
        Ok(())
    }

    /// Appends nothing, for protocols without a goodbye.
    fn close(&mut self, _link: &Link, _out: &mut Vec<u8>) {}

    fn unanswered(&self) -> usize {
        0
    }
}

/// One client of a small protocol.
#[derive(Debug)]
pub(super) struct Small<D> {
    dialect: D,
    link: Link,
    input: Input,
}

impl<D: Dialect + 'static> Small<D> {
    pub(super) fn speaker(dialect: D) -> Box<dyn Speaker> {
        Box::new(Self { dialect, link: Link::default(), input: Input::default() })
    }
}

impl<D: Dialect> Speaker for Small<D> {
    fn connected(&mut self, now_ms: u64) {
        self.disconnected();
        self.dialect.open(now_ms, &mut self.link);
    }

    fn disconnected(&mut self) {
        self.link = Link::default();
        self.input.clear();
        self.dialect.forget();
    }

    fn receive(
        &mut self,
        bytes: &mut [u8],
        now_ms: u64,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), String> {
        let (dialect, link) = (&mut self.dialect, &mut self.link);
        self.input.feed(bytes, |bytes| dialect.parse(bytes, now_ms, link, events))
    }

    fn send(&mut self, to: u32, tag: u64, payload: &[u8]) -> Result<(), Full> {
        self.dialect.send(to, tag, payload, &mut self.link)
    }

    fn read(&mut self, _mark: ReadMark) {}

    fn tick(&mut self, now_ms: u64) -> Result<(), String> {
        self.dialect.tick(now_ms, &mut self.link)
    }

    fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut std::mem::take(&mut self.link.output));
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        self.dialect.close(&self.link, out);
    }

    fn is_ready(&self) -> bool {
        self.link.is_ready
    }

    fn unanswered(&self) -> usize {
        self.dialect.unanswered()
    }
}
