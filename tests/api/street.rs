//! A server with an API, and the people of a test who use it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

use loadgen::process::Home;
use serde_json::{Value, json};

use crate::support::{Server, WAIT};

/// The admin token of every test's server.
pub(crate) const ADMIN: &str = "the admin token of these tests, long enough";
/// The password of everybody in these tests.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Value,
}

impl Answer {
    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// None: the server was gone before it answered.
    pub(crate) fn none() -> Self {
        Self { status: 0, head: String::new(), body: Value::Null }
    }

    /// Text in the body.
    pub(crate) fn text(&self, name: &str) -> String {
        let text = self.body[name].as_str();
        text.unwrap_or_else(|| panic!("no {name} in {self:?}")).to_owned()
    }

    /// That it has this status.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// That it is this problem.
    #[track_caller]
    pub(crate) fn fails(self, status: u16, code: &str) -> Self {
        let answer = self.is(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
        assert_eq!(answer.body["code"], code, "{answer:?}");
        answer
    }
}

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) refresh: String,
}

/// A server with its API.
#[derive(Debug)]
pub(crate) struct Street {
    pub(crate) server: Server,
    pub(crate) api: String,
    people: AtomicU64,
}

impl Street {
    /// Opens one where everybody may register.
    pub(crate) fn open() -> Self {
        Self::open_with(&["--registration", "open"])
    }

    /// Opens one with further arguments.
    pub(crate) fn open_with(arguments: &[&str]) -> Self {
        let home = Home::new().unwrap();
        let admin = home.secret_file().with_file_name("admin-token");
        std::fs::write(&admin, ADMIN).unwrap();
        let mut all = vec!["--api-listen", "127.0.0.1:0", "--api-access-log=true"];
        all.extend(["--admin-token-file", admin.to_str().unwrap()]);
        all.extend(arguments);
        let server = Server::start_in(home, 2, &all);
        let api = api_of(&server);
        Self { server, api, people: AtomicU64::new(0) }
    }

    /// Starts the server again after its end.
    pub(crate) fn start_again(&mut self) {
        self.server.start_again();
        self.api = api_of(&self.server);
    }

    /// Kills the server on the spot and starts it again.
    pub(crate) fn kill_and_restart(&mut self) {
        self.server.kill_and_restart();
        self.api = api_of(&self.server);
    }

    /// Asks, with a token and a body or without.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let answer = try_ask(&self.api, method, path, token, body);
        answer.unwrap_or_else(|| panic!("{method} {path} was not answered"))
    }

    /// Asks, with any headers.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        let answer = try_send(&self.api, method, path, headers, body);
        answer.unwrap_or_else(|| panic!("{method} {path} was not answered"))
    }

    /// A bare connection.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.api).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream
    }

    /// Somebody new, who registers.
    pub(crate) fn person(&self, name: &str) -> Person {
        let number = self.people.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}.{number}");
        let body = json!({"name": name, "password": PASSWORD, "label": "test"});
        let answer = self.ask("POST", "/v1/accounts", None, Some(&body)).is(201);
        person(name, &answer)
    }

    /// What the server said on standard error so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.server.home.log_file()).unwrap()
    }
}

/// Asks a server that may be gone, with a token and a body or without. None: no answer.
pub(crate) fn try_ask(
    api: &str,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> Option<Answer> {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> =
        authorization.iter().map(|value| ("authorization", value.as_str())).collect();
    try_send(api, method, path, &headers, body.map(Value::to_string).as_deref())
}

fn try_send(
    api: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Option<Answer> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request.push_str("content-type: application/json\r\n");
        }
        request.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(body.unwrap_or_default());
    let mut stream = TcpStream::connect(api).ok()?;
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    read_answer(&mut stream)
}

fn person(name: String, answer: &Answer) -> Person {
    let (id, token) = (answer.text("user"), answer.text("access_token"));
    Person { name, id, token, refresh: answer.text("refresh_token") }
}

fn api_of(server: &Server) -> String {
    let line: Value = serde_json::from_str(server.first_line()).unwrap();
    line["api"].as_str().expect("the first line says where the API is").to_owned()
}

/// Reads until the server closes; nothing: no answer.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let _reset_after_an_answer_is_fine = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    Some(Answer { status, head: head.to_owned(), body })
}
