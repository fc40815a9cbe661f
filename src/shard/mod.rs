//! A shard: one pinned thread, one loop, and everything it owns.
//!
//! `turn.rs` is the loop; `admission.rs` guards the door; `intake.rs` turns completions into frames
//! and frames into steps of the path; `tokens.rs` checks who they are; `moving.rs` takes sessions
//! home; `traffic.rs` carries requests between steps, shards and the log; `expiry.rs` gives up what
//! has waited too long; `checkpoint.rs` does its part of a checkpoint; `history.rs` asks history;
//! `orders.rs` takes what the directory and the HTTP API ask, `people.rs` and `posts.rs` do it;
//! `rates.rs` bounds what one user or source may ask;
//! `groups.rs`, `group_orders.rs` and `circles.rs` serve groups and their members;
//! `overload.rs` judges how it stands and `shedding.rs` does less then; `closing.rs` ends
//! connections. All control flow of the message path is in this room; the rules are in `path`.
//!
//! Invariant: nothing here blocks except `Driver::poll`, and only while there is nothing to do.

mod admission;
mod checkpoint;
mod circles;
mod closing;
mod expiry;
mod group_letters;
mod group_orders;
mod groups;
mod history;
mod intake;
mod letters;
mod load;
mod moving;
mod orders;
mod overload;
mod people;
mod posts;
mod rates;
mod shedding;
mod side;
mod tokens;
mod traffic;
mod turn;

pub use closing::Drain;
pub use history::{Answer, Ask, Found, HistoryEnds, Kept, Question};
pub use load::Load;
pub use orders::Desk;
pub use overload::{Level, Pressure};
pub use side::{CheckJob, Checked, SeenBatch, Side};

use crate::auth::Keys;
use crate::clock::{ExpiryClock, Now};
use crate::io::Driver;
use crate::limits;
use crate::log::{LiveReport, Reader, Stage, Ticket};
use crate::mem::{Token, Wheel};
use crate::path::store::Refusals;
use crate::path::{Rules, ahead};
use crate::ring::{Doorbell, Inlet, Kind, Mailbox};
use crate::state::conn::Parked;
use crate::state::order::{Ordered, Pending};
use crate::state::placement::Placement;
use crate::state::request::{Envelope, Errand, Login, Request};
use crate::state::{Positions, Tables};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// What a shard is made of.
#[derive(Debug)]
pub struct Parts<D: Driver, R: Reader> {
    /// Its number.
    pub me: usize,
    /// The driver with the listener.
    pub driver: D,
    /// Reads the log.
    pub reader: R,
    /// Its end of the log.
    pub stage: Stage,
    /// Its queues.
    pub mailbox: Mailbox<Envelope<D::Socket>>,
    /// Its bell.
    pub doorbell: Doorbell,
    /// What it remembers (replayed).
    pub tables: Tables,
    /// Positions of this boot's epoch.
    pub positions: Positions,
    /// The last epoch given out, shared by all shards.
    pub epochs: Arc<AtomicU32>,
    /// Who lives where.
    pub placement: Placement,
    /// The rules in force.
    pub rules: Arc<Rules>,
    /// Keys of tokens.
    pub keys: Arc<Keys>,
    /// Threads beside it.
    pub side: Option<Side>,
    /// Orders from outside the message path ([`Desk::of`]).
    pub orders: Arc<Inlet<Ordered>>,
    /// The wall clock is not believed: nothing expires.
    pub expiry_held: bool,
    /// The drain signal.
    pub drain: Arc<Drain>,
    /// What it and the outside tell each other of its load.
    pub pressure: Arc<Pressure>,
    /// Sessions it takes.
    pub sessions_max: usize,
    /// Credits toward each other shard.
    pub credits: usize,
}

