//! Users whose home is this shard, and their devices.
//!
//! A user exists after its first login (or a first message, where the operator allows that) and
//! stays. Devices hang on their user as a short list, at most `DEVICES_PER_USER_MAX`.
//! Invariant: `cursor <= pushed <= tail` for every connected device ([`Device`]).

use crate::limits;
use crate::state::NONE;
use crate::state::device::Device;
use crate::state::people::Marks;
use hashbrown::HashTable;

/// One user. 64 bytes (asserted below).
#[derive(Debug)]
pub struct User {
    /// The id on the wire.
    pub id: u64,
    /// The highest position given out in this user's stream; 0 for none.
    pub tail: u64,
    /// The highest cursor any device ever had: tick 2 of what others sent.
    pub has: u64,
    /// Devices have everything above this, up to `has`. Not 0 when a device that came late acked
    /// beyond what waits for an older one: of that nobody can say that somebody has it.
    pub has_from: u64,
    /// No client id of a dropped device lies above this; a device that is new starts above it.
    pub ids_floor: u64,
    /// Waiting records, [`NONE`] for none.
    pub inbox: u32,
    /// First device.
    pub first_device: u32,
    /// First of the pairs in which this user is the recipient.
    pub first_pair: u32,
    /// Who watches this user, [`NONE`] for nobody.
    pub watchers: u32,
    /// Seconds since 1970 of the user's last deed; 0 for never.
    pub active_s: u32,
    /// On the list of those whose last-seen time is ahead of its file.
    pub seen_dirty: bool,
    /// Settings, and what else is true of the user.
    pub marks: Marks,
}

const _: () = assert!(size_of::<User>() == 64);

impl User {
    /// A device has everything above `start`, up to `cursor`.
    pub fn note_had(&mut self, start: u64, cursor: u64) {
        if cursor < self.has_from {
            return; // on its way through the gap
        }
        if start > self.has {
            self.has_from = start; // a gap: nobody has what lies between
        } else {
            self.has_from = self.has_from.min(start);
        }
        self.has = self.has.max(cursor);
    }
}

/// The users of one shard.
#[derive(Debug)]
pub struct Users {
    users: Vec<User>,
    devices: slab::Slab<Device>,
    index: HashTable<u32>,
    users_max: usize,
    /// Of the rows, how many are of accounts that are gone.
    ended: usize,
}

impl Users {
    /// Room for `users_max` users; tables are sized now so that no insert stalls on growth. Who is
    /// gone does not count, up to [`limits::ROWS_PER_USER_MAX`] rows for each user there may be:
    /// only where there are more rows than `users_max` the tables grow, once.
    #[must_use]
    pub fn with_capacity(users_max: usize) -> Self {
        Self {
            users: Vec::with_capacity(users_max),
            devices: slab::Slab::with_capacity(users_max),
            index: touched_index(users_max),
            users_max,
            ended: 0,
        }
    }

