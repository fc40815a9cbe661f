//! Which segments of the log hold records somebody still waits for.
//!
//! Owner: the shard. Counted as records get their place and go; told to the committer at the end of
//! each checkpoint, which frees what nobody named.

use crate::log::{At, LiveReport};
use std::collections::BTreeSet;

/// What a record takes in a segment besides its payload, about.
const RECORD_BYTES: u64 = 96;

/// The count per segment.
#[derive(Debug, Default)]
pub struct Live {
    /// Rising by number; few, and the last is the one that changes most.
    segments: Vec<Segment>,
    /// Segments with payloads that have to go, which the committer was not told yet.
    to_scrub: BTreeSet<u32>,
    scrubs_news: bool,
    /// Nothing is waited for any more in some segment, since last asked.
    emptied: bool,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    number: u32,
    records: u64,
    bytes: u64,
}

impl Live {
    /// A record with so many bytes of payload is waited for there.
    pub fn add(&mut self, at: At, bytes: u32) {
        let index = match self.find(at.segment) {
            Ok(index) => index,
            Err(index) => {
                let fresh = Segment { number: at.segment, records: 0, bytes: 0 };
                self.segments.insert(index, fresh);
                index
            }
        };
        let segment = &mut self.segments[index];
        segment.records += 1;
        segment.bytes += u64::from(bytes) + RECORD_BYTES;
    }

    /// Nobody waits for it any more.
    pub fn remove(&mut self, at: At, bytes: u32) {
        let Ok(index) = self.find(at.segment) else {
            debug_assert!(false, "what goes was counted");
            return;
        };
        let segment = &mut self.segments[index];
        segment.records -= 1;
        segment.bytes -= u64::from(bytes) + RECORD_BYTES;
        if segment.records == 0 {
            self.segments.remove(index);
            self.emptied = true;
        }
    }

    /// Whether a segment was emptied since this was last asked.
    pub fn take_emptied(&mut self) -> bool {
        std::mem::take(&mut self.emptied)
    }

    /// The payload of a record there is to go from the disk soon.
    pub fn scrub(&mut self, at: At) {
        self.scrubs_news |= self.to_scrub.insert(at.segment);
    }

    /// Whether more has to go than when this was last asked.
    pub fn take_scrubs_news(&mut self) -> bool {
        std::mem::take(&mut self.scrubs_news)
    }

    /// The committer knows of these, and forgets none of them until it is freed.
    pub fn told(&mut self, report: &LiveReport) {
        self.to_scrub.retain(|segment| !report.to_scrub.contains(segment));
    }

    /// What is to be told.
    #[must_use]
    pub fn report(&self) -> LiveReport {
        let live = self.segments.iter().map(|segment| (segment.number, segment.bytes));
        LiveReport { live: live.collect(), to_scrub: self.to_scrub.iter().copied().collect() }
    }

    /// The segments somebody waits for something in.
    pub fn segments(&self) -> impl Iterator<Item = u32> + '_ {
        self.segments.iter().map(|segment| segment.number)
    }

    fn find(&self, number: u32) -> Result<usize, usize> {
        match self.segments.last() {
            Some(last) if last.number == number => Ok(self.segments.len() - 1),
            Some(last) if last.number < number => Err(self.segments.len()),
            _ => self.segments.binary_search_by_key(&number, |segment| segment.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_live_while_one_record_in_it_is() {
        let mut live = Live::default();
        let at = |segment| At { segment, offset: 4096 };
        live.add(at(7), 100);
        live.add(at(9), 1);
        live.add(at(7), 50);
        live.add(at(3), 0);
        live.remove(at(7), 100);
        assert_eq!(live.report().live, [(3, 96), (7, 146), (9, 97)]);
        live.remove(at(7), 50);
        assert_eq!(live.segments().collect::<Vec<_>>(), [3, 9]);
        live.scrub(at(9));
        live.scrub(at(7));
        assert_eq!(live.report().to_scrub, [7, 9]);
        assert!(live.take_scrubs_news() && !live.take_scrubs_news());
        let report = live.report();
        live.scrub(at(3));
        live.told(&report);
        assert_eq!(live.report().to_scrub, [3], "the others were told");
    }
}
