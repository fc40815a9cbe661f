//! The least that a durable message can cost: its bytes, written and synced, and nothing else.
//!
//! One file, allocated and filled with zeros before, as a segment of the log is; as many writes and
//! syncs as the server made, all of the mean size. CPU of this thread alone.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of the file; writing begins at its start again when it is full.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Writes are whole pages, as commits are.
const PAGE_BYTES: u64 = 4096;

/// CPU seconds of `commits` writes and syncs of `bytes` bytes in all, on the disk of `folder`.
pub(super) fn measure(folder: &Path, commits: u64, bytes: u64) -> io::Result<f64> {
    let path = folder.join("bare");
    let mut file = File::options().create_new(true).read(true).write(true).open(&path)?;
    let zeros = vec![0_u8; 1 << 20];
    for _ in 0..FILE_BYTES / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    let pages = (bytes / commits.max(1)).div_ceil(PAGE_BYTES).max(1);
    let size = (pages * PAGE_BYTES).min(FILE_BYTES);
    let commit = vec![0x5a; usize::try_from(size).map_err(io::Error::other)?];
    let before = thread_cpu_s()?;
    let mut offset = 0;
    for _ in 0..commits {
        if offset + size > FILE_BYTES {
            offset = 0;
        }
        file.write_all_at(&commit, offset)?;
        file.sync_data()?;
        offset += size;
    }
    let cpu_s = thread_cpu_s()? - before;
    std::fs::remove_file(&path)?;
    Ok(cpu_s)
}

/// CPU of this thread so far, by the scheduler's account.
fn thread_cpu_s() -> io::Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split_ascii_whitespace().next().and_then(|ns| ns.parse::<f64>().ok());
    first.map(|ns| ns / 1e9).ok_or_else(|| io::Error::other("no schedstat"))
}
