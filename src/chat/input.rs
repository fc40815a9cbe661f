//! Standard input, read by a thread of its own, since a terminal can't be waited for with a socket
//! on every system.
//!
//! Invariant: at most `LINES_WAITING_MAX` lines wait; the thread stops reading then. It ends with
//! the input, or with the process.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use mio::Waker;

/// Lines read and not yet looked at.
const LINES_WAITING_MAX: usize = 256;
/// A longer line is cut: the server would refuse it (64 KiB), and memory is not endless.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// One thing that came from standard input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// A line without its end.
    Text(String),
    /// There will be no more.
    End,
}

/// What was read.
pub(super) struct Lines(Receiver<Line>);

impl Lines {
    /// The next line, if one is there.
    pub(super) fn next(&self) -> Option<Line> {
        self.0.try_recv().ok()
    }
}

/// Starts reading; the waker is rung for every line.
///
/// # Errors
/// No thread can be had.
pub(super) fn listen(waker: Waker) -> io::Result<Lines> {
    let (sender, receiver) = sync_channel(LINES_WAITING_MAX);
    thread::Builder::new().name("input".to_owned()).spawn(move || {
        read_all(&mut io::stdin().lock(), &sender, &waker);
    })?;
    Ok(Lines(receiver))
}

fn read_all(input: &mut dyn BufRead, sender: &SyncSender<Line>, waker: &Waker) {
    loop {
        let line = match read_line(input) {
            Ok(Some(line)) => Line::Text(line),
            Ok(None) | Err(_) => Line::End,
        };
        let ended = line == Line::End;
        if sender.send(line).is_err() || waker.wake().is_err() || ended {
            return;
        }
    }
}

/// One line, cut at its limit; bytes that are no UTF-8 are replaced.
fn read_line(input: &mut dyn BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_line_is_cut_and_the_end_is_told() {
        let bytes = vec![b'x'; 100_000];
        let mut input = bytes.as_slice();
        assert_eq!(read_line(&mut input).unwrap().unwrap().len(), 65_536);
        assert_eq!(read_line(&mut input).unwrap().unwrap().len(), 34_464);
        assert_eq!(read_line(&mut input).unwrap(), None);
    }
}
