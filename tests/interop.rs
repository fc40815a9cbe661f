//! Clients nobody here wrote: the Python package `websockets` and Node's `ws`, over the schema
//! compiled by protoc, and plain TCP from Python.
//!
//! The scripts in `tests/interop/` are written from `docs/protocol.md` alone and know nothing of
//! our code; this file only starts a server for them and shows what they printed when they fail.
//! `scripts/install-interop` prepares what they need, and is called first: it does nothing when
//! all is there.

#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

const SECRET: &[u8] = b"a secret of thirty-two bytes, yes";

/// Two people whose numbers do not survive being made a double, nor being made signed.
const PEOPLE: (u64, u64) = ((1 << 53) + 1, u64::MAX - 1);

#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    Node,
}
use Language::{Node, Python};

#[test]
fn python_finds_every_rule_kept_over_websocket() {
    Place::new("python-ws").plays(Python, "rules", &["ws"]);
}

#[test]
fn python_finds_every_rule_kept_over_tcp() {
    Place::new("python-tcp").plays(Python, "rules", &["tcp"]);
}

#[test]
fn node_finds_every_rule_kept() {
    Place::new("node").plays(Node, "rules", &[]);
}

#[test]
fn python_and_node_chat() {
    let place = Place::new("mixed");
    place.converse(Python, Node, PEOPLE);
    place.converse(Node, Python, (PEOPLE.0 + 100, PEOPLE.1 - 100));
}

#[test]
fn each_language_chats_with_itself() {
    let place = Place::new("same");
    place.converse(Python, Python, PEOPLE);
    place.converse(Node, Node, (PEOPLE.0 + 100, PEOPLE.1 - 100));
}

/// A running server in a folder of its own, and the tools to talk to it.
struct Place {
    folder: PathBuf,
    server: Child,
    listen: String,
    tools: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let tools = install();
        let folder =
            std::env::temp_dir().join(format!("myriad-interop-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("secret"), SECRET).unwrap();
        let mut server = Command::new(env!("CARGO_BIN_EXE_myriad"))
            .args(["serve", "--listen", "127.0.0.1:0", "--shards", "2", "--driver", "auto"])
            // Scripts on a busy machine may fall silent for longer than people's programs do.
            .args(["--heartbeat-ms", "60000", "--sessions-max", "100", "--users-max", "1000"])
            .arg("--data")
            .arg(folder.join("data"))
            .arg("--auth-secret-file")
            .arg(folder.join("secret"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut place = Self { folder, server, listen: String::new(), tools };
        let announced: Result<serde_json::Value, _> = serde_json::from_str(&line);
        let listen = announced.ok().and_then(|line| Some(line["listen"].as_str()?.to_owned()));
        place.listen = listen.unwrap_or_else(|| {
            panic!("the server did not start: {line:?}\n{}", place.server_said());
        });
        place
    }

    /// Runs one script as all the people in it.
    fn plays(&self, language: Language, script: &str, arguments: &[&str]) {
        let output = self.script(language, script).args(arguments).output().unwrap();
        let printed = printed(&output);
        assert!(output.status.success(), "{printed}\nserver: {}", self.server_said());
        // Shown with --no-capture: which scenarios were played.
        println!("{printed}");
    }

    /// Runs two processes as two people who talk to each other.
    fn converse(&self, first: Language, second: Language, people: (u64, u64)) {
        let person = |language, role: &str, own: u64, peer: u64| {
            let mut script = self.script(language, "conversation");
            script.args([role, &own.to_string(), &peer.to_string()]);
            thread::spawn(move || script.output().unwrap())
        };
        let first = person(first, "first", people.0, people.1);
        let second = person(second, "second", people.1, people.0);
        let outputs = [first.join().unwrap(), second.join().unwrap()];
        let printed = outputs.each_ref().map(printed).join("\n");
        let all_went_well = outputs.iter().all(|output| output.status.success());
        assert!(all_went_well, "{printed}\nserver: {}", self.server_said());
        println!("{printed}");
    }

    fn script(&self, language: Language, name: &str) -> Command {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
        let mut command = match language {
            Python => {
                let home = self.tools.join("python");
                let mut command = Command::new(home.join("bin/python"));
                command.arg(scripts.join(name).with_extension("py"));
                command.env("PYTHONPATH", home.join("schema"));
                command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUTF8", "1");
                command
            }
            Node => {
                let mut command = Command::new("node");
                command.arg(scripts.join(name).with_extension("mjs"));
                command.env("INTEROP_NODE", self.tools.join("node"));
                command
            }
        };
        command
            .env("INTEROP_LISTEN", &self.listen)
            .env("INTEROP_MYRIAD", env!("CARGO_BIN_EXE_myriad"))
            .env("INTEROP_SECRET_FILE", self.folder.join("secret"))
            .stdin(Stdio::null());
        command
    }

    fn server_said(&self) -> String {
        fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Has the clients prepared, and gives the folder they are in.
fn install() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output =
        Command::new(root.join("scripts/install-interop")).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "scripts/install-interop failed:\n{}", printed(&output));
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root.join(target).join("interop")
}

fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}
