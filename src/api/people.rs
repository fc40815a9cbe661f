//! Other people: finding them, the contact book, blocks.

use super::App;
use super::ask::wanted;
use super::body::{Asked, At, Given};
use super::caller::Caller;
use super::id::Id;
use super::page::{Page, Which};
use super::problem::Problem;
use crate::directory::{Answer, Card, Command, Contact, Page as Rows};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// What others see of a user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(super) struct UserView {
    /// The user's id.
    id: Id,
    /// The unique name.
    name: Option<String>,
    /// The name others see; empty if unset.
    display: String,
    /// A line about the user.
    about: String,
    /// The media id of a picture; empty: none.
    avatar: String,
}

impl From<Card> for UserView {
    fn from(card: Card) -> Self {
        Self {
            id: card.user.into(),
            name: card.name,
            display: card.display,
            about: card.about,
            avatar: card.avatar,
        }
    }
}

/// An entry of the contact book.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Contact)]
pub(super) struct ContactView {
    /// The contact, as others see it.
    #[schema(inline = false)]
    user: UserView,
    /// What the owner of the book calls it.
    alias: String,
    /// The owner of the book blocked it.
    blocked: bool,
    /// It was deleted, or nobody knows it.
    gone: bool,
}

impl From<Contact> for ContactView {
    fn from(contact: Contact) -> Self {
        let Contact { card, alias, blocked, gone } = contact;
        Self { user: card.into(), alias, blocked, gone }
    }
}

/// A blocked user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Block {
    /// Who is blocked.
    id: Id,
}

/// What the book says of a contact.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NewContact {
    /// What the owner of the book calls it.
    alias: String,
}

/// Whom to look for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Handle {
    /// The unique name, or the phone number with `+` (in a URL: `%2B`).
    #[param(example = "bob")]
    handle: String,
}

/// Find a user by name or phone number
#[utoipa::path(
    get, path = "/v1/users", tag = "people", security(("token" = [])), params(Handle),
    responses((status = 200, body = UserView, description = "The user"))
)]
pub(super) async fn find(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(Handle { handle }): Asked<Handle>,
) -> Result<Json<UserView>, Problem> {
    app.buckets.lookup(caller.user)?;
    let answer = app.ask(Command::Find { by: caller.user, handle }).await?;
    Ok(Json(wanted!(answer, Answer::Card(card) => card.into())))
}

/// Look at a user
#[utoipa::path(
    get, path = "/v1/users/{id}", tag = "people", security(("token" = [])),
    params(("id" = Id, Path, description = "The user")),
    responses((status = 200, body = UserView, description = "The user"))
)]
pub(super) async fn user(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
) -> Result<Json<UserView>, Problem> {
    app.buckets.lookup(caller.user)?;
    let answer = app.ask(Command::Card { by: caller.user, user: id.number() }).await?;
    Ok(Json(wanted!(answer, Answer::Card(card) => card.into())))
}

/// Page through the contact book
#[utoipa::path(
    get, path = "/v1/contacts", tag = "people", security(("token" = [])), params(Which),
    responses((status = 200, body = Page<ContactView>, description = "A page of contacts"))
)]
pub(super) async fn contacts(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<ContactView>>, Problem> {
    let answer = app.ask(Command::Contacts(rows(caller, which)?)).await?;
    let (contacts, more) = wanted!(answer, Answer::Contacts { contacts, more } => (contacts, more));
    let contacts = contacts.into_iter().map(ContactView::from).collect();
    Ok(Json(Page::new(contacts, more, |contact| contact.user.id)))
}

/// Add or rename a contact
#[utoipa::path(
    put, path = "/v1/contacts/{id}", tag = "people", security(("token" = [])),
    params(("id" = Id, Path, description = "The user who goes in")), request_body = NewContact,
    responses((status = 204, description = "It is in the book"))
)]
pub(super) async fn put_contact(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
    Given(NewContact { alias }): Given<NewContact>,
) -> Result<StatusCode, Problem> {
    let (user, other) = (caller.user, id.number());
    let answer = app.ask(Command::PutContact { user, other, alias }).await?;
    Ok(wanted!(answer, Answer::Done => StatusCode::NO_CONTENT))
}

/// Take a contact out
#[utoipa::path(
    delete, path = "/v1/contacts/{id}", tag = "people", security(("token" = [])),
    params(("id" = Id, Path, description = "The user who goes out")),
    responses((status = 204, description = "It is not in the book (any more)"))
)]
pub(super) async fn end_contact(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
) -> Result<StatusCode, Problem> {
    let (user, other) = (caller.user, id.number());
    let answer = app.ask(Command::EndContact { user, other }).await?;
    Ok(wanted!(answer, Answer::Done => StatusCode::NO_CONTENT))
}

/// Page through those one blocked
#[utoipa::path(
    get, path = "/v1/blocks", tag = "people", security(("token" = [])), params(Which),
    responses((status = 200, body = Page<Block>, description = "A page of blocked users"))
)]
pub(super) async fn blocks(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<Block>>, Problem> {
    let answer = app.ask(Command::Blocks(rows(caller, which)?)).await?;
    let (users, more) = wanted!(answer, Answer::Blocks { users, more } => (users, more));
    let blocks = users.into_iter().map(|user| Block { id: user.into() }).collect();
    Ok(Json(Page::new(blocks, more, |block| block.id)))
}

/// Block a user
///
/// From now on nothing of this user is delivered, and the user can't tell. Group messages are not
/// blocked.
#[utoipa::path(
    put, path = "/v1/blocks/{id}", tag = "people", security(("token" = [])),
    params(("id" = Id, Path, description = "Whom")),
    responses((status = 204, description = "Blocked"))
)]
pub(super) async fn block(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
) -> Result<StatusCode, Problem> {
    let answer = app.ask(Command::Block { user: caller.user, other: id.number() }).await?;
    Ok(wanted!(answer, Answer::Done => StatusCode::NO_CONTENT))
}

/// Unblock a user
///
/// What came while the user was blocked is never delivered.
#[utoipa::path(
    delete, path = "/v1/blocks/{id}", tag = "people", security(("token" = [])),
    params(("id" = Id, Path, description = "Whom")),
    responses((status = 204, description = "Not blocked (any more)"))
)]
pub(super) async fn unblock(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
) -> Result<StatusCode, Problem> {
    let answer = app.ask(Command::Unblock { user: caller.user, other: id.number() }).await?;
    Ok(wanted!(answer, Answer::Done => StatusCode::NO_CONTENT))
}

/// A page of something of the caller's.
pub(super) fn rows(caller: Caller, which: Which) -> Result<Rows, Problem> {
    let (after, limit) = which.read()?;
    Ok(Rows { user: caller.user, after: (after > 0).then_some(after), limit })
}
