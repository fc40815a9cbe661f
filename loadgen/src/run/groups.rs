//! Groups of a run: who is in which, and who writes, by arithmetic alone.
//!
//! All clients stand in a ring, in an order that keeps neighbouring numbers apart; group 0 has the
//! first few, group 1 the next, and so on around it. So some of each group are away when some
//! clients are. The first member owns a group, and the first few write. In payloads and books a
//! group has an address that no client has. Deliberately not here: making them on a server
//! (`maker`), and what became of copies (`copies`).

use serde::Deserialize;

/// The bit of addresses that are groups; clients' numbers stay far below.
const GROUP: u32 = 1 << 31;
/// Groups of one run.
const GROUPS_MAX: u32 = 100_000;
/// What a recipient keeps of a sender, summed over all groups: some 100 bytes each.
const TRACKS_MAX: u64 = 4_000_000;

/// The groups of a scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Groups {
    /// How many.
    pub(crate) count: u32,
    /// Members of each, the owner among them.
    pub(crate) members: u32,
    /// So many of them write; all unless given.
    pub(crate) writers: Option<u32>,
}

/// Groups among so many clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    pub(crate) groups: Groups,
    pub(crate) sessions: u32,
    /// From a client to the next one in the ring.
    pub(crate) step: u32,
    /// From a client's number to its place in the ring: the inverse of `step`, modulo `sessions`.
    pub(crate) inverse: u32,
}

/// The address of a group.
pub(crate) fn address(group: u32) -> u32 {
    GROUP | group
}

/// The group of this address; `None`: it is a client's number.
pub(crate) fn group_of(address: u32) -> Option<u32> {
    (address & GROUP != 0).then_some(address & !GROUP)
}

impl Groups {
    /// How many members write.
    pub(crate) fn writers(&self) -> u32 {
        self.writers.unwrap_or(self.members)
    }

    /// Every number in its bounds.
    pub(crate) fn check(&self, sessions: u32) -> Result<(), String> {
        let Self { count, members, .. } = *self;
        let writers = self.writers();
        if !(1..=GROUPS_MAX).contains(&count) {
            return Err(format!("groups.count = {count}: 1 to {GROUPS_MAX} are possible"));
        }
        if !(2..=sessions).contains(&members) {
            return Err(format!(
                "groups.members = {members}: 2 to {sessions} are possible, which is \
                 clients.sessions"
            ));
        }
        if !(1..=members).contains(&writers) {
            return Err(format!(
                "groups.writers = {writers}: 1 to {members} are possible, which is groups.members"
            ));
        }
        let tracks = u64::from(count) * u64::from(members) * u64::from(writers);
        if tracks > TRACKS_MAX {
            return Err(format!(
                "groups.count x members x writers = {tracks}: {TRACKS_MAX} are possible, because \
                 each member judges each writer; set fewer groups.writers"
            ));
        }
        Ok(())
    }
}

impl Plan {
    pub(crate) fn new(groups: Groups, sessions: u32) -> Self {
        // By the golden section any few in a row are spread evenly.
        let near = u32::try_from(u64::from(sessions) * 618 / 1_000).unwrap_or(1);
        let steps = (1..=near).rev();
        let mut found = steps.filter_map(|step| Some((step, inverse(step, sessions)?)));
        let (step, inverse) = found.next().unwrap_or((1, 1));
        Self { groups, sessions, step, inverse }
    }

    fn around(&self, place: u64, factor: u32) -> u32 {
        let sessions = u64::from(self.sessions.max(1));
        u32::try_from(place % sessions * u64::from(factor) % sessions).unwrap_or(0)
    }

    /// The member of this index in a group.
    pub(crate) fn member(&self, group: u32, index: u32) -> u32 {
        let place = u64::from(group) * u64::from(self.groups.members) + u64::from(index);
        self.around(place, self.step)
    }

    /// All members of a group.
    pub(crate) fn members(&self, group: u32) -> impl Iterator<Item = u32> + '_ {
        (0..self.groups.members).map(move |index| self.member(group, index))
    }

    pub(crate) fn is_member(&self, group: u32, number: u32) -> bool {
        if group >= self.groups.count || number >= self.sessions {
            return false;
        }
        let first = self.around(u64::from(group) * u64::from(self.groups.members), 1);
        let place = self.around(u64::from(number), self.inverse);
        let index = if place >= first { place - first } else { self.sessions - first + place };
        index < self.groups.members
    }

    /// Copies of a message to this address: one, or one for each member but its sender.
    pub(crate) fn copies(plan: Option<&Self>, to: u32) -> u64 {
        match (group_of(to), plan) {
            (Some(_), Some(plan)) => u64::from(plan.groups.members) - 1,
            _ => 1,
        }
    }

    /// Who writes in which group, in the order in which they take turns: client and group.
    pub(crate) fn writers(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let Groups { count, .. } = self.groups;
        (0..self.groups.writers())
            .flat_map(move |index| (0..count).map(move |group| (self.member(group, index), group)))
    }

    /// Which of the threads that have a writer with a number below `online` this one is, and how
    /// many have: these share the messages. `None`: it has none.
    pub(crate) fn share(&self, online: u32, part: u32, threads: u32) -> Option<(u64, u64)> {
        let mut has = vec![false; threads as usize];
        let mut count = 0;
        for (number, _) in self.writers().filter(|(number, _)| *number < online) {
            if let Some(has) = has.get_mut((number % threads.max(1)) as usize)
                && !std::mem::replace(has, true)
            {
                count += 1;
            }
            if count == u64::from(threads) {
                break;
            }
        }
        let own = *has.get(part as usize)?;
        let before = has.iter().take(part as usize).filter(|has| **has).count() as u64;
        own.then_some((before, count))
    }
}

