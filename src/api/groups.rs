//! Groups: each is a stream at its home shard, which checks who may do what.

use super::App;
use super::ask::wanted;
use super::body::{Asked, At, Given};
use super::caller::Caller;
use super::id::{Id, Number};
use super::once::IDEMPOTENCY_KEY;
use super::page::{Page, Which};
use super::problem::{Code, Problem};
use crate::limits;
use crate::state::order::{Done, Fault, GroupCard, GroupEdit, Order, Role};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use utoipa::ToSchema;

/// A new group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewGroup {
    /// Its name.
    #[schema(min_length = 1, example = "Hikers")]
    name: String,
}

/// What a member is in a group.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Role)]
pub(super) enum RoleView {
    /// Reads and writes.
    Member,
    /// Also adds, removes, renames.
    Admin,
    /// Also makes admins, hands over, ends.
    Owner,
}

impl From<Role> for RoleView {
    fn from(role: Role) -> Self {
        match role {
            Role::Member => Self::Member,
            Role::Admin => Self::Admin,
            Role::Owner => Self::Owner,
        }
    }
}

/// A group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Group)]
pub(super) struct GroupView {
    /// Its id.
    id: Id,
    /// Its name.
    name: String,
    /// Who owns it.
    owner: Id,
    /// How many members it has.
    members: u32,
    /// What the caller is in it.
    role: Option<RoleView>,
    /// It is so large that members are told there is something and fetch it themselves.
    pulls: bool,
    /// The newest position of its stream.
    head: Number,
}

impl From<GroupCard> for GroupView {
    fn from(card: GroupCard) -> Self {
        Self {
            id: card.group.into(),
            name: card.name,
            owner: card.owner.into(),
            members: card.members,
            role: card.role.map(RoleView::from),
            pulls: card.pulls,
            head: Number(card.head),
        }
    }
}

/// A change of a group: one of these.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupPatch {
    /// Another name. Admins and the owner may.
    #[schema(min_length = 1)]
    name: Option<String>,
    /// Another owner, who is a member. The owner may, and is an admin afterwards.
    owner: Option<Id>,
}

/// Make a group
///
/// The caller owns it.
#[utoipa::path(
    post, path = "/v1/groups", tag = "groups", security(("token" = [])), request_body = NewGroup,
    responses((status = 201, body = GroupView, description = "The group"))
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Given(NewGroup { name }): Given<NewGroup>,
) -> Result<(StatusCode, Json<GroupView>), Problem> {
    let name = valid_name(name)?;
    let owner = caller.user;
    let key = headers.get(IDEMPOTENCY_KEY);
    for attempt in 0..limits::API_ID_TRIES {
        // A repeat with the same key finds the group it made, even if a crash took the answer.
        let group = match key {
            Some(key) => keyed_id((owner, attempt), key.as_bytes(), &name),
            None => random_id()?,
        };
        match app.home(Order::GroupCreate { group, owner, name: name.clone() }).await {
            Ok(_) => {
                let group = look(&app, group, owner).await?;
                return Ok((StatusCode::CREATED, Json(group)));
            }
            // Somebody else's already, one time in a thousand million million.
            Err(Fault::Conflict) => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    Err(Problem::overloaded())
}

/// Page through one's own groups
#[utoipa::path(
    get, path = "/v1/groups", tag = "groups", security(("token" = [])), params(Which),
    responses((status = 200, body = Page<GroupView>, description = "A page of groups"))
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<GroupView>>, Problem> {
    let (after, limit) = which.read()?;
    let done = app.order(Order::GroupsOf { user: caller.user, after, limit }).await?;
    let (groups, more) = wanted!(done, Done::Groups { groups, more } => (groups, more));
    let last = groups.last().copied();
    let looks = groups.into_iter().map(|group| {
        let order = Order::GroupLook { group, by: caller.user };
        let app = Arc::clone(&app);
        tokio::spawn(async move { app.home(order).await })
    });
    let mut items = Vec::new();
    for look in looks.collect::<Vec<_>>() {
        match look.await.map_err(|_| Problem::stopping())? {
            Ok(done) => items.push(wanted!(done, Done::Group(card) => GroupView::from(card))),
            // Left or ended a moment ago.
            Err(Fault::Unknown) => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(Json(Page::up_to(items, more.then_some(last).flatten().map(Id::from))))
}

/// Look at a group
#[utoipa::path(
    get, path = "/v1/groups/{id}", tag = "groups", security(("token" = [])),
    params(("id" = Id, Path, description = "The group")),
    responses((status = 200, body = GroupView, description = "The group"))
)]
pub(super) async fn group(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
) -> Result<Json<GroupView>, Problem> {
    Ok(Json(look(&app, id.number(), caller.user).await?))
}

/// Rename a group, or hand it over
#[utoipa::path(
    patch, path = "/v1/groups/{id}", tag = "groups", security(("token" = [])),
    params(("id" = Id, Path, description = "The group")), request_body = GroupPatch,
    responses((status = 200, body = GroupView, description = "The group as it is now"))
)]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
    Given(patch): Given<GroupPatch>,
) -> Result<Json<GroupView>, Problem> {
    let (group, by) = (id.number(), caller.user);
    let change = match (patch.name, patch.owner) {
        (Some(name), None) => GroupEdit::Rename(valid_name(name)?),
        (None, Some(owner)) => GroupEdit::HandOver(owner.number()),
        _ => return Err(Problem::invalid("Change either the name or the owner.")),
    };
    edit(&app, group, by, change).await?;
    Ok(Json(look(&app, group, by).await?))
}

