//! The verdict on a log: everything that is wrong, where, whom it concerns, and what to do.
//!
//! Owner: the command line. Reads only, takes no lock, repairs nothing; works on a copy, on the
//! folder of a stopped server, and, with a warning, on that of a running one. What the records
//! mean, and whether what waits can be read, is asked one floor up: the log does not know.

use std::fmt;
use std::path::Path;

use super::file::{FileStore, segment_file_name};
use super::format::FIRST_COMMIT;
use super::gaps::{Gaps, gaps};
use super::inspect::{InspectError, nothing_there};
use super::people::{Position, place};
use super::record::{At, Record, STREAM_GROUP};
use super::report::Report;
use super::salvage::content;
use super::scan::{read_tail, scan};
use super::store::Store;
use super::whole::Plainly;

/// Findings kept; the rest are counted.
const FINDINGS_MAX: usize = 1000;
const REPAIR: &str = "`myriad log verify DIR --repair NEW_DIR` mends a copy and says what is lost";

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub at: At,
    /// What.
    pub what: String,
    /// Users whose records are concerned, as far as they can be read.
    pub users: Vec<u64>,
    /// What to do.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", place(self.at), self.what)?;
        if self.users.is_empty() {
            write!(out, "; users concerned: unknown. ")?;
        } else {
            let users: Vec<String> = self.users.iter().map(u64::to_string).collect();
            write!(out, "; users concerned: {}. ", users.join(", "))?;
        }
        write!(out, "{}", self.advice)
    }
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// What a restart would read; `None`: it would refuse.
    pub report: Option<Report>,
    /// Where something was begun and never announced.
    pub torn: Option<At>,
    /// Commits, records and bytes in all segments, old ones too.
    pub commits: u64,
    /// See `commits`.
    pub records: u64,
    /// See `commits`.
    pub bytes: u64,
    /// Segments with commits in them.
    pub segments: u64,
    /// Those of them a restart does not read: something in them is still waited for.
    pub old: u64,
    /// Segments prepared and not used.
    pub spares: u64,
    /// A server holds the folder: what it was writing may look like a torn tail, or damage.
    pub in_use: bool,
    /// In old segments: bytes that were never announced, or damage in which nothing waits.
    pub doubtful: Vec<At>,
    /// What is wrong, at most a thousand.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    /// Adds a finding, if there are not too many already.
    pub fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segments, commits, records, bytes, old, spares, .. } = self;
        if self.in_use {
            writeln!(out, "warning: a server is using this folder, its newest commit may be cut")?;
        }
        writeln!(out, "{records} records in {commits} commits, {bytes} bytes")?;
        writeln!(out, "{segments} segments in use, {old} of them old; {spares} spare")?;
        match &self.report {
            Some(report) => writeln!(out, "highest epoch {}", report.highest_epoch)?,
            None => writeln!(out, "highest epoch not known: a server would refuse this log")?,
        }
        match self.torn {
            Some(at) => writeln!(
                out,
                "torn tail in segment {} at byte {}: never announced, ignored at the next start",
                at.segment, at.offset
            )?,
            None => writeln!(out, "no torn tail")?,
        }
        for at in &self.doubtful {
            writeln!(
                out,
                "{}: bytes that are no commit, at the end of an old segment: never announced, or \
                 damage in which nothing waits",
                place(*at)
            )?;
        }
        for finding in &self.findings {
            writeln!(out, "damage: {finding}")?;
        }
        match self.findings.len() {
            0 => write!(out, "whole"),
            FINDINGS_MAX => write!(out, "damaged: {FINDINGS_MAX} findings or more"),
            1 => write!(out, "damaged: 1 finding"),
            count => write!(out, "damaged: {count} findings"),
        }
    }
}

/// Reads all of the log in `dir` (a data folder or its `log` folder) and says what is there.
///
/// # Errors
/// [`InspectError`]: it can't be read at all, or a newer program wrote it. Damage is no error.
pub fn verify(dir: &Path) -> Result<VerifyReport, InspectError> {
    let in_use = FileStore::is_in_use(dir);
    let store = FileStore::open_read_only(dir)?;
    let mut report = verify_store(&store)?;
    report.in_use = in_use;
    if report.segments == 0 && report.spares == 0 && report.is_whole() {
        // "Whole" would be true and of no use to whoever named the wrong folder.
        return Err(nothing_there(dir));
    }
    Ok(report)
}

