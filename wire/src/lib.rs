//! Myriad's wire: frames, their bytes, and the two transports that carry them.
//!
//! The crate does no I/O, reads no clock and keeps no global: byte slices in, values out, so the
//! server, the clients, the load generator and the simulator share it. `docs/protocol.md` says
//! what every frame means; `proto/myriad.proto` is the schema other languages compile.
//!
//! Read in this order: [`types`] and [`reasons`] (the words), `client_frame` and `server_frame`
//! (one value per frame), [`framing`] (bytes of a connection to frames), [`handshake`] and
//! [`websocket`] (its two halves on WebSocket).
//!
//! Invariants: nothing here panics on what a peer sends; nothing is accepted beyond the bound the
//! caller gives; decoding `Send`, `Ack`, `Read`, `Ping` and encoding `Sent`, `Deliver`, `Receipt`
//! allocate nothing (the buffer written to may grow).
//!
//! Deliberately not here: what a frame is answered with (`path`), TLS and sockets (`io`).

mod client_frame;
mod frame_error;
mod group_frame;
mod history_frame;
mod schema;
mod server_frame;

#[cfg(any(test, feature = "check"))]
pub mod check;
pub mod client;
pub mod framing;
pub mod handshake;
pub mod reasons;
pub mod types;
pub mod websocket;

pub use client_frame::{
    ASKED_PEERS_MAX, Ack, AskReceipts, ClientFrame, Hello, Ping, Read, Renew, Send, Typing,
    WATCHED_USERS_MAX, WatchPresence,
};
pub use framing::{
    Event, FrameError, Parser, Policy, TCP_HEADER_BYTES, TCP_PREAMBLE, Transport,
    write_client_frame, write_goodbye, write_server_frame,
};
pub use group_frame::{Change, GroupChange, GroupNews, Role};
pub use handshake::{
    HANDSHAKE_BYTES_MAX, Handshake, HandshakeError, SUBPROTOCOL, check_handshake_response,
    client_handshake,
};
pub use history_frame::{
    Conversation, Conversations, Fetch, Fetched, Item, ListConversations, PAGE_ITEMS,
    PAGE_ITEMS_MAX, RETENTION_SECONDS_MAX, RequestRefused, SetRetention,
};
pub use reasons::{Parting, Refusal};
pub use schema::DecodeError;
pub use server_frame::{
    Deliver, DeviceEvent, Expired, Goodbye, Limits, Pong, Presence, ReadSync, Receipt, Refused,
    Sent, ServerFrame, TypingFrom, Welcome,
};
pub use types::{Confirmed, Mark, MessageId, RELATION_DELETE, Relation, Retention, Stream};
pub use websocket::{Control, write_control};
