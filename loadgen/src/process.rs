//! A server as a child process: starting, killing, stopping, with its folder and its secret.
//!
//! Invariants: a started server never outlives its [`ServerProcess`]; the folder goes with the last
//! of its [`Home`] and its servers, in whatever order they are dropped. Deliberately not here: what
//! the server says on its connections.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::interrupt;

/// Longest wait for the first line of a server; recovery of a large log is in it.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of the server's own words shown when it fails.
const LOG_TAIL_BYTES: u64 = 2_000;

/// Why a server can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The binary can't be run, or a file can't be written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It said nothing of the kind that is expected.
    #[error("the server did not start: {reason}; it said: {log}")]
    NotStarted {
        /// What was seen.
        reason: String,
        /// The end of its standard error.
        log: String,
    },
    /// It did not stop when asked to.
    #[error("the server did not stop within {waited:?}; it said: {log}")]
    NotStopped {
        /// How long it was waited for.
        waited: Duration,
        /// The end of its standard error.
        log: String,
    },
    /// `token` failed.
    #[error("`token` failed with {status}: {said}")]
    Token {
        /// Its exit status.
        status: ExitStatus,
        /// Its standard error.
        said: String,
    },
    /// Somebody wants the program to end.
    #[error("interrupted")]
    Interrupted,
}

fn io_error(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ProcessError {
    let what = what.into();
    move |source| ProcessError::Io { what, source }
}

/// Where a server under test keeps its things: removed when dropped.
#[derive(Debug)]
pub struct Home {
    folder: Arc<tempfile::TempDir>,
    secret: Vec<u8>,
}

impl Home {
    /// A fresh folder with a fresh HS256 secret.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new() -> Result<Self, ProcessError> {
        let folder = tempfile::Builder::new()
            .prefix("myriad-loadgen-")
            .tempdir()
            .map_err(io_error("can't make a temporary folder"))?;
        // Hexadecimal, so that the file holds the same secret however it is read.
        let mut secret = String::new();
        for _ in 0..4 {
            secret.push_str(&format!("{:016x}", client::random_bits()));
        }
        let home = Self { folder: Arc::new(folder), secret: secret.into_bytes() };
        fs::write(home.secret_file(), &home.secret).map_err(io_error("can't write the secret"))?;
        Ok(home)
    }

    /// The data folder of the server.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The file with the secret.
    #[must_use]
    pub fn secret_file(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// Where its servers say what they have to say.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// The end of what the servers of this home said on standard error.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let Ok(mut file) = File::open(self.log_file()) else { return String::new() };
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let mut tail = Vec::new();
        let start = SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES));
        if file.seek(start).is_ok() {
            let _ = file.read_to_end(&mut tail); // what can be read is shown
        }
        String::from_utf8_lossy(&tail).into_owned()
    }
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The `myriad` binary.
    pub binary: PathBuf,
    /// Shards; 0 leaves it to the server.
    pub shards: usize,
    /// The driver.
    pub driver: String,
    /// Further arguments.
    pub arguments: Vec<String>,
}

impl ServeOptions {
    /// With the server's own choice of everything.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self { binary: binary.into(), shards: 0, driver: "auto".to_owned(), arguments: Vec::new() }
    }
}

/// A running server: killed when dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    /// Removed under a living server, the folder would come back in parts.
    _folder: Option<Arc<tempfile::TempDir>>,
    listen: String,
    first_line: String,
}

