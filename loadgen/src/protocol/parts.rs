//! What the small protocols share: an address, and bytes that wait for the rest of their frame.

/// Largest frame taken from a server: the largest payload and a generous head.
pub(super) const FRAME_BYTES_MAX: usize = 128 * 1024;
/// Output that waits for the socket; above it no further message is taken.
pub(super) const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Messages of one client that the server has not answered, as many as a Myriad client may have.
pub(super) const UNANSWERED_MAX: usize = wire::client::OUTBOX_MESSAGES_MAX;

/// `scheme://host:port/path?key=value&key=value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Peer {
    pub(super) host: String,
    pub(super) port: u16,
    /// With its slash; `/` if there is none.
    pub(super) path: String,
    query: Vec<(String, String)>,
}

impl Peer {
    /// Reads an address of `scheme`; `None` if it is of another one.
    pub(super) fn parse(
        target: &str,
        scheme: &str,
        port: u16,
        keys: &[&str],
    ) -> Option<Result<Self, String>> {
        let rest = target.strip_prefix(scheme)?.strip_prefix("://")?;
        let wrong = |why: &str| format!("{target}: {why}; wanted is {scheme}://HOST:PORT");
        Some(Self::parts(rest, port, keys).map_err(|why| wrong(&why)))
    }

    fn parts(rest: &str, port: u16, keys: &[&str]) -> Result<Self, String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if authority.contains('@') {
            return Err("names and passwords are not supported".to_owned());
        }
        let (host, port) = match authority.strip_prefix('[') {
            // Colons belong to an IPv6 address.
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or("a bracket is missing")?;
                let given = rest.strip_prefix(':').map(str::parse);
                (host, given.unwrap_or(Ok(port)))
            }
            None => match authority.split_once(':') {
                Some((host, given)) => (host, given.parse()),
                None => (authority, Ok(port)),
            },
        };
        let port = port.map_err(|_| "the port is no number from 1 to 65535".to_owned())?;
        if host.is_empty() || port == 0 {
            return Err("host and port are missing".to_owned());
        }
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !keys.contains(&key) {
                return Err(format!("`{key}` is not known here"));
            }
            pairs.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self { host: host.to_owned(), port, path: path.to_owned(), query: pairs })
    }

    /// Host and port to connect to.
    pub(super) fn target(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// A value after the question mark.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }
}

/// Bytes of a frame whose rest has not come. Idle, it holds no buffer.
#[derive(Debug, Default)]
pub(super) struct Input {
    held: Vec<u8>,
}

impl Input {
    /// Hands `parse` what is there; it returns how much it used, by whole frames.
    ///
    /// # Errors
    /// What `parse` says, or a frame that is longer than any.
    pub(super) fn feed(
        &mut self,
        bytes: &mut [u8],
        mut parse: impl FnMut(&mut [u8]) -> Result<usize, String>,
    ) -> Result<(), String> {
        if self.held.is_empty() {
            let used = parse(bytes)?;
            self.held.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            self.held.extend_from_slice(bytes);
            let used = parse(&mut self.held)?;
            if used >= self.held.len() {
                self.held = Vec::new(); // millions of idle clients share this process
            } else {
                self.held.drain(..used);
            }
        }
        // A read may end in the middle of the largest frame, and no later.
        if self.held.len() > FRAME_BYTES_MAX {
            return Err(format!("the server sent a frame of more than {FRAME_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.held = Vec::new();
    }
}

/// A line that ends with CR LF from the front: its bytes without the end, and its length with it.
///
/// # Errors
/// It is longer than `most`.
pub(super) fn line(bytes: &[u8], most: usize) -> Result<Option<(&[u8], usize)>, String> {
    match bytes.windows(2).take(most).position(|pair| pair == b"\r\n") {
        Some(at) => Ok(Some((bytes.get(..at).unwrap_or_default(), at + 2))),
        None if bytes.len() > most => {
            Err(format!("the server sent a line of more than {most} bytes"))
        }
        None => Ok(None),
    }
}

/// What is shown of a server's words.
pub(super) fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(200).map(crate::report::html::markup::visible).collect()
}

/// A decimal number of bytes.
pub(super) fn number(bytes: &[u8]) -> Option<usize> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::{Event, Speaker};

    /// What a speaker makes of bytes, as text.
    pub(in crate::protocol) fn hear(speaker: &mut dyn Speaker, bytes: &[u8]) -> Vec<String> {
        let mut heard = Vec::new();
        let events = &mut |event: Event<'_>| heard.push(format!("{event:?}"));
        speaker.receive(&mut bytes.to_vec(), 1, events).unwrap();
        heard
    }

    /// The same, byte by byte.
    pub(in crate::protocol) fn hear_slowly(speaker: &mut dyn Speaker, bytes: &[u8]) -> Vec<String> {
        bytes.iter().flat_map(|byte| hear(speaker, &[*byte])).collect()
    }

    /// What a speaker does not put up with.
    pub(in crate::protocol) fn refuses(speaker: &mut dyn Speaker, bytes: &[u8]) -> String {
        speaker.receive(&mut bytes.to_vec(), 1, &mut |_| {}).unwrap_err()
    }

    pub(in crate::protocol) fn output(speaker: &mut dyn Speaker) -> Vec<u8> {
        let mut out = Vec::new();
        speaker.take_output(&mut out);
        out
    }

    #[test]
    fn addresses_are_read_whole() {
        let peer = |target| Peer::parse(target, "mqtt", 1883, &["qos"]).unwrap();
        let read = peer("mqtt://h").unwrap();
        assert_eq!((read.host.as_str(), read.port, read.path.as_str()), ("h", 1883, "/"));
        let read = peer("mqtt://[::1]:99/a?qos=1").unwrap();
        assert_eq!((read.host.as_str(), read.port), ("::1", 99));
        assert_eq!((read.path.as_str(), read.value("qos")), ("/a", Some("1")));
        for wrong in [
            "mqtt://",
            "mqtt://h:x",
            "mqtt://h:0",
            "mqtt://[::1",
            "mqtt://h?a=1",
            "mqtt://me:secret@h",
        ] {
            assert!(peer(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Peer::parse("nats://h", "mqtt", 1, &[]), None);
    }

    #[test]
    fn a_frame_that_never_ends_is_refused() {
        let mut input = Input::default();
        let error = (0..100).find_map(|_| input.feed(&mut [0; 4_096], |_| Ok(0)).err());
        assert!(error.unwrap().contains("131072"));
        assert!(line(&[b'x'; 100], 50).is_err());
        assert_eq!(line(b"abc\r\nd", 50), Ok(Some((&b"abc"[..], 5))));
        assert_eq!(line(b"abc\r", 50), Ok(None));
    }
}