    /// Index of a user.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<u32> {
        self.find_even_ended(id).filter(|&index| !self.user(index).marks.any(Marks::ENDED))
    }

    /// Index of a user, also of one whose account is gone: its row stays, so that its ids and
    /// positions are never used for anything else.
    #[must_use]
    pub fn find_even_ended(&self, id: u64) -> Option<u32> {
        self.index.find(hash(id), |&index| self.users[index as usize].id == id).copied()
    }

    /// Most likely the index of a user, if there is one: looked up in the index alone, without a
    /// look at the user itself.
    #[must_use]
    pub fn guess(&self, id: u64) -> Option<u32> {
        self.index.find(hash(id), |_| true).copied()
    }

    /// Index of a user, made if there is room. One whose account was gone is there again.
    pub fn find_or_add(&mut self, id: u64) -> Option<u32> {
        let known = self.find_even_ended(id);
        let is_gone = |index: u32| self.user(index).marks.any(Marks::ENDED);
        if let Some(index) = known.filter(|&index| !is_gone(index)) {
            return Some(index);
        }
        if self.users.len() - self.ended >= self.users_max {
            return None;
        }
        let Some(index) = known else { return self.add(id) };
        self.users[index as usize].marks.set(Marks::ENDED, false);
        self.ended -= 1;
        Some(index)
    }

    /// Index of a user, made if there is room; whoever was not known is not known afterwards.
    pub fn find_or_add_ended(&mut self, id: u64) -> Option<u32> {
        if let Some(index) = self.find_even_ended(id) {
            return Some(index);
        }
        let index = self.add(id)?;
        self.end(index);
        Some(index)
    }

    fn add(&mut self, id: u64) -> Option<u32> {
        if self.users.len() >= self.users_max.saturating_mul(limits::ROWS_PER_USER_MAX) {
            return None;
        }
        let index = u32::try_from(self.users.len()).ok()?;
        self.users.push(User {
            id,
            tail: 0,
            has: 0,
            has_from: 0,
            ids_floor: 0,
            inbox: NONE,
            first_device: NONE,
            first_pair: NONE,
            watchers: NONE,
            active_s: 0,
            seen_dirty: false,
            marks: Marks::default(),
        });
        let users = &self.users;
        self.index.insert_unique(hash(id), index, |&other| hash(users[other as usize].id));
        Some(index)
    }

    /// The account is gone: nothing is set of it any more. The row stays.
    pub fn end(&mut self, index: u32) {
        let marks = &mut self.users[index as usize].marks;
        self.ended += usize::from(!marks.any(Marks::ENDED));
        *marks = Marks::ENDED;
    }

    /// A user by index; indices come from this table and stay valid.
    #[must_use]
    pub fn user(&self, index: u32) -> &User {
        &self.users[index as usize]
    }

    /// A user by index, to change it.
    pub fn user_mut(&mut self, index: u32) -> &mut User {
        &mut self.users[index as usize]
    }

    /// A device by index; indices come from this table and stay valid until the device is dropped.
    #[must_use]
    pub fn device(&self, index: u32) -> &Device {
        &self.devices[index as usize]
    }

    /// A device by index, to change it.
    pub fn device_mut(&mut self, index: u32) -> &mut Device {
        &mut self.devices[index as usize]
    }

    /// A device that may have been dropped since the index was noted.
    #[must_use]
    pub fn device_if_any(&self, index: u32) -> Option<&Device> {
        self.devices.get(index as usize)
    }

    /// A user together with one of its devices.
    pub fn pair_mut(&mut self, user: u32, device: u32) -> (&mut User, &mut Device) {
        (&mut self.users[user as usize], &mut self.devices[device as usize])
    }

    /// The indices of a user's devices.
    pub fn devices_of(&self, user: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.users[user as usize].first_device;
        std::iter::successors((first != NONE).then_some(first), |&index| {
            let next = self.devices[index as usize].next;
            (next != NONE).then_some(next)
        })
    }

    /// The index of a user's device with this id.
    #[must_use]
    pub fn device_of(&self, user: u32, id: u32) -> Option<u32> {
        self.devices_of(user).find(|&index| self.devices[index as usize].id == id)
    }

    /// Adds a device to a user.
    pub fn add_device(&mut self, user: u32, id: u32, cursor: u64) -> u32 {
        let mut device = Device::new(id, user, cursor);
        let floor = self.users[user as usize].ids_floor;
        (device.base, device.top) = (floor, floor);
        device.next = self.users[user as usize].first_device;
        let index = u32::try_from(self.devices.insert(device)).unwrap_or(NONE);
        assert!(index != NONE, "fewer than 2^32 devices fit a process");
        self.users[user as usize].first_device = index;
        index
    }

    /// Takes a device away from its user.
    pub fn remove_device(&mut self, index: u32) -> Device {
        let device = self.devices.remove(index as usize);
        let user = &mut self.users[device.user as usize];
        if user.first_device == index {
            user.first_device = device.next;
            return device;
        }
        let mut at = user.first_device;
        while self.devices[at as usize].next != index {
            at = self.devices[at as usize].next;
        }
        self.devices[at as usize].next = device.next;
        device
    }

    /// The lowest cursor of a user's devices: what lies at or below it nobody needs any more.
    #[must_use]
    pub fn acked_by_all(&self, user: u32) -> u64 {
        self.devices_of(user).map(|index| self.devices[index as usize].cursor).min().unwrap_or(0)
    }

    /// Whether one of the user's devices is connected.
    #[must_use]
    pub fn is_connected(&self, user: u32) -> bool {
        self.devices_of(user).any(|index| self.devices[index as usize].conn().is_some())
    }

    /// The ids of users whose accounts are gone.
    pub fn ended(&self) -> impl Iterator<Item = u64> + '_ {
        self.users.iter().filter(|user| user.marks.any(Marks::ENDED)).map(|user| user.id)
    }

    /// Number of users.
    #[must_use]
    pub fn count(&self) -> usize {
        self.users.len()
    }
}