impl ServerProcess {
    /// Starts a server and waits until it listens: on a free loopback port, unless the arguments
    /// say where.
    ///
    /// # Errors
    /// It does not start, or its first line is not the promised one.
    pub fn start(options: &ServeOptions, home: &Home) -> Result<Self, ProcessError> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(home.log_file())
            .map_err(io_error("can't write the server's log"))?;
        let mut command = Command::new(&options.binary);
        command.args(["serve", "--driver", &options.driver]);
        if !options.arguments.iter().any(|argument| argument == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.arg("--data").arg(home.data());
        command.arg("--auth-secret-file").arg(home.secret_file());
        if options.shards > 0 {
            command.args(["--shards", &options.shards.to_string()]);
        }
        command.args(&options.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let what = format!("can't run {}", options.binary.display());
        let child = command.spawn().map_err(io_error(what))?;
        let mut server = Self::new(child, Some(Arc::clone(&home.folder)));
        let not_started =
            |reason: String| ProcessError::NotStarted { reason, log: home.log_tail() };
        server.first_line = server.wait_for_first_line().map_err(not_started)?;
        server.listen = listen_of(&server.first_line)
            .map_err(|reason| ProcessError::NotStarted { reason, log: home.log_tail() })?;
        Ok(server)
    }

    fn new(child: Child, folder: Option<Arc<tempfile::TempDir>>) -> Self {
        Self { child, _folder: folder, listen: String::new(), first_line: String::new() }
    }

    /// Host and port it listens on.
    #[must_use]
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// The first line it printed.
    #[must_use]
    pub fn first_line(&self) -> &str {
        &self.first_line
    }

    /// The address of a transport, `ws` or `tcp`.
    #[must_use]
    pub fn url(&self, transport: &str) -> String {
        match transport {
            "tcp" => format!("tcp://{}", self.listen),
            _ => format!("ws://{}/v1/chat", self.listen),
        }
    }

    /// Its HTTP API, if it has one.
    #[must_use]
    pub fn api(&self) -> Option<String> {
        let line: serde_json::Value = serde_json::from_str(&self.first_line).ok()?;
        line["api"].as_str().map(|listen| format!("http://{listen}"))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it on the spot (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// It can't be killed or waited for.
    pub fn kill(mut self) -> Result<(), ProcessError> {
        self.child.kill().map_err(io_error("can't kill the server"))?;
        self.child.wait().map_err(io_error("can't wait for the server"))?;
        Ok(())
    }

    /// Asks it to drain and end (SIGTERM) without waiting.
    ///
    /// # Errors
    /// It is gone already.
    pub fn terminate(&self) -> Result<(), ProcessError> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(std::io::Error::from)
            .map_err(io_error("can't send SIGTERM to the server"))
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// The host does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        self.child.try_wait().map_err(io_error("can't ask for the server's end"))
    }

    /// Waits for its end after [`ServerProcess::terminate`].
    ///
    /// # Errors
    /// It goes on for longer than that; it is killed then.
    pub fn wait(mut self, timeout: Duration, home: &Home) -> Result<ExitStatus, ProcessError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(ProcessError::NotStopped { waited: timeout, log: home.log_tail() });
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for_first_line(&mut self) -> Result<String, String> {
        let stdout = self.child.stdout.take().ok_or("it has no standard output")?;
        let (sender, receiver) = mpsc::sync_channel(1);
        // Reads on to the end, so that a talkative server is never blocked by a full pipe.
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            let _ = sender.send(lines.next());
            for line in lines {
                if line.is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok(Some(Ok(line))) => return Ok(line),
                Ok(_) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().map_err(|error| error.to_string())?;
                    return Err(format!("it ended with {status} before its first line"));
                }
                Err(mpsc::RecvTimeoutError::Timeout) if interrupt::requested() => {
                    return Err("interrupted".to_owned());
                }
                Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                    return Err(format!("no first line within {START_TIMEOUT:?}"));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has the server's own command mint a token.
///
/// # Errors
/// It can't be run, or refuses.
pub fn token(binary: &Path, home: &Home, user: u64, device: u32) -> Result<String, ProcessError> {
    let output = Command::new(binary)
        .arg("token")
        .arg("--auth-secret-file")
        .arg(home.secret_file())
        .args(["--user", &user.to_string(), "--device", &device.to_string()])
        .output()
        .map_err(io_error(format!("can't run {}", binary.display())))?;
    let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || token.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(ProcessError::Token { status: output.status, said });
    }
    Ok(token)
}

fn listen_of(first_line: &str) -> Result<String, String> {
    let wrong = || format!("its first line is not the promised JSON object: {first_line}");
    let value: serde_json::Value = serde_json::from_str(first_line).map_err(|_| wrong())?;
    for key in ["listen", "driver", "shards", "pid"] {
        if value.get(key).is_none() {
            return Err(format!("its first line has no `{key}`: {first_line}"));
        }
    }
    let listen = value.get("listen").and_then(|listen| listen.as_str()).ok_or_else(wrong)?;
    Ok(listen.to_owned())
}

/// The echo server of this very binary as a child process: killed when dropped.
#[derive(Debug)]
pub struct EchoProcess {
    server: ServerProcess,
}

impl EchoProcess {
    /// Starts it on a free loopback port.
    ///
    /// # Errors
    /// It can't be run.
    pub fn start() -> std::io::Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(["echo-server", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut server = ServerProcess::new(child, None);
        server.first_line = server.wait_for_first_line().map_err(std::io::Error::other)?;
        server.listen = listen_of(&server.first_line).map_err(std::io::Error::other)?;
        Ok(Self { server })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// It printed no address.
    pub fn listen(&mut self) -> std::io::Result<std::net::SocketAddr> {
        self.server.listen.parse().map_err(std::io::Error::other)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}
