//! How places and positions are written for people: one way, everywhere.

use std::fmt;

use super::file::segment_file_name;
use super::record::At;

/// A position, or an epoch and a number in it, as people read it: `epoch/number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

/// How a place in the log is named to people.
pub(super) fn place(at: At) -> String {
    format!("{}, byte {}", segment_file_name(at.segment), at.offset)
}
