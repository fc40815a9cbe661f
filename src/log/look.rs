//! Looking at what lies in a segment page by page, where the commits do not lead any further.
//!
//! Owner: a tool, or recovery. Reads only.

use super::format::{COMMIT_HEAD_BYTES, CommitHead, FIRST_COMMIT};
use super::report::RecoverError;
use super::segment::{length_u32, length_usize};
use super::store::Store;
use super::whole::{Found, read};
use crate::limits::COMMIT_ALIGN_BYTES;

/// How much is read at a time when looking for the next head.
const LOOK_BYTES: usize = 1024 * 1024;
const PAGE: u32 = FIRST_COMMIT;

/// The head of a commit at `offset`, if one verifies there and the commit would fit the segment.
pub(super) fn head_at<S: Store>(
    store: &S,
    found: &Found,
    offset: u32,
) -> Result<Option<CommitHead>, RecoverError> {
    let mut bytes = [0_u8; COMMIT_HEAD_BYTES];
    read(store, found.head.segment, u64::from(offset), &mut bytes)?;
    let head = CommitHead::decode(found.seed, offset, &bytes).ok();
    Ok(head.filter(|head| u64::from(offset) + head.padded_bytes() <= found.head.bytes))
}

/// The first whole head of a commit above number `above`, from `from` on.
pub(super) fn next_head<S: Store>(
    store: &S,
    found: &Found,
    from: u32,
    above: u64,
) -> Result<Option<(u32, CommitHead)>, RecoverError> {
    let mut result = None;
    each_page(store, found, from, &mut |offset, page| {
        result = CommitHead::decode(found.seed, offset, page)
            .ok()
            .filter(|head| head.sequence > above)
            .map(|head| (offset, head));
        result.is_some()
    })?;
    Ok(result)
}

/// The end of the last page from `from` on that is not all zeros.
pub(super) fn last_trace<S: Store>(
    store: &S,
    found: &Found,
    from: u32,
) -> Result<Option<u32>, RecoverError> {
    let mut last = None;
    each_page(store, found, from, &mut |offset, page| {
        if page.iter().any(|byte| *byte != 0) {
            last = Some(offset + PAGE);
        }
        false
    })?;
    Ok(last)
}

/// Shows each page from `from` on until `visit` says that it is enough.
pub(super) fn each_page<S: Store>(
    store: &S,
    found: &Found,
    from: u32,
    visit: &mut dyn FnMut(u32, &[u8]) -> bool,
) -> Result<(), RecoverError> {
    let mut buffer = vec![0_u8; COMMIT_ALIGN_BYTES];
    let mut start = u64::from(from);
    while start < found.head.bytes {
        let count = read(store, found.head.segment, start, &mut buffer)?;
        if count == 0 {
            break;
        }
        for (nth, page) in buffer[..count].chunks(COMMIT_ALIGN_BYTES).enumerate() {
            let offset = length_u32(length_usize(start) + nth * COMMIT_ALIGN_BYTES);
            if visit(offset, page) {
                return Ok(());
            }
        }
        start += count as u64;
        // The first page is often enough.
        buffer.resize(LOOK_BYTES.min(length_usize(found.head.bytes)), 0);
    }
    Ok(())
}
