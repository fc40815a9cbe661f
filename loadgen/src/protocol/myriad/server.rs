//! What the speakers of one Myriad server share: its address, their tokens, the groups of a run.
//!
//! Deliberately not here: what a speaker says.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use client::{Address, Scheme, Session, SessionOptions, TickMark};

use super::MyriadSpeaker;
use crate::protocol::{Account, Promises, Protocol, Speaker};
use crate::tokens::Mint;

/// Lifetime of the tokens: longer than any run.
const TOKEN_TTL_S: u64 = 7 * 24 * 3600;
/// First user unless told otherwise; high, so that a measurement never meets people.
pub const FIRST_USER: u64 = 8_000_000_000;

/// A Myriad server and the secret of its tokens.
pub struct Myriad {
    address: Address,
    mint: Mint,
    shared: Arc<Shared>,
}

/// What all speakers know.
#[derive(Debug)]
pub(super) struct Shared {
    /// Number 0 of the clients.
    pub(super) first_user: u64,
    /// Messages are followed until they are read, not only until the server has them.
    pub(super) reads: bool,
    groups: OnceLock<Groups>,
}

/// The groups of a run.
#[derive(Debug)]
struct Groups {
    /// By number.
    ids: Vec<u64>,
    numbers: HashMap<u64, u32>,
}

impl Shared {
    pub(super) fn group_id(&self, number: u32) -> Option<u64> {
        self.groups.get()?.ids.get(number as usize).copied()
    }

    /// The number of no group for one of another run.
    pub(super) fn group_number(&self, id: u64) -> u32 {
        let known = self.groups.get().and_then(|groups| groups.numbers.get(&id));
        known.copied().unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Myriad {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Myriad({})", self.address)
    }
}

impl Myriad {
    /// The server at `address`, for users from `first_user` upwards. With `reads`, senders follow
    /// their messages until they are read.
    #[must_use]
    pub fn new(address: Address, mint: Mint, first_user: u64, reads: bool) -> Self {
        let shared = Shared { first_user, reads, groups: OnceLock::new() };
        Self { address, mint, shared: Arc::new(shared) }
    }
}

impl Protocol for Myriad {
    fn name(&self) -> String {
        match self.address.scheme {
            Scheme::Tcp => "myriad over TCP".to_owned(),
            Scheme::WebSocket => "myriad over WebSocket".to_owned(),
        }
    }

    fn target(&self) -> (&str, u16) {
        (&self.address.host, self.address.port)
    }

    fn promises(&self) -> Promises {
        let reads = self.shared.reads;
        Promises { acks: true, durable: true, reads, resends: true, echoes: false, groups: true }
    }

    fn speaker(&self, number: u32) -> Result<Box<dyn Speaker>, String> {
        let Account { token, .. } = self.account(number)?;
        let ticks_until = if self.shared.reads { TickMark::Read } else { TickMark::Sent };
        let options = SessionOptions { ticks_until, ..SessionOptions::default() };
        let upgrade = match self.address.scheme {
            Scheme::Tcp => None,
            Scheme::WebSocket => {
                Some(Box::new((self.address.authority(), self.address.path.clone())))
            }
        };
        let session = Session::new(token, options);
        Ok(Box::new(MyriadSpeaker::new(session, Arc::clone(&self.shared), upgrade)))
    }

    fn account(&self, number: u32) -> Result<Account, String> {
        let user = self.shared.first_user + u64::from(number);
        let token = self.mint.token(user, 1, TOKEN_TTL_S).map_err(|error| error.to_string())?;
        Ok(Account { user, token })
    }

    fn set_groups(&self, ids: &[u64]) {
        let numbers = (0..).zip(ids).map(|(number, id)| (*id, number)).collect();
        // A second time would be another run's, which has a protocol of its own.
        let _ = self.shared.groups.set(Groups { ids: ids.to_vec(), numbers });
    }
}
