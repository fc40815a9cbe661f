//! Many worlds, one per thread at a time, on all cores: their sums, and the line that replays the
//! first one that failed.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::plan::Plan;
use super::world::World;

/// How often sums are printed on the way.
const PRINT_EVERY: Duration = Duration::from_secs(10);

/// Which worlds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// The test that runs them, for the line that replays one.
    pub(crate) test: &'static str,
    /// The plan of a seed.
    pub(crate) plan: fn(u64) -> Plan,
    /// The first seed.
    pub(crate) first: u64,
    /// So many seeds at the most.
    pub(crate) count: u64,
    /// No world begins after this time.
    pub(crate) time: Option<Duration>,
}

/// What worlds came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    /// Worlds.
    pub(crate) worlds: u64,
    /// See [`World::events`].
    pub(crate) events: u64,
    /// Messages whose `Sent` was seen.
    pub(crate) sent: u64,
    /// `Deliver` frames.
    pub(crate) delivered: u64,
    /// Ends without warning followed by a start.
    pub(crate) cycles: u64,
    power_cuts: u64,
    deaths_in_start: u64,
    restores: u64,
    damage_named: u64,
    refusals: BTreeMap<&'static str, u64>,
}

impl Sums {
    /// Adds a world that ended.
    pub(crate) fn add(&mut self, world: &World) {
        let toll = world.toll;
        self.worlds += 1;
        self.events += world.events();
        self.sent += world.checks.sent_count() as u64;
        self.delivered += world.checks.deliveries;
        self.cycles += toll.crashes;
        self.power_cuts += toll.power_cuts;
        self.deaths_in_start += toll.deaths_in_start;
        self.restores += toll.restores;
        self.damage_named += toll.damage_named;
        for (reason, count) in &world.checks.refusals {
            *self.refusals.entry(*reason).or_default() += count;
        }
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worlds, events, sent, delivered, cycles, power_cuts, .. } = self;
        let Self { deaths_in_start, restores, damage_named, refusals, .. } = self;
        write!(
            out,
            "{worlds} worlds, {events} events, {cycles} crash-restart cycles ({power_cuts} power \
             cuts, {deaths_in_start} in a start), {restores} restores, {damage_named} damages \
             named, {sent} messages sent, {delivered} deliveries, refused: {refusals:?}"
        )
    }
}

/// A world that broke its word.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What did not hold, beginning with the checker's name.
    pub(crate) what: String,
    /// Events until then.
    pub(crate) events: u64,
}

/// Runs a world to its end.
pub(crate) fn run_world(plan: Plan) -> Result<World, Failure> {
    let mut world = World::new(plan);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let what = match ended {
        Ok(Ok(())) => return Ok(world),
        Ok(Err(what)) => what,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panic: {}", text.unwrap_or("without words"))
        }
    };
    Err(Failure { what, events: world.events() })
}

/// Runs the worlds of an order, as many at a time as there are cores.
///
/// # Panics
/// If one fails: with what did not hold and the line that replays it.
pub(crate) fn run(order: Order) -> Sums {
    let start = Instant::now();
    let (next, failed) = (AtomicU64::new(order.first), AtomicBool::new(false));
    let state = Mutex::new((Sums::default(), start));
    let failures = Mutex::new(BTreeMap::new());
    let end = order.first.saturating_add(order.count);
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let late = order.time.is_some_and(|time| start.elapsed() >= time);
        if seed >= end || late || failed.load(Ordering::Relaxed) {
            return;
        }
        match run_world((order.plan)(seed)) {
            Ok(world) => {
                let mut state = state.lock().expect("nobody panics with it");
                let (sums, printed) = &mut *state;
                sums.add(&world);
                if order.time.is_some() && printed.elapsed() >= PRINT_EVERY {
                    *printed = Instant::now();
                    println!("{}", line(order.first, seed, sums, start.elapsed()));
                }
            }
            Err(Failure { what, events }) => {
                let what = format!("{what}, after {events} events");
                failed.store(true, Ordering::Relaxed);
                failures.lock().expect("nobody panics with it").insert(seed, what);
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let sums = state.into_inner().expect("nobody panics with it").0;
    let last = order.first + sums.worlds.max(1) - 1;
    println!("{}", line(order.first, last, &sums, start.elapsed()));
    let failures = failures.into_inner().expect("nobody panics with it");
    if let Some((seed, what)) = failures.first_key_value() {
        panic!("{what}\n{}", replay(order.test, *seed));
    }
    sums
}

fn replay(test: &str, seed: u64) -> String {
    format!("replay: MYRIAD_SEED={seed} cargo nextest run -p myriad --test simulation {test}")
}

fn line(first: u64, last: u64, sums: &Sums, passed: Duration) -> String {
    let a_minute = sums.events as f64 * 60.0 / passed.as_secs_f64().max(0.001);
    let seconds = passed.as_secs();
    format!("{seconds} s, seeds {first} to {last}: {sums}; {a_minute:.0} events a minute")
}
