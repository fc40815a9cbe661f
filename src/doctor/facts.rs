//! What is known of a host, and what is not and why. Nothing is ever guessed.

use std::collections::BTreeMap;

/// The systems a server runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Linux.
    Linux,
    /// FreeBSD.
    FreeBsd,
}

impl System {
    /// The one this program was built for.
    #[must_use]
    pub const fn here() -> Self {
        if cfg!(target_os = "freebsd") { Self::FreeBsd } else { Self::Linux }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux => "Linux",
            Self::FreeBsd => "FreeBSD",
        }
    }
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A number in the unit its name says; sysctls in their own.
    Number(u64),
    /// A word or a few.
    Text(String),
    /// It could not be read, and why.
    Unknown(String),
}

/// A host as it was read, or made up.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its system.
    pub system: System,
    facts: BTreeMap<&'static str, Fact>,
}

impl Host {
    /// One of which nothing is known yet.
    #[must_use]
    pub fn new(system: System) -> Self {
        Self { system, facts: BTreeMap::new() }
    }

    /// Notes a fact.
    pub fn set(&mut self, name: &'static str, fact: Fact) {
        self.facts.insert(name, fact);
    }

    /// Notes a number, or why there is none.
    pub fn set_number(&mut self, name: &'static str, number: Result<u64, String>) {
        self.set(name, number.map_or_else(Fact::Unknown, Fact::Number));
    }

    /// Notes words, or why there are none.
    pub fn set_text(&mut self, name: &'static str, text: Result<String, String>) {
        self.set(name, text.map_or_else(Fact::Unknown, Fact::Text));
    }

    /// A number.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn number(&self, name: &str) -> Result<u64, String> {
        match self.facts.get(name) {
            Some(Fact::Number(number)) => Ok(*number),
            Some(Fact::Unknown(why)) => Err(why.clone()),
            Some(Fact::Text(text)) => Err(format!("it says `{text}`, which is no number")),
            None => Err("nobody looked".to_owned()),
        }
    }

    /// Words.
    ///
    /// # Errors
    /// Why they are not known.
    pub fn text(&self, name: &str) -> Result<String, String> {
        match self.facts.get(name) {
            Some(Fact::Text(text)) => Ok(text.clone()),
            Some(Fact::Number(number)) => Ok(number.to_string()),
            Some(Fact::Unknown(why)) => Err(why.clone()),
            None => Err("nobody looked".to_owned()),
        }
    }

    /// Every fact with its name, in the order of names.
    pub fn facts(&self) -> impl Iterator<Item = (&'static str, &Fact)> {
        self.facts.iter().map(|(name, fact)| (*name, fact))
    }
}
