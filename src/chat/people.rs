//! People and groups by name: what the HTTP API knows of them, and what the user wants done there.
//!
//! Calls wait for their answer: the user waits for it, too, and heartbeats leave again before the
//! server gives the session up.

use std::collections::HashMap;
use std::time::Instant;

use client::api::{Added, Api, ApiError};
use wire::Stream;

use super::account::{Account, AccountError};
use super::command::{Peer, Wish};
use super::{Chat, ChatError};

/// Names remembered; more than anybody talks to in a day.
const NAMES_MAX: usize = 4_096;
/// Groups that `/groups` lists at the most.
const GROUPS_LISTED_MAX: usize = 1_000;

/// Names looked up so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: HashMap<u64, String>,
    groups: HashMap<u64, String>,
}

impl Names {
    /// What to call a user.
    pub(super) fn user(&mut self, api: Option<&Api>, user: u64) -> String {
        if let Some(name) = self.users.get(&user) {
            return name.clone();
        }
        let number = || user.to_string();
        // Without an answer the number is the name, until the next start.
        let found = api.and_then(|api| api.user(user).ok()).map(|who| who.name);
        let name = found.filter(|name| !name.is_empty()).unwrap_or_else(number);
        if self.users.len() < NAMES_MAX {
            self.users.insert(user, name.clone());
        }
        name
    }

    /// What to call a group.
    pub(super) fn group(&mut self, api: Option<&Api>, group: u64) -> String {
        if let Some(name) = self.groups.get(&group) {
            return format!("#{name}");
        }
        // Whoever was added later never saw how it began.
        let found = api.and_then(|api| api.group(group).ok());
        let name = found.map_or_else(|| group.to_string(), |found| found.name);
        self.note_group(group, &name);
        format!("#{name}")
    }

    /// The group is called this.
    pub(super) fn note_group(&mut self, group: u64, name: &str) {
        if self.groups.len() < NAMES_MAX || self.groups.contains_key(&group) {
            self.groups.insert(group, name.to_owned());
        }
    }
}

impl Chat {
    fn api(&self) -> Option<&Api> {
        self.account.as_ref().map(Account::api)
    }

    /// What to call whoever a stream is of.
    pub(super) fn called(&mut self, stream: Stream) -> String {
        match stream {
            Stream::User(user) => self.names.user(self.account.as_ref().map(Account::api), user),
            Stream::Group(group) => {
                self.names.group(self.account.as_ref().map(Account::api), group)
            }
        }
    }

    /// Whom a word means.
    pub(super) fn resolve(&mut self, peer: &Peer) -> Result<Stream, String> {
        let name = match peer {
            Peer::Number(stream) => return Ok(*stream),
            Peer::Name(name) => name,
        };
        let Some(api) = self.api() else {
            return Err(format!(
                "{name} is a name, and without an account (--name) there are \
                                only numbers"
            ));
        };
        let who = api.find(name).map_err(|error| format!("{name}: {error}"))?;
        Ok(Stream::User(who.id))
    }

    fn resolve_user(&mut self, peer: &Peer) -> Result<u64, String> {
        match self.resolve(peer)? {
            Stream::User(user) => Ok(user),
            Stream::Group(group) => Err(format!("#{group} is a group")),
        }
    }

    /// Does what needs the HTTP API; returns whether the user is gone after that.
    pub(super) fn wish(&mut self, wish: &Wish) -> Result<bool, ChatError> {
        if self.account.is_none() {
            self.screen.note("that needs an account: start with --name")?;
            return Ok(false);
        }
        if *wish == Wish::LogOut {
            let logged_out = self.account.as_ref().map_or(Ok(()), Account::log_out);
            return match logged_out {
                Ok(()) => {
                    self.options.state = None; // it is gone
                    Ok(true)
                }
                Err(error) => {
                    self.screen.note(&error.to_string()).map(|()| false).map_err(Into::into)
                }
            };
        }
        let told = self.try_wish(wish).unwrap_or_else(|why| why);
        self.screen.note(&told)?;
        Ok(false)
    }

