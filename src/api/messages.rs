//! Messages from outside a session: a backend posts as a user.

use super::App;
use super::ask::wanted;
use super::body::Given;
use super::caller::{Admin, Caller};
use super::id::{Id, Number};
use super::problem::Problem;
use crate::limits;
use crate::state::order::{Done, Order, POST_DEVICE, Post};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use wire::Stream;

/// To whom a message goes.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", try_from = "Target")]
pub(super) enum To {
    /// A user.
    User(Id),
    /// A group.
    Group(Id),
}

/// As it is written: read first, so that whoever writes anything else is told what to write.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "{\"user\": ID} or {\"group\": ID}")]
struct Target {
    user: Option<Id>,
    group: Option<Id>,
}

impl TryFrom<Target> for To {
    type Error = &'static str;

    fn try_from(target: Target) -> Result<Self, Self::Error> {
        match target {
            Target { user: Some(user), group: None } => Ok(Self::User(user)),
            Target { user: None, group: Some(group) } => Ok(Self::Group(group)),
            _ => Err("`to` names one recipient, {\"user\": ID} or {\"group\": ID}"),
        }
    }
}

/// A message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// To whom.
    to: To,
    /// The sender's number of the message, from 1 on: with the same one it is the same message,
    /// also a day later. Numbers of one sender grow; milliseconds since 1970 will do.
    client_id: Id,
    /// The payload in base64 (RFC 4648, with padding). Opaque to the server.
    #[schema(content_encoding = "base64", example = "aGVsbG8=")]
    payload: String,
    /// The application's kind of message.
    #[serde(default)]
    kind: u32,
    /// How long it is kept if nobody acks it, in seconds; 0: the server's default.
    #[serde(default)]
    ttl_s: u32,
}

/// A message in somebody else's name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessageAs {
    /// Whose message it is. A user without a password of its own may stand for the system.
    from: Id,
    /// The message.
    message: NewMessage,
}

/// A message that is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PostedMessage {
    /// Whose it is.
    sender: Id,
    /// The device in the message's id: the one of all messages posted here.
    device: u32,
    /// The sender's number of it.
    client_id: Id,
    /// Its position in the recipient's stream.
    position: Number,
    /// When, in milliseconds since 1970.
    time_ms: u64,
}

/// Send a message
///
/// Answered when it is durable; it is delivered like any other, and the sender's devices get a
/// copy.
#[utoipa::path(
    post, path = "/v1/messages", tag = "messages", security(("token" = [])),
    request_body = NewMessage,
    responses((status = 201, body = PostedMessage, description = "It is durable"))
)]
pub(super) async fn send(
    State(app): State<Arc<App>>,
    caller: Caller,
    Given(message): Given<NewMessage>,
) -> Result<(StatusCode, Json<PostedMessage>), Problem> {
    post(&app, caller.user, message).await
}

/// Send a message as any user
#[utoipa::path(
    post, path = "/v1/admin/messages", tag = "admin", security(("admin" = [])),
    request_body = NewMessageAs,
    responses((status = 201, body = PostedMessage, description = "It is durable"))
)]
pub(super) async fn send_as(
    State(app): State<Arc<App>>,
    _: Admin,
    Given(NewMessageAs { from, message }): Given<NewMessageAs>,
) -> Result<(StatusCode, Json<PostedMessage>), Problem> {
    post(&app, from.number(), message).await
}

async fn post(
    app: &App,
    sender: u64,
    message: NewMessage,
) -> Result<(StatusCode, Json<PostedMessage>), Problem> {
    let payload = payload(&message.payload)?;
    let to = match message.to {
        To::User(id) => Stream::User(id.number()),
        To::Group(id) => Stream::Group(id.number()),
    };
    let NewMessage { client_id, kind, ttl_s, .. } = message;
    let post =
        Post { sender, client_id: client_id.number(), to, kind, ttl_s, relation: None, payload };
    let done = app.order(Order::Post(Box::new(post))).await?;
    let (position, time_ms) =
        wanted!(done, Done::Posted { position, time_ms } => (position, time_ms));
    let posted = PostedMessage {
        sender: sender.into(),
        device: POST_DEVICE,
        client_id,
        position: Number(position),
        time_ms,
    };
    Ok((StatusCode::CREATED, Json(posted)))
}

fn payload(text: &str) -> Result<Vec<u8>, Problem> {
    let payload = STANDARD
        .decode(text)
        .map_err(|_| Problem::invalid("payload: not base64 with padding (RFC 4648)."))?;
    let most = limits::PAYLOAD_BYTES_MAX;
    if payload.len() > most {
        return Err(Problem::invalid(format!("payload: at most {most} bytes; send less.")));
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_base64_and_fits_a_frame() {
        assert_eq!(payload("aGVsbG8=").unwrap(), b"hello");
        assert_eq!(payload("").unwrap(), b"");
        payload("aGVsbG8").unwrap_err();
        payload(&STANDARD.encode(vec![0; limits::PAYLOAD_BYTES_MAX])).unwrap();
        payload(&STANDARD.encode(vec![0; limits::PAYLOAD_BYTES_MAX + 1])).unwrap_err();
    }

    #[test]
    fn a_message_names_one_recipient() {
        let user: NewMessage =
            serde_json::from_str(r#"{"to":{"user":"7"},"client_id":"1","payload":""}"#).unwrap();
        assert!(matches!(user.to, To::User(id) if id.number() == 7));
        for to in [r#"{}"#, r#"{"user":7}"#, r#"{"user":"7","group":"8"}"#, r#""7""#] {
            let text = format!(r#"{{"to":{to},"client_id":"1","payload":""}}"#);
            let told = serde_json::from_str::<NewMessage>(&text).unwrap_err().to_string();
            let says_how = told.contains("{\"user\": ID} or {\"group\": ID}");
            assert!(says_how || told.contains("as text"), "{told}");
        }
    }
}
