//! What a line the user typed means. Pure.

use wire::Stream;

/// One line of input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Command {
    /// An empty line.
    Nothing,
    /// Text for the peer.
    Say(String),
    /// Talk to this user or group from now on.
    To(Peer),
    /// Watch these users' presence.
    Who(Vec<Peer>),
    /// Everything is read.
    Read,
    /// Tell the peer that the user types.
    Typing,
    /// What needs an account.
    Account(Wish),
    /// End.
    Quit,
    /// Explain.
    Help,
    /// Not understood; what to write instead.
    Wrong(String),
}

/// What is asked of the HTTP API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// Begin a group of this name with these people, and talk to it.
    Group(String, Vec<Peer>),
    /// Add these people to the group.
    Add(Vec<Peer>),
    /// Take this one out of the group.
    Remove(Peer),
    /// Leave the group.
    Leave,
    /// Make this member its owner.
    HandOver(Peer),
    /// List the invitations to groups.
    Invitations,
    /// Follow the invitation with this number, or decline it.
    Answer(u64, bool),
    /// List the groups.
    Groups,
    /// Put into the contact book, or take out.
    Contact(Peer, bool),
    /// Block, or no longer.
    Block(Peer, bool),
    /// Log this device out, and end.
    LogOut,
}

/// Somebody, as people write it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Peer {
    /// `2`, or `#7` for a group.
    Number(Stream),
    /// `ann`.
    Name(String),
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
        let words: Vec<&str> = words.collect();
        let people: Option<Vec<Peer>> = words.iter().map(|word| user(word)).collect();
        match (name, words.as_slice(), people.as_deref()) {
            ("to", [to], _) if peer(to).is_some() => peer(to).map_or(Self::Help, Self::To),
            ("to", ..) => wrong("/to WHOM, for example /to ann, /to 2 or, for a group, /to #7"),
            ("who", [_, ..], Some(people)) => Self::Who(people.to_vec()),
            ("who", ..) => wrong("/who WHOM.., for example /who ann bob"),
            ("group", [name, people @ ..], _) => {
                match people.iter().map(|word| user(word)).collect() {
                    Some(people) => Self::Account(Wish::Group((*name).to_owned(), people)),
                    None => wrong("/group NAME WHOM.., for example /group hikers bob cy"),
                }
            }
            ("group", ..) => wrong("/group NAME WHOM.., for example /group hikers bob cy"),
            ("add", [_, ..], Some(people)) => Self::Account(Wish::Add(people.to_vec())),
            ("add", ..) => wrong("/add WHOM.., for example /add bob"),
            ("remove", _, Some([who])) => Self::Account(Wish::Remove(who.clone())),
            ("remove", ..) => wrong("/remove WHOM, for example /remove bob"),
            ("owner", _, Some([who])) => Self::Account(Wish::HandOver(who.clone())),
            ("owner", ..) => wrong("/owner WHOM, for example /owner bob"),
            ("accept" | "decline", [word], _) if number(word).is_some() => {
                let wish = |id| Wish::Answer(id, name == "accept");
                number(word).map_or(Self::Help, |id| Self::Account(wish(id)))
            }
            ("accept" | "decline", ..) => {
                Self::Wrong(format!("write /{name} NUMBER, a number that /invitations lists"))
            }
            ("invitations", [], _) => Self::Account(Wish::Invitations),
            ("contact", _, Some([who])) => Self::Account(Wish::Contact(who.clone(), true)),
            ("forget", _, Some([who])) => Self::Account(Wish::Contact(who.clone(), false)),
            ("block", _, Some([who])) => Self::Account(Wish::Block(who.clone(), true)),
            ("unblock", _, Some([who])) => Self::Account(Wish::Block(who.clone(), false)),
            ("contact" | "forget" | "block" | "unblock", ..) => {
                Self::Wrong(format!("write /{name} WHOM, for example /{name} bob"))
            }
            ("leave", [], _) => Self::Account(Wish::Leave),
            ("groups", [], _) => Self::Account(Wish::Groups),
            ("logout", [], _) => Self::Account(Wish::LogOut),
            ("read", [], _) => Self::Read,
            ("typing", [], _) => Self::Typing,
            ("quit" | "q" | "exit", ..) => Self::Quit,
            ("help" | "h" | "?", ..) => Self::Help,
            _ => Self::Wrong(format!("no command /{line}: /help lists them", line = command)),
        }
    }
}

fn wrong(instead: &str) -> Command {
    Command::Wrong(format!("write {instead}"))
}

/// A user or a group.
fn peer(word: &str) -> Option<Peer> {
    match word.strip_prefix('#') {
        Some(group) => number(group).map(|group| Peer::Number(Stream::Group(group))),
        None => user(word),
    }
}

/// A user. A name has a letter in it, so that it is no number.
fn user(word: &str) -> Option<Peer> {
    if let Some(user) = number(word) {
        return Some(Peer::Number(Stream::User(user)));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.+".contains(c);
    let named = word.chars().all(plain) && !word.chars().all(|c| c.is_ascii_digit());
    named.then(|| Peer::Name(word.to_lowercase()))
}

fn number(word: &str) -> Option<u64> {
    // A phone number begins with `+`, which a number here may not.
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|number| digits && *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_the_help_says() {
        let user = |number| Peer::Number(Stream::User(number));
        let name = |name: &str| Peer::Name(name.to_owned());
        assert_eq!(Command::parse("  "), Command::Nothing);
        assert_eq!(Command::parse(" hello there "), Command::Say("hello there".to_owned()));
        assert_eq!(Command::parse("//to be"), Command::Say("/to be".to_owned()));
        assert_eq!(Command::parse("/to 2"), Command::To(user(2)));
        assert_eq!(Command::parse("/to Ann"), Command::To(name("ann")));
        assert_eq!(Command::parse("/to #7"), Command::To(Peer::Number(Stream::Group(7))));
        assert_eq!(Command::parse("/who 2 bob"), Command::Who(vec![user(2), name("bob")]));
        assert_eq!(Command::parse("/read"), Command::Read);
        assert_eq!(Command::parse("/typing"), Command::Typing);
        assert_eq!(Command::parse("/quit"), Command::Quit);
        assert_eq!(Command::parse("/help"), Command::Help);
        assert_eq!(Command::parse("/to +491701234567"), Command::To(name("+491701234567")));
        let group = Wish::Group("hikers".to_owned(), vec![name("bob"), user(3)]);
        assert_eq!(Command::parse("/group hikers bob 3"), Command::Account(group));
        assert_eq!(Command::parse("/leave"), Command::Account(Wish::Leave));
        let block = Wish::Block(name("bob"), true);
        assert_eq!(Command::parse("/block bob"), Command::Account(block));
        assert_eq!(Command::parse("/owner bob"), Command::Account(Wish::HandOver(name("bob"))));
        assert_eq!(Command::parse("/accept 7"), Command::Account(Wish::Answer(7, true)));
        assert_eq!(Command::parse("/decline 7"), Command::Account(Wish::Answer(7, false)));
        for wrong in [
            "/owner",
            "/owner #7",
            "/accept",
            "/accept bob",
            "/decline 0",
            "/invitations 7",
            "/to",
            "/to ?",
            "/to #+7",
            "/to 0",
            "/to 1 2",
            "/who",
            "/who #7",
            "/dance",
            "/group",
            "/block",
            "/group hikers #7",
            "/add",
            "/remove a b",
        ] {
            assert!(matches!(Command::parse(wrong), Command::Wrong(_)), "{wrong}");
        }
    }
}
