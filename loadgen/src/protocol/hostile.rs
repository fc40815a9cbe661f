//! A client that breaks rules, of any server: it never logs in, and others should not notice it.
//!
//! Each new connection takes the next of four habits. Deliberately not here: breaking rules after a
//! login, which needs a protocol's own words.

use super::{Event, Full, ReadMark, Speaker};
use crate::random::Random;

/// Bytes of noise at a time.
const NOISE_BYTES: usize = 512;

/// What it does on this connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Habit {
    /// Says nothing.
    Silent,
    /// Says noise, more with each tick.
    Noise,
    /// Asks for a WebSocket and never comes to the end of it, a byte with each tick.
    Drip,
    /// Announces a frame of 4 GiB and begins it.
    Huge,
}

/// See the module.
#[derive(Debug)]
pub struct Hostile {
    random: Random,
    connections: u32,
    habit: Habit,
    output: Vec<u8>,
}

impl Hostile {
    /// One whose noise follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            connections: u32::try_from(seed % 4).unwrap_or(0),
            habit: Habit::Silent,
            output: Vec::new(),
        }
    }

    fn noise(&mut self) {
        for _ in 0..NOISE_BYTES / 8 {
            self.output.extend_from_slice(&self.random.bits().to_le_bytes());
        }
    }
}

impl Speaker for Hostile {
    fn connected(&mut self, _now_ms: u64) {
        self.output.clear();
        self.connections = self.connections.wrapping_add(1);
        self.habit = match self.connections % 4 {
            0 => Habit::Silent,
            1 => Habit::Noise,
            2 => Habit::Drip,
            _ => Habit::Huge,
        };
        match self.habit {
            Habit::Silent => {}
            Habit::Noise => self.noise(),
            Habit::Drip => {
                self.output.extend_from_slice(b"GET /v1/chat HTTP/1.1\r\nHost: a\r\nX: ");
            }
            Habit::Huge => {
                self.output.extend_from_slice(b"MYR\x01\xff\xff\xff\xff");
                self.noise();
            }
        }
    }

    fn disconnected(&mut self) {
        self.output = Vec::new();
    }

    fn receive(
        &mut self,
        _bytes: &mut [u8],
        _now_ms: u64,
        _events: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), String> {
        Ok(())
    }

    fn send(&mut self, _to: u32, _tag: u64, _payload: &[u8]) -> Result<(), Full> {
        Err(Full)
    }

    fn read(&mut self, _mark: ReadMark) {}

    fn tick(&mut self, _now_ms: u64) -> Result<(), String> {
        match self.habit {
            Habit::Silent => {}
            Habit::Drip => self.output.push(b'x'),
            Habit::Noise | Habit::Huge => self.noise(),
        }
        Ok(())
    }

    fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.output);
    }

    fn close(&mut self, _out: &mut Vec<u8>) {}

    fn is_ready(&self) -> bool {
        false
    }

    fn unanswered(&self) -> usize {
        0
    }
}
