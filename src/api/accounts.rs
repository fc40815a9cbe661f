//! One's own account: begin it, look at it, change it, end it.

use super::App;
use super::ask::wanted;
use super::body::Given;
use super::caller::Caller;
use super::front::Source;
use super::id::Id;
use super::problem::Problem;
use super::secret::Hidden;
use super::sessions::SessionView;
use crate::directory::{Account, Answer, Command, Edit, Register};
use crate::state::order::Audience;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A new account. Name or phone number are needed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAccount {
    /// A unique name: 3 to 32 of `a-z0-9_.`; capitals become small.
    #[schema(max_length = 32, example = "ann")]
    name: Option<String>,
    /// A unique phone number: `+` and 7 to 15 digits.
    #[schema(example = "+4915112345678")]
    phone: Option<String>,
    /// The password.
    password: Hidden,
    /// The code, where registration is by invite.
    invite: Option<Hidden>,
    /// What the user calls this device.
    #[serde(default)]
    #[schema(example = "Ann's phone")]
    label: String,
}

/// Who may see or do something.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Audience)]
pub(super) enum AudienceView {
    /// Everybody.
    Everybody,
    /// Who is in the user's contact book.
    Contacts,
    /// Nobody.
    Nobody,
}

/// One's own account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub(super) struct AccountView {
    /// The user's id.
    id: Id,
    /// When it began, in seconds since 1970; 0: only the operator's tokens know it.
    created_s: u64,
    /// Logs in with a password of its own.
    has_password: bool,
    /// The unique name.
    name: Option<String>,
    /// The phone number.
    phone: Option<String>,
    /// The name others see.
    display: String,
    /// A line about the user.
    about: String,
    /// The media id of a picture; empty: none.
    avatar: String,
    /// Who may see whether and when the user was last here. Who hides it does not see others'.
    last_seen: AudienceView,
    /// Neither gives nor gets read receipts.
    receipts_off: bool,
    /// First messages of strangers are marked as requests.
    marks_requests: bool,
    /// Who may put the user into groups unasked; others leave an invitation.
    group_adders: AudienceView,
}

/// Changes of one's own account; what is left out stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AccountPatch {
    /// The unique name; null gives it up, if there is a phone number.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    /// The phone number; null gives it up, if there is a name.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    phone: Option<Option<String>>,
    /// The name others see.
    display: Option<String>,
    /// A line about the user.
    about: Option<String>,
    /// The media id of a picture; empty: none.
    avatar: Option<String>,
    /// Who may see whether and when the user was last here.
    last_seen: Option<AudienceView>,
    /// Neither gives nor gets read receipts.
    receipts_off: Option<bool>,
    /// First messages of strangers are marked as requests.
    marks_requests: Option<bool>,
    /// Who may put the user into groups unasked.
    group_adders: Option<AudienceView>,
}

/// Tells null from nothing.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Another password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    /// The password so far.
    old: Hidden,
    /// The new one.
    new: Hidden,
}

/// The end of an account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountEnd {
    /// The password, once more. Not for users that only the operator's tokens know.
    password: Option<Hidden>,
}

/// Register
///
/// Makes an account and logs its first device in. Whether that is open to everybody, by invite
/// or closed is the operator's setting.
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts", request_body = NewAccount,
    responses((status = 201, body = SessionView, description = "Registered and logged in"))
)]
pub(super) async fn register(
    State(app): State<Arc<App>>,
    Extension(source): Extension<Source>,
    Given(new): Given<NewAccount>,
) -> Result<(StatusCode, Json<SessionView>), Problem> {
    app.buckets.attempt(source.0)?;
    let register = Register {
        name: new.name,
        phone: new.phone,
        password: new.password.0,
        invite: new.invite.map(|code| code.0),
        label: new.label,
    };
    let answer = app.ask(Command::Register(register)).await?;
    let session = wanted!(answer, Answer::Session(session) => session);
    Ok((StatusCode::CREATED, Json(session.into())))
}

