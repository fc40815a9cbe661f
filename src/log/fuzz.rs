//! The body of the recovery fuzzer: `fuzz/fuzz_targets/recovery.rs` is a shim over it, and a
//! property test drives it too.
//!
//! The first byte of the input says how the rest is used: as the bytes of two segments, or as
//! changes to a small valid log (so that the fuzzer need not guess checksums).

use std::sync::Arc;

use super::memory::SharedMemory;
use super::record::{At, Kind, Record};
use super::recovery::recover;
use super::settings::Settings;
use super::staging::{Lane, Wake};
use super::{Step, next_epoch};

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// Recovers from arbitrary bytes: must never panic, hang or allocate without bound; and from a
/// valid log with damage: what is read must be a beginning of what was written.
pub fn fuzz_recover(input: &[u8]) {
    let Some((mode, input)) = input.split_first() else { return };
    if mode % 2 == 0 {
        let disk = SharedMemory::new();
        let half = input.len() / 2;
        for (segment, bytes) in [(1, &input[..half]), (2, &input[half..])] {
            disk.put(segment, bytes);
        }
        recover_twice(&disk, None);
    } else {
        let (disk, written) = valid_log();
        for change in input.chunks_exact(4) {
            let segment = 1 + u32::from(change[0] & 1);
            let offset = usize::from(change[1]) << 8 | usize::from(change[2]);
            disk.corrupt(segment, offset % 16_384, &mut |byte| byte ^ change[3]);
        }
        recover_twice(&disk, Some(&written));
    }
}

/// Recovers, starts, appends one record, recovers again.
fn recover_twice(disk: &SharedMemory, written: Option<&[u64]>) {
    let mut first = Vec::new();
    let settings = Settings::small();
    let found = recover(disk.clone(), &settings, &mut |_, record| first.push(id_of(record)));
    let Ok((recovered, report)) = found else { return };
    assert_eq!(report.records, first.len() as u64, "each record is reported once");
    if let Some(written) = written {
        assert!(written.starts_with(&first), "what is read was written, in order");
    }
    if recovered.highest_epoch > u32::MAX - 2 {
        return;
    }
    let epoch = next_epoch(recovered.highest_epoch, 0);
    let Ok((mut stages, mut committer)) = recovered.start(epoch, vec![Arc::new(NoWake)]) else {
        return;
    };
    let added = Record { client_id: u64::MAX, ..Record::blank(Kind::Message) };
    if stages[0].append(Lane::Message, &added).is_ok() {
        stages[0].flush();
        assert!(matches!(committer.step(0), Step::Committed { .. }));
        first.extend([u64::from(epoch) << 40, u64::MAX]);
    } else {
        first.push(u64::from(epoch) << 40);
    }
    drop(committer);
    let mut second = Vec::new();
    let found = recover(disk.clone(), &settings, &mut |_, record| second.push(id_of(record)));
    assert!(found.is_ok(), "a log that was opened opens again: {found:?}");
    assert_eq!(first, second, "and has what it had");
}

/// Tells the records of this test apart.
fn id_of(record: &Record<'_>) -> u64 {
    if record.kind == Kind::Epoch { record.aux << 40 } else { record.client_id }
}

/// A log over two segments, and what is in it.
fn valid_log() -> (SharedMemory, Vec<u64>) {
    let disk = SharedMemory::new();
    let mut written = vec![1 << 40];
    let Ok((recovered, _)) = recover(disk.clone(), &Settings::small(), &mut |_: At, _| {}) else {
        return (disk, written);
    };
    let Ok((mut stages, mut committer)) = recovered.start(1, vec![Arc::new(NoWake)]) else {
        return (disk, written);
    };
    for id in 1..=4 {
        let payload = [7_u8; 1500];
        let record = Record { client_id: id, payload: &payload, ..Record::blank(Kind::Message) };
        if stages[0].append(Lane::Message, &record).is_ok() {
            written.push(id);
        }
        stages[0].flush();
        let _ = committer.step(id * 10_000);
        while stages[0].committed().is_some() {}
    }
    (disk, written)
}
