//! Runs with groups: every copy gets to every member, whatever the members do, and what does not is
//! named.
//!
//! Deliberately not here: each kind of fault by itself (unit tests of `run::verdict`).

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use client::api::{Added, Api};
use loadgen::report::{Report, Wrong};
use loadgen::run::{self, Options, RunError};
use serde_json::json;
use wire::Transport;

use super::proxy::Proxy;
use super::support::Server;
use super::{File, options, play, scenario};

/// 30 clients in four groups of twelve, so that most are in two.
const GROUPS: &str = "
[clients]
sessions = 30
read_percent = 100
[groups]
count = 4
members = 12
[[phases]]
name = \"all\"
seconds = 1
traffic = \"group\"
messages_per_second = 200
";
const ENDING: &str = "
[ending]
drain_seconds = 20
behind_p99_us_max = 10_000_000
";
const API: [&str; 2] = ["--api-listen", "127.0.0.1:0"];

/// A phase of 200 messages in which something happens.
fn phase(name: &str, what: &str) -> String {
    format!(
        "[[phases]]\nname = \"{name}\"\nseconds = 2\ntraffic = \"group\"\n\
         messages_per_second = 100\n{what}\n"
    )
}

fn with_api(server: &Server, transport: &str, file: &File) -> Options {
    Options { api: Some(server.api()), ..options(server, server.url(transport), file) }
}

/// Everybody got everything, once and in one order; nothing was refused.
fn check_all_arrived(report: &Report, sent: u64, others: u64) {
    let messages = &report.messages;
    assert_eq!(messages.wrong(), 0, "{messages:?} {:?}", report.oracle.examples);
    assert!(run::command::passed(report), "{:?} {messages:?}", report.thresholds);
    assert_eq!([messages.sent, messages.acked, messages.read], [sent; 3], "{messages:?}");
    assert_eq!(messages.delivered, sent * others, "{messages:?}");
}

#[test]
fn slow_every_member_gets_every_message_through_churn_a_storm_and_absence() {
    let server = Server::start(2, &API);
    let phases = [
        phase("churn", "churn_per_second = 20"),
        phase("storm", "storm = true"),
        phase("away", "online_percent = 60"),
        phase("back", "online_percent = 100"),
    ];
    let file = scenario(&format!("{GROUPS}{}{ENDING}", phases.concat()));
    let report = play(&with_api(&server, "ws", &file)).unwrap();
    check_all_arrived(&report, 1_000, 11);
    let groups = report.groups.unwrap();
    assert_eq!([groups.count, groups.members, groups.writers], [4, 12, 12]);
    assert_eq!([groups.sent, groups.delivered], [1_000, 11_000]);
    // Twelve of 30 clients are away for two seconds: what they page through has no latency.
    let timed = report.latency_us.delivered.count;
    assert!((8_000..11_000).contains(&timed), "{timed}");
    assert_eq!(report.latency_us.sent.count, 1_000);
    let ann = Api::new(&server.api()).with_token(&server.token(8_000_000_000, 1));
    assert!(ann.groups(100).unwrap().is_empty(), "a run leaves no groups behind");
}

#[test]
fn slow_groups_outlive_a_server_that_is_killed() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let mut server = Server::start(2, &["--listen", &listen, API[0], API[1]]);
    let text = GROUPS.replace("seconds = 1", "seconds = 8").replace("= 200", "= 100");
    let file = scenario(&format!("{text}{ENDING}[thresholds]\nfailed = 1_000_000\n"));
    let options = with_api(&server, "ws", &file);
    let run = thread::spawn(move || play(&options).unwrap());
    for _ in 0..2 {
        thread::sleep(Duration::from_secs(4));
        server.kill_and_restart();
    }
    let report = run.join().unwrap();
    check_all_arrived(&report, 800, 11);
    assert!(report.sessions.failed >= 60, "both kills were felt: {:?}", report.sessions);
}

#[test]
fn one_writer_is_enough_and_groups_mix_with_pairs() {
    let server = Server::start(1, &API);
    let pairs = "[[phases]]\nname = \"pairs\"\nseconds = 1\nmessages_per_second = 100\n";
    let one = GROUPS.replace("count = 4", "count = 1\nwriters = 1");
    let file = scenario(&format!("{one}{pairs}{ENDING}"));
    let options = with_api(&server, "tcp", &file);
    let report = play(&Options { threads: Some(3), ..options }).unwrap();
    let messages = &report.messages;
    assert!(run::command::passed(&report), "{:?} {messages:?}", report.thresholds);
    assert_eq!([messages.sent, messages.delivered], [300, 200 * 11 + 100], "{messages:?}");
    assert_eq!(report.groups.unwrap().sent, 200);
}