fn verify_store<S: Store>(store: &S) -> Result<VerifyReport, InspectError> {
    let found = gaps(store)?;
    let mut report = VerifyReport {
        report: None,
        torn: found.torn,
        commits: found.commits,
        records: found.records,
        bytes: found.bytes,
        segments: found.used.len() as u64,
        old: found.old,
        spares: found.spares.len() as u64,
        in_use: false,
        doubtful: found.doubtful.clone(),
        findings: Vec::new(),
    };
    judge(store, &found, &mut report)?;
    match scan(store, &mut Plainly(&mut |_, _| {})) {
        Ok(scanned) => report.report = Some(scanned.report),
        // It stops at the first of what is told above; what only it sees is told here.
        Err(error) if report.is_whole() => report.add(Finding {
            at: At { segment: found.used.last().copied().unwrap_or(0), offset: 0 },
            what: format!("a server would refuse this log: {error}"),
            users: Vec::new(),
            advice: "Restore a backup".to_owned(),
        }),
        Err(_) => {}
    }
    Ok(report)
}

fn judge<S: Store>(store: &S, found: &Gaps, report: &mut VerifyReport) -> Result<(), InspectError> {
    for broken in &found.broken {
        let advice = if broken.is_old {
            format!("Only messages that wait in it are concerned. {REPAIR}")
        } else {
            "This can't be repaired: restore a backup".to_owned()
        };
        let what = broken.what.to_owned();
        report.add(Finding { at: broken.at, what, users: Vec::new(), advice });
    }
    for gap in &found.gaps {
        let content = content(store, gap)?;
        let mut users: Vec<u64> = content.lost.iter().filter_map(|lost| lost.user).collect();
        users.sort_unstable();
        users.dedup();
        let last = gap.first + gap.count.max(1) - 1;
        let which = if last == gap.first {
            format!("commit {}", gap.first)
        } else {
            format!("commits {} to {last}", gap.first)
        };
        let old = if gap.first < found.redo { ", read only for what waits in it" } else { "" };
        report.add(Finding {
            at: At { segment: gap.found.head.segment, offset: gap.from },
            what: format!(
                "{which} (durable{old}) up to byte {} is damaged; {} records in it verify",
                gap.to,
                content.kept.len()
            ),
            users,
            advice: REPAIR.to_owned(),
        });
    }
    Ok(())
}

