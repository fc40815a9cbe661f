//! One direction of a simulated connection: bytes in order, each piece with the step at which it
//! arrives.
//!
//! Owner: the network, which decides when things arrive and how much fits.

use std::collections::VecDeque;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) bytes: VecDeque<u8>,
    /// Bytes in flight, oldest first: when due and how many.
    pub(super) flights: VecDeque<(u64, usize)>,
    /// Step at which the reader sees the writer's orderly end.
    pub(super) end: Option<u64>,
    /// Step at which the reader sees a reset.
    pub(super) reset: Option<u64>,
    /// The reader reads no more: what is written is thrown away and answered by a reset.
    pub(super) deaf: bool,
}

impl Pipe {
    /// Bytes that have arrived by `step`.
    pub(super) fn due(&self, step: u64) -> usize {
        self.flights.iter().take_while(|(due, _)| *due <= step).map(|(_, bytes)| bytes).sum()
    }

    /// Takes out as many bytes as `into` holds; they must have arrived.
    pub(super) fn read(&mut self, into: &mut [u8]) {
        let (first, second) = self.bytes.as_slices();
        let split = first.len().min(into.len());
        let (start, rest) = into.split_at_mut(split);
        start.copy_from_slice(&first[..split]);
        rest.copy_from_slice(&second[..rest.len()]);
        self.skip(into.len());
    }

    /// Takes the first `count` bytes out, which must have arrived, and appends them to `out`.
    pub(super) fn read_to(&mut self, count: usize, out: &mut Vec<u8>) {
        let (first, second) = self.bytes.as_slices();
        let split = first.len().min(count);
        out.extend_from_slice(&first[..split]);
        out.extend_from_slice(&second[..count - split]);
        self.skip(count);
    }

    fn skip(&mut self, count: usize) {
        self.bytes.drain(..count);
        let mut left = count;
        while left > 0 {
            let Some((_, bytes)) = self.flights.front_mut() else { return };
            let taken = left.min(*bytes);
            *bytes -= taken;
            left -= taken;
            if *bytes == 0 {
                self.flights.pop_front();
            }
        }
    }

    pub(super) fn reset_is_due(&self, step: u64) -> bool {
        self.reset.is_some_and(|due| due <= step)
    }

    /// What is under way never arrives, nor does the end.
    pub(super) fn lose(&mut self) {
        self.bytes = VecDeque::new();
        self.flights = VecDeque::new();
        self.end = None;
        self.reset = None;
    }

    /// The reader is gone: nothing is kept for it, and the memory goes too.
    pub(super) fn go_deaf(&mut self) {
        self.deaf = true;
        self.bytes = VecDeque::new();
        self.flights = VecDeque::new();
    }
}
