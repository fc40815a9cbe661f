//! A circle, a membership, a seat: see `circles`.

use crate::mem::Token;
use crate::state::NONE;

/// Names no connection: generations begin at 1.
pub(super) const NOBODY: Token = Token { index: 0, generation: 0 };

/// A group, as far as users of this shard are in it.
#[derive(Debug, Default)]
pub struct Circle {
    /// The group's id.
    pub group: u64,
    /// The highest position this shard knows of.
    pub head: u64,
    /// Memberships, in no order.
    pub(super) members: Vec<u32>,
    /// Seats with a connection, in no order.
    pub seated: Vec<u32>,
    /// Not 0: the group is over, by the record at this position, and nobody finds its circle any
    /// more.
    pub over: u64,
    /// Of a group that is over: so many memberships from the first on were not made to leave yet.
    pub(super) staying: usize,
}

impl Circle {
    /// The connection of a seat is gone.
    pub fn unseat(&mut self, seats: &mut slab::Slab<Seat>, index: u32) {
        let Some(seat) = seats.get_mut(index as usize) else { return };
        let slot = std::mem::replace(&mut seat.slot, NONE);
        seat.token = NOBODY;
        if slot == NONE {
            return;
        }
        self.seated.swap_remove(slot as usize);
        if let Some(&moved) = self.seated.get(slot as usize) {
            seats[moved as usize].slot = slot;
        }
    }
}

/// A user in a circle. 72 bytes.
#[derive(Debug)]
pub struct Membership {
    /// The group's id.
    pub group: u64,
    /// One device has everything up to here.
    pub has: u64,
    /// Read up to here.
    pub read: u64,
    /// All devices have everything up to here.
    pub acked: u64,
    /// Not 0: the user went, by the record at this position; devices are still to be told.
    pub left: u64,
    /// Index of the user.
    pub user: u32,
    /// Its circle.
    pub circle: u32,
    /// Place in the circle's list.
    pub(super) slot: u32,
    /// The user's next membership.
    pub(super) next: u32,
    /// The first of its seats.
    pub first_seat: u32,
    /// On the list of those of which the group's home is to be told.
    pub dirty: bool,
}

/// A device in a membership. 80 bytes.
#[derive(Debug)]
pub struct Seat {
    /// Acked up to here.
    pub cursor: u64,
    /// Pushed on the present connection up to here.
    pub pushed: u64,
    /// The last that was pushed and is not the device's own: an ack from here on means all.
    pub owed: u64,
    /// Pushes are counted in two heaps: those up to here, and those after.
    pub(super) split: u64,
    /// Told that there is something up to here; 0: not told.
    pub told: u64,
    /// Its connection, while it has one; a late token finds nobody.
    pub(super) token: Token,
    /// Index of the device.
    pub device: u32,
    /// Its membership.
    pub membership: u32,
    /// The next seat of the membership.
    pub next: u32,
    /// Place in the circle's list of connected seats, [`NONE`]: it is not connected.
    pub(super) slot: u32,
    /// Payload bytes of the older heap and the younger one.
    pub(super) bytes: [u32; 2],
    /// Messages of the older heap and the younger one.
    pub(super) count: [u8; 2],
    /// On the list of seats to be told that there is something.
    pub listed: bool,
    /// Not pushed to until it has acked all there is.
    pub behind: bool,
}

const _: () = assert!(size_of::<Membership>() <= 72 && size_of::<Seat>() <= 80);

impl Seat {
    /// Messages pushed and not acked, and their bytes; at the most.
    #[must_use]
    pub fn unacked(&self) -> (u32, u32) {
        let [older, younger] = self.count.map(u32::from);
        (older + younger, self.bytes[0].saturating_add(self.bytes[1]))
    }

    /// A message was pushed.
    pub fn count_pushed(&mut self, position: u64, bytes: u32) {
        self.pushed = position;
        self.owed = position;
        self.count[1] = self.count[1].saturating_add(1);
        self.bytes[1] = self.bytes[1].saturating_add(bytes);
    }

    /// The device sent this itself: it has it. True: and everything before it.
    pub fn skip(&mut self, position: u64) -> bool {
        let all = self.cursor >= self.owed;
        self.pushed = position;
        if all {
            self.cursor = position;
        }
        all
    }

    /// The device has everything up to `up_to`. True: its cursor moved.
    pub fn ack(&mut self, up_to: u64) -> bool {
        if up_to <= self.cursor {
            return false;
        }
        self.cursor = up_to;
        if up_to >= self.owed {
            self.cursor = self.cursor.max(self.pushed);
            (self.count, self.bytes) = ([0; 2], [0; 2]);
        } else if up_to >= self.split {
            (self.count, self.bytes) = ([self.count[1], 0], [self.bytes[1], 0]);
            self.split = self.pushed;
        }
        self.pushed = self.pushed.max(self.cursor);
        true
    }

    /// Its connection, which may be gone.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether it counts as connected.
    #[must_use]
    pub fn is_seated(&self) -> bool {
        self.slot != NONE
    }
}
