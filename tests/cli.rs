//! The command line as others see it: exit codes, what is printed where, what is refused.
//!
//! Only what ends by itself; a running server is tested in the end-to-end tests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at a surprise")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use myriad::auth::Keys;

const SECRET: &[u8] = b"a secret of thirty-two bytes, yes";
const NOW_S: u64 = 1_000_000_000;

/// The program, without whatever variables the developer has set.
fn myriad() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_myriad"));
    command.env_clear().stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    outcome(&myriad().args(arguments).output().unwrap())
}

fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A folder of its own for each test, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("myriad-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn help_is_an_answer_and_a_missing_command_is_not() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["--version"]] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
        assert!(out.len() > 10);
    }
    for arguments in [&[][..], &["dance"], &["serve", "--colour"], &["token"], &["chat"]] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains("Usage"), "{err}");
    }
}

#[test]
fn a_token_from_the_command_line_is_one_the_server_takes() {
    let folder = Folder::new("token");
    let file = folder.file("secret", SECRET);
    let (code, out, err) = run(&["token", "--auth-secret-file", &file, "--user", "42"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let token = out.strip_suffix('\n').unwrap();
    let claims = Keys::from_secret(SECRET).verify(token, NOW_S).unwrap();
    assert_eq!((claims.user, claims.device), (42, 1));
    let arguments =
        ["token", "--auth-secret-file", &file, "--user", "7", "--device", "2", "--ttl-s", "1"];
    let (_, out, _) = run(&arguments);
    let claims = Keys::from_secret(SECRET).verify(out.trim(), NOW_S).unwrap();
    assert_eq!((claims.user, claims.device), (7, 2));
}

#[test]
fn a_token_for_nobody_or_by_a_weak_secret_is_refused() {
    let folder = Folder::new("weak");
    let good = folder.file("good", SECRET);
    let weak = folder.file("weak", &SECRET[..31]);
    for (file, user, reason) in [
        (good.as_str(), "0", "0 is not in"),
        (good.as_str(), "-1", "unexpected argument"),
        (good.as_str(), "anna", "invalid digit"),
        (weak.as_str(), "1", "has 31 bytes"),
        ("no-such-file", "1", "can't be read"),
    ] {
        let (code, out, err) = run(&["token", "--auth-secret-file", file, "--user", user]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains(reason), "{err}");
    }
}

#[test]
fn the_example_is_a_usable_file_once_its_secret_exists() {
    let folder = Folder::new("example");
    let secret = folder.file("secret", SECRET);
    let (code, example, _) = run(&["config", "example"]);
    assert_eq!(code, 0);
    let file = folder.file("myriad.toml", example.replace("/etc/myriad/secret", &secret));
    let (code, out, err) = run(&["config", "check", &file]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("is usable"), "{out}");
    fs::remove_file(&secret).unwrap();
    let (code, _, err) = run(&["config", "check", &file]);
    assert_eq!(code, 2);
    assert!(err.contains("can't be read"), "{err}");
}

#[test]
fn a_result_nobody_reads_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = myriad().args(["config", "example"]).stdout(writer).output().unwrap();
    assert_eq!(outcome(&output), (0, String::new(), String::new()));
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    // Each value is out of bounds, so that the refusal tells which one counted.
    let folder = Folder::new("layers");
    let file = folder.file("myriad.toml", "heartbeat_ms = 1\n");
    let serve = |variable: Option<&str>, flag: Option<&str>| {
        let mut command = myriad();
        command.args(["serve", "--data", "d", "--auth-secret-file", "s", "--config", &file]);
        command.envs(variable.map(|value| ("MYRIAD_HEARTBEAT_MS", value)));
        command.args(flag.map(|value| format!("--heartbeat-ms={value}")));
        let (code, out, err) = outcome(&command.output().unwrap());
        assert_eq!((code, out.as_str()), (2, ""));
        err
    };
    assert!(serve(None, None).contains("heartbeat_ms is 1,"));
    assert!(serve(Some("2"), None).contains("heartbeat_ms is 2,"));
    assert!(serve(Some("2"), Some("3")).contains("heartbeat_ms is 3,"));
    assert!(serve(Some("soon"), Some("3")).contains("MYRIAD_HEARTBEAT_MS is not usable"));
}

#[test]
fn a_server_that_should_not_start_does_not_and_says_why() {
    let folder = Folder::new("refusals");
    let secret = folder.file("secret", SECRET);
    let unknown = folder.file("unknown.toml", "hartbeat_ms = 5000\n");
    let data = folder.0.join("data");
    let data = data.to_str().unwrap();
    let keyed = ["--data", data, "--auth-secret-file", &secret];
    for (flags, reason) in [
        (vec!["--data", data], "No key"),
        (vec!["--auth-secret-file", &secret], "No data folder"),
        (vec!["--dev", "--data", data, "--listen", "0.0.0.0:0"], "--dev is for this machine"),
        (vec!["--dev", "--data", data, "--auth-secret-file", &secret], "Leave one"),
        ([&keyed[..], &["--listen", "[::]:0"]].concat(), "--allow-plaintext"),
        ([&keyed[..], &["--driver", "uring"]].concat(), "comes in a later version"),
        ([&keyed[..], &["--config", &unknown]].concat(), "Did you mean heartbeat_ms?"),
        ([&keyed[..], &["--config", "no-such.toml"]].concat(), "can't be read"),
        ([&keyed[..], &["--auth-keys", "EdDSA:no-such.pem"]].concat(), "can't be read"),
        ([&keyed[..], &["--shards", "65"]].concat(), "from 1 to 64"),
    ] {
        let output = myriad().arg("serve").args(&flags).output().unwrap();
        let (code, out, err) = outcome(&output);
        assert_eq!((code, out.as_str()), (2, ""), "{flags:?}: {err}");
        assert!(err.contains(reason), "{flags:?}: {err}");
        assert!(!fs::exists(data).unwrap(), "a refused start leaves nothing behind");
    }
}

#[test]
fn a_chat_without_a_usable_identity_is_refused() {
    let (code, _, err) = run(&["chat", "--token", "nonsense"]);
    assert_eq!(code, 2);
    assert!(err.contains("not a JSON Web Token"), "{err}");
    let (code, _, err) = run(&["chat", "--auth-secret-file", "secret"]);
    assert_eq!(code, 2);
    assert!(err.contains("--user"), "{err}");
}

#[test]
fn a_folder_without_a_log_is_refused() {
    for command in ["inspect", "verify"] {
        let (code, out, err) = run(&["log", command, "no-such-folder"]);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains("no-such-folder"), "{err}");
    }
}