/// What waits for a commit, in the order of the log.
#[derive(Debug)]
enum Waiter {
    /// A request whose record is staged; the answer goes to shard `from`. `deleted`: its payload
    /// is to go as soon as it is there.
    Request {
        ticket: Ticket,
        from: usize,
        user: u32,
        position: u64,
        request: Box<Request>,
        deleted: bool,
    },
    /// A login whose device is new.
    Login { ticket: Ticket, conn: Token, device: u32, login: Login },
    /// The next epoch of this shard's positions.
    Epoch { ticket: Ticket, epoch: u32 },
    /// A waiting record that is copied forward.
    Moved { ticket: Ticket, user: u32, position: u64 },
    /// The same in a group.
    MovedInGroup { ticket: Ticket, group: u32, position: u64 },
    /// A change of a group.
    Change { ticket: Ticket, group: u32, position: u64, back: group_orders::Back },
    /// The end of this shard's image.
    Image { ticket: Ticket, report: Box<LiveReport> },
    /// An order that is a record.
    Order { ticket: Ticket, pending: Pending },
}

impl Waiter {
    fn batch(&self) -> u64 {
        match self {
            Self::Request { ticket, .. }
            | Self::Login { ticket, .. }
            | Self::Epoch { ticket, .. }
            | Self::Moved { ticket, .. }
            | Self::MovedInGroup { ticket, .. }
            | Self::Change { ticket, .. }
            | Self::Image { ticket, .. }
            | Self::Order { ticket, .. } => ticket.batch,
        }
    }
}

/// A connection logged in and not yet where it belongs.
#[derive(Debug)]
struct Mover {
    conn: Token,
    login: Login,
    since_ms: u64,
}

/// One shard.
#[derive(Debug)]
pub struct Shard<D: Driver, R: Reader> {
    driver: D,
    core: Core<D::Socket, R>,
    doorbell: Doorbell,
    expired: Vec<u32>,
    handles: Vec<u32>,
    /// The driver takes connections.
    accepting: bool,
}

/// Everything of a shard but its driver: what completions may touch.
#[derive(Debug)]
struct Core<S, R> {
    me: usize,
    placement: Placement,
    rules: Arc<Rules>,
    keys: Arc<Keys>,
    side: Option<Side>,
    orders: Arc<Inlet<Ordered>>,
    /// Who waits for messages from outside a session.
    callers: posts::Callers,
    rates: rates::Rates,
    drain: Arc<Drain>,
    tables: Tables,
    stage: Stage,
    reader: R,
    positions: Positions,
    epochs: Arc<AtomicU32>,
    epoch_under_way: bool,
    mailbox: Mailbox<Envelope<S>>,
    /// Scratch: letters taken out together.
    batch: Vec<(usize, Kind, Envelope<S>)>,
    /// Messages of this turn from one user of this shard to another.
    own: VecDeque<Box<Request>>,
    /// How many of these wait at the most: like those of others, no more than there are credits.
    own_max: usize,
    /// Per shard that asks: what it was refused.
    refusals: Vec<Refusals>,
    /// Per shard that was asked: how many refusals with "try again" were heard from it.
    refusals_heard: Vec<u64>,
    waiters: VecDeque<Waiter>,
    wheel: Wheel,
    /// Session clock and wall clock of this turn.
    now: Now,
    /// The host's monotonic clock when `now` was set.
    host_ms: u64,
    /// The longest the shard meant to sleep in this turn.
    slept_max_ms: u64,
    sessions_max: usize,
    admission: admission::Admission,
    overload: overload::Overload,
    shedding: shedding::Shedding,
    signatures_left: usize,
    drain_phase: u8,
    /// Accepted and not yet attached.
    arrivals: Vec<(Token, S)>,
    movers: VecDeque<Mover>,
    /// Copies of what was sent that wait for room in the staging ring, oldest first.
    copies: VecDeque<Box<Request>>,
    parked: VecDeque<Parked>,
    /// Since when the frame being tried again has waited for a credit.
    waits_since_ms: Option<u64>,
    /// Said goodbye, not yet half-closed.
    leaving: Vec<Token>,
    /// At home, and not yet told to the driver.
    settled: Vec<Token>,
    /// To be read again.
    resumes: Vec<Token>,
    errands: VecDeque<Errand>,
    behind: Vec<u32>,
    grouping: groups::Grouping,
    imaging: checkpoint::Imaging,
    expiry_clock: ExpiryClock,
    expiry_due_ms: u64,
    /// Scratch: positions whose time is over.
    expired: Vec<u64>,
    /// (user, position) whose tombstone found no room; see [`limits::BURIALS_MAX`].
    burials: Vec<(u32, u64)>,
    cursors_due_ms: u64,
    presence_due_ms: u64,
    sweep_due_ms: u64,
    seen_due_ms: u64,
}

