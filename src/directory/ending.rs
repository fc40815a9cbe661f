//! The end of an account, step by step, over restarts.
//!
//! Owner: the thread `directory-end`, one user at a time. First the row says that the user is being
//! deleted; then it leaves its groups, ends at its home shard, and then the rows go. A server that
//! ends in between begins again with every row that says so: each step may be done twice.

use super::way::Way;
use super::write::{Change, Writer};
use super::{Clock, ToShards};
use crate::limits;
use crate::state::order::{Done, Fault, GroupEdit, MemberCard, Order, Role};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// Members looked through for a new owner.
const HEIRS_LOOKED_AT: u32 = 500;
/// Groups asked for at once.
const GROUPS_PER_ASK: u32 = 100;

/// What the thread is told.
pub(super) enum End {
    /// Finish the end of this user.
    User(u64, Option<Way>),
    /// End.
    Stop,
}

/// See the module.
pub(super) struct Ender {
    pub(super) told: Receiver<End>,
    pub(super) to_shards: ToShards,
    pub(super) writer: Writer,
    pub(super) clock: Clock,
    pub(super) stop: Arc<AtomicBool>,
}

/// The server stops: what is left is done after the next start.
struct Stopped;

impl Ender {
    /// The body of the thread.
    pub(super) fn run(self) {
        while let Ok(End::User(user, way)) = self.told.recv() {
            if self.end(user, way).is_err() {
                return;
            }
        }
    }

    fn end(&self, user: u64, way: Option<Way>) -> Result<(), Stopped> {
        let mut after = 0;
        loop {
            let order = Order::GroupsOf { user, after, limit: GROUPS_PER_ASK };
            // A server without groups, or a user without: there is nothing to leave.
            let Ok(Done::Groups { groups, more }) = self.ask(&order)? else { break };
            for &group in &groups {
                self.leave(user, group)?;
                after = group;
            }
            if !more || groups.is_empty() {
                break;
            }
        }
        let not_before_s = (self.clock)() + 1;
        let _unknown_there = self.ask(&Order::EndUser { user, not_before_s })?;
        self.writer.send(Change::Bury { user, not_before_s }, way);
        Ok(())
    }

    /// Leaves a group; one that the user owns goes to somebody else first. What a group refuses is
    /// left as it is: an account must not stay because of it.
    fn leave(&self, user: u64, group: u64) -> Result<(), Stopped> {
        let edit = |edit| Order::GroupEdit { group, by: user, edit };
        if self.ask(&edit(GroupEdit::Leave))? != Err(Fault::Conflict) {
            return Ok(());
        }
        let Some(heir) = self.heir(user, group)? else { return Ok(()) };
        let _refused = self.ask(&edit(GroupEdit::HandOver(heir)))?;
        let _refused = self.ask(&edit(GroupEdit::Leave))?;
        Ok(())
    }

    /// Who gets a group: of the first members by id the admin who is in it longest, else the
    /// member.
    fn heir(&self, user: u64, group: u64) -> Result<Option<u64>, Stopped> {
        let order = Order::GroupMembers { group, by: user, after: 0, limit: HEIRS_LOOKED_AT };
        let Ok(Done::Members { members, .. }) = self.ask(&order)? else { return Ok(None) };
        let rank = |member: &&MemberCard| (member.role != Role::Admin, member.since);
        let others = members.iter().filter(|member| member.user != user);
        Ok(others.min_by_key(rank).map(|member| member.user))
    }

    /// Asks a shard and waits. What it has no room for is asked again.
    fn ask(&self, order: &Order) -> Result<Result<Done, Fault>, Stopped> {
        loop {
            let pause_ms = match self.ask_once(order)? {
                Err(Fault::Overloaded) => limits::ORDER_RETRY_MS,
                Err(Fault::StoreFailed) => limits::ORDER_RETRY_STORE_MS,
                answer => return Ok(answer),
            };
            thread::sleep(Duration::from_millis(pause_ms));
        }
    }

    fn ask_once(&self, order: &Order) -> Result<Result<Done, Fault>, Stopped> {
        let look = Duration::from_millis(limits::SIDE_LOOK_MS);
        if self.stop.load(Ordering::Acquire) {
            return Err(Stopped);
        }
        let Some(send) = self.to_shards.get() else { return Ok(Err(Fault::Overloaded)) };
        let (told, answer) = sync_channel(1);
        let reply = Box::new(move |answer| {
            let _nobody_waits = told.try_send(answer);
        });
        send(order.clone(), reply);
        loop {
            match answer.recv_timeout(look) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) if !self.stop.load(Ordering::Acquire) => {}
                Err(_) => return Err(Stopped),
            }
        }
    }
}
