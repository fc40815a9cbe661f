//! Where a server is: `ws://host:port/path` or `tcp://host:port`.
//!
//! Deliberately not here: percent-encoding, queries and user names, which the protocol has no use
//! for (a token never travels in a URL).

use std::fmt;

/// The path a server listens on unless the address names one.
const PATH: &str = "/v1/chat";
/// Port unless the address names one.
const PORT: u16 = 7878;

/// How frames are carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// Length-prefixed frames on a plain TCP stream.
    Tcp,
    /// WebSocket binary messages.
    WebSocket,
}

/// A parsed address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// How frames are carried.
    pub scheme: Scheme,
    /// Name or number, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of the WebSocket upgrade.
    pub path: String,
}

/// Why an address can't be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// No known scheme.
    #[error("`{0}` is not a server address: write ws://HOST:PORT/v1/chat or tcp://HOST:PORT")]
    Scheme(String),
    /// TLS is not built in.
    #[error("`{0}` asks for TLS, which this client does not speak yet: put a TLS proxy in front")]
    Tls(String),
    /// No host.
    #[error("`{0}` names no host: write ws://HOST:PORT/v1/chat or tcp://HOST:PORT")]
    Host(String),
    /// Not a port.
    #[error("`{0}` has no valid port (1 to 65535)")]
    Port(String),
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// It has another form; the message says which one is expected.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("ws", rest)) => (Scheme::WebSocket, rest),
            Some(("tcp", rest)) => (Scheme::Tcp, rest),
            Some(("wss" | "tls", _)) => return Err(AddressError::Tls(text.to_owned())),
            _ => return Err(AddressError::Scheme(text.to_owned())),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, PATH),
        };
        let (host, port) = split_authority(authority);
        if host.is_empty() || !host.bytes().all(is_host_byte) {
            return Err(AddressError::Host(text.to_owned()));
        }
        if path.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return Err(AddressError::Scheme(text.to_owned()));
        }
        let port = match port {
            None => PORT,
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err(AddressError::Port(text.to_owned())),
            },
        };
        Ok(Self { scheme, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// Host and port as an HTTP `Host` header has them.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Tcp => write!(formatter, "tcp://{}", self.authority()),
            Scheme::WebSocket => write!(formatter, "ws://{}{}", self.authority(), self.path),
        }
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte)
}

fn split_authority(authority: &str) -> (&str, Option<&str>) {
    if let Some(inner) = authority.strip_prefix('[')
        && let Some((host, rest)) = inner.split_once(']')
    {
        return (host, rest.strip_prefix(':'));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemes_are_read_and_written_back() {
        for text in ["ws://127.0.0.1:7878/v1/chat", "tcp://[::1]:1", "ws://chat.example:80/"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        let short = Address::parse("ws://localhost").unwrap();
        assert_eq!(short.to_string(), "ws://localhost:7878/v1/chat");
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        assert!(matches!(Address::parse("localhost:1"), Err(AddressError::Scheme(_))));
        assert!(matches!(Address::parse("wss://a:1"), Err(AddressError::Tls(_))));
        assert!(matches!(Address::parse("ws://:1"), Err(AddressError::Host(_))));
        assert!(matches!(Address::parse("ws://a b:1"), Err(AddressError::Host(_))));
        assert!(matches!(Address::parse("tcp://a:0"), Err(AddressError::Port(_))));
        assert!(matches!(Address::parse("tcp://a:99999"), Err(AddressError::Port(_))));
        assert!(matches!(Address::parse("ws://a:1/x\r\nEvil: 1"), Err(AddressError::Scheme(_))));
    }
}