impl<D: Driver, R: Reader> Shard<D, R> {
    /// Puts a shard together.
    pub fn new(parts: Parts<D, R>, now: Now) -> Self {
        let shards = parts.mailbox.shards();
        let conns_max = parts.tables.conns.capacity();
        let Rules { admitted_at_once_max, unknown_conns_max, .. } = *parts.rules;
        let admission = admission::Admission::new(admitted_at_once_max, unknown_conns_max);
        let rates = rates::Rates::new(&parts.rules);
        let core = Core {
            me: parts.me,
            placement: parts.placement,
            rules: parts.rules,
            keys: parts.keys,
            side: parts.side,
            orders: parts.orders,
            callers: posts::Callers::default(),
            rates,
            drain: parts.drain,
            tables: parts.tables,
            stage: parts.stage,
            reader: parts.reader,
            positions: parts.positions,
            epochs: parts.epochs,
            epoch_under_way: false,
            mailbox: parts.mailbox,
            batch: Vec::new(),
            own: VecDeque::new(),
            own_max: parts.credits.min(ahead::AHEAD_MAX),
            refusals: (0..shards).map(|_| Refusals::new(parts.credits)).collect(),
            refusals_heard: vec![0; shards],
            waiters: VecDeque::new(),
            wheel: Wheel::new(conns_max, 0),
            now: Now { mono_ms: 0, wall_ms: now.wall_ms },
            host_ms: now.mono_ms,
            slept_max_ms: 0,
            sessions_max: parts.sessions_max,
            admission,
            overload: overload::Overload::new(parts.pressure, now.mono_ms),
            shedding: shedding::Shedding::default(),
            signatures_left: limits::SIGNATURES_PER_TURN_MAX,
            drain_phase: 0,
            arrivals: Vec::new(),
            movers: VecDeque::new(),
            copies: VecDeque::new(),
            parked: VecDeque::new(),
            waits_since_ms: None,
            leaving: Vec::new(),
            settled: Vec::new(),
            resumes: Vec::new(),
            errands: VecDeque::new(),
            behind: Vec::new(),
            grouping: groups::Grouping::new(shards),
            imaging: checkpoint::Imaging::new(),
            expiry_clock: ExpiryClock::new(now, parts.expiry_held),
            expiry_due_ms: 0,
            expired: Vec::new(),
            burials: Vec::new(),
            cursors_due_ms: 0,
            presence_due_ms: 0,
            sweep_due_ms: 0,
            seen_due_ms: limits::LAST_SEEN_FLUSH_MS,
        };
        let doorbell = parts.doorbell;
        Self {
            driver: parts.driver,
            core,
            doorbell,
            expired: Vec::new(),
            handles: Vec::new(),
            accepting: true,
        }
    }

    /// What it remembers: for tests, reports and the simulator's checkers.
    pub fn tables(&self) -> &Tables {
        &self.core.tables
    }
}

impl<S, R: Reader> Core<S, R> {
    /// Reads time into this turn. The session clock does not see what the server was late by.
    fn set_now(&mut self, host: Now) {
        let passed = host.mono_ms.saturating_sub(self.host_ms);
        let allowed = self.slept_max_ms + limits::LATE_MS_MAX;
        self.host_ms = host.mono_ms;
        self.slept_max_ms = 0;
        self.now = Now { mono_ms: self.now.mono_ms + passed.min(allowed), wall_ms: host.wall_ms };
    }

    /// Nothing of this shard is on its way through the log or another shard.
    fn is_quiet(&self) -> bool {
        self.waiters.is_empty()
            && self.copies.is_empty()
            && self.parked.is_empty()
            && self.movers.is_empty()
    }
}

const _: () = assert!(size_of::<Envelope<u32>>() <= 56, "letters are copied twice per hop");