/// End a group
///
/// For all its members. The owner may.
#[utoipa::path(
    delete, path = "/v1/groups/{id}", tag = "groups", security(("token" = [])),
    params(("id" = Id, Path, description = "The group")),
    responses((status = 204, description = "It is gone"))
)]
pub(super) async fn end(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
) -> Result<StatusCode, Problem> {
    edit(&app, id.number(), caller.user, GroupEdit::End).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Leave a group
///
/// The last one to leave ends it; an owner who is not alone hands over before.
#[utoipa::path(
    post, path = "/v1/groups/{id}/leave", tag = "groups", security(("token" = [])),
    params(("id" = Id, Path, description = "The group")),
    responses((status = 204, description = "Left"))
)]
pub(super) async fn leave(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
) -> Result<StatusCode, Problem> {
    edit(&app, id.number(), caller.user, GroupEdit::Leave).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes a group as `by` may.
pub(super) async fn edit(app: &App, group: u64, by: u64, edit: GroupEdit) -> Result<(), Problem> {
    let done = app.order(Order::GroupEdit { group, by, edit }).await?;
    wanted!(done, Done::Changed { .. } | Done::Obeyed => Ok(()))
}

/// A group as `by` may see it.
pub(super) async fn look(app: &App, group: u64, by: u64) -> Result<GroupView, Problem> {
    let done = app.order(Order::GroupLook { group, by }).await?;
    Ok(wanted!(done, Done::Group(card) => card.into()))
}

impl GroupView {
    /// That whom it was shown to is an admin or the owner.
    pub(super) fn check_admin(&self) -> Result<(), Problem> {
        match self.role {
            Some(RoleView::Admin | RoleView::Owner) => Ok(()),
            _ => Err(Problem::new(
                Code::Forbidden,
                "Only admins and the owner add members; ask one of them.",
            )),
        }
    }
}

fn valid_name(name: String) -> Result<String, Problem> {
    let most = limits::GROUP_NAME_BYTES_MAX;
    if name.trim().is_empty() || name.len() > most || name.chars().any(char::is_control) {
        return Err(Problem::invalid(format!(
            "name: 1 to {most} bytes, not only spaces, no control characters."
        )));
    }
    Ok(name)
}

/// An id that nobody can guess and JavaScript can hold, never 0.
fn random_id() -> Result<u64, Problem> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| Problem::overloaded())?;
    Ok(id_of(bytes))
}

/// The id of the group that this user makes with this key: as hard to guess as the key.
fn keyed_id((owner, attempt): (u64, usize), key: &[u8], name: &str) -> u64 {
    let mut hash = Sha256::new();
    for number in [owner, attempt as u64, key.len() as u64] {
        hash.update(number.to_le_bytes());
    }
    hash.update(key);
    hash.update(name);
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
    id_of([a, b, c, d, e, f, g, h])
}

fn id_of(bytes: [u8; 8]) -> u64 {
    (u64::from_le_bytes(bytes) >> (64 - limits::ID_BITS)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_keyed_group_depends_on_all_that_makes_it() {
        let id = keyed_id((7, 0), b"key", "Hikers");
        assert_eq!(id, keyed_id((7, 0), b"key", "Hikers"));
        let others = [
            keyed_id((8, 0), b"key", "Hikers"),
            keyed_id((7, 1), b"key", "Hikers"),
            keyed_id((7, 0), b"keyH", "ikers"),
            keyed_id((7, 0), b"key", "Bikers"),
        ];
        assert!(others.iter().all(|other| *other != id && *other < 1 << limits::ID_BITS));
    }

    #[test]
    fn ids_fit_the_numbers_of_javascript() {
        for _ in 0..1_000 {
            let id = random_id().unwrap();
            assert!((1..1 << 53).contains(&id));
        }
    }

    #[test]
    fn a_name_is_short_and_says_something() {
        assert_eq!(valid_name("Über uns".to_owned()).unwrap(), "Über uns");
        for name in ["", "  ", "a\nb", &"x".repeat(limits::GROUP_NAME_BYTES_MAX + 1)] {
            valid_name(name.to_owned()).unwrap_err();
        }
    }
}
