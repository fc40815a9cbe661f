//! What is printed, one line per thing that happened. Times are UTC.
//!
//! Invariant: nothing a peer sends reaches the terminal with control characters in it. Colours
//! only if the output is a terminal.

use std::io::{self, Write};

use client::TickMark;

/// Characters of an own message that name it in the lines of its ticks.
const FIRST_WORDS_CHARS: usize = 32;

const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const BLUE: &str = "\x1b[34m";
const PLAIN: &str = "\x1b[0m";

/// See the module.
#[derive(Debug)]
pub(super) struct Screen<W> {
    out: W,
    colours: bool,
}

impl<W: Write> Screen<W> {
    /// Prints to `out`.
    pub(super) fn new(out: W, colours: bool) -> Self {
        Self { out, colours }
    }

    /// A message for the user.
    pub(super) fn incoming(&mut self, time_ms: u64, from: &str, payload: &[u8]) -> io::Result<()> {
        let line = format!("{} {from}: {}", clock(time_ms), printable(payload));
        self.line(BOLD, &line)
    }

    /// What the user just wrote.
    pub(super) fn own(&mut self, to: &str, words: &str) -> io::Result<()> {
        let line = format!("me -> {to}: {words}");
        self.line("", &line)
    }

    /// What another device of the user wrote.
    pub(super) fn copy(&mut self, time_ms: u64, to: &str, payload: &[u8]) -> io::Result<()> {
        let line = format!("{} me (elsewhere) -> {to}: {}", clock(time_ms), printable(payload));
        self.line("", &line)
    }

    /// An own message got further.
    pub(super) fn tick(&mut self, mark: TickMark, name: &str) -> io::Result<()> {
        match mark {
            TickMark::Sent => self.line(DIM, &format!("✓ sent: {name}")),
            TickMark::Has => self.line("", &format!("✓✓ delivered: {name}")),
            TickMark::Read => self.line(BLUE, &format!("✓✓ read: {name}")),
        }
    }

    /// A watched user came or went.
    pub(super) fn presence(
        &mut self,
        user: &str,
        online: bool,
        last_seen_ms: u64,
    ) -> io::Result<()> {
        let line = match (online, last_seen_ms) {
            (true, _) => format!("* {user} is online"),
            (false, 0) => format!("* {user} is offline"),
            (false, seen) => format!("* {user} was last seen {}", date(seen)),
        };
        self.line(DIM, &line)
    }

    /// The peer types.
    pub(super) fn typing(&mut self, user: &str) -> io::Result<()> {
        self.line(DIM, &format!("* {user} is typing"))
    }

    /// Something about the client itself.
    pub(super) fn note(&mut self, words: &str) -> io::Result<()> {
        self.line(DIM, &format!("* {words}"))
    }

    /// The commands.
    pub(super) fn help(&mut self) -> io::Result<()> {
        for line in [
            "text goes to the peer; a text that begins with / is written with //",
            "/to WHOM           talk to a user (name or number) or a group (#number)",
            "/who WHOM..        see whether these users are online",
            "/typing            tell the peer that you are typing",
            "/read              tell that everything so far is read",
            "/group NAME WHOM.. begin a group (one word) and talk to it; /add, /remove WHOM",
            "/groups, /leave    list your groups; leave the one you are talking to",
            "/owner WHOM        hand over the group you are talking to",
            "/invitations       list those to groups; /accept NUMBER, /decline NUMBER",
            "/contact WHOM      into your contact book; /forget WHOM takes out",
            "/block WHOM        nothing more from them, but in groups; /unblock WHOM",
            "/logout            end, and forget this device",
            "/quit              end (what is not sent yet stays in the --state file)",
            "ticks: ✓ the server has it, ✓✓ delivered, ✓✓ read. Times are UTC",
        ] {
            self.note(line)?;
        }
        Ok(())
    }

    fn line(&mut self, style: &str, words: &str) -> io::Result<()> {
        let words = printable(words.as_bytes()); // names and answers are others' words, too
        if self.colours && !style.is_empty() {
            writeln!(self.out, "{style}{words}{PLAIN}")?;
        } else {
            writeln!(self.out, "{words}")?;
        }
        self.out.flush()
    }
}

/// The beginning of a message, to name it.
pub(super) fn first_words(payload: &[u8]) -> String {
    let text = printable(payload);
    let mut chars = text.chars();
    let mut words: String = chars.by_ref().take(FIRST_WORDS_CHARS).collect();
    if chars.next().is_some() {
        words.push('…');
    }
    words
}

/// Text that can do nothing to a terminal but be read: no control characters, and none that turn
/// the direction of what follows.
fn printable(payload: &[u8]) -> String {
    let harmless = |character: char| {
        let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character == '\n' || character == '\t' {
            ' '
        } else if character.is_control() || turns {
            char::REPLACEMENT_CHARACTER
        } else {
            character
        }
    };
    String::from_utf8_lossy(payload).chars().map(harmless).collect()
}

/// Hours, minutes and seconds of the day.
fn clock(time_ms: u64) -> String {
    let seconds = time_ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// Day and time. The day is counted in the civil calendar, whose years begin in March here so that
/// the leap day comes last.
fn date(time_ms: u64) -> String {
    let days = time_ms / 86_400_000 + 719_468; // since 0000-03-01
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {}", clock(time_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(colours: bool, act: impl FnOnce(&mut Screen<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        act(&mut Screen::new(&mut out, colours));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_peer_cannot_steer_the_terminal() {
        let line = printed(false, |screen| {
            screen.incoming(0, "2", b"\x1b]0;owned\x07 hi\r\nyou\xff \xe2\x80\xae").unwrap();
        });
        assert!(!line.trim_end().chars().any(char::is_control), "{line:?}");
        assert!(line.contains("hi") && line.contains("you"));
    }

    #[test]
    fn colours_only_where_they_are_seen() {
        let tick = |screen: &mut Screen<&mut Vec<u8>>| screen.tick(TickMark::Read, "hi").unwrap();
        assert_eq!(printed(false, tick), "✓✓ read: hi\n");
        assert_eq!(printed(true, tick), "\x1b[34m✓✓ read: hi\x1b[0m\n");
    }

    #[test]
    fn times_are_civil() {
        assert_eq!(date(0), "1970-01-01 00:00:00");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(date(1_767_225_599_000), "2025-12-31 23:59:59");
        assert_eq!(clock(86_399_999), "23:59:59");
        let _ = date(u64::MAX);
    }

    #[test]
    fn long_messages_are_named_by_their_beginning() {
        assert_eq!(first_words("é".repeat(40).as_bytes()), "é".repeat(32) + "…");
        assert_eq!(first_words(b"short"), "short");
    }
}