/// Hands out what a restart would read, in order, at the places where it lies now.
///
/// # Errors
/// [`InspectError`], as a restart would refuse.
pub fn replayed(
    dir: &Path,
    visit: &mut dyn FnMut(At, &Record<'_>),
) -> Result<Report, InspectError> {
    let store = FileStore::open_read_only(dir)?;
    let found = scan(&store, &mut Plainly(visit))?;
    if let Some((index, end)) = found.end {
        read_tail(&store, &found.found[index], FIRST_COMMIT, end, &mut |commit| {
            if commit.head.sequence >= found.redo {
                commit.visit(commit.at, visit);
            }
            Ok(())
        })?;
    }
    Ok(found.report)
}

/// A record somebody waits for that is not at its place.
#[must_use]
pub fn unreadable(at: At, stream: (u8, u64), position: u64, sender: u64) -> Finding {
    let position = Position(position);
    let (stream_kind, id) = stream;
    let is_group = stream_kind == STREAM_GROUP;
    let whose = if is_group { "group" } else { "user" };
    let name = segment_file_name(at.segment);
    Finding {
        at,
        what: format!(
            "position {position} of {whose} {id}, from user {sender}, waits and can't be read \
             ({name} is damaged or missing)"
        ),
        users: if is_group { Vec::new() } else { vec![id] },
        advice: REPAIR.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gaps::gaps;
    use super::*;
    use crate::log::{
        CHECKPOINT_END, Committer, Kind, Lane, LiveReport, Phase, Settings, SharedMemory, Stage,
        Wake, recover,
    };
    use std::sync::Arc;

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    /// Numbers from a seed, the same each time (xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) % limit
        }
    }

    struct Log {
        disk: SharedMemory,
        stage: Stage,
        committer: Committer<SharedMemory>,
        now_us: u64,
    }

    impl Log {
        fn open(disk: SharedMemory, now_us: u64) -> Self {
            let (recovered, _) = recover(disk.clone(), &Settings::small(), &mut |_, _| {}).unwrap();
            let epoch = recovered.highest_epoch + 1;
            let (mut stages, committer) = recovered.start(epoch, vec![Arc::new(NoWake)]).unwrap();
            Self { disk, stage: stages.remove(0), committer, now_us }
        }

        fn write(&mut self, record: &Record<'_>) {
            let _full_is_fine = self.stage.append_urgent(Lane::Message, record);
            self.stage.flush();
            while !self.stage.is_idle() {
                self.now_us += 1_000_000;
                self.committer.step(self.now_us);
                while self.stage.committed().is_some() {}
            }
            self.committer.step(self.now_us + 1);
        }
    }

    /// Commits of a message each, checkpoints after which nothing is live, restarts, power cuts.
    fn random_log(random: &mut Random) -> SharedMemory {
        let mut log = Log::open(SharedMemory::new(), 0);
        for id in 1..20 + random.below(80) {
            let payload = vec![b'm'; usize::try_from(random.below(3900)).unwrap()];
            let message = Record {
                stream_kind: 1,
                stream: 7,
                position: 1 << 32 | id,
                client_id: id,
                payload: &payload,
                ..Record::blank(Kind::Message)
            };
            log.write(&message);
            match random.below(16) {
                0 => log.stage.want_checkpoint(),
                1 => {
                    let survives = random.below(u64::MAX);
                    log.disk.cut_power(&mut |_, sector| survives >> (sector % 64) & 1 == 0);
                    log = Log::open(log.disk, log.now_us);
                }
                _ => {}
            }
            if let Phase::Settle(_) = log.stage.phase() {
                log.stage.settled();
                let kind = Record { body_kind: CHECKPOINT_END, ..Record::blank(Kind::Checkpoint) };
                log.write(&kind);
                log.stage.report(LiveReport::default());
            }
        }
        if random.below(2) == 0 {
            // A commit that was begun.
            let faults = crate::log::Faults { dies_after: Some(0), ..Default::default() };
            log.disk.set_faults(faults);
            let _full_is_fine = log.stage.append_urgent(Lane::Message, &Record::blank(Kind::Void));
            log.stage.flush();
            log.committer.step(log.now_us + 2_000_000);
            log.disk.set_faults(crate::log::Faults::default());
        }
        log.disk
    }

    /// Hurts a disk in one of the ways disks and people have.
    fn damage(random: &mut Random, disk: &mut SharedMemory) -> String {
        let segments = disk.segments().unwrap();
        let nth = usize::try_from(random.below(segments.len() as u64)).unwrap();
        let segment = segments[nth];
        let bytes = disk.image(segment).unwrap().len() as u64;
        let offset = usize::try_from(match random.below(4) {
            0 => random.below(64),
            1 => 4096 * random.below(bytes / 4096) + random.below(64),
            _ => random.below(bytes),
        })
        .unwrap();
        match random.below(8) {
            0 => {
                disk.remove(segment).unwrap();
                format!("segment {segment} removed")
            }
            1 => {
                disk.put(segment, &vec![0; usize::try_from(bytes).unwrap()]);
                format!("segment {segment} zeroed")
            }
            2 => {
                let page = offset / 4096 * 4096;
                (page..page + 4096).for_each(|at| disk.corrupt(segment, at, &mut |_| 0));
                format!("page at {page} of segment {segment} zeroed")
            }
            _ => {
                let mask = 1 << random.below(8);
                disk.corrupt(segment, offset, &mut |byte| byte ^ mask);
                format!("byte {offset} of segment {segment} changed")
            }
        }
    }

    /// The verdict and a start agree: what is whole is started on, and what a start takes has
    /// damage in old segments alone. They find it in two ways, so each way is held to it.
    #[test]
    fn whole_means_that_a_server_starts() {
        let (mut whole, mut refused, mut old) = (0, 0, 0);
        for seed in 1..=SEEDS {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let log = random_log(&mut random);
            for case in 0..CASES_PER_LOG {
                let mut disk = log.fork();
                let done: Vec<String> =
                    (0..case % 3).map(|_| damage(&mut random, &mut disk)).collect();
                let said = format!("seed {seed}, case {case}: {done:?}");
                let found = gaps(&disk);
                let report = verify_store(&disk);
                let started = recover(disk.clone(), &Settings::small(), &mut |_, _| {});
                let (Ok(found), Ok(report)) = (found, report) else {
                    // A bit of a version number: no tool may say anything of it.
                    assert!(done.iter().any(|it| it.starts_with("byte")), "{said}");
                    assert!(started.is_err(), "{said}");
                    continue;
                };
                let sound_but_old = found.broken.is_empty()
                    && found.gaps.iter().all(|gap| gap.found.head.segment < found.begin);
                match &started {
                    Ok(_) => assert!(sound_but_old, "{said}: started, but {report}"),
                    Err(error) => assert!(!sound_but_old, "{said}: {error}, but {report}"),
                }
                assert!(!report.is_whole() || started.is_ok(), "{said}: {report}");
                assert!(case > 0 || report.is_whole(), "{said}: {report}");
                whole += u64::from(report.is_whole());
                refused += u64::from(started.is_err());
                old += u64::from(!report.is_whole() && started.is_ok());
            }
        }
        assert!(whole > SEEDS && refused > SEEDS && old > 0, "{whole}, {refused}, {old}");
    }

    const SEEDS: u64 = 150;
    const CASES_PER_LOG: u64 = 12;
}
