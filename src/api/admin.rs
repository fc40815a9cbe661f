//! What the operator may do, with the admin token: users, codes, reports, figures.

use super::App;
use super::ask::wanted;
use super::body::{Asked, At, Given};
use super::caller::Admin;
use super::id::{Id, Number};
use super::page::{Page, Which, limit};
use super::problem::Problem;
use super::secret::Hidden;
use crate::directory::{Account, Answer, Command, Invite, ReportCard};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A user, for the operator.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ManagedUser)]
pub(super) struct ManagedUser {
    /// The user's id.
    id: Id,
    /// When the account began, in seconds since 1970; 0: only the operator's tokens know it.
    created_s: u64,
    /// Logs in with a password of its own.
    has_password: bool,
    /// The unique name.
    name: Option<String>,
    /// The phone number.
    phone: Option<String>,
    /// The name others see.
    display: String,
    /// Has no session and sends nothing.
    suspended: bool,
    /// Why, in the operator's words.
    note: String,
    /// Is being deleted.
    ending: bool,
}

impl From<Account> for ManagedUser {
    fn from(account: Account) -> Self {
        Self {
            id: account.user.into(),
            created_s: account.created_s,
            has_password: account.has_password,
            name: account.name,
            phone: account.phone,
            display: account.display,
            suspended: account.suspended,
            note: account.note,
            ending: account.ending,
        }
    }
}

/// Which users.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichUsers {
    /// Only those whose name begins so; they come by name then.
    #[serde(default)]
    #[param(required = false)]
    prefix: String,
    /// Only suspended ones.
    #[serde(default)]
    #[param(required = false)]
    suspended: bool,
    /// Go on after this one: the `next` of the page before.
    #[param(value_type = Option<Id>)]
    after: Option<Id>,
    /// How many at the most: 1 to 200, by itself 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// A user who need not register.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NewUser {
    /// Its id, where the operator's tokens name it; else one is chosen.
    id: Option<Id>,
    /// Its unique name.
    name: Option<String>,
    /// Its phone number.
    phone: Option<String>,
    /// Its password; without one it logs in with tokens of the operator only.
    password: Option<Hidden>,
}

/// The operator's words.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Note {
    /// Why, or what was done. Only operators see it.
    note: String,
}

/// A new code with which to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewInvite {
    /// How many may register with it.
    #[serde(default = "once")]
    #[schema(minimum = 1, default = 1)]
    uses: u32,
    /// How long it is good, in seconds.
    #[schema(minimum = 1, example = 604800)]
    valid_s: u32,
    /// For the operator.
    #[serde(default)]
    note: String,
}

fn once() -> u32 {
    1
}

/// A code with which to register, without the code.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invite)]
pub(super) struct InviteView {
    /// Its number.
    id: Id,
    /// How many may still register with it.
    uses: u32,
    /// Until when, in seconds since 1970.
    until_s: u64,
    /// The operator's words.
    note: String,
}

impl From<Invite> for InviteView {
    fn from(invite: Invite) -> Self {
        let Invite { id, uses, until_s, note } = invite;
        Self { id: id.into(), uses, until_s, note }
    }
}

/// A code that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeInvite {
    /// What is known of it later.
    invite: InviteView,
    /// The code. It is shown this once.
    code: Hidden,
}

/// Which reports, or codes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichReports {
    /// Only those nobody closed.
    #[serde(default)]
    #[param(required = false)]
    open: bool,
    /// Go on after this one: the `next` of the page before.
    #[param(value_type = Option<Id>)]
    after: Option<Id>,
    /// How many at the most: 1 to 200, by itself 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// A report.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Report)]
pub(super) struct ReportView {
    /// Its number.
    id: Id,
    /// Who reports.
    by: Id,
    /// Whom.
    user: Id,
    /// The group it happened in.
    group: Option<Id>,
    /// The position of the message it is about.
    position: Option<Number>,
    /// Why, in a word of the application's.
    reason: String,
    /// What the reporter says and shows.
    text: String,
    /// When, in seconds since 1970.
    at_s: u64,
    /// What was done about it; null: nothing yet.
    closed: Option<String>,
}

