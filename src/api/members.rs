//! Members of groups, who has which message, and invitations.

use super::App;
use super::ask::wanted;
use super::body::{Asked, At, Given};
use super::caller::Caller;
use super::groups::{GroupView, RoleView, edit, look};
use super::id::{Id, Number};
use super::page::{Page, Which};
use super::people::rows;
use super::problem::Problem;
use crate::directory::{Answer, Command, GroupAdd, Invitation};
use crate::state::order::{Done, GroupEdit, MemberCard, Order};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A member of a group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub(super) struct MemberView {
    /// Who.
    id: Id,
    /// As what.
    role: RoleView,
    /// Joined at this position of the group's stream.
    since: Number,
    /// Has everything up to here. Of others only an author learns it, with a message's marks; else
    /// 0.
    has: Number,
    /// Read everything up to here, in the same way. 0: or the member gives no receipts.
    read: Number,
}

impl From<MemberCard> for MemberView {
    fn from(card: MemberCard) -> Self {
        Self {
            id: card.user.into(),
            role: card.role.into(),
            since: Number(card.since),
            has: Number(card.has),
            read: Number(card.read),
        }
    }
}

/// Who is to be a member.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMember {
    /// The user.
    id: Id,
}

/// What came of adding somebody.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Added {
    /// Whether the user is a member, or was asked.
    state: AddedState,
}

/// Whether somebody is a member, or was asked.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AddedState {
    /// The user is a member.
    Member,
    /// An invitation was left: the user decides.
    Invited,
}

/// Another role.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRole {
    /// `owner` hands the group over.
    role: RoleView,
}

/// An invitation to a group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitation)]
pub(super) struct InvitationView {
    /// Its number.
    id: Id,
    /// The group.
    group: Id,
    /// Who invites.
    by: Id,
    /// When, in seconds since 1970.
    at_s: u64,
}

impl From<Invitation> for InvitationView {
    fn from(invitation: Invitation) -> Self {
        let Invitation { id, group, by, at_s } = invitation;
        Self { id: id.into(), group: group.into(), by: by.into(), at_s }
    }
}

/// Page through the members of a group
#[utoipa::path(
    get, path = "/v1/groups/{id}/members", tag = "groups", security(("token" = [])),
    params(("id" = Id, Path, description = "The group"), Which),
    responses((status = 200, body = Page<MemberView>, description = "A page of members"))
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<MemberView>>, Problem> {
    let (after, limit) = which.read()?;
    let order = Order::GroupMembers { group: id.number(), by: caller.user, after, limit };
    members(app.order(order).await?)
}

/// See who has and who has read a message
///
/// For its author; once every member has it, for everybody who may read it.
#[utoipa::path(
    get, path = "/v1/groups/{id}/messages/{position}/marks", tag = "groups",
    security(("token" = [])),
    params(
        ("id" = Id, Path, description = "The group"),
        ("position" = Number, Path, description = "Where the message is in its stream"),
        Which,
    ),
    responses((status = 200, body = Page<MemberView>, description = "A page of members"))
)]
pub(super) async fn marks(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((id, position)): At<(Id, Number)>,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<MemberView>>, Problem> {
    let (after, limit) = which.read()?;
    let (group, by, position) = (id.number(), caller.user, position.0);
    let mut done = app.order(Order::GroupMarks { group, by, position, after, limit }).await?;
    let account = app.ask(Command::Account { user: by }).await?;
    let gives_none = wanted!(account, Answer::Account(account) => account.receipts_off);
    if let Done::Members { members, .. } = &mut done
        && gives_none
    {
        // Who tells nobody what was read is not told either.
        members.iter_mut().filter(|member| member.user != by).for_each(|member| member.read = 0);
    }
    members(done)
}

fn members(done: Done) -> Result<Json<Page<MemberView>>, Problem> {
    let (members, more) = wanted!(done, Done::Members { members, more } => (members, more));
    let members = members.into_iter().map(MemberView::from).collect();
    Ok(Json(Page::new(members, more, |member| member.id)))
}

/// Add a member
///
/// Users who don't let the caller add them unasked get an invitation and decide themselves.
#[utoipa::path(
    post, path = "/v1/groups/{id}/members", tag = "groups", security(("token" = [])),
    params(("id" = Id, Path, description = "The group")), request_body = NewMember,
    responses(
        (status = 201, body = Added, description = "A member"),
        (status = 202, body = Added, description = "Invited")
    )
)]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
    Given(NewMember { id: target }): Given<NewMember>,
) -> Result<(StatusCode, Json<Added>), Problem> {
    let (group, by, target) = (id.number(), caller.user, target.number());
    look(&app, group, by).await?.check_admin()?;
    let answer = app.ask(Command::AskToAdd { by, target, group }).await?;
    match wanted!(answer, Answer::GroupAdd(how) => how) {
        GroupAdd::Now => {
            uninvite(&app, target, group).await?;
            edit(&app, group, by, GroupEdit::Add(target)).await?;
            Ok((StatusCode::CREATED, Json(Added { state: AddedState::Member })))
        }
        GroupAdd::Asked => Ok((StatusCode::ACCEPTED, Json(Added { state: AddedState::Invited }))),
    }
}

