//! The directory and `kill -9`: a change happened or it did not, and all it keeps agrees.
//!
//! A child process changes things as fast as it can and says what it tries and what was answered;
//! it is killed at some moment, again and again on the same files. What was answered must be
//! there, what was never tried must not.

#![allow(clippy::unwrap_used, reason = "what fails in a test fails the test")]

use myriad::auth::OwnKey;
use myriad::directory::{Command, Directory, Edit, Options, Registration, Rules, Threads};
use myriad::path::people;
use myriad::state::Tables;
use myriad::state::order::Done;
use rusqlite::Connection;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{self, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Where the child works; without it the child's test does nothing.
const FOLDER: &str = "MYRIAD_TEST_DIRECTORY";
/// The number of its first change.
const FIRST: &str = "MYRIAD_TEST_DIRECTORY_FIRST";
const USERS: u64 = 8;
const KILLS: u64 = 12;
/// Those who are blocked have ids above this plus the number of the change.
const OTHERS: u64 = 1 << 32;

fn open(folder: &Path) -> Threads {
    let rules = Rules {
        registration: Registration::Closed,
        users_max: 10_000_000,
        access_s: 3_600,
        foreign: true,
        webhook: true,
        own: OwnKey::from_secret(&[7; 32]),
    };
    let clock = Arc::new(|| 1_800_000_000);
    let options = Options { folder: folder.to_owned(), rules, password_threads: 1, clock };
    let threads = Threads::start(options).unwrap();
    threads.hang(Box::new(|_, reply| reply(Ok(Done::Obeyed))));
    threads
}

/// The change of this number. Of three one is a setting, one a block, one the end of a device.
fn change(number: u64) -> (u64, Command) {
    let user = 1 + number % USERS;
    let command = match number % 3 {
        0 => {
            let about = Some(number.to_string());
            Command::Edit { user, edit: Box::new(Edit { about, ..Edit::default() }) }
        }
        1 => Command::Block { user, other: OTHERS + number },
        _ => Command::EndDevice { user, device: u32::try_from(number).unwrap() },
    };
    (user, command)
}

#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let mut number: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let threads = open(Path::new(&folder));
    let directory = threads.directory();
    let (told, answers) = channel();
    let mut under_way = 0;
    loop {
        while under_way < 16 {
            say("tried", number);
            let told = told.clone();
            let mine = number;
            directory.ask(change(number).1, move |answer| told.send((mine, answer)).unwrap());
            number += 1;
            under_way += 1;
        }
        let (number, answer) = answers.recv().unwrap();
        answer.unwrap();
        say("answered", number);
        under_way -= 1;
    }
}

fn say(what: &str, number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what} {number}").and_then(|()| out.flush()).unwrap();
}

/// What is known of every change: tried, or answered.
#[derive(Default)]
struct Told {
    answered: HashMap<u64, bool>,
    next: u64,
}

impl Told {
    fn read(&mut self, line: &str) {
        let Some((what, number)) = line.split_once(' ') else { return };
        let Ok(number) = number.parse() else { return };
        match what {
            "tried" => {
                self.answered.entry(number).or_insert(false);
                self.next = self.next.max(number + 1);
            }
            "answered" => {
                self.answered.insert(number, true);
            }
            _ => {}
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_every_answered_change_and_no_half_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = Told { next: 3, ..Told::default() };
    for kill in 0..KILLS {
        let mut child = process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(FIRST, told.next.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (lines, read) = channel();
        let reader = std::thread::spawn(move || {
            out.lines().map_while(Result::ok).for_each(|line| lines.send(line).unwrap());
        });
        told.read(&read.recv_timeout(Duration::from_secs(60)).unwrap());
        // Somewhere in what it does: opening, writing, checkpointing.
        std::thread::sleep(Duration::from_millis(20 + 37 * kill % 200));
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        read.try_iter().for_each(|line| told.read(&line));
        check(folder.path(), &told);
    }
    let answered = told.answered.values().filter(|answered| **answered).count();
    assert!(answered > 100, "only {answered} changes were answered: too few to be a test");
}

fn check(folder: &Path, told: &Told) {
    let threads = open(folder);
    let mut tables: Vec<Tables> = (0..2).map(|_| Tables::new(4, 100_000, 100)).collect();
    threads.fill(&mut tables, 1_800_000_000).unwrap();
    threads.stop();
    let db = Connection::open(folder.join("directory.sqlite")).unwrap();
    let number = |text: &str| db.query_row(text, [], |row| row.get::<_, i64>(0)).unwrap();
    let whole: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    for what in ["users", "ties", "devices", "reports", "events"] {
        let counted = number(&format!("SELECT value FROM counts WHERE what = '{what}'"));
        assert_eq!(counted, number(&format!("SELECT count(*) FROM {what}")), "{what}");
    }
    let off = "SELECT count(*) FROM users \
               WHERE ties <> (SELECT count(*) FROM ties WHERE owner = users.user)";
    assert_eq!(number(off), 0, "a tie without its count");
    for (&change, &answered) in &told.answered {
        let user = 1 + change % USERS;
        let is_there = match change % 3 {
            0 => {
                let text = format!("SELECT about FROM users WHERE user = {user}");
                let about: String = db.query_row(&text, [], |row| row.get(0)).unwrap_or_default();
                // A later one of the same user may have replaced it, an earlier one not.
                let at: u64 = about.parse().unwrap_or(0);
                assert!(at < told.next, "{about} was never tried");
                at >= change
            }
            1 => {
                let other = OTHERS + change;
                let text = format!(
                    "SELECT count(*) FROM ties WHERE owner = {user} AND other = {other} \
                     AND blocked = 1"
                );
                let row = number(&text) == 1;
                assert_eq!(row, blocked_at_home(&tables, user, other), "what shards are told");
                row
            }
            _ => is_revoked(&db, &tables, user, change),
        };
        assert!(is_there || !answered, "change {change} was answered and is gone");
    }
}

fn blocked_at_home(tables: &[Tables], user: u64, other: u64) -> bool {
    let placement = myriad::state::placement::Placement::new(tables.len());
    let home = &tables[placement.home(user)];
    home.users.find(user).is_some_and(|user| people::blocks(home, user, other))
}

/// A device's end has a row, or counts for all devices because there were many.
fn is_revoked(db: &Connection, tables: &[Tables], user: u64, device: u64) -> bool {
    let text = format!(
        "SELECT (SELECT count(*) FROM revoked WHERE user = {user} AND device = {device}) \
         + (SELECT count(*) FROM users WHERE user = {user} AND not_before_s > 0)"
    );
    let row = db.query_row(&text, [], |row| row.get::<_, i64>(0)).unwrap() > 0;
    let placement = myriad::state::placement::Placement::new(tables.len());
    let home = &tables[placement.home(user)];
    let device = u32::try_from(device).unwrap();
    let at_home = home
        .users
        .find(user)
        .is_some_and(|user| home.people.is_revoked(user, device, 1_800_000_000));
    assert!(!row || at_home, "what shards are told");
    row
}

/// The handle is what the HTTP API holds in its own threads.
#[test]
fn the_handle_goes_to_any_thread() {
    fn any_thread<T: Clone + Send + Sync + 'static>() {}
    any_thread::<Directory>();
}