/// What a number times `step` makes 1, modulo `modulus`; none if both share a divisor.
fn inverse(step: u32, modulus: u32) -> Option<u32> {
    let (mut old, mut new) = ((i64::from(modulus), 0_i64), (i64::from(step), 1_i64));
    while new.0 != 0 {
        let quotient = old.0 / new.0;
        (old, new) = (new, (old.0 - quotient * new.0, old.1 - quotient * new.1));
    }
    let (divisor, inverse) = old;
    let inverse = inverse.rem_euclid(i64::from(modulus.max(1)));
    (divisor == 1).then(|| u32::try_from(inverse).ok())?
}

/// The writers of one thread, who take turns.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    /// Client and group.
    list: Vec<(u32, u32)>,
    next: usize,
}

impl Seats {
    pub(crate) fn new(plan: Option<&Plan>, part: u32, threads: u32) -> Self {
        let all = plan.into_iter().flat_map(Plan::writers);
        Self { list: all.filter(|(number, _)| number % threads == part).collect(), next: 0 }
    }

    /// The next one who may write.
    pub(crate) fn turn(&mut self, may_write: impl Fn(u32) -> bool) -> Option<(u32, u32)> {
        for _ in 0..self.list.len() {
            self.next = if self.next + 1 >= self.list.len() { 0 } else { self.next + 1 };
            let seat = self.list.get(self.next).copied();
            if let Some((number, _)) = seat
                && may_write(number)
            {
                return seat;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(count: u32, members: u32, writers: Option<u32>, sessions: u32) -> Plan {
        Plan::new(Groups { count, members, writers }, sessions)
    }

    /// The same with client after client.
    fn in_a_row(plan: Plan) -> Plan {
        Plan { step: 1, inverse: 1, ..plan }
    }

    #[test]
    fn who_is_in_is_said_alike_from_both_ends() {
        for plan in [
            plan(3, 4, None, 10),
            plan(5, 7, Some(2), 7),
            plan(1, 2, None, 2),
            plan(9, 19, None, 20),
            in_a_row(plan(3, 4, None, 10)),
        ] {
            for group in 0..plan.groups.count {
                let members: Vec<u32> = plan.members(group).collect();
                let asked = (0..20).filter(|number| plan.is_member(group, *number));
                let mut sorted = members.clone();
                sorted.sort_unstable();
                assert_eq!(asked.collect::<Vec<_>>(), sorted, "{plan:?} {group}");
            }
            assert!(!plan.is_member(plan.groups.count, 0), "there is no such group");
        }
    }

    #[test]
    fn with_a_quarter_of_all_clients_away_some_of_every_group_are() {
        for sessions in [200, 1_000, 4_095, 16_000_000] {
            let plan = plan(8, 25, None, sessions);
            for group in 0..8 {
                let away = plan.members(group).filter(|number| *number >= sessions / 4 * 3);
                assert!((5..9).contains(&away.count()), "{plan:?} {group}");
            }
        }
    }

    #[test]
    fn an_address_is_no_number_of_a_client() {
        assert_eq!(group_of(address(7)), Some(7));
        assert_eq!(group_of(16_000_000), None);
        let plan = plan(2, 5, None, 10);
        assert_eq!(Plan::copies(Some(&plan), address(1)), 4);
        assert_eq!(Plan::copies(Some(&plan), 1), 1);
    }

    #[test]
    fn writers_take_turns_and_only_threads_that_have_some_share_the_rate() {
        let plan = in_a_row(plan(2, 4, Some(2), 8));
        assert_eq!(plan.writers().collect::<Vec<_>>(), [(0, 0), (4, 1), (1, 0), (5, 1)]);
        assert_eq!(plan.share(8, 0, 2), Some((0, 2)));
        assert_eq!(plan.share(8, 1, 2), Some((1, 2)));
        assert_eq!(plan.share(8, 1, 4), Some((1, 2)), "0 and 4, 1 and 5");
        assert_eq!(plan.share(8, 3, 4), None);
        assert_eq!(plan.share(1, 1, 2), None, "who writes there is away");
        let mut seats = Seats::new(Some(&plan), 1, 2);
        let turns = (0..3).map(|_| seats.turn(|_| true).unwrap());
        assert_eq!(turns.collect::<Vec<_>>(), [(5, 1), (1, 0), (5, 1)]);
        assert_eq!(seats.turn(|number| number != 5), Some((1, 0)));
        assert_eq!(seats.turn(|_| false), None);
    }

    #[test]
    fn numbers_out_of_bounds_say_what_is_possible() {
        for (groups, words) in [
            ((0, 2, None), "groups.count = 0"),
            ((1, 1, None), "groups.members = 1: 2 to 10"),
            ((1, 11, None), "groups.members = 11: 2 to 10"),
            ((1, 5, Some(6)), "groups.writers = 6: 1 to 5"),
            ((1, 5, Some(0)), "groups.writers = 0"),
            ((99_999, 10, None), "set fewer groups.writers"),
        ] {
            let (count, members, writers) = groups;
            let error = Groups { count, members, writers }.check(10).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
