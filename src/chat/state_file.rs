//! What a device keeps over restarts of the client: one JSON file, replaced as a whole.
//!
//! Invariants: the file is either the old state or the new one, never a mixture; it belongs to one
//! device of one user and is readable by its owner only. Deliberately not here: what is in it
//! (`wire::client::SessionState`) and when it is saved.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use client::wire::client::{GroupCursor, PendingSend, UntickedMessage};
use client::{Outgoing, SessionState, TickMark};
use serde::{Deserialize, Serialize};
use wire::{MessageId, Relation, Stream};

/// The layout below. Another number is another program's.
const VERSION: u32 = 1;

/// Why a state file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It can't be read or written.
    #[error("the state file {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is damaged, or another program's.
    #[error("{path} is no state file of this program ({reason}); move it away to start afresh")]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is another device's.
    #[error("{path} belongs to user {user}, device {device}; give every device its own file")]
    OtherDevice {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        user: u64,
        /// Which device's.
        device: u32,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    user: u64,
    device: u32,
    next_client_id: u64,
    received_up_to: u64,
    outbox: Vec<SavedSend>,
    unticked: Vec<SavedUnticked>,
    seen: Vec<(u64, u32, u64)>,
    /// Group and cursor; files of older programs have none.
    #[serde(default)]
    groups: Vec<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
enum SavedStream {
    User(u64),
    Group(u64),
}

#[derive(Serialize, Deserialize)]
struct SavedSend {
    client_id: u64,
    to: SavedStream,
    payload_base64: String,
    kind: u32,
    ttl_seconds: u32,
    relation: Option<(u32, (u64, u32, u64))>,
    automatic: bool,
}

#[derive(Serialize, Deserialize)]
struct SavedUnticked {
    to: SavedStream,
    position: u64,
    device: u32,
    client_id: u64,
    delivered: bool,
}

/// The state of this device; a file that does not exist is an empty state.
pub(super) fn load(path: &Path, user: u64, device: u32) -> Result<SessionState, StateError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(SessionState::default());
        }
        Err(source) => return Err(StateError::Io { path: path.to_owned(), source }),
    };
    let foreign = |reason: String| StateError::Foreign { path: path.to_owned(), reason };
    let saved: Saved =
        serde_json::from_slice(&bytes).map_err(|error| foreign(error.to_string()))?;
    if saved.version != VERSION {
        return Err(foreign(format!("version {}", saved.version)));
    }
    if (saved.user, saved.device) != (user, device) {
        let Saved { user, device, .. } = saved;
        return Err(StateError::OtherDevice { path: path.to_owned(), user, device });
    }
    let mut outbox = Vec::with_capacity(saved.outbox.len());
    for send in saved.outbox {
        let payload = BASE64
            .decode(&send.payload_base64)
            .map_err(|error| foreign(format!("message {}: {error}", send.client_id)))?;
        outbox.push(PendingSend {
            client_id: send.client_id,
            message: Outgoing {
                to: send.to.into(),
                payload,
                kind: send.kind,
                ttl_seconds: send.ttl_seconds,
                relation: send.relation.map(|(kind, target)| Relation { kind, target: id(target) }),
                automatic: send.automatic,
            },
        });
    }
    Ok(SessionState {
        next_client_id: saved.next_client_id,
        received_up_to: saved.received_up_to,
        outbox,
        unticked: saved.unticked.into_iter().map(UntickedMessage::from).collect(),
        seen: saved.seen.into_iter().map(id).collect(),
        groups: saved
            .groups
            .into_iter()
            .map(|(group, up_to)| GroupCursor { group, up_to })
            .collect(),
    })
}

/// Replaces the state of this device; durable when it returns.
pub(super) fn save(
    path: &Path,
    user: u64,
    device: u32,
    state: &SessionState,
) -> Result<(), StateError> {
    let saved = Saved {
        version: VERSION,
        user,
        device,
        next_client_id: state.next_client_id,
        received_up_to: state.received_up_to,
        outbox: state.outbox.iter().map(SavedSend::from).collect(),
        unticked: state.unticked.iter().map(SavedUnticked::from).collect(),
        seen: state.seen.iter().map(parts).collect(),
        groups: state.groups.iter().map(|held| (held.group, held.up_to)).collect(),
    };
    write(path, &saved).map_err(|source| StateError::Io { path: path.to_owned(), source })
}

fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(saved)?;
    bytes.push(b'\n');
    replace(path, &bytes)
}

/// Writes a file for its owner only, in the place of the former one; durable when it returns.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&fresh, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_data()
}

impl From<SavedStream> for Stream {
    fn from(saved: SavedStream) -> Self {
        match saved {
            SavedStream::User(user) => Self::User(user),
            SavedStream::Group(group) => Self::Group(group),
        }
    }
}

impl From<Stream> for SavedStream {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::User(user) => Self::User(user),
            Stream::Group(group) => Self::Group(group),
        }
    }
}

impl From<&PendingSend> for SavedSend {
    fn from(pending: &PendingSend) -> Self {
        let message = &pending.message;
        Self {
            client_id: pending.client_id,
            to: message.to.into(),
            payload_base64: BASE64.encode(&message.payload),
            kind: message.kind,
            ttl_seconds: message.ttl_seconds,
            relation: message.relation.map(|relation| (relation.kind, parts(&relation.target))),
            automatic: message.automatic,
        }
    }
}

impl From<SavedUnticked> for UntickedMessage {
    fn from(saved: SavedUnticked) -> Self {
        Self {
            to: saved.to.into(),
            position: saved.position,
            device: saved.device,
            client_id: saved.client_id,
            mark: if saved.delivered { TickMark::Has } else { TickMark::Sent },
        }
    }
}

impl From<&UntickedMessage> for SavedUnticked {
    fn from(message: &UntickedMessage) -> Self {
        Self {
            to: message.to.into(),
            position: message.position,
            device: message.device,
            client_id: message.client_id,
            delivered: message.mark >= TickMark::Has,
        }
    }
}

fn id((sender, device, client_id): (u64, u32, u64)) -> MessageId {
    MessageId { sender, device, client_id }
}

fn parts(id: &MessageId) -> (u64, u32, u64) {
    (id.sender, id.device, id.client_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> SessionState {
        let target = MessageId { sender: 1, device: 2, client_id: 3 };
        SessionState {
            next_client_id: u64::MAX,
            received_up_to: 1 << 60,
            outbox: vec![PendingSend {
                client_id: 7,
                message: Outgoing {
                    to: Stream::User(9),
                    payload: vec![0, 255, b'x'],
                    kind: 4,
                    ttl_seconds: 5,
                    relation: Some(Relation { kind: 1, target }),
                    automatic: true,
                },
            }],
            unticked: vec![UntickedMessage {
                to: Stream::Group(3),
                position: 11,
                device: 1,
                client_id: 6,
                mark: TickMark::Has,
            }],
            seen: vec![target],
            groups: vec![GroupCursor { group: 3, up_to: 12 }],
        }
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("myriad-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_is_saved_comes_back_to_its_device_only() {
        let folder = folder("state-saved");
        let path = folder.join("state.json");
        assert_eq!(load(&path, 1, 1).unwrap(), SessionState::default());
        save(&path, 1, 1, &state()).unwrap();
        save(&path, 1, 1, &state()).unwrap();
        assert_eq!(load(&path, 1, 1).unwrap(), state());
        assert!(matches!(load(&path, 1, 2), Err(StateError::OtherDevice { .. })));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn damaged_file_is_refused_not_guessed_at() {
        let folder = folder("state-damaged");
        let path = folder.join("state.json");
        save(&path, 1, 1, &state()).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(load(&path, 1, 1), Err(StateError::Foreign { .. })));
        fs::write(&path, b"{\"version\":9}").unwrap();
        assert!(matches!(load(&path, 1, 1), Err(StateError::Foreign { .. })));
        fs::remove_dir_all(folder).unwrap();
    }
}