#[test]
fn who_may_only_be_invited_accepts() {
    let server = Server::start(1, &API);
    let api = Api::new(&server.api());
    server.provision([1, 8_000_000_007]);
    for number in [1, 7, 20] {
        let user = api.with_token(&server.token(8_000_000_000 + number, 1));
        user.call("PATCH", "/v1/accounts/me", Some(&json!({ "group_adders": "nobody" }))).unwrap();
    }
    let other = api.with_token(&server.token(1, 1));
    let group = other.create_group("another's").unwrap().id;
    assert_eq!(other.add_member(group, 8_000_000_007).unwrap(), Added::Invited);
    let file = scenario(&format!("{GROUPS}{ENDING}"));
    let report = play(&with_api(&server, "tcp", &file)).unwrap();
    check_all_arrived(&report, 200, 11);
}

#[test]
fn every_dropped_and_every_changed_copy_of_a_group_is_named() {
    let server = Server::start(2, &API);
    let kinds = [Wrong::Lost, Wrong::Corrupted];
    let proxy = Proxy::start(&server.listen(), Transport::Tcp, &kinds, 300);
    let text = format!("{GROUPS}{ENDING}").replace("drain_seconds = 20", "drain_seconds = 3");
    let file = scenario(&text.replace("read_percent = 100", ""));
    let target = format!("tcp://{}", proxy.listen);
    let report = play(&Options { target, ..with_api(&server, "tcp", &file) }).unwrap();
    let done = proxy.faults.lock().unwrap().done.clone();
    let sort = |mut list: Vec<(Wrong, u64, u64, String)>| {
        list.sort_by_key(|(kind, from, sequence, _)| (kind.name(), *from, *sequence));
        list
    };
    let group = |to: u64| format!("in group {}", to - (1 << 31));
    let done = done.into_iter().map(|(kind, (from, to, count))| (kind, from, count, group(to)));
    let named = report.oracle.examples.iter().map(|it| {
        let place = it.detail.split(':').next().unwrap_or_default().to_owned();
        (it.kind, it.from, it.sequence, place)
    });
    let (done, named) = (sort(done.collect()), sort(named.collect()));
    assert_eq!(named, done, "{:?}", report.messages);
    let count = |kind: Wrong| done.iter().filter(|(it, ..)| *it == kind).count() as u64;
    let messages = &report.messages;
    assert_eq!([messages.lost, messages.corrupted], kinds.map(count));
    assert!(messages.lost > 0 && messages.wrong() >= 4, "{messages:?}");
    assert!(!run::command::passed(&report));
}

#[test]
fn groups_that_cannot_be_made_are_one_clear_line() {
    let server = Server::start(1, &[]);
    let file = scenario(&format!("{GROUPS}{ENDING}"));
    let fails = |api: Option<String>| {
        let options = options(&server, server.url("tcp"), &file);
        let error = play(&Options { api, ..options }).unwrap_err();
        (matches!(error, RunError::Arguments(_)), error.to_string())
    };
    let (is_wrong_argument, error) = fails(None);
    assert!(is_wrong_argument && error.contains("give --api http://HOST:PORT"), "{error}");
    assert!(error.contains("--api-listen HOST:PORT"), "{error}");
    let (is_wrong_argument, error) = fails(Some("https://127.0.0.1:1".to_owned()));
    assert!(is_wrong_argument && error.contains("no address of an API"), "{error}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_, error) = fails(Some(format!("http://{nobody}")));
    assert!(error.contains("can't make the groups") && error.contains("--api-listen"), "{error}");
    // The chat listener speaks HTTP, too, but has no interface.
    let (_, error) = fails(Some(format!("http://{}", server.listen())));
    assert!(error.contains("can't make the groups") && error.contains("interface"), "{error}");
    let other = Server::start(1, &API);
    let (_, error) = fails(Some(other.api()));
    assert!(error.contains("the same secret"), "{error}");
}

#[test]
fn a_server_whose_groups_are_small_says_what_to_do() {
    let server = Server::start(1, &[API[0], API[1], "--group-members-max", "5"]);
    let file = scenario(&format!("{GROUPS}{ENDING}"));
    let error = play(&with_api(&server, "tcp", &file)).unwrap_err().to_string();
    assert!(error.contains("group_members_max"), "{error}");
}
