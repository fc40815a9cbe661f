//! Logging in and out, and fresh tokens for a device.

use super::App;
use super::ask::wanted;
use super::body::{At, Given};
use super::caller::Caller;
use super::front::Source;
use super::id::Id;
use super::problem::Problem;
use super::secret::Hidden;
use crate::directory::{Answer, Command, Device, Session};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Who logs in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogIn {
    /// The account's name, or its phone number with `+`.
    #[schema(example = "ann")]
    handle: String,
    /// Its password.
    password: Hidden,
    /// The device that comes back. Left out, or not this user's any more: a new device.
    #[schema(minimum = 1)]
    device: Option<u32>,
    /// What the user calls the device.
    #[serde(default)]
    #[schema(example = "Ann's laptop")]
    label: String,
}

/// A refresh token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Refresh {
    /// The token; it is good once.
    refresh_token: Hidden,
}

/// Tokens of a device that is logged in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionView {
    /// Who.
    user: Id,
    /// The number of the device, among the user's.
    device: u32,
    /// For the chat socket, and for the header `Authorization: Bearer` here.
    access_token: Hidden,
    /// How long it is good, in seconds.
    expires_in: u64,
    /// Good once, for the next two tokens. A second use logs the device out: it was stolen.
    refresh_token: Hidden,
    /// How long it is good unless used, in seconds.
    refresh_expires_in: u64,
}

impl From<Session> for SessionView {
    fn from(session: Session) -> Self {
        Self {
            user: session.user.into(),
            device: session.device,
            access_token: Hidden(session.access),
            expires_in: session.access_s,
            refresh_token: Hidden(session.refresh),
            refresh_expires_in: session.refresh_s,
        }
    }
}

/// A device that is logged in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Device)]
pub(super) struct DeviceView {
    /// Its number; no other device of the user ever gets it.
    device: u32,
    /// What the user calls it.
    label: String,
    /// When it logged in, in seconds since 1970.
    created_s: u64,
    /// When it last fetched tokens, in seconds since 1970.
    refreshed_s: u64,
    /// It is the one that asks.
    current: bool,
}

/// The devices of a user: a few, so they come at once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Devices {
    /// By number.
    items: Vec<DeviceView>,
}

/// Log in
///
/// Wrong name and wrong password are the same answer, after the same time.
#[utoipa::path(
    post, path = "/v1/sessions", tag = "sessions", request_body = LogIn,
    responses((status = 201, body = SessionView, description = "Logged in"))
)]
pub(super) async fn log_in(
    State(app): State<Arc<App>>,
    Extension(source): Extension<Source>,
    Given(who): Given<LogIn>,
) -> Result<(StatusCode, Json<SessionView>), Problem> {
    app.buckets.attempt(source.0)?;
    app.buckets.name(&who.handle)?;
    let LogIn { handle, password, device, label } = who;
    let answer = app.ask(Command::LogIn { handle, password: password.0, device, label }).await?;
    let session = wanted!(answer, Answer::Session(session) => session);
    Ok((StatusCode::CREATED, Json(session.into())))
}

/// Fetch fresh tokens
///
/// The refresh token is spent. Send an `Idempotency-Key`: if the answer gets lost, the same request
/// with the same key gives the same tokens for ten minutes.
#[utoipa::path(
    post, path = "/v1/sessions/refresh", tag = "sessions", request_body = Refresh,
    responses((status = 201, body = SessionView, description = "Fresh tokens"))
)]
pub(super) async fn refresh(
    State(app): State<Arc<App>>,
    Given(refresh): Given<Refresh>,
) -> Result<(StatusCode, Json<SessionView>), Problem> {
    let answer = app.ask(Command::Refresh { token: refresh.refresh_token.0 }).await?;
    let session = wanted!(answer, Answer::Session(session) => session);
    Ok((StatusCode::CREATED, Json(session.into())))
}

/// Log out
///
/// Ends the session, the cursor and all tokens of the device that asks.
#[utoipa::path(
    delete, path = "/v1/sessions/current", tag = "sessions", security(("token" = [])),
    responses((status = 204, description = "Logged out"))
)]
pub(super) async fn log_out(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<StatusCode, Problem> {
    let Caller { user, device } = caller;
    let answer = app.ask(Command::EndDevice { user, device }).await?;
    Ok(wanted!(answer, Answer::Done => StatusCode::NO_CONTENT))
}

/// List one's own devices
#[utoipa::path(
    get, path = "/v1/devices", tag = "sessions", security(("token" = [])),
    responses((status = 200, body = Devices, description = "All devices"))
)]
pub(super) async fn devices(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Devices>, Problem> {
    let answer = app.ask(Command::Devices { user: caller.user }).await?;
    let devices = wanted!(answer, Answer::Devices(devices) => devices);
    let view = |device: Device| DeviceView {
        current: device.device == caller.device,
        device: device.device,
        label: device.label,
        created_s: device.created_s,
        refreshed_s: device.refreshed_s,
    };
    Ok(Json(Devices { items: devices.into_iter().map(view).collect() }))
}

/// Log a device out
#[utoipa::path(
    delete, path = "/v1/devices/{device}", tag = "sessions", security(("token" = [])),
    params(("device" = u32, Path, minimum = 1, description = "The device's number")),
    responses((status = 204, description = "Logged out"))
)]
pub(super) async fn end_device(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(device): At<u32>,
) -> Result<StatusCode, Problem> {
    let answer = app.ask(Command::EndDevice { user: caller.user, device }).await?;
    Ok(wanted!(answer, Answer::Done => StatusCode::NO_CONTENT))
}
