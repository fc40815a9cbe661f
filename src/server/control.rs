//! The control socket: how an operator on this host talks to a running server.
//!
//! Owner: the control thread; a backup runs on a thread of its own, one at a time. The socket is
//! `<data>/control.sock`, for the owner of the data folder only. One line of JSON in
//! (`{"backup": DIR}`, or `{"group": ...}`, see `group_orders`), lines of JSON out:
//! `{"started": DIR}`, then `{"done": ...}` or `{"error": ...}`; `{"answer": ...}` to an order.

use super::history::Copier;
use super::tools::{self, Running};
use super::{ServeError, directory, group_orders, spawn};
use crate::clock::wall_ms;
use crate::limits;
use crate::log::{Durable, Pins};
use crate::shard::Desk;
use serde::{Deserialize, Serialize};
use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Name of the socket in the data folder.
const SOCKET: &str = "control.sock";

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    /// Make a backup in this folder.
    Backup(PathBuf),
    /// Something about a group.
    Group(group_orders::Ask),
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    /// The answer to an order about a group.
    Answer(group_orders::Answer),
    /// It is being made.
    Started(PathBuf),
    /// It is made.
    Done {
        /// Number of the last commit in it.
        commit: u64,
        /// Files in it.
        files: usize,
        /// Their sizes together.
        bytes: u64,
    },
    /// It is not, and nothing was begun: something was asked that can't be.
    Refused(String),
    /// It failed.
    Error(String),
}

/// What came of asking a server for a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nobody answers there.
    Nobody,
    /// It is made: how much.
    Made(String),
    /// Nothing was begun: why.
    Refused(String),
    /// It failed: why.
    Failed(String),
}

/// What a backup takes from the server.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) data: PathBuf,
    pub(super) durable: Arc<Durable>,
    pub(super) pins: Pins,
    pub(super) history: Option<Copier>,
    pub(super) directory: Option<crate::directory::Copier>,
    pub(super) desk: Desk,
}

/// The running thread.
pub(super) struct Thread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Thread {
    /// Opens the socket and starts the thread. A socket that can't be had costs only backups of
    /// the running server.
    pub(super) fn start(source: Source) -> Result<Self, ServeError> {
        let path = source.data.join(SOCKET);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = match listen(&path) {
            Ok(listener) => {
                let stop = Arc::clone(&stop);
                Some(spawn("control", move || work(&listener, &source, &stop))?)
            }
            Err(error) => {
                eprintln!(
                    "myriad: {}: {error}. `myriad backup` can't reach this server; stop it for a \
                     backup, or use a data folder with a shorter path",
                    path.display()
                );
                None
            }
        };
        Ok(Self { stop, thread, path })
    }

    /// Ends it, and a backup that is being made.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread {
            let _its_panic_was_printed = thread.join();
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {} // of a server that was killed: the folder is ours
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn work(listener: &UnixListener, source: &Source, stop: &Arc<AtomicBool>) {
    let mut backup: Option<JoinHandle<()>> = None;
    while !stop.load(Ordering::Acquire) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(limits::CONTROL_LOOK_MS));
            continue;
        };
        if backup.as_ref().is_some_and(JoinHandle::is_finished) {
            backup = None;
        }
        match asked(&stream) {
            Ok(Request::Group(ask)) => {
                reply(&stream, &Reply::Answer(group_orders::obey(&source.desk, ask)));
            }
            Ok(_) if backup.is_some() => {
                let busy = "a backup is being made already; wait until it is done";
                reply(&stream, &Reply::Refused(busy.to_owned()));
            }
            Ok(Request::Backup(to)) => {
                let (source, stop) = (source.clone(), Arc::clone(stop));
                let made = spawn("backup", move || make(&stream, &source, &to, &stop));
                match made {
                    Ok(thread) => backup = Some(thread),
                    Err(error) => eprintln!("myriad: no backup: {error}"),
                }
            }
            Err(why) => reply(&stream, &Reply::Refused(why)),
        }
    }
    if let Some(backup) = backup {
        let _its_panic_was_printed = backup.join();
    }
}

