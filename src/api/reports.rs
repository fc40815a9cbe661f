//! Telling the operator of abuse.

use super::App;
use super::ask::wanted;
use super::body::Given;
use super::caller::Caller;
use super::id::{Id, Number};
use super::problem::Problem;
use crate::directory::{Answer, Command, Report};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A report.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewReport {
    /// Who is reported.
    user: Id,
    /// The group it happened in.
    group: Option<Id>,
    /// The position of the message it is about.
    position: Option<Number>,
    /// Why, in a word of the application's.
    #[schema(example = "spam")]
    reason: String,
    /// What the reporter says and shows; the server can't read messages that are encrypted.
    #[serde(default)]
    text: String,
}

/// A report that was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Filed {
    /// Its number.
    id: Id,
}

/// Report a user or a message
#[utoipa::path(
    post, path = "/v1/reports", tag = "reports", security(("token" = [])),
    request_body = NewReport,
    responses((status = 201, body = Filed, description = "The operator will see it"))
)]
pub(super) async fn report(
    State(app): State<Arc<App>>,
    caller: Caller,
    Given(new): Given<NewReport>,
) -> Result<(StatusCode, Json<Filed>), Problem> {
    let report = Report {
        by: caller.user,
        user: new.user.number(),
        group: new.group.map(Id::number),
        position: new.position.map(|position| position.0),
        reason: new.reason,
        text: new.text,
    };
    let answer = app.ask(Command::Report(report)).await?;
    let id = wanted!(answer, Answer::Filed(id) => id.into());
    Ok((StatusCode::CREATED, Json(Filed { id })))
}
