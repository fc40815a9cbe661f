//! `myriad doctor`: what a host allows, what stops so many sessions on it, and what to change.
//!
//! One table holds every setting and resource: where it is read, what so many sessions need (a
//! function), what happens without and where that is seen, what it costs, what to do, and where all
//! of this is known from. [`judge()`] compares it with a [`Host`], which may be made up; the tuning
//! kits (`tuning/`) are printed from the same rows, and a test compares them.
//!
//! | file | what |
//! | --- | --- |
//! | `facts`, `host`, `host_freebsd` | what is known of a host, read or made up; never guessed |
//! | `plan`, `memory` | what so many sessions need, by the server's own arithmetic |
//! | `table`, `linux`, `linux_slow`, `load`, `freebsd` | the rows |
//! | `judge` | the comparison |
//! | `told`, `json`, `kit`, `pages` | words for people and programs, the kits, docs/tuning.md |
//!
//! Owner: the thread of the command. Nothing here changes the host. Deliberately not here: how
//! settings are set (`tuning/linux/tune`).

mod facts;
mod freebsd;
#[cfg(not(target_os = "freebsd"))]
mod host;
#[cfg(target_os = "freebsd")]
mod host_freebsd;
mod json;
mod judge;
mod kit;
mod linux;
mod linux_slow;
mod load;
mod memory;
mod pages;
mod plan;
mod table;
#[cfg(test)]
mod tests;
mod told;

pub use facts::{Fact, Host, System};
#[cfg(not(target_os = "freebsd"))]
pub use host::{read, read_below};
#[cfg(target_os = "freebsd")]
pub use host_freebsd::read;
pub use json::json;
pub use judge::{Finding, Judgement, Verdict, judge};
pub use kit::{Print, print};
pub use memory::Memory;
pub use plan::Plan;
pub(crate) use plan::driver_of;
pub use table::{Kit, KitFile, Place, Rule, Setting, Weight, rows};
pub use told::{number, told};
