//! Protobuf fields: the thin layer between our frames and the protobuf crate's primitives.
//!
//! Hand-written rather than generated, because every generated decoder we measured allocates per
//! frame or copies payloads (`docs/decisions/0001-protobuf-crate.md`). The numbers here are those
//! of `proto/myriad.proto`; golden files, encoded anew by `protoc` where it is installed, hold
//! the two together.
//!
//! Reading ([`Fields`]) follows the protobuf rules: fields in any order, the last value of a field
//! wins, repeated sub-messages merge, repeated numbers come packed or not, unknown fields are
//! skipped. It is stricter in two points: a known field of the wrong wire type is `Malformed`, and
//! a number that does not fit its type is `OutOfRange` instead of being cut.
//!
//! A varint of up to eight bytes is read and written with one access, without a loop.
//!
//! Writing describes a message once as calls on a [`Sink`]. [`write_frame`] runs the description
//! into room of its own, puts lengths and framing before it and copies the whole once;
//! [`frame_length`] runs it to count.

mod read;
mod write;

pub(crate) use read::{
    Field, Fields, NO_ID, complete_id, complete_relation, read_confirmed, read_envelope, read_id,
    read_reason, read_relation, read_stream, required, required32,
};
pub(crate) use write::{
    LongSink, Sink, frame_length, write_choice, write_confirmed, write_frame, write_id, write_mark,
    write_relation, write_stream,
};

/// The bit of each byte of a varint that says that another one follows, for eight bytes at once.
const GOES_ON: u64 = 0x8080_8080_8080_8080;

/// Why bytes are no frame. The connection they came on is closed with `bad_frame`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf, cut short, or a field of the wrong wire type.
    #[error("the bytes are not a protobuf message of the schema")]
    Malformed,
    /// Nothing inside.
    #[error("the frame has no body")]
    NoBody,
    /// More than one body in a frame.
    #[error("the frame has more than one body")]
    SecondBody,
    /// A body this version does not know.
    #[error("the frame's body is none that this version knows")]
    UnknownFrame,
    /// A required field is absent, empty or 0.
    #[error("field {0} is required and must not be 0")]
    MissingField(&'static str),
    /// A field's value is none it may have.
    #[error("field {0} is out of range")]
    OutOfRange(&'static str),
    /// A list is longer than the protocol allows.
    #[error("a list has too many items")]
    TooManyItems,
}

impl From<buffa::DecodeError> for DecodeError {
    fn from(_: buffa::DecodeError) -> Self {
        // Which of the crate's reasons it was helps nobody: all mean that the sender is broken.
        Self::Malformed
    }
}
