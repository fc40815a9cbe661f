//! Figures of the whole server, for the operator.

use super::App;
use super::ask::wanted;
use super::caller::Admin;
use super::problem::Problem;
use crate::directory::{Answer, Command};
use crate::shard::Pressure;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// How many there are now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stats {
    /// Connections to the chat listener, by shard.
    connections: Vec<u64>,
    /// How far behind each shard was at its last look, in milliseconds.
    late_ms: Vec<u64>,
    /// Devices that are online: sessions that have logged in, as each shard saw them at its last
    /// look, at most a second ago.
    sessions: u64,
    /// Messages stored since the start, to users and to groups: one in a group counts once.
    messages_stored: u64,
    /// Messages handed to devices since the start: each device counts.
    messages_delivered: u64,
    /// Users the directory knows something of.
    users: u64,
    /// Of these suspended.
    suspended: u64,
    /// Devices that are logged in with a password.
    devices: u64,
    /// Contacts and blocks.
    ties: u64,
    /// Reports nobody closed.
    reports_open: u64,
    /// Events the webhook has not been told.
    events_waiting: u64,
    /// Events that were dropped because too many waited, since the start.
    events_dropped: u64,
    /// Requests to this API since the start.
    requests: u64,
}

/// See how many there are of everything
#[utoipa::path(
    get, path = "/v1/admin/stats", tag = "admin", security(("admin" = [])),
    responses((status = 200, body = Stats, description = "As of now"))
)]
pub(super) async fn stats(State(app): State<Arc<App>>, _: Admin) -> Result<Json<Stats>, Problem> {
    let counts = wanted!(app.ask(Command::Counts).await?, Answer::Counts(counts) => counts);
    let sum = |of: fn(&Pressure) -> u64| app.pressures.iter().map(|shard| of(shard)).sum();
    Ok(Json(Stats {
        connections: app.pressures.iter().map(|pressure| pressure.conns()).collect(),
        late_ms: app.pressures.iter().map(|pressure| pressure.late_ms()).collect(),
        sessions: sum(Pressure::sessions),
        messages_stored: sum(Pressure::stored),
        messages_delivered: sum(Pressure::delivered),
        users: counts.users,
        suspended: counts.suspended,
        devices: counts.devices,
        ties: counts.ties,
        reports_open: counts.reports,
        events_waiting: counts.events,
        events_dropped: counts.events_dropped,
        requests: app.requests.load(std::sync::atomic::Ordering::Relaxed),
    }))
}
