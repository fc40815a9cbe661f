//! docs/getting-started.md, as a newcomer has it: three terminals with accounts, a group, and curl.
//!
//! The commands of its last chapter are taken from the page itself and given to a shell, so that
//! the page cannot rot.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking"
)]

mod support;

use std::path::Path;
use std::process::Command;

use client::api::Api;
use support::Server;
use support::terminal::Terminal;

const PASSWORD: &str = "correct horse battery";

fn open(server: &Server, home: &Path, name: &str, more: &[&str]) -> Terminal {
    let mut command = Command::new(env!("CARGO_BIN_EXE_myriad"));
    command.args(["chat", "--server", &server.url("ws"), "--api", &server.api(), "--name", name]);
    command.arg("--home").arg(home.join(name)).args(more).env("MYRIAD_PASSWORD", PASSWORD);
    Terminal::of(command)
}

#[test]
fn three_people_register_find_each_other_and_talk_in_a_group() {
    let server = Server::start(2, &["--api-listen", "127.0.0.1:0", "--registration", "open"]);
    let home = tempfile::tempdir().unwrap();
    let mut ann = open(&server, home.path(), "ann", &["--register"]);
    ann.expect("connected");
    let mut bob = open(&server, home.path(), "bob", &["--register", "--to", "ann"]);
    bob.expect("connected");
    bob.expect("talking to ann");
    let mut cyd = open(&server, home.path(), "cyd", &["--register"]);
    cyd.expect("connected");

    bob.write("hello ann");
    ann.expect("bob: hello ann");
    for tick in ["✓ sent: hello ann", "✓✓ delivered: hello ann", "✓✓ read: hello ann"] {
        bob.expect(tick);
    }
    ann.write("/to cyd");
    ann.write("hi cyd");
    cyd.expect("ann: hi cyd");

    ann.write("/group hikers bob cyd");
    ann.expect("talking to #hikers");
    ann.write("who comes along on Sunday?");
    for other in [&mut bob, &mut cyd] {
        other.expect("#hikers ann: who comes along on Sunday?");
    }
    ann.expect("✓✓ delivered: who comes along on Sunday?");
    ann.expect("✓✓ read: who comes along on Sunday?");
    bob.write("/groups");
    let listed = bob.expect("hikers (/to #");
    let number = listed.split("(/to ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    bob.write(&format!("/to {number}"));
    bob.write("me");
    for other in [&mut ann, &mut cyd] {
        other.expect("#hikers bob: me");
    }

    // Away, and back without a password: what was said meanwhile comes.
    cyd.write("/quit");
    assert!(cyd.ended().success());
    ann.write("is cyd asleep?");
    bob.expect("#hikers ann: is cyd asleep?");
    let mut command = Command::new(env!("CARGO_BIN_EXE_myriad"));
    command.args(["chat", "--server", &server.url("ws"), "--api", &server.api(), "--name", "cyd"]);
    command.arg("--home").arg(home.path().join("cyd"));
    let mut cyd = Terminal::of(command);
    cyd.expect("ann: is cyd asleep?");

    // Blocked: bob sees the first tick and nothing else.
    cyd.write("/block bob");
    cyd.expect("blocked");
    bob.write("/to cyd");
    bob.expect("talking to cyd");
    bob.write("are you there?");
    bob.expect("✓ sent: are you there?");
    ann.write("/to cyd");
    ann.write("good night");
    cyd.expect("ann: good night");
    cyd.never("are you there?");
    bob.never("delivered: are you there?");
}

#[test]
fn who_gives_no_third_tick_gives_none_in_groups_either() {
    let server = Server::start(2, &["--api-listen", "127.0.0.1:0", "--registration", "open"]);
    let home = tempfile::tempdir().unwrap();
    let mut ann = open(&server, home.path(), "ann", &["--register"]);
    ann.expect("connected");
    let mut bob = open(&server, home.path(), "bob", &["--register"]);
    bob.expect("connected");
    let api = Api::new(&server.api());
    let login = api.log_in("bob", PASSWORD, None, "elsewhere").unwrap();
    let api = api.with_token(&login.access);
    let off = serde_json::json!({"receipts_off": true});
    api.call("PATCH", "/v1/accounts/me", Some(&off)).unwrap();
    api.log_out().unwrap(); // or that device would have to get everything, too
    ann.write("/group pair bob");
    ann.expect("talking to #pair");
    ann.write("did you read this?");
    bob.expect("#pair ann: did you read this?");
    ann.expect("✓✓ delivered: did you read this?");
    ann.write("/to bob");
    ann.write("and this?");
    bob.expect("ann: and this?");
    ann.expect("✓✓ delivered: and this?");
    ann.never("✓✓ read:");
}

#[test]
fn a_group_changes_hands_and_who_wants_to_be_asked_is_asked() {
    let server = Server::start(2, &["--api-listen", "127.0.0.1:0", "--registration", "open"]);
    let home = tempfile::tempdir().unwrap();
    let mut ann = open(&server, home.path(), "ann", &["--register"]);
    ann.expect("connected");
    let mut bob = open(&server, home.path(), "bob", &["--register"]);
    bob.expect("connected");
    let api = Api::new(&server.api());
    let api = api.with_token(&api.log_in("bob", PASSWORD, None, "elsewhere").unwrap().access);
    let asked = serde_json::json!({"group_adders": "nobody"});
    api.call("PATCH", "/v1/accounts/me", Some(&asked)).unwrap();
    let answers = [(1, "decline", "declined"), (2, "accept", "talking to #hikers2")];
    for (number, answer, told) in answers {
        ann.write(&format!("/group hikers{number} bob"));
        ann.expect(&format!("talking to #hikers{number}"));
        bob.write("/invitations");
        let invited = bob.expect(&format!("(/accept {number})"));
        assert!(invited.contains("ann invites you to #"), "{invited}");
        bob.write(&format!("/{answer} {number}"));
        bob.expect(told);
    }
    ann.write("welcome");
    bob.expect("#hikers2 ann: welcome");
    ann.write("/leave");
    ann.expect("hands it over");
    ann.write("/owner bob");
    ann.expect("#hikers2 belongs to bob now");
    ann.write("/leave");
    ann.expect("left");
}

/// The lines of the page's chapter about curl.
fn commands_of_the_page() -> String {
    let page = include_str!("../docs/getting-started.md");
    let chapter = page.split("## The same with curl").nth(1).expect("the chapter is there");
    chapter.split("```").skip(1).step_by(2).take(2).collect()
}

#[test]
fn the_commands_for_curl_do_what_the_page_says() {
    let server = Server::start(2, &["--api-listen", "127.0.0.1:0", "--registration", "open"]);
    let home = tempfile::tempdir().unwrap();
    let mut ann = open(&server, home.path(), "ann", &["--register"]);
    ann.expect("connected");
    let script = commands_of_the_page().replace("http://127.0.0.1:7880", &server.api());
    let played = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&played.stdout);
    assert!(played.status.success(), "{said}\n{}", String::from_utf8_lossy(&played.stderr));
    ann.expect("dora: hello");
    ann.expect("#walkers dora: hello all");
}