/// An index for `users_max` users whose pages are all there.
///
/// Users fall on random places of it: left to itself, each of the first thousands of logins would
/// take a page fault and 4 KiB, and the memory of a session would seem three times what it is.
fn touched_index(users_max: usize) -> HashTable<u32> {
    const BUCKETS_PER_TOUCH: u64 = 512; // 2 KiB of u32: at least one touch per page
    let mut index = HashTable::with_capacity(users_max);
    let touches = index.capacity() as u64 / BUCKETS_PER_TOUCH * 8 / 7 + 1;
    for place in 0..touches.min(index.capacity() as u64) {
        index.insert_unique(place * BUCKETS_PER_TOUCH, 0, |_| 0);
    }
    index.clear();
    index
}

/// Spreads ids over the index; ids are the operator's, so a fixed mix is enough for balance and
/// a stranger who could choose ids would already be the operator.
fn hash(id: u64) -> u64 {
    let mixed = (id ^ (id >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_again_and_the_table_has_an_end() {
        let mut users = Users::with_capacity(2);
        let first = users.find_or_add(42).unwrap();
        assert_eq!(users.find_or_add(42), Some(first));
        assert!(users.find_or_add(43).is_some());
        assert_eq!(users.find_or_add(44), None);
        assert_eq!(users.find(44), None);
    }

    #[test]
    fn who_is_gone_takes_no_place_of_the_living_and_is_bounded_all_the_same() {
        let mut users = Users::with_capacity(2);
        let most = 2 * limits::ROWS_PER_USER_MAX as u64;
        for id in 1..most {
            let index = users.find_or_add(id).expect("nobody else is there");
            users.end(index);
            users.end(index);
            assert_eq!(users.find(id), None);
        }
        assert!(users.find_or_add(1).is_some(), "somebody comes back");
        assert!(users.find_or_add(most).is_some());
        assert_eq!(users.find_or_add(2), None, "two live");
        assert_eq!(users.find_or_add_ended(most + 1), None, "no further row");
        assert_eq!((users.count() as u64, users.ended().count() as u64), (most, most - 2));
        users.end(users.find(1).unwrap());
        assert!(users.find_or_add(2).is_some());
        assert_eq!(users.find_or_add(most + 1), None);
    }

    #[test]
    fn devices_hang_on_their_user_until_removed() {
        let mut users = Users::with_capacity(1);
        let user = users.find_or_add(1).unwrap();
        let devices: Vec<u32> =
            (1..=3).map(|id| users.add_device(user, id, u64::from(id))).collect();
        assert_eq!(users.acked_by_all(user), 1);
        users.remove_device(devices[1]);
        assert_eq!(users.device_of(user, 2), None);
        assert_eq!(users.devices_of(user).count(), 2);
        users.remove_device(devices[2]);
        assert_eq!(users.devices_of(user).collect::<Vec<_>>(), [devices[0]]);
    }

    #[test]
    fn what_waits_for_an_older_device_is_had_by_nobody() {
        let mut users = Users::with_capacity(1);
        let index = users.find_or_add(1).unwrap();
        let user = users.user_mut(index);
        user.note_had(0, 5);
        assert_eq!((user.has_from, user.has), (0, 5));
        user.note_had(9, 9); // a device that came late and has nothing yet
        user.note_had(9, 12);
        assert_eq!((user.has_from, user.has), (9, 12));
        user.note_had(0, 7);
        assert_eq!((user.has_from, user.has), (9, 12));
        user.note_had(0, 10);
        assert_eq!((user.has_from, user.has), (0, 12));
    }
}