/// Give a member another role
///
/// The owner may.
#[utoipa::path(
    patch, path = "/v1/groups/{id}/members/{user}", tag = "groups", security(("token" = [])),
    params(
        ("id" = Id, Path, description = "The group"),
        ("user" = Id, Path, description = "The member"),
    ),
    request_body = NewRole,
    responses((status = 204, description = "So it is"))
)]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((id, user)): At<(Id, Id)>,
    Given(NewRole { role }): Given<NewRole>,
) -> Result<StatusCode, Problem> {
    let user = user.number();
    let change = match role {
        RoleView::Member => GroupEdit::Demote(user),
        RoleView::Admin => GroupEdit::Promote(user),
        RoleView::Owner => GroupEdit::HandOver(user),
    };
    edit(&app, id.number(), caller.user, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a member
///
/// Admins and the owner may; everybody may remove oneself. Invitations to the group end as well,
/// also those of somebody who is no member yet.
#[utoipa::path(
    delete, path = "/v1/groups/{id}/members/{user}", tag = "groups", security(("token" = [])),
    params(
        ("id" = Id, Path, description = "The group"),
        ("user" = Id, Path, description = "The member"),
    ),
    responses((status = 204, description = "No member (any more)"))
)]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((id, user)): At<(Id, Id)>,
) -> Result<StatusCode, Problem> {
    let (group, user) = (id.number(), user.number());
    let change = if user == caller.user {
        GroupEdit::Leave
    } else {
        look(&app, group, caller.user).await?.check_admin()?;
        GroupEdit::Remove(user)
    };
    // First, so that no invitation from before lets in again whom an admin will not have.
    uninvite(&app, user, group).await?;
    edit(&app, group, caller.user, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes back all invitations of a user to a group.
async fn uninvite(app: &App, target: u64, group: u64) -> Result<(), Problem> {
    let answer = app.ask(Command::Uninvite { target, group }).await?;
    wanted!(answer, Answer::Done => ());
    Ok(())
}

/// Page through one's own invitations
#[utoipa::path(
    get, path = "/v1/invitations", tag = "groups", security(("token" = [])), params(Which),
    responses((status = 200, body = Page<InvitationView>, description = "A page of invitations"))
)]
pub(super) async fn invitations(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<InvitationView>>, Problem> {
    let answer = app.ask(Command::Invitations(rows(caller, which)?)).await?;
    let (invitations, more) =
        wanted!(answer, Answer::Invitations { invitations, more } => (invitations, more));
    let invitations = invitations.into_iter().map(InvitationView::from).collect();
    Ok(Json(Page::new(invitations, more, |invitation| invitation.id)))
}

/// Follow an invitation
///
/// Who invited must still be an admin of the group.
#[utoipa::path(
    post, path = "/v1/invitations/{id}/accept", tag = "groups", security(("token" = [])),
    params(("id" = Id, Path, description = "The invitation")),
    responses((status = 200, body = GroupView, description = "The group, of a member now"))
)]
pub(super) async fn accept(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
) -> Result<Json<GroupView>, Problem> {
    let (user, id) = (caller.user, id.number());
    let answer = app.ask(Command::Invitation { user, id }).await?;
    let Invitation { group, by, .. } = wanted!(answer, Answer::Invitation(it) => it);
    edit(&app, group, by, GroupEdit::Add(user)).await?;
    let answer = app.ask(Command::EndInvitation { user, id }).await?;
    wanted!(answer, Answer::Done => ());
    Ok(Json(look(&app, group, user).await?))
}

/// Decline an invitation
#[utoipa::path(
    delete, path = "/v1/invitations/{id}", tag = "groups", security(("token" = [])),
    params(("id" = Id, Path, description = "The invitation")),
    responses((status = 204, description = "Declined; who invited is not told"))
)]
pub(super) async fn decline(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<Id>,
) -> Result<StatusCode, Problem> {
    let command = Command::EndInvitation { user: caller.user, id: id.number() };
    Ok(wanted!(app.ask(command).await?, Answer::Done => StatusCode::NO_CONTENT))
}
