//! A client without manners: it writes the bytes it is told to, acks nothing by itself, and notes
//! everything the server says, down to the close code.
//!
//! Deliberately not here: the rules a client should keep (`wire::client`).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::SockRef;
use wire::{
    Ack, ClientFrame, Confirmed, Event, Hello, MessageId, Parser, Parting, Ping, Policy, Refusal,
    Send, ServerFrame, Stream, Transport,
};

use super::WAIT;

/// Largest frame this client takes.
const FRAME_BYTES_MAX: usize = 128 * 1024;
const MASK: [u8; 4] = [0x5a, 0xc3, 0x01, 0xfe];

/// Something the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Welcome(wire::Welcome),
    Sent(wire::Sent),
    Refused(wire::Refused),
    Deliver {
        position: u64,
        id: MessageId,
        payload: Vec<u8>,
        to: Option<Stream>,
    },
    Receipt(wire::Receipt),
    Goodbye {
        reason: Parting,
        retry_after_ms: u32,
        detail: String,
    },
    GroupNews(wire::GroupNews),
    /// The position of an item of a page.
    Item(u64),
    Fetched(wire::Fetched),
    RequestRefused(wire::RequestRefused),
    Pong,
    /// A pong of WebSocket itself.
    SocketPong,
    /// Anything else, for people.
    Other(String),
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The reason of the `Goodbye`, if one came.
    pub(crate) reason: Option<Parting>,
    /// The code of the WebSocket close frame, if one came.
    pub(crate) close_code: Option<u16>,
    /// The connection was reset instead of closed.
    pub(crate) reset: bool,
    /// What came before the goodbye.
    pub(crate) before: Vec<Got>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Raw {
    stream: TcpStream,
    transport: Transport,
    parser: Parser,
    input: Vec<u8>,
    assembly: Vec<u8>,
    got: VecDeque<Got>,
    close_code: Option<u16>,
    reset: bool,
    closed: bool,
}

