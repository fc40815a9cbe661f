//! The groups of a run on the server: made before the first phase, ended after the last one.
//!
//! Through the server's HTTP interface, each by its first member with that client's own token;
//! members who may only be invited accept. A thread of its own asks, so that the run is looked at
//! meanwhile. Deliberately not here: who is in which (`groups`).

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use client::api::{Added, Api, ApiError};

use super::RunError;
use super::groups::Plan;
use crate::interrupt;
use crate::protocol::Protocol;

/// Longest wait in a row for a server that says "come again".
const PATIENCE: Duration = Duration::from_secs(60);
/// Wait before the next attempt if the server names none.
const PAUSE: Duration = Duration::from_millis(200);
/// How soon an interruption is noticed.
const NAP: Duration = Duration::from_millis(50);
/// All groups are ended within this, or left: nobody waits longer for the end of a run.
const END_WAIT: Duration = Duration::from_secs(3);
/// Invitations of one member that are looked through.
const INVITATIONS_MAX: usize = 10_000;

/// Makes groups.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    api: Api,
    protocol: Arc<dyn Protocol>,
    plan: Plan,
    /// The ids of those that are there, by number.
    made: Arc<Mutex<Vec<u64>>>,
}

/// Groups that are being made.
pub(crate) type Making = Receiver<Result<(), String>>;

/// How it went, once it is over.
pub(crate) fn outcome(making: &Making) -> Option<Result<(), RunError>> {
    let result = match making.try_recv() {
        Err(TryRecvError::Empty) => return None,
        Err(TryRecvError::Disconnected) => Err("the thread that makes them panicked".to_owned()),
        Ok(result) => result,
    };
    Some(result.map_err(|why| failed(&why)))
}

fn failed(why: &str) -> RunError {
    RunError::Target(format!("can't make the groups of the scenario: {why}"))
}

impl Maker {
    /// For a scenario with groups.
    ///
    /// # Errors
    /// No address was given, or the protocol has no groups.
    pub(crate) fn new(
        plan: Plan,
        protocol: &Arc<dyn Protocol>,
        api: Option<&str>,
    ) -> Result<Self, RunError> {
        if !protocol.promises().groups {
            let name = protocol.name();
            let why = format!("the scenario has groups, and {name} has none: take another one");
            return Err(RunError::Arguments(why));
        }
        let api = api.ok_or_else(|| {
            RunError::Arguments(
                "the scenario has groups, which are made through the server's HTTP interface: \
                 start it with --api-listen HOST:PORT and give --api http://HOST:PORT"
                    .to_owned(),
            )
        })?;
        let made = Arc::new(Mutex::new(Vec::new()));
        Ok(Self { api: Api::new(api), protocol: Arc::clone(protocol), plan, made })
    }

    /// Asks the interface once, so that a wrong address is told before the clients connect. Client
    /// 0 has logged in before.
    ///
    /// # Errors
    /// Nothing answers there, or the server lets the client not in.
    pub(crate) fn check(&self) -> Result<(), RunError> {
        let first = self.as_client(0).map_err(RunError::Arguments)?;
        match first.get("/v1/groups?limit=1") {
            Ok(_) => Ok(()),
            Err(error @ ApiError::Address(_)) => Err(RunError::Arguments(error.to_string())),
            Err(error) => Err(failed(&advice(&error))),
        }
    }

    /// Begins to make all groups.
    pub(crate) fn begin(&self) -> Result<Making, RunError> {
        let (sender, making) = channel();
        let maker = self.clone();
        let body = move || {
            let _ = sender.send(maker.make()); // nobody listens after an interruption
        };
        let spawned = thread::Builder::new().name("groups".to_owned()).spawn(body);
        spawned.map_err(|error| RunError::Engine(format!("no thread: {error}")))?;
        Ok(making)
    }

    /// Ends all groups that were made, as far as the server does that in time.
    pub(crate) fn end(self) {
        let (sender, done) = channel::<()>();
        let body = move || {
            for (number, id) in (0..).zip(self.made()) {
                let Ok(owner) = self.as_client(self.plan.member(number, 0)) else { break };
                let _ = owner.call("DELETE", &format!("/v1/groups/{id}"), None); // as it can
            }
            drop(sender);
        };
        // Without a thread they stay, which harms nobody.
        if thread::Builder::new().name("groups".to_owned()).spawn(body).is_ok() {
            let _ = done.recv_timeout(END_WAIT);
        }
    }

    fn made(&self) -> Vec<u64> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn as_client(&self, number: u32) -> Result<Api, String> {
        Ok(self.api.with_token(&self.protocol.account(number)?.token))
    }

    fn make(&self) -> Result<(), String> {
        for group in 0..self.plan.groups.count {
            let owner = self.as_client(self.plan.member(group, 0))?;
            let name = format!("load {group}");
            let id = patiently(|| owner.create_group(&name))?.id;
            self.made.lock().unwrap_or_else(PoisonError::into_inner).push(id);
            for member in self.plan.members(group).skip(1) {
                let user = self.protocol.account(member)?.user;
                if patiently(|| owner.add_member(id, user))? == Added::Invited {
                    self.accept(member, id)?;
                }
            }
        }
        self.protocol.set_groups(&self.made());
        Ok(())
    }

    /// A member follows its invitation to a group.
    fn accept(&self, member: u32, group: u64) -> Result<(), String> {
        let api = self.as_client(member)?;
        let invitations = patiently(|| api.invitations(INVITATIONS_MAX))?;
        if let Some(invitation) = invitations.iter().find(|it| it.group == group) {
            return patiently(|| api.accept(invitation.id)).map(|_| ());
        }
        Err(format!(
            "client {member} was invited and has no invitation: does it block the one who invites?"
        ))
    }
}

/// Asks until the server does it: "come again" is no failure for a while.
fn patiently<T>(ask: impl Fn() -> Result<T, ApiError>) -> Result<T, String> {
    let began = Instant::now();
    loop {
        if interrupt::requested() {
            return Err("interrupted".to_owned());
        }
        let error = match ask() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let again = matches!(error.status(), Some(429 | 503)) && began.elapsed() < PATIENCE;
        if !again {
            return Err(advice(&error));
        }
        let wait = match error {
            ApiError::Refused { retry_after_s: Some(seconds), .. } => Duration::from_secs(seconds),
            _ => PAUSE,
        };
        let until = Instant::now() + wait.clamp(PAUSE, PATIENCE);
        while Instant::now() < until && !interrupt::requested() {
            thread::sleep(NAP);
        }
    }
}

/// What a failed call says, and what to do about it.
fn advice(error: &ApiError) -> String {
    let ApiError::Refused { status, code, .. } = error else { return error.to_string() };
    let advice = match status {
        401 => "; is --api the interface of the server of --target, with the same secret?",
        404 if code.is_empty() => "; is --api the address of a Myriad server's HTTP interface?",
        404 => "; a member the server does not know can't be in a group: did all clients log in?",
        409 => "; a group has up to group_members_max members, a user is in up to 1,000 groups",
        429 | 503 => "; it said so for a minute: has it other work? Take fewer or smaller groups",
        _ => "",
    };
    format!("{error}{advice}")
}