impl From<ReportCard> for ReportView {
    fn from(card: ReportCard) -> Self {
        Self {
            id: card.id.into(),
            by: card.report.by.into(),
            user: card.report.user.into(),
            group: card.report.group.map(Id::from),
            position: card.report.position.map(Number),
            reason: card.report.reason,
            text: card.report.text,
            at_s: card.at_s,
            closed: card.closed,
        }
    }
}

/// Page through users, or search for a name
#[utoipa::path(
    get, path = "/v1/admin/users", tag = "admin", security(("admin" = [])), params(WhichUsers),
    responses((status = 200, body = Page<ManagedUser>, description = "A page of users"))
)]
pub(super) async fn users(
    State(app): State<Arc<App>>,
    _: Admin,
    Asked(which): Asked<WhichUsers>,
) -> Result<Json<Page<ManagedUser>>, Problem> {
    let WhichUsers { prefix, suspended, after, .. } = which;
    let after = after.map(Id::number);
    let command = Command::Users { prefix, suspended, after, limit: limit(which.limit)? };
    let answer = app.ask(command).await?;
    let (users, more) = wanted!(answer, Answer::Accounts { accounts, more } => (accounts, more));
    let users = users.into_iter().map(ManagedUser::from).collect();
    Ok(Json(Page::new(users, more, |user: &ManagedUser| user.id)))
}

/// Make a user
#[utoipa::path(
    post, path = "/v1/admin/users", tag = "admin", security(("admin" = [])),
    request_body = NewUser,
    responses((status = 201, body = ManagedUser, description = "The user"))
)]
pub(super) async fn provision(
    State(app): State<Arc<App>>,
    _: Admin,
    Given(new): Given<NewUser>,
) -> Result<(StatusCode, Json<ManagedUser>), Problem> {
    let NewUser { id, name, phone, password } = new;
    let (user, password) = (id.map(Id::number), password.map(|password| password.0));
    let answer = app.ask(Command::Provision { user, name, phone, password }).await?;
    let account = wanted!(answer, Answer::Account(account) => *account);
    Ok((StatusCode::CREATED, Json(account.into())))
}

/// Look at a user
#[utoipa::path(
    get, path = "/v1/admin/users/{id}", tag = "admin", security(("admin" = [])),
    params(("id" = Id, Path, description = "The user")),
    responses((status = 200, body = ManagedUser, description = "The user"))
)]
pub(super) async fn user(
    State(app): State<Arc<App>>,
    _: Admin,
    At(id): At<Id>,
) -> Result<Json<ManagedUser>, Problem> {
    let answer = app.ask(Command::Account { user: id.number() }).await?;
    Ok(Json(wanted!(answer, Answer::Account(account) => (*account).into())))
}

/// Delete a user
#[utoipa::path(
    delete, path = "/v1/admin/users/{id}", tag = "admin", security(("admin" = [])),
    params(("id" = Id, Path, description = "The user")),
    responses((status = 204, description = "Deleted"))
)]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    _: Admin,
    At(id): At<Id>,
) -> Result<StatusCode, Problem> {
    let command = Command::DeleteUser { user: id.number(), password: None };
    Ok(wanted!(app.ask(command).await?, Answer::Done => StatusCode::NO_CONTENT))
}

/// Suspend a user
///
/// Ends the sessions; no login and no message until it is taken back.
#[utoipa::path(
    put, path = "/v1/admin/users/{id}/suspension", tag = "admin", security(("admin" = [])),
    params(("id" = Id, Path, description = "The user")), request_body = Note,
    responses((status = 204, description = "Suspended"))
)]
pub(super) async fn suspend(
    State(app): State<Arc<App>>,
    _: Admin,
    At(id): At<Id>,
    Given(Note { note }): Given<Note>,
) -> Result<StatusCode, Problem> {
    let answer = app.ask(Command::Suspend { user: id.number(), note }).await?;
    Ok(wanted!(answer, Answer::Done => StatusCode::NO_CONTENT))
}

