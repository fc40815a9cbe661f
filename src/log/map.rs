//! Segments mapped read-only: how a shard reads messages back without a system call or a copy.
//!
//! Owner: one shard per [`MapReader`]; each has its own table of maps, made when first needed.
//!
//! Invariants
//! - Only bytes of whole records are handed out, and those never change: a page is written once,
//!   before its sync, and a segment is not used again while anything in it is referred to.
//! - No access faults beyond the end: segments have their full size before they get their name,
//!   and nothing shortens them. A file shortened from outside, or a disk that cannot read a page
//!   back, ends the process (SIGBUS); recovery does the rest.
//!
//! Deliberately not here: writing (storing through a mapping stalls for tens of milliseconds);
//! reading ahead of cold pages, which belongs off the shards.

#![allow(unsafe_code, reason = "mapping a file and reading from it")]

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::{MmapOptions, MmapRaw};

use super::file::{log_folder, segment_file_name};
use super::format::{FIRST_COMMIT, SEGMENT_HEAD_BYTES, SegmentHead};
use super::reader::Reader;
use super::record::{self, At, Kind, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, Record, seed_of};
use crate::limits::MAPPED_SEGMENTS_MAX;

/// Reads records from the segments of a data folder.
#[derive(Debug)]
pub struct MapReader {
    folder: PathBuf,
    /// By segment number.
    maps: Vec<Map>,
}

#[derive(Debug)]
struct Map {
    segment: u32,
    seed: u32,
    area: MmapRaw,
}

impl Map {
    /// The bytes from `offset` on, `length` of them, if the segment has them.
    fn bytes(&self, offset: usize, length: usize) -> Option<&[u8]> {
        if offset.checked_add(length)? > self.area.len() {
            return None;
        }
        // SAFETY: the range is inside the mapping, which lives as long as `self`. It was written
        // before the place that leads here was given out and is not written again (see the
        // module's invariants), so nothing changes it while the slice lives. Should a caller ask
        // for a place that was never given out, the bytes may change under the check, which then
        // fails; they are plain bytes, any value is valid.
        Some(unsafe { std::slice::from_raw_parts(self.area.as_ptr().add(offset), length) })
    }
}

impl MapReader {
    /// A reader of the data folder `dir`, which need not hold segments yet.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        Self { folder: log_folder(dir), maps: Vec::new() }
    }

    /// Another reader of the same folder, with maps of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { folder: self.folder.clone(), maps: Vec::new() }
    }

    fn map(&mut self, segment: u32) -> Option<usize> {
        match self.maps.binary_search_by_key(&segment, |map| map.segment) {
            Ok(index) => Some(index),
            Err(index) => {
                let map = self.open_segment(segment)?;
                self.maps.insert(index, map);
                if self.maps.len() <= MAPPED_SEGMENTS_MAX {
                    return Some(index);
                }
                // The oldest goes, unless it is the one asked for.
                let oldest = usize::from(index == 0);
                self.maps.remove(oldest);
                Some(index.saturating_sub(1 - oldest))
            }
        }
    }

    fn open_segment(&self, segment: u32) -> Option<Map> {
        let file = File::open(self.folder.join(segment_file_name(segment))).ok()?;
        let area = MmapOptions::new().map_raw_read_only(&file).ok()?;
        let mut map = Map { segment, seed: 0, area };
        let head = SegmentHead::decode(map.bytes(0, SEGMENT_HEAD_BYTES)?).ok()?;
        if head.segment != segment {
            return None;
        }
        map.seed = seed_of(head.generation);
        Some(map)
    }
}

impl Reader for MapReader {
    fn read(&mut self, at: At) -> Option<Record<'_>> {
        if at.offset < FIRST_COMMIT {
            return None;
        }
        let index = self.map(at.segment)?;
        let map = self.maps.get(index)?;
        let offset = at.offset as usize;
        let length = record::take_u32(map.bytes(offset, RECORD_HEADER_BYTES)?, record::BYTES);
        let length = length as usize;
        if !(RECORD_HEADER_BYTES..=RECORD_BYTES_MAX).contains(&length) {
            return None;
        }
        let (record, _) = record::decode(map.seed, at.offset, map.bytes(offset, length)?).ok()?;
        (record.kind != Kind::Commit).then_some(record)
    }

    fn retain(&mut self, keep: &dyn Fn(u32) -> bool) {
        self.maps.retain(|map| keep(map.segment));
    }
}
