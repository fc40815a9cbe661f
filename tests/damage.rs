//! Damage times tool: what each tool says of each kind of damage, and with which exit code.
//! `docs/operations.md` promises it; the real program is run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod support;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use loadgen::process::{Home, ServerProcess};
use loadgen::{Peer, TickMark};
use myriad::log::{
    FileStore, Kind, Lane, Record, STREAM_USER, Settings, Wake, recover, segment_file_name,
};
use support::{Server, ticked};

const ANN: u64 = 71;
const BOB: u64 = 72;
const SEGMENT_BYTES: u64 = 256 * 1024;
/// Three segments of commits of 8 KiB, and one made ready.
const COMMITS: u64 = 75;

/// Runs the program; gives its exit code and what it printed, both streams.
fn myriad(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_myriad")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), text.concat())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

/// A log of messages from Ann to Bob, as a server leaves it.
fn sound(data: &Path) {
    let settings =
        Settings { segment_bytes: SEGMENT_BYTES, batch_bytes: 16 * 1024, ..Settings::default() };
    let store = FileStore::open(data).unwrap();
    let (recovered, _) = recover(store, &settings, &mut |_, _| {}).unwrap();
    let (mut stages, mut committer) = recovered.start(1, vec![Arc::new(Silent)]).unwrap();
    let stage = &mut stages[0];
    let payload = vec![b'x'; 7000];
    for commit in 0..COMMITS {
        let device = |user| Record {
            stream_kind: STREAM_USER,
            stream: user,
            device: 1,
            ..Record::blank(Kind::Device)
        };
        let message = Record {
            stream_kind: STREAM_USER,
            stream: BOB,
            position: 1 << 32 | (commit + 1),
            sender: ANN,
            device: 1,
            client_id: commit + 1,
            time_ms: 1_760_000_000_000 + commit,
            payload: &payload,
            ..Record::blank(Kind::Message)
        };
        if commit == 0 {
            stage.append_urgent(Lane::Message, &device(ANN)).unwrap();
            stage.append_urgent(Lane::Message, &device(BOB)).unwrap();
        }
        stage.append_urgent(Lane::Message, &message).unwrap();
        stage.flush();
        while !stage.is_idle() {
            committer.step((commit + 1) * 1_000_000);
            while stage.committed().is_some() {}
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn segment(data: &Path, number: u32) -> PathBuf {
    data.join("log").join(segment_file_name(number))
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Where the last commit of a segment starts: every page that begins with a commit's head has
/// length 64 and kind 1 there (`docs/log-format.md`).
fn last_commit(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    let is_head = |at: &usize| bytes[*at + 4..*at + 9] == [64, 0, 0, 0, 1];
    (4096..bytes.len()).step_by(4096).rfind(is_head).unwrap() as u64
}

fn segments(data: &Path) -> Vec<u32> {
    let there = |number: &u32| segment(data, *number).exists();
    (1..20).filter(there).collect()
}

fn zero(path: &Path) {
    let bytes = fs::metadata(path).unwrap().len();
    fs::write(path, vec![0; usize::try_from(bytes).unwrap()]).unwrap();
}

/// What a tool is to say: exit code and words.
type Said = (i32, &'static str);

/// One kind of damage, and what `log verify`, `backup`, `log verify --repair` and `serve` make of
/// it.
struct Case {
    what: &'static str,
    hurt: fn(&Path),
    verify: Said,
    backup: Said,
    repair: Said,
    /// `None`: it starts.
    serve: Option<&'static str>,
}

const BEYOND: Said = (1, "can't be repaired: restore a backup");
const COPY_TOO: Said = (1, "Nothing was changed: run `myriad log verify`");
const NEWER: Said = (2, "use the program that wrote it");

const CASES: &[Case] = &[
    Case {
        what: "none",
        hurt: |_| {},
        verify: (0, "whole"),
        backup: (0, "commit 76,"),
        repair: (0, "Nothing was lost."),
        serve: None,
    },
    Case {
        what: "the head of a segment in use",
        hurt: |data| flip(&segment(data, 2), 24),
        verify: (1, "its head is damaged"),
        backup: COPY_TOO,
        repair: BEYOND,
        serve: Some("its head is damaged"),
    },
    Case {
        what: "all heads",
        hurt: |data| segments(data).into_iter().for_each(|number| flip(&segment(data, number), 24)),
        verify: (1, "its head is damaged"),
        backup: COPY_TOO,
        repair: BEYOND,
        serve: Some("its head is damaged"),
    },
    Case {
        what: "the last commit of a segment that is full",
        hurt: |data| flip(&segment(data, 2), last_commit(&segment(data, 2)) + 200),
        verify: (1, "users concerned: 72"),
        backup: COPY_TOO,
        repair: (0, "of user 72"),
        serve: Some("does not verify"),
    },
    Case {
        what: "the first commit of a segment",
        hurt: |data| flip(&segment(data, 3), 4096 + 200),
        verify: (1, "is damaged; 0 records in it verify"),
        backup: COPY_TOO,
        repair: (0, "of user 72"),
        serve: Some("does not verify"),
    },
    Case {
        what: "a commit in the middle",
        hurt: |data| flip(&segment(data, 1), 4096 * 5 + 200),
        verify: (1, "is damaged; "),
        backup: COPY_TOO,
        repair: (0, "of user 72"),
        serve: Some("does not verify"),
    },
    Case {
        what: "the first segment is missing",
        hurt: |data| fs::remove_file(segment(data, 1)).unwrap(),
        verify: (1, "are missing"),
        backup: COPY_TOO,
        repair: BEYOND,
        serve: Some("are missing"),
    },
    Case {
        what: "the newest segment is missing",
        hurt: |data| fs::remove_file(segment(data, 3)).unwrap(),
        verify: (1, "the segment that was made to follow it is there"),
        backup: COPY_TOO,
        repair: BEYOND,
        serve: Some("the segment that was made to follow it is there"),
    },
    Case {
        what: "the newest segment is all zeros",
        hurt: |data| zero(&segment(data, 3)),
        verify: (1, "it was durable when this segment was made"),
        backup: COPY_TOO,
        repair: BEYOND,
        serve: Some("it was durable when this segment was made"),
    },
    Case {
        what: "all segments with commits are missing",
        hurt: |data| (1..=3).for_each(|number| fs::remove_file(segment(data, number)).unwrap()),
        verify: (1, "missing"),
        backup: COPY_TOO,
        repair: BEYOND,
        serve: Some("missing"),
    },
    Case {
        what: "nothing but an unused segment with a later number",
        hurt: |data| {
            (1..=3).for_each(|number| fs::remove_file(segment(data, number)).unwrap());
            zero(&segment(data, 4));
        },
        verify: (1, "there is no commit in the log"),
        backup: COPY_TOO,
        repair: BEYOND,
        serve: Some("there is no commit in the log"),
    },
    Case {
        what: "a newer format",
        hurt: |data| {
            let file = fs::File::options().write(true).open(segment(data, 1)).unwrap();
            file.write_all_at(&2_u32.to_le_bytes(), 8).unwrap();
        },
        verify: NEWER,
        backup: NEWER,
        repair: NEWER,
        serve: Some("use the program that wrote it"),
    },
    Case {
        what: "a restore that was killed",
        hurt: |data| {
            fs::rename(data.join("log"), data.join("restoring")).unwrap();
        },
        verify: (2, "there are no segments"),
        backup: (2, "there is no log in it"),
        repair: (2, "a restore left that did not end"),
        serve: Some("a restore left that did not end"),
    },
    Case {
        what: "a restore that was killed at its end",
        hurt: |data| fs::create_dir(data.join("restoring")).unwrap(),
        verify: (0, "whole"),
        backup: (2, "a restore left that did not end"),
        repair: (2, "a restore left that did not end"),
        serve: Some("a restore left that did not end"),
    },
];

#[test]
fn slow_every_tool_says_the_truth_about_every_kind_of_damage() {
    let first = tempfile::tempdir().unwrap();
    sound(first.path());
    assert_eq!(segments(first.path()), [1, 2, 3, 4], "three with commits, and one made ready");
    for case in CASES {
        let Case { what, hurt, verify, backup, repair, serve } = case;
        let home = Home::new().unwrap();
        let data = home.data();
        copy(first.path(), &data);
        hurt(&data);
        let before = fs::read_dir(data.join("log")).map_or(0, Iterator::count);
        let expect = |tool: &str, expected: &Said, arguments: &[&str]| {
            let (code, told) = myriad(arguments);
            assert!(told.contains(expected.1), "{what}: {tool}: {code}, {told}");
            assert_eq!(code, expected.0, "{what}: {tool}: {told}");
        };
        expect("verify", verify, &["log", "verify", text(&data)]);
        let copied = data.parent().unwrap().join("backup");
        expect("backup", backup, &["backup", text(&copied), "--data", text(&data)]);
        assert_eq!(copied.exists(), backup.0 == 0, "{what}: nothing passes for a backup");
        let mended = data.parent().unwrap().join("mended");
        expect("repair", repair, &["log", "verify", text(&data), "--repair", text(&mended)]);
        let after = fs::read_dir(data.join("log")).map_or(0, Iterator::count);
        assert_eq!(before, after, "{what}: the original is as it was");
        let started = ServerProcess::start(&support::options(1, &[]), &home);
        match (started, serve) {
            (Ok(_), None) => {}
            (Err(refused), Some(words)) => {
                assert!(refused.to_string().contains(words), "{what}: {refused}");
            }
            (started, _) => panic!("{what}: {started:?}"),
        }
    }
}

fn send(from: &mut Peer, count: u32) {
    for number in 0..count {
        let id = from.send(BOB, format!("number {number}").into_bytes()).unwrap();
        ticked(from, id, TickMark::Sent);
    }
}

/// Beside a server: a damaged log is not copied, and what is being written is not "mended".
#[test]
fn slow_beside_a_server_the_tools_say_the_truth_too() {
    let mut server = Server::start(1, &[]);
    server.provision([BOB]);
    let mut ann = server.peer("tcp", ANN, 1);
    send(&mut ann, 20);
    let data = server.home.data();
    let folder = data.parent().unwrap().to_owned();
    let (code, told) = myriad(&["log", "inspect", text(&data)]);
    assert!(code == 0 && told.contains("a server is using this folder"), "{told}");
    let mended = folder.join("mended");
    let (code, told) = myriad(&["log", "verify", text(&data), "--repair", text(&mended)]);
    assert!(code == 2 && told.contains("stop it first") && !mended.exists(), "{told}");
    let (code, told) = myriad(&["log", "verify", text(&data)]);
    assert!(code == 0 && told.contains("a server is using this folder"), "{told}");

    let damaged = |at: u64| {
        flip(&segment(&data, 1), at);
        let to = folder.join("of-damaged");
        let (code, told) = myriad(&["backup", text(&to), "--data", text(&data)]);
        assert!(code == 1 && told.contains("the log is damaged"), "{at}: {code}, {told}");
        assert!(!to.exists(), "{at}");
        let verified = myriad(&["log", "verify", text(&data)]);
        flip(&segment(&data, 1), at);
        verified
    };
    for at in [24, 4096 + 70] {
        let (code, told) = damaged(at);
        assert!(code == 1 && told.contains("damage: "), "{at}: {code}, {told}");
    }
    // Only the server knows that the last commit was whole.
    let (code, told) = damaged(last_commit(&segment(&data, 1)) + 70);
    assert!(code == 0 && told.contains("torn tail"), "{code}, {told}");

    // With the slash a shell puts behind the name of a folder.
    let backup = folder.join("backup");
    let slashed = format!("{}/", text(&backup));
    let (code, told) = myriad(&["backup", &slashed, "--data", text(&data)]);
    assert_eq!(code, 0, "{told}");
    let (code, told) = myriad(&["backup", text(&backup), "--data", text(&data)]);
    assert!(code == 2 && told.contains("exists"), "{told}");
    let nowhere = folder.join("nowhere/backup");
    let (code, told) = myriad(&["backup", text(&nowhere), "--data", text(&data)]);
    assert!(code == 2 && told.contains("make it first"), "{told}");
    drop(ann);
    assert!(server.stop().success());
    a_backup_is_checked_without_restoring(&backup, &data);
}

fn a_backup_is_checked_without_restoring(backup: &Path, data: &Path) {
    let check = |path: &Path| myriad(&["restore", "--check", text(path)]);
    let (code, told) = check(backup);
    assert!(
        code == 0 && told.contains("what the manifest says") && told.contains("whole"),
        "{told}"
    );
    let (code, told) = check(data);
    assert!(code == 2 && told.contains("is this a backup?"), "{told}");
    for (file, at, words) in [("manifest", 30, "damaged"), ("log", 5000, "size or checksum")] {
        let path = match file {
            "log" => fs::read_dir(backup.join("log")).unwrap().next().unwrap().unwrap().path(),
            file => backup.join(file),
        };
        flip(&path, at);
        let (code, told) = check(backup);
        assert!(code == 1 && told.contains(words), "{file}: {told}");
        flip(&path, at);
    }
    assert_eq!(check(backup).0, 0);
}