/// Take a suspension back
#[utoipa::path(
    delete, path = "/v1/admin/users/{id}/suspension", tag = "admin", security(("admin" = [])),
    params(("id" = Id, Path, description = "The user")),
    responses((status = 204, description = "Not suspended (any more)"))
)]
pub(super) async fn unsuspend(
    State(app): State<Arc<App>>,
    _: Admin,
    At(id): At<Id>,
) -> Result<StatusCode, Problem> {
    let answer = app.ask(Command::Unsuspend { user: id.number() }).await?;
    Ok(wanted!(answer, Answer::Done => StatusCode::NO_CONTENT))
}

/// Make a code with which to register
#[utoipa::path(
    post, path = "/v1/admin/invites", tag = "admin", security(("admin" = [])),
    request_body = NewInvite,
    responses((status = 201, body = MadeInvite, description = "The code"))
)]
pub(super) async fn make_invite(
    State(app): State<Arc<App>>,
    _: Admin,
    Given(NewInvite { uses, valid_s, note }): Given<NewInvite>,
) -> Result<(StatusCode, Json<MadeInvite>), Problem> {
    let answer = app.ask(Command::MakeInvite { uses, valid_s, note }).await?;
    let made = wanted!(answer, Answer::InviteMade { invite, code } => {
        MadeInvite { invite: invite.into(), code: Hidden(code) }
    });
    Ok((StatusCode::CREATED, Json(made)))
}

/// Page through the codes that still are good
#[utoipa::path(
    get, path = "/v1/admin/invites", tag = "admin", security(("admin" = [])),
    params(Which),
    responses((status = 200, body = Page<InviteView>, description = "A page of codes"))
)]
pub(super) async fn invites(
    State(app): State<Arc<App>>,
    _: Admin,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<InviteView>>, Problem> {
    let (after, limit) = which.read()?;
    let after = (after > 0).then_some(after);
    let answer = app.ask(Command::Invites { after, limit }).await?;
    let (invites, more) = wanted!(answer, Answer::Invites { invites, more } => (invites, more));
    let invites = invites.into_iter().map(InviteView::from).collect();
    Ok(Json(Page::new(invites, more, |invite: &InviteView| invite.id)))
}

/// Take a code back
#[utoipa::path(
    delete, path = "/v1/admin/invites/{id}", tag = "admin", security(("admin" = [])),
    params(("id" = Id, Path, description = "The code's number")),
    responses((status = 204, description = "Good no more"))
)]
pub(super) async fn end_invite(
    State(app): State<Arc<App>>,
    _: Admin,
    At(id): At<Id>,
) -> Result<StatusCode, Problem> {
    let answer = app.ask(Command::EndInvite { id: id.number() }).await?;
    Ok(wanted!(answer, Answer::Done => StatusCode::NO_CONTENT))
}

/// Page through reports
#[utoipa::path(
    get, path = "/v1/admin/reports", tag = "admin", security(("admin" = [])),
    params(WhichReports),
    responses((status = 200, body = Page<ReportView>, description = "A page of reports"))
)]
pub(super) async fn reports(
    State(app): State<Arc<App>>,
    _: Admin,
    Asked(which): Asked<WhichReports>,
) -> Result<Json<Page<ReportView>>, Problem> {
    let WhichReports { open, after, .. } = which;
    let after = after.map(Id::number);
    let command = Command::Reports { open, after, limit: limit(which.limit)? };
    let answer = app.ask(command).await?;
    let (reports, more) = wanted!(answer, Answer::Reports { reports, more } => (reports, more));
    let reports = reports.into_iter().map(ReportView::from).collect();
    Ok(Json(Page::new(reports, more, |report: &ReportView| report.id)))
}

/// Close a report
#[utoipa::path(
    put, path = "/v1/admin/reports/{id}/closed", tag = "admin", security(("admin" = [])),
    params(("id" = Id, Path, description = "The report")), request_body = Note,
    responses((status = 204, description = "Closed"))
)]
pub(super) async fn close_report(
    State(app): State<Arc<App>>,
    _: Admin,
    At(id): At<Id>,
    Given(Note { note }): Given<Note>,
) -> Result<StatusCode, Problem> {
    let answer = app.ask(Command::CloseReport { id: id.number(), note }).await?;
    Ok(wanted!(answer, Answer::Done => StatusCode::NO_CONTENT))
}