impl Raw {
    /// Connects and does nothing else.
    pub(crate) fn bare(listen: &str) -> Self {
        let stream = TcpStream::connect(listen).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(WAIT)).unwrap();
        Self {
            stream,
            transport: Transport::Tcp,
            parser: Parser::client(Transport::Tcp),
            input: Vec::new(),
            assembly: Vec::new(),
            got: VecDeque::new(),
            close_code: None,
            reset: false,
            closed: false,
        }
    }

    /// Connects and opens the transport; says no `Hello`.
    pub(crate) fn open(listen: &str, transport: &str) -> Self {
        let mut raw = Self::bare(listen);
        if transport == "tcp" {
            raw.write(&wire::TCP_PREAMBLE);
            return raw;
        }
        let (nonce, mut request) = ([7; 16], Vec::new());
        wire::client_handshake(listen, "/v1/chat", nonce, &mut request);
        raw.write(&request);
        loop {
            if let Some(used) = wire::check_handshake_response(nonce, &raw.input).unwrap() {
                raw.input.drain(..used);
                break;
            }
            assert!(raw.read_once(WAIT), "no answer to the upgrade: {:?}", raw.input);
        }
        raw.transport = Transport::WebSocket;
        raw.parser = Parser::client(Transport::WebSocket);
        raw
    }

    /// Connects, logs in, waits for `Welcome`.
    pub(crate) fn login(listen: &str, transport: &str, token: &str) -> Self {
        Self::login_with(listen, transport, &hello(token)).0
    }

    /// The same with any `Hello`; gives the `Welcome`, too.
    pub(crate) fn login_with(
        listen: &str,
        transport: &str,
        hello: &Hello<'_>,
    ) -> (Self, wire::Welcome) {
        let mut raw = Self::open(listen, transport);
        raw.send(&ClientFrame::Hello(*hello));
        match raw.expect("a Welcome", |got| matches!(got, Got::Welcome(_))) {
            Got::Welcome(welcome) => (raw, welcome),
            other => unreachable!("{other:?}"),
        }
    }

    /// From now on the kernel keeps little of what comes and is not read.
    pub(crate) fn receive_little(&self) {
        SockRef::from(&self.stream).set_recv_buffer_size(4096).unwrap();
    }

    /// Writes bytes as they are. A connection that is gone is noticed when it is read.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The bytes of a frame on this transport.
    pub(crate) fn framed(&self, frame: &ClientFrame<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::write_client_frame(self.transport, MASK, frame, &mut bytes);
        bytes
    }

    /// The bytes of whatever is to pass for a frame on this transport.
    pub(crate) fn framed_bytes(&self, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap();
        if self.transport != Transport::WebSocket {
            return [&length.to_le_bytes(), content].concat();
        }
        let masked = content.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let long = u64::from(length).to_be_bytes();
        let mut bytes = match length {
            0..126 => vec![0x82, 0x80 | long[7]],
            126..65_536 => vec![0x82, 0x80 | 126, long[6], long[7]],
            _ => [&[0x82, 0x80 | 127][..], &long].concat(),
        };
        bytes.extend_from_slice(&MASK);
        bytes.extend(masked);
        bytes
    }

    /// Writes a frame.
    pub(crate) fn send(&mut self, frame: &ClientFrame<'_>) -> bool {
        let bytes = self.framed(frame);
        self.write(&bytes)
    }

    /// Writes a `Send` that confirms nothing.
    pub(crate) fn say(&mut self, client_id: u64, to: u64, payload: &[u8]) {
        self.send(&ClientFrame::Send(message(client_id, to, payload)));
    }

    /// Writes a `Send` and waits for its answer: where it stands, or why not.
    pub(crate) fn ask(&mut self, frame: Send<'_>) -> Result<u64, wire::Refused> {
        self.send(&ClientFrame::Send(frame));
        self.answer(frame.client_id)
    }

    /// Waits for the answer to an id.
    pub(crate) fn answer(&mut self, client_id: u64) -> Result<u64, wire::Refused> {
        let is_it = |got: &Got| match got {
            Got::Sent(sent) => sent.client_id == client_id,
            Got::Refused(refused) => refused.client_id == client_id,
            _ => false,
        };
        match self.expect("an answer", is_it) {
            Got::Sent(sent) => Ok(sent.position),
            Got::Refused(refused) => Err(refused),
            other => unreachable!("{other:?}"),
        }
    }

    /// Waits for the answer and wants it to be this refusal.
    pub(crate) fn refused(&mut self, frame: Send<'_>) -> Refusal {
        self.ask(frame).expect_err("this was to be refused").reason
    }

    /// Acks the own inbox.
    pub(crate) fn ack(&mut self, up_to: u64) {
        self.send(&ClientFrame::Ack(Ack { stream: None, up_to }));
    }

    /// Says what a heartbeat says.
    pub(crate) fn ping(&mut self, confirmed: Confirmed, answer: bool) {
        self.send(&ClientFrame::Ping(Ping { active: true, confirmed, answer }));
    }

    /// A round trip: everything written before was handled.
    pub(crate) fn settle(&mut self) {
        self.ping(Confirmed::default(), true);
        self.expect("a Pong", |got| matches!(got, Got::Pong));
    }

    /// Takes the first thing of this kind; what came before it stays.
    pub(crate) fn expect(&mut self, what: &str, wanted: impl Fn(&Got) -> bool) -> Got {
        let found = self.wait(WAIT, wanted);
        found.unwrap_or_else(|| {
            let last: Vec<_> = self.got.iter().rev().take(4).collect();
            panic!("{what} did not come; closed: {}; last: {last:?}", self.closed)
        })
    }

    /// The same with a time; `None` if it did not come.
    pub(crate) fn wait(&mut self, timeout: Duration, wanted: impl Fn(&Got) -> bool) -> Option<Got> {
        let deadline = Instant::now() + timeout;
        let mut looked_at = 0;
        loop {
            if let Some(at) = self.got.iter().skip(looked_at).position(&wanted) {
                return self.got.remove(looked_at + at);
            }
            looked_at = self.got.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.read_once(left) {
                return None;
            }
        }
    }

    /// The next delivery: position and payload.
    pub(crate) fn delivered(&mut self) -> (u64, Vec<u8>) {
        match self.expect("a delivery", |got| matches!(got, Got::Deliver { .. })) {
            Got::Deliver { position, payload, .. } => (position, payload),
            other => unreachable!("{other:?}"),
        }
    }

    /// Reads for a while and takes everything that came.
    pub(crate) fn collect(&mut self, time: Duration) -> Vec<Got> {
        self.wait(time, |_| false);
        self.got.drain(..).collect()
    }

    /// Waits for the end of the connection.
    pub(crate) fn ending(&mut self, timeout: Duration) -> Ending {
        self.wait(timeout, |_| false);
        assert!(self.closed, "not closed within {timeout:?}; came: {:?}", self.got);
        let mut before: Vec<Got> = self.got.drain(..).collect();
        let reason = match before.last() {
            Some(Got::Goodbye { reason, .. }) => Some(*reason),
            _ => None,
        };
        before.truncate(before.len() - usize::from(reason.is_some()));
        Ending { reason, close_code: self.close_code, reset: self.reset, before }
    }

    /// Waits for the end and wants it to be this, with the close code that goes with it.
    pub(crate) fn ends_with(&mut self, reason: Parting) {
        self.ends_with_code(reason, reason.close_code());
    }

    /// The same with another close code.
    pub(crate) fn ends_with_code(&mut self, reason: Parting, close_code: u16) {
        let ending = self.ending(WAIT);
        let code = (self.transport == Transport::WebSocket).then_some(close_code);
        assert_eq!((ending.reason, ending.close_code), (Some(reason), code), "{ending:?}");
    }

    /// Everything the server writes until it closes, as text: for answers in HTTP.
    pub(crate) fn http_answer(&mut self) -> String {
        self.transport = Transport::Undecided; // keeps the bytes as they are
        self.wait(WAIT, |_| false);
        assert!(self.closed, "not closed after an HTTP answer");
        String::from_utf8_lossy(&self.input).into_owned()
    }

    /// Whether the server has ended the connection, as far as was read.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Reads once. False: nothing came in time, or nothing comes any more.
    fn read_once(&mut self, timeout: Duration) -> bool {
        if self.closed {
            return false;
        }
        let mut area = [0; 64 * 1024];
        self.stream.set_read_timeout(Some(timeout.max(Duration::from_millis(1)))).unwrap();
        match self.stream.read(&mut area) {
            Ok(0) => self.closed = true,
            Ok(count) => {
                self.input.extend_from_slice(&area[..count]);
                self.parse();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(_) => (self.closed, self.reset) = (true, true),
        }
        true
    }

    fn parse(&mut self) {
        let is_http = self.input.starts_with(b"HTTP/");
        if self.transport == Transport::Undecided || is_http {
            return;
        }
        let policy = Policy { frame_bytes_max: FRAME_BYTES_MAX, origins: &[] };
        let mut used = 0;
        while used < self.input.len() {
            let rest = &mut self.input[used..];
            let (count, event) = self.parser.next(rest, &mut self.assembly, &policy).unwrap();
            used += count;
            match event {
                Event::More { .. } => break,
                Event::Frame(bytes) => {
                    self.got.push_back(got(&ServerFrame::decode(bytes).unwrap()));
                }
                Event::Pong => self.got.push_back(Got::SocketPong),
                Event::Close { code } => self.close_code = Some(code),
                _ => {}
            }
        }
        self.input.drain(..used);
    }
}

