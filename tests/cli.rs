//! The command line as others see it: exit codes, what is printed where, what is refused.
//!
//! A running server appears only as far as its start and its end; what it does in between is for
//! the end-to-end tests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at a surprise")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

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

/// A server that is not left running, whatever the test does.
struct Server(Child);

impl Server {
    /// Starts it and returns what its first line says.
    fn start(arguments: &[&str]) -> (Self, serde_json::Value) {
        let mut command = myriad();
        command.arg("serve").args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        (Self(child), serde_json::from_str(&line).unwrap())
    }

    /// Asks it to stop and returns its exit code.
    fn stop(mut self) -> i32 {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.0.wait().unwrap().code().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_dev_server_says_where_it_is_keeps_its_secret_and_ends_when_told() {
    let folder = Folder::new("dev");
    let data = folder.0.join("data");
    let dev = ["--dev", "--listen", "127.0.0.1:0", "--shards", "1", "--data"];
    let dev = [&dev[..], &[data.to_str().unwrap()]].concat();
    let (server, first_line) = Server::start(&dev);
    assert!(["ready", "uring"].contains(&first_line["driver"].as_str().unwrap()));
    assert_eq!(first_line["shards"], 1);
    assert_eq!(first_line["pid"], server.0.id());
    let listen: std::net::SocketAddr = first_line["listen"].as_str().unwrap().parse().unwrap();
    assert!(listen.port() > 0 && std::net::TcpStream::connect(listen).is_ok());

    let secret = data.join("dev-secret");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let first_secret = fs::read(&secret).unwrap();
    let second = myriad().arg("serve").args(&dev).output().unwrap();
    let (code, out, err) = outcome(&second);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("in use by a running server"), "{err}");
    assert_eq!(fs::read(&secret).unwrap(), first_secret);

    assert_eq!(server.stop(), 0);
    let (code, out, err) = run(&["log", "verify", data.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let (server, _) = Server::start(&dev);
    assert_ne!(fs::read(&secret).unwrap(), first_secret);
    assert_eq!(server.stop(), 0);
}

#[test]
fn an_address_in_use_is_a_failure_not_a_refusal() {
    let folder = Folder::new("in-use");
    let secret = folder.file("secret", SECRET);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let data = folder.0.join("data");
    let arguments = ["--auth-secret-file", &secret, "--data", data.to_str().unwrap()];
    let server = myriad().args(["serve", "--listen", &listen]).args(arguments).output().unwrap();
    let (code, out, err) = outcome(&server);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains(&listen), "{err}");
}

#[test]
fn doctor_answers_for_people_for_programs_and_by_its_exit_code() {
    let (code, out, err) = run(&["doctor", "--connections", "10"]);
    assert!(code == 0 && out.contains("\nYES: nothing here stops 10 sessions."), "{out}{err}");
    // As many as a program can be configured for, a file for each, and both ends here: 17 million
    // files and 150 GiB are not what tests run on.
    let most = ["doctor", "--connections", "16777216", "--driver", "ready", "--load"];
    let (code, out, err) = run(&[&most[..], &["--json"]].concat());
    assert_eq!((code, err.as_str()), (1, ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["version"], &report["verdict"]), (&1.into(), &"no".into()));
    let checks = report["checks"].as_array().unwrap();
    assert_eq!(checks[0]["name"], report["stopped_by"]);
    let (code, people, _) = run(&most);
    let first = checks[0]["remedy"].as_str().unwrap();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(code == 1 && words(&people).contains(&words(first)), "{people}");
}

#[test]
fn doctor_refuses_what_it_can_not_answer() {
    for wrong in [
        &["--connections", "0"][..],
        &["--connections", "99999999999"],
        &["--tls-share", "101"],
        &["--print", "fstab"],
        &["--print", "systemd", "--json"],
        &["--config", "/nonexistent/file"],
    ] {
        let (code, out, err) = run(&[&["doctor"], wrong].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{wrong:?}: {err}");
        assert!(!err.is_empty());
    }
}

#[test]
fn doctor_counts_the_tables_of_a_configuration() {
    let folder = Folder::new("doctor");
    let secret = folder.file("secret", SECRET);
    let text = format!("data = \"d\"\nauth_secret_file = \"{secret}\"\nsessions_max = 50\n");
    let config = folder.file("myriad.toml", text);
    let (code, out, _) = run(&["doctor", "--config", &config]);
    assert!(code == 0 && out.starts_with("50 sessions"), "{out}");
    let (code, out, _) = run(&["doctor", "--config", &config, "--connections", "60"]);
    assert!(code == 1 && out.contains("60 sessions stop at 50, because of sessions_max"), "{out}");
}