/// Look at one's own account
#[utoipa::path(
    get, path = "/v1/accounts/me", tag = "accounts", security(("token" = [])),
    responses((status = 200, body = AccountView, description = "Profile and settings"))
)]
pub(super) async fn me(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<AccountView>, Problem> {
    let answer = app.ask(Command::Account { user: caller.user }).await?;
    Ok(Json(wanted!(answer, Answer::Account(account) => (*account).into())))
}

/// Change profile and settings
///
/// A change is obeyed by the next message.
#[utoipa::path(
    patch, path = "/v1/accounts/me", tag = "accounts", security(("token" = [])),
    request_body = AccountPatch,
    responses((status = 200, body = AccountView, description = "The account as it is now"))
)]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Given(patch): Given<AccountPatch>,
) -> Result<Json<AccountView>, Problem> {
    if patch.name.is_some() || patch.phone.is_some() {
        app.buckets.lookup(caller.user)?; // the answer says whether somebody has it
    }
    let edit = Edit {
        name: patch.name,
        phone: patch.phone,
        display: patch.display,
        about: patch.about,
        avatar: patch.avatar,
        last_seen: patch.last_seen.map(Audience::from),
        receipts_off: patch.receipts_off,
        marks_requests: patch.marks_requests,
        group_adders: patch.group_adders.map(Audience::from),
    };
    let answer = app.ask(Command::Edit { user: caller.user, edit: Box::new(edit) }).await?;
    Ok(Json(wanted!(answer, Answer::Account(account) => (*account).into())))
}

/// Change the password
///
/// All other devices are logged out.
#[utoipa::path(
    put, path = "/v1/accounts/me/password", tag = "accounts", security(("token" = [])),
    request_body = NewPassword,
    responses((status = 204, description = "Changed"))
)]
pub(super) async fn change_password(
    State(app): State<Arc<App>>,
    Extension(source): Extension<Source>,
    caller: Caller,
    Given(password): Given<NewPassword>,
) -> Result<StatusCode, Problem> {
    app.buckets.attempt(source.0)?;
    app.buckets.password(caller.user)?;
    let (user, keep) = (caller.user, caller.device);
    let (old, new) = (password.old.0, password.new.0);
    let answer = app.ask(Command::SetPassword { user, keep, old, new }).await?;
    Ok(wanted!(answer, Answer::Done => StatusCode::NO_CONTENT))
}

/// Delete one's own account
///
/// Sessions, devices, contacts, groups' memberships and waiting mail go with it. Once begun it is
/// finished, whatever happens to the server.
#[utoipa::path(
    delete, path = "/v1/accounts/me", tag = "accounts", security(("token" = [])),
    request_body = AccountEnd,
    responses((status = 204, description = "Deleted"))
)]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Extension(source): Extension<Source>,
    caller: Caller,
    Given(end): Given<AccountEnd>,
) -> Result<StatusCode, Problem> {
    app.buckets.attempt(source.0)?;
    app.buckets.password(caller.user)?;
    // Without a password the directory deletes for the operator alone.
    let password = end.password.map(|password| password.0);
    let account = app.ask(Command::Account { user: caller.user }).await?;
    let has_password = wanted!(account, Answer::Account(account) => account.has_password);
    if has_password && password.is_none() {
        return Err(Problem::invalid("password: say it once more to delete the account."));
    }
    let answer = app.ask(Command::DeleteUser { user: caller.user, password }).await?;
    Ok(wanted!(answer, Answer::Done => StatusCode::NO_CONTENT))
}

impl From<Audience> for AudienceView {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Everybody => Self::Everybody,
            Audience::Contacts => Self::Contacts,
            Audience::Nobody => Self::Nobody,
        }
    }
}

impl From<AudienceView> for Audience {
    fn from(audience: AudienceView) -> Self {
        match audience {
            AudienceView::Everybody => Self::Everybody,
            AudienceView::Contacts => Self::Contacts,
            AudienceView::Nobody => Self::Nobody,
        }
    }
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        Self {
            id: account.user.into(),
            created_s: account.created_s,
            has_password: account.has_password,
            name: account.name,
            phone: account.phone,
            display: account.display,
            about: account.about,
            avatar: account.avatar,
            last_seen: account.last_seen.into(),
            receipts_off: account.receipts_off,
            marks_requests: account.marks_requests,
            group_adders: account.group_adders.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_told_from_nothing() {
        let patch: AccountPatch = serde_json::from_str(r#"{"name": null}"#).unwrap();
        assert_eq!((patch.name, patch.phone), (Some(None), None));
    }
}