/// A `Hello` that remembers nothing.
pub(crate) fn hello(token: &str) -> Hello<'_> {
    Hello { token, resume_after: 0, confirmed: Confirmed::default(), active: true }
}

/// A plain message that confirms nothing.
pub(crate) fn message(client_id: u64, to: u64, payload: &[u8]) -> Send<'_> {
    Send {
        client_id,
        confirmed: Confirmed::default(),
        to: Stream::User(to),
        payload,
        ttl_seconds: 0,
        kind: 0,
        relation: None,
        automatic: false,
    }
}

fn got(frame: &ServerFrame<'_>) -> Got {
    match *frame {
        ServerFrame::Welcome(welcome) => Got::Welcome(welcome),
        ServerFrame::Sent(sent) => Got::Sent(sent),
        ServerFrame::Refused(refused) => Got::Refused(refused),
        ServerFrame::Deliver(deliver) => Got::Deliver {
            position: deliver.position,
            id: deliver.id,
            payload: deliver.payload.to_vec(),
            to: deliver.to,
        },
        ServerFrame::Receipt(receipt) => Got::Receipt(receipt),
        ServerFrame::Goodbye(goodbye) => {
            let wire::Goodbye { reason, retry_after_ms, detail } = goodbye;
            Got::Goodbye { reason, retry_after_ms, detail: detail.to_owned() }
        }
        ServerFrame::GroupNews(news) => Got::GroupNews(news),
        ServerFrame::Item(item) => Got::Item(item.position),
        ServerFrame::Fetched(page) => Got::Fetched(page),
        ServerFrame::RequestRefused(refused) => Got::RequestRefused(refused),
        ServerFrame::Pong(_) => Got::Pong,
        ref other => Got::Other(format!("{other:?}")),
    }
}