/// Reads the one line somebody may say.
fn asked(stream: &UnixStream) -> Result<Request, String> {
    let told = |error: io::Error| format!("the request can't be read: {error}");
    let wait = Duration::from_millis(limits::CONTROL_WAIT_MS);
    let deadline = Instant::now() + wait;
    stream.set_nonblocking(false).map_err(told)?;
    let look = Duration::from_millis(limits::CONTROL_LOOK_MS);
    stream.set_read_timeout(Some(look)).map_err(told)?;
    stream.set_write_timeout(Some(wait)).map_err(told)?;
    let mut line = Vec::new();
    let mut piece = [0_u8; 1024];
    let mut stream = stream;
    while !line.ends_with(b"\n") {
        match stream.read(&mut piece) {
            Ok(0) => return Err("a line of JSON is expected, and its end".to_owned()),
            Ok(count) => line.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(told(error)),
        }
        if line.len() > limits::CONTROL_LINE_BYTES_MAX {
            let most = limits::CONTROL_LINE_BYTES_MAX;
            return Err(format!("a request has at most {most} bytes"));
        }
        if Instant::now() > deadline {
            return Err("the request did not come in time".to_owned());
        }
    }
    serde_json::from_slice(&line)
        .map_err(|error| format!("not a request this server knows: {error}; use its own program"))
}

fn reply(mut stream: &UnixStream, reply: &Reply) {
    if let Ok(mut line) = serde_json::to_string(reply) {
        line.push('\n');
        let _gone_is_fine = stream.write_all(line.as_bytes());
    }
}

/// Makes one backup and says how it went, here and there.
fn make(stream: &UnixStream, source: &Source, to: &Path, stop: &AtomicBool) {
    if !to.is_absolute() {
        return reply(stream, &Reply::Refused("name the folder by its full path".to_owned()));
    }
    reply(stream, &Reply::Started(to.to_owned()));
    let stopping = || stop.load(Ordering::Acquire);
    let history = |copy: &Path| match &source.history {
        Some(copier) => copier.copy(copy, &stopping),
        // Nobody writes it.
        None => {
            tools::copy_into(&source.data.join("history"), copy).map_err(|error| error.to_string())
        }
    };
    let directory = |copy: &Path| match &source.directory {
        Some(copier) => copier.copy(copy),
        None => tools::copy_into(&directory::folder(&source.data), copy)
            .map_err(|error| error.to_string()),
    };
    let running = Running {
        durable: &source.durable,
        pins: &source.pins,
        history: &history,
        directory: &directory,
        stop: &stopping,
    };
    match tools::backup(&source.data, to, Some(&running), wall_ms()) {
        Ok(made) => {
            eprintln!("myriad: backup up to commit {} in {}", made.commit, to.display());
            let (commit, files, bytes) = (made.commit, made.files.len(), made.bytes());
            reply(stream, &Reply::Done { commit, files, bytes });
        }
        Err(error) => {
            eprintln!("myriad: no backup in {}: {error}", to.display());
            let why = error.to_string();
            let refused = error.is_refusal();
            reply(stream, &if refused { Reply::Refused(why) } else { Reply::Error(why) });
        }
    }
}

/// Asks the server that uses `data` for a backup in `to`.
#[must_use]
pub fn ask_for_backup(data: &Path, to: &Path) -> Asked {
    let Ok(stream) = UnixStream::connect(data.join(SOCKET)) else { return Asked::Nobody };
    ask(stream, to).unwrap_or_else(Asked::Failed)
}

fn ask(mut stream: UnixStream, to: &Path) -> Result<Asked, String> {
    let mut line = serde_json::to_string(&Request::Backup(to.to_owned()))
        .map_err(|error| format!("the folder's name can't be sent: {error}"))?;
    line.push('\n');
    let told = |error: io::Error| format!("the server does not answer: {error}");
    stream.write_all(line.as_bytes()).map_err(told)?;
    let mut answer = String::new();
    let most = 2 * limits::CONTROL_LINE_BYTES_MAX as u64;
    stream.take(most).read_to_string(&mut answer).map_err(told)?;
    for line in answer.lines() {
        match serde_json::from_str(line) {
            Ok(Reply::Started(_) | Reply::Answer(_)) => {}
            Ok(Reply::Done { commit, files, bytes }) => {
                return Ok(Asked::Made(format!("commit {commit}, {files} files of {bytes} bytes")));
            }
            Ok(Reply::Refused(why)) => return Ok(Asked::Refused(why)),
            Ok(Reply::Error(why)) => return Err(why),
            Err(error) => return Err(format!("the server's answer is not known: {error}")),
        }
    }
    Err("the server ended before the backup did".to_owned())
}