    /// What to tell; in `Err` what went wrong.
    fn try_wish(&mut self, wish: &Wish) -> Result<String, String> {
        match wish {
            Wish::Group(name, people) => {
                // Before there is a group: a name that is wrong makes none.
                let people = self.resolve_users(people)?;
                let group = self.call(|api| api.create_group(name))?;
                self.names.note_group(group.id, &group.name);
                self.to = Some(Stream::Group(group.id));
                let added = self.add(group.id, &people);
                Ok(format!("talking to #{name} (/to #{}){added}", group.id))
            }
            Wish::Add(people) => {
                let (group, people) = (self.group_here()?, self.resolve_users(people)?);
                let added = self.add(group, &people);
                Ok(format!("{}{added}", self.called(Stream::Group(group))))
            }
            Wish::Remove(who) => {
                let (group, user) = (self.group_here()?, self.resolve_user(who)?);
                self.call(|api| api.remove_member(group, user))?;
                Ok("removed".to_owned())
            }
            Wish::Leave => {
                let group = self.group_here()?;
                self.call(|api| api.leave_group(group))?;
                self.to = None;
                Ok("left".to_owned())
            }
            Wish::HandOver(who) => {
                let (group, user) = (self.group_here()?, self.resolve_user(who)?);
                self.call(|api| api.hand_over(group, user))?;
                let (group, user) = (Stream::Group(group), Stream::User(user));
                Ok(format!("{} belongs to {} now", self.called(group), self.called(user)))
            }
            Wish::Invitations => self.invitations(),
            Wish::Answer(id, follow) => self.answer(*id, *follow),
            Wish::Groups => {
                let groups = self.call(|api| api.groups(GROUPS_LISTED_MAX))?;
                let line = |group: &client::api::Group| {
                    format!("{} (/to #{}, {} members)", group.name, group.id, group.members)
                };
                for group in &groups {
                    self.names.note_group(group.id, &group.name);
                }
                let lines: Vec<String> = groups.iter().map(line).collect();
                Ok(if lines.is_empty() { "no groups".to_owned() } else { lines.join("; ") })
            }
            Wish::Contact(who, on) => {
                let user = self.resolve_user(who)?;
                self.call(|api| api.set_contact(user, *on))?;
                Ok(if *on { "in your contact book" } else { "no longer a contact" }.to_owned())
            }
            Wish::Block(who, on) => {
                let user = self.resolve_user(who)?;
                self.call(|api| api.set_blocked(user, *on))?;
                Ok(if *on { "blocked" } else { "no longer blocked" }.to_owned())
            }
            Wish::LogOut => Ok(String::new()),
        }
    }

    fn invitations(&mut self) -> Result<String, String> {
        let mut lines = Vec::new();
        for it in self.call(|api| api.invitations(GROUPS_LISTED_MAX))? {
            let by = self.called(Stream::User(it.by));
            lines.push(format!("{by} invites you to #{} (/accept {})", it.group, it.id));
        }
        Ok(if lines.is_empty() { "no invitations".to_owned() } else { lines.join("; ") })
    }

    fn answer(&mut self, invitation: u64, follow: bool) -> Result<String, String> {
        if !follow {
            self.call(|api| api.decline(invitation))?;
            return Ok("declined; who invited you is not told".to_owned());
        }
        let group = self.call(|api| api.accept(invitation))?;
        self.names.note_group(group.id, &group.name);
        self.to = Some(Stream::Group(group.id));
        Ok(format!("talking to #{} (/to #{})", group.name, group.id))
    }

    fn add(&mut self, group: u64, people: &[u64]) -> String {
        let mut told = String::new();
        for &user in people {
            let name = self.called(Stream::User(user));
            match self.call(|api| api.add_member(group, user)) {
                Ok(Added::Member) => told += &format!(", with {name}"),
                Ok(Added::Invited) => told += &format!(", {name} was invited"),
                Err(why) => told += &format!(", {name} was not added: {why}"),
            }
        }
        told
    }

    fn resolve_users(&mut self, people: &[Peer]) -> Result<Vec<u64>, String> {
        people.iter().map(|who| self.resolve_user(who)).collect()
    }

    fn group_here(&self) -> Result<u64, String> {
        match self.to {
            Some(Stream::Group(group)) => Ok(group),
            _ => Err("talk to a group first: /to #NUMBER, or /group NAME WHOM..".to_owned()),
        }
    }

    fn call<T>(&self, call: impl FnOnce(&Api) -> Result<T, ApiError>) -> Result<T, String> {
        let api = self.api().ok_or_else(|| "no account".to_owned())?;
        call(api).map_err(|error| error.to_string())
    }

    /// Gets the next token before the present one ends.
    pub(super) fn renew_when_due(&mut self) -> Result<(), ChatError> {
        let (Some(account), Some(due)) = (&mut self.account, self.renew_at) else { return Ok(()) };
        if Instant::now() < due {
            return Ok(());
        }
        match account.renew() {
            Ok(()) => {
                self.client.session.renew(account.login().access.clone());
                self.renew_at = Some(super::renewal(account.login().access_s));
                Ok(())
            }
            // It may be back in a moment; the session lasts until its token ends.
            Err(AccountError::Api(error)) if error.status().is_none_or(|status| status >= 429) => {
                self.renew_at = Some(Instant::now() + super::RENEW_RETRY);
                Ok(self.screen.note(&error.to_string())?)
            }
            Err(error) => Err(error.into()),
        }
    }
}
