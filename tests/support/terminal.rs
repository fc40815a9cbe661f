//! A running `myriad chat`: lines in, lines out.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{QUIET, WAIT};

/// See the module. Killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// What it printed so far.
    pub(crate) seen: Vec<String>,
}

impl Terminal {
    /// Starts the command.
    pub(crate) fn of(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let output = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, input, lines, seen: Vec::new() }
    }

    /// Types a line.
    pub(crate) fn write(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits until a line with these words was printed, now or before, and gives it.
    pub(crate) fn expect(&mut self, words: &str) -> String {
        let deadline = Instant::now() + WAIT;
        loop {
            if let Some(line) = self.seen.iter().find(|line| line.contains(words)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with `{words}`; seen: {:#?}", self.seen);
            };
            self.seen.push(line);
        }
    }

    /// Waits a little, and no line with these words was printed.
    pub(crate) fn never(&mut self, words: &str) {
        let deadline = Instant::now() + QUIET;
        while let Ok(line) =
            self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.seen.push(line);
        }
        assert!(!self.seen.iter().any(|line| line.contains(words)), "{words}: {:#?}", self.seen);
    }

    /// Ends the input and waits for the end.
    pub(crate) fn end(mut self) -> ExitStatus {
        self.input = None;
        self.ended()
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> ExitStatus {
        let deadline = Instant::now() + WAIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end; seen: {:#?}", self.seen);
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
