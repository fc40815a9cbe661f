//! What a line the user typed means. Pure.

/// One line of input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Command {
    /// An empty line.
    Nothing,
    /// Text for the peer.
    Say(String),
    /// Talk to this user from now on.
    To(u64),
    /// Watch these users' presence.
    Who(Vec<u64>),
    /// Everything is read.
    Read,
    /// Tell the peer that the user types.
    Typing,
    /// End.
    Quit,
    /// Explain.
    Help,
    /// Not understood; what to write instead.
    Wrong(String),
}

impl Command {
    /// Reads a line. A text that begins with a slash is written with two.
    pub(super) fn parse(line: &str) -> Self {
        let line = line.trim();
        if line.is_empty() {
            return Self::Nothing;
        }
        let Some(command) = line.strip_prefix('/') else { return Self::Say(line.to_owned()) };
        if command.starts_with('/') {
            return Self::Say(command.to_owned());
        }
        let mut words = command.split_whitespace();
        let name = words.next().unwrap_or_default();
        match name {
            "to" => match words.map(user).collect::<Option<Vec<_>>>().as_deref() {
                Some([user]) => Self::To(*user),
                _ => Self::Wrong("write /to USER, for example /to 2".to_owned()),
            },
            "who" => match words.map(user).collect::<Option<Vec<_>>>() {
                Some(users) if !users.is_empty() => Self::Who(users),
                _ => Self::Wrong("write /who USER.., for example /who 2 3".to_owned()),
            },
            "read" => Self::Read,
            "typing" => Self::Typing,
            "quit" | "q" | "exit" => Self::Quit,
            "help" | "h" | "?" => Self::Help,
            _ => Self::Wrong(format!("no command /{name}: /help lists them")),
        }
    }
}

fn user(word: &str) -> Option<u64> {
    word.parse().ok().filter(|user| *user > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_the_help_says() {
        assert_eq!(Command::parse("  "), Command::Nothing);
        assert_eq!(Command::parse(" hello there "), Command::Say("hello there".to_owned()));
        assert_eq!(Command::parse("//to be"), Command::Say("/to be".to_owned()));
        assert_eq!(Command::parse("/to 2"), Command::To(2));
        assert_eq!(Command::parse("/who 2 3"), Command::Who(vec![2, 3]));
        assert_eq!(Command::parse("/read"), Command::Read);
        assert_eq!(Command::parse("/typing"), Command::Typing);
        assert_eq!(Command::parse("/quit"), Command::Quit);
        assert_eq!(Command::parse("/help"), Command::Help);
        for wrong in ["/to", "/to x", "/to 0", "/to 1 2", "/who", "/who a", "/dance"] {
            assert!(matches!(Command::parse(wrong), Command::Wrong(_)), "{wrong}");
        }
    }
}
