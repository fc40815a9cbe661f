//! Connections against small scripted servers on loopback: upgrade, framing, closing, garbage.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use client::{Client, ClientEvent, Connection, ConnectionError, Received, Session, SessionOptions};
use wire::{
    ClientFrame, Control, Event, Goodbye, Limits, Parser, Parting, Policy, Pong, ServerFrame,
    Transport, Welcome,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// The server's end: parses what a client sends with the server's own parser.
struct Server {
    stream: TcpStream,
    parser: Parser,
    input: Vec<u8>,
    assembly: Vec<u8>,
}

impl Server {
    /// Accepts one client and answers its opening.
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let parser = Parser::server();
        let mut server = Self { stream, parser, input: Vec::new(), assembly: Vec::new() };
        server.next(|event| matches!(event, Event::Opened | Event::Upgraded(_)));
        server
    }

    /// Reads on until an event is the wanted one.
    fn next(&mut self, wanted: impl Fn(&Event<'_>) -> bool) {
        let policy = Policy { frame_bytes_max: 100_000, origins: &[] };
        loop {
            let (used, done, missing) = {
                let (used, event) =
                    self.parser.next(&mut self.input, &mut self.assembly, &policy).unwrap();
                if let Event::Upgraded(handshake) = &event {
                    let mut response = Vec::new();
                    handshake.write_response(&mut response);
                    self.stream.write_all(&response).unwrap();
                }
                (used, wanted(&event), matches!(event, Event::More { .. }))
            };
            self.input.drain(..used);
            if done {
                return;
            }
            if missing {
                let mut area = [0; 1024];
                let count = self.stream.read(&mut area).unwrap();
                assert!(count > 0, "the client closed");
                self.input.extend_from_slice(&area[..count]);
            }
        }
    }

    fn wait_for_hello(&mut self) {
        self.next(|event| {
            let Event::Frame(bytes) = event else { return false };
            let frame = ClientFrame::decode(bytes);
            matches!(frame, Ok(ClientFrame::Hello(hello)) if hello.token == "t")
        });
    }

    fn bytes_of(&self, frame: &ServerFrame<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::write_server_frame(self.parser.transport(), frame, &mut bytes);
        bytes
    }
}

fn serve(act: impl FnOnce(Server) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, thread::spawn(move || act(Server::accept(&listener))))
}

fn welcome() -> ServerFrame<'static> {
    ServerFrame::Welcome(Welcome {
        user: 1,
        device: 1,
        next_client_id: 1,
        heartbeat_ms: 5_000,
        limits: Limits::default(),
        server_time_ms: 0,
        cursor: 0,
    })
}

fn urls(address: &str) -> [String; 2] {
    [format!("ws://{address}/v1/chat"), format!("tcp://{address}")]
}

/// Reads until so many events are there.
fn collect(client: &mut Client, count: usize) -> Vec<ClientEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        client.receive(0, &mut events).unwrap();
    }
    events
}

fn logged_in(url: &str) -> Client {
    let mut client = Client::new(Session::new("t", SessionOptions::default()));
    let connection = Connection::connect(url, TIMEOUT).unwrap();
    connection.stream().set_read_timeout(Some(TIMEOUT)).unwrap();
    client.attach(connection, 0).unwrap();
    client
}

#[test]
fn frames_cut_anywhere_come_out_whole_on_both_transports() {
    for transport in [0, 1] {
        let (address, server) = serve(|mut server| {
            server.wait_for_hello();
            let mut bytes = server.bytes_of(&welcome());
            let detail = "x".repeat(40_000);
            let goodbye = Goodbye { reason: Parting::Shutdown, retry_after_ms: 5, detail: &detail };
            bytes.extend(server.bytes_of(&ServerFrame::Goodbye(goodbye)));
            for piece in bytes[..60].chunks(1).chain(bytes[60..].chunks(7_001)) {
                server.stream.write_all(piece).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        });
        let mut client = logged_in(&urls(&address)[transport]);
        let events = collect(&mut client, 2);
        assert!(matches!(events[0], ClientEvent::Welcome { user: 1, .. }));
        let ClientEvent::Goodbye { detail, .. } = &events[1] else { panic!("{:?}", events[1]) };
        assert_eq!(detail.len(), 40_000);
        server.join().unwrap();
    }
}

#[test]
fn pings_are_answered_and_a_close_is_echoed() {
    let (address, server) = serve(|mut server| {
        assert_eq!(server.parser.transport(), Transport::WebSocket);
        let mut bytes = Vec::new();
        wire::write_control(Control::Ping(b"still there?"), None, &mut bytes);
        wire::write_control(Control::Close { code: 1001, reason: "bye" }, None, &mut bytes);
        server.stream.write_all(&bytes).unwrap();
        server.next(|event| matches!(event, Event::Pong));
        server.next(|event| matches!(event, Event::Close { code: 1001 }));
    });
    let mut client = logged_in(&urls(&address)[0]);
    assert_eq!(client.receive(0, &mut Vec::new()).unwrap(), None, "closed");
    assert!(!client.is_connected());
    server.join().unwrap();
}

#[test]
fn garbage_ends_the_connection_with_an_error() {
    for transport in [0, 1] {
        let (address, server) = serve(|mut server| {
            server.wait_for_hello();
            server.stream.write_all(&[0xff; 100]).unwrap();
        });
        let mut client = logged_in(&urls(&address)[transport]);
        let error = client.receive(0, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, ConnectionError::Frame(_)), "{error}");
        assert!(!client.is_connected());
        server.join().unwrap();
    }
}

#[test]
fn frames_of_a_newer_server_are_passed_over() {
    let (address, server) = serve(|mut server| {
        server.wait_for_hello();
        // Body 200, empty: tag 200 << 3 | 2 and length 0, in a length-prefixed frame.
        server.stream.write_all(&[3, 0, 0, 0, 0xc2, 0x0c, 0x00]).unwrap();
        let bytes =
            server.bytes_of(&ServerFrame::Pong(Pong { server_time_ms: 9, heartbeat_ms: 0 }));
        server.stream.write_all(&bytes).unwrap();
    });
    let mut client = logged_in(&urls(&address)[1]);
    assert_eq!(collect(&mut client, 1), [ClientEvent::Pong { server_time_ms: 9 }]);
    server.join().unwrap();
}

#[test]
fn refused_upgrade_tells_why() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = urls(&listener.local_addr().unwrap().to_string())[0].clone();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut area = [0; 1024];
        let _ = stream.read(&mut area).unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let error = Connection::connect(&url, TIMEOUT).unwrap_err();
    assert!(matches!(error, ConnectionError::Handshake { .. }), "{error}");
    server.join().unwrap();
}

#[test]
fn silence_is_idle_and_nobody_there_is_an_error() {
    let (address, server) = serve(|mut server| {
        server.wait_for_hello();
        let _ = server.stream.read(&mut [0; 10]).unwrap();
    });
    let url = urls(&address)[1].clone();
    let mut client = logged_in(&url);
    let stream = client.connection().unwrap().stream();
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    assert_eq!(client.receive(0, &mut Vec::new()).unwrap(), Some(Received::Idle));
    client.close();
    server.join().unwrap();
    let error = Connection::connect(&url, TIMEOUT).unwrap_err();
    assert!(matches!(error, ConnectionError::Connect { .. }), "{error}");
}
