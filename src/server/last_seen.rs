//! The file of last-seen times: a fixed array of 16-byte entries, one per user, written in place.
//!
//! ```text
//!  offset 0   user        u64 LE
//!         8   seconds     u32 LE  since 1970
//!        12   crc         u32 LE  CRC-32C of the 12 bytes before
//! ```
//!
//! Never log records (a heartbeat must not cost a commit). A torn entry fails its CRC and counts
//! as "never seen". Losing the file, or the last 30 s of it, loses nothing else: a disk that can't
//! take it is told about once and then left alone.

use crate::limits;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

const ENTRY_BYTES: usize = 16;
const FILE_NAME: &str = "last-seen";

/// Reads every sound entry; a missing file has none.
pub(super) fn load(folder: &Path, mut visit: impl FnMut(u64, u32)) {
    let Ok(file) = std::fs::File::open(folder.join(FILE_NAME)) else { return };
    let mut reader = BufReader::new(file);
    let mut entry = [0u8; ENTRY_BYTES];
    while reader.read_exact(&mut entry).is_ok() {
        if let Some((user, seconds)) = decode(&entry) {
            visit(user, seconds);
        }
    }
}

/// The file, open for writing.
pub(super) struct File {
    file: Option<std::fs::File>,
    slots: HashMap<u64, u32>,
    next: u32,
}

impl File {
    /// Opens or makes the file and learns who has which place in it.
    pub(super) fn open(folder: &Path) -> Self {
        let path = folder.join(FILE_NAME);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        if let Err(error) = &file {
            eprintln!("myriad: {} can't be written ({error}): no last-seen times", path.display());
        }
        let mut this = Self { file: file.ok(), slots: HashMap::new(), next: 0 };
        if let Ok(bytes) = std::fs::metadata(&path) {
            this.next = u32::try_from(bytes.len() / ENTRY_BYTES as u64).unwrap_or(u32::MAX);
        }
        this.learn(&path);
        this
    }

    /// Writes these times, each to its place.
    pub(super) fn write(&mut self, batch: &[(u64, u32)]) {
        for &(user, seconds) in batch {
            let Some(file) = &self.file else { return };
            let slot = *self.slots.entry(user).or_insert(self.next);
            if slot == self.next {
                if self.slots.len() > limits::USERS_SETTING_MAX {
                    return;
                }
                self.next += 1;
            }
            let offset = u64::from(slot) * ENTRY_BYTES as u64;
            if let Err(error) = file.write_all_at(&encode(user, seconds), offset) {
                eprintln!("myriad: last-seen times can't be written any more: {error}");
                self.file = None;
            }
        }
    }

    fn learn(&mut self, path: &Path) {
        let Ok(file) = std::fs::File::open(path) else { return };
        let mut reader = BufReader::new(file);
        let mut entry = [0u8; ENTRY_BYTES];
        let mut slot = 0;
        while slot < self.next && reader.read_exact(&mut entry).is_ok() {
            if let Some((user, _)) = decode(&entry) {
                self.slots.insert(user, slot);
            }
            slot += 1;
        }
    }
}

fn encode(user: u64, seconds: u32) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[0..8].copy_from_slice(&user.to_le_bytes());
    entry[8..12].copy_from_slice(&seconds.to_le_bytes());
    let crc = crc32c::crc32c(&entry[..12]);
    entry[12..16].copy_from_slice(&crc.to_le_bytes());
    entry
}

fn decode(entry: &[u8; ENTRY_BYTES]) -> Option<(u64, u32)> {
    let (body, crc) = entry.split_at(12);
    let sound = crc32c::crc32c(body).to_le_bytes() == *crc;
    let user = u64::from_le_bytes(body[..8].try_into().ok()?);
    let seconds = u32::from_le_bytes(body[8..].try_into().ok()?);
    sound.then_some((user, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_and_keep_their_place() {
        let folder = std::env::temp_dir().join(format!("myriad-seen-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut file = File::open(&folder);
        file.write(&[(7, 100), (8, 200), (7, 300)]);
        drop(file);
        let mut file = File::open(&folder);
        file.write(&[(8, 250), (9, 400)]);
        let mut seen = Vec::new();
        load(&folder, |user, seconds| seen.push((user, seconds)));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(seen, [(7, 300), (8, 250), (9, 400)]);
    }

    #[test]
    fn a_torn_entry_is_not_believed() {
        let mut entry = encode(1, 2);
        assert_eq!(decode(&entry), Some((1, 2)));
        entry[9] ^= 1;
        assert_eq!(decode(&entry), None);
    }
}
