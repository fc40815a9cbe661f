//! The bytes of a segment in memory, as pages that copies share until one of them writes.
//!
//! Owner: the disk of `memory`. A segment of zeros takes no memory, and a copy of a disk (an old
//! backup, what a power cut leaves) costs a pointer per page, so that a simulation can make one at
//! every step.

use std::sync::Arc;

/// Bytes of a page.
const PAGE_BYTES: usize = 4096;
/// Sectors reach the disk whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;
/// Sectors of a page.
pub(super) const SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;

type Page = [u8; PAGE_BYTES];

/// So many bytes, zeros at first.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    bytes: usize,
    /// No page: zeros.
    pages: Vec<Option<Arc<Page>>>,
}

impl Pages {
    /// `bytes` zeros.
    pub(super) fn zeros(bytes: usize) -> Self {
        Self { bytes, pages: vec![None; bytes.div_ceil(PAGE_BYTES)] }
    }

    /// Exactly these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut pages = Self::zeros(bytes.len());
        pages.write(0, bytes);
        pages
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Copies from `offset` on into `out`; returns how many bytes were there.
    pub(super) fn read(&self, offset: usize, out: &mut [u8]) -> usize {
        let count = self.bytes.saturating_sub(offset).min(out.len());
        let mut done = 0;
        while done < count {
            let (page, start) = ((offset + done) / PAGE_BYTES, (offset + done) % PAGE_BYTES);
            let piece = (PAGE_BYTES - start).min(count - done);
            let target = &mut out[done..done + piece];
            match &self.pages[page] {
                Some(page) => target.copy_from_slice(&page[start..start + piece]),
                None => target.fill(0),
            }
            done += piece;
        }
        count
    }

    /// Replaces bytes from `offset` on. False, and nothing is done: they reach beyond the end.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) -> bool {
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.bytes) {
            return false;
        }
        let mut done = 0;
        while done < bytes.len() {
            let (page, start) = ((offset + done) / PAGE_BYTES, (offset + done) % PAGE_BYTES);
            let piece = (PAGE_BYTES - start).min(bytes.len() - done);
            self.page_mut(page)[start..start + piece].copy_from_slice(&bytes[done..done + piece]);
            done += piece;
        }
        true
    }

    /// Makes the sectors of page `page` whose bits are set those of `other`.
    pub(super) fn take_over(&mut self, other: &Self, page: usize, sectors: u8) {
        if sectors == u8::MAX {
            self.pages[page].clone_from(&other.pages[page]);
            return;
        }
        for sector in (0..SECTORS).filter(|sector| sectors & 1 << sector != 0) {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            match &other.pages[page] {
                Some(from) => self.page_mut(page)[range.clone()].copy_from_slice(&from[range]),
                None => self.page_mut(page)[range].fill(0),
            }
        }
    }

    /// The byte at `offset`, to change it.
    pub(super) fn byte_mut(&mut self, offset: usize) -> Option<&mut u8> {
        (offset < self.bytes).then(|| &mut self.page_mut(offset / PAGE_BYTES)[offset % PAGE_BYTES])
    }

    /// All bytes.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0; self.bytes];
        self.read(0, &mut out);
        out
    }

    fn page_mut(&mut self, page: usize) -> &mut Page {
        Arc::make_mut(self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE_BYTES])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_its_bytes_when_the_original_is_written() {
        let mut pages = Pages::of(&[1; 6000]);
        let copy = pages.clone();
        assert!(pages.write(4000, &[2; 200]));
        assert!(!pages.write(5999, &[2; 2]), "beyond the end");
        assert_eq!(copy.to_vec(), [1; 6000]);
        let mut out = [0; 300];
        assert_eq!(pages.read(3950, &mut out), 300);
        assert_eq!((out[49], out[50], out[249], out[250]), (1, 2, 2, 1));
        assert_eq!(pages.read(5990, &mut out), 10);
    }

    #[test]
    fn single_sectors_are_taken_over() {
        let mut durable = Pages::zeros(2 * PAGE_BYTES);
        let current = Pages::of(&[7; 2 * PAGE_BYTES]);
        durable.take_over(&current, 1, 0b10);
        let bytes = durable.to_vec();
        let sevens: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == 7).collect();
        assert_eq!((sevens.len(), sevens[0]), (SECTOR_BYTES, PAGE_BYTES + SECTOR_BYTES));
        durable.take_over(&current, 0, u8::MAX);
        assert_eq!(durable.to_vec()[..PAGE_BYTES], [7; PAGE_BYTES]);
    }
}
