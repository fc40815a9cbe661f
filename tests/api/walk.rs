//! Every endpoint of the document, walked as nobody, with a token that is none, with the other kind
//! of token, as a suspended user, as the wrong user and as the right one.
//!
//! The operations come from the document: one without a row here fails.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::street::{ADMIN, PASSWORD, Person, Street};

/// What a walk through one endpoint needs.
struct Row {
    /// With the ids of things that belong to whom `token` is of.
    path: String,
    body: Option<Value>,
    /// Of the right one.
    token: String,
    /// What the right one gets.
    right: u16,
    /// What somebody else gets; `None`: everybody acts on one's own.
    wrong: Option<u16>,
}

/// The people of the walk.
struct Cast<'s> {
    street: &'s Street,
    ann: Person,
    bob: Person,
    suspended: Person,
}

impl Cast<'_> {
    fn row(&self, path: &str, right: u16) -> Row {
        let token = self.ann.token.clone();
        Row { path: path.to_owned(), body: None, token, right, wrong: None }
    }

    fn admin(&self, path: &str, right: u16) -> Row {
        Row { token: ADMIN.to_owned(), ..self.row(path, right) }
    }

    /// A group of Ann's with a member besides her, and that member.
    fn group(&self) -> (String, Person) {
        let member = self.street.person("cat");
        (hikers(self.street, &self.ann, &[&member]), member)
    }

    /// An invitation for Ann to a group of Bob's.
    fn invitation(&self) -> String {
        let (street, ann) = (self.street, Some(self.ann.token.as_str()));
        let nobody = json!({"group_adders": "nobody"});
        street.ask("PATCH", "/v1/accounts/me", ann, Some(&nobody)).is(200);
        let bob = Some(self.bob.token.as_str());
        let group = street.ask("POST", "/v1/groups", bob, Some(&json!({"name": "B"})));
        let path = format!("/v1/groups/{}/members", group.is(201).text("id"));
        let asked = street.ask("POST", &path, bob, Some(&json!({"id": self.ann.id})));
        assert_eq!(asked.is(202).body["state"], "invited");
        let page = street.ask("GET", "/v1/invitations", ann, None).is(200);
        let items = page.body["items"].as_array().unwrap().clone();
        items.last().unwrap()["id"].as_str().unwrap().to_owned()
    }

    fn report(&self) -> String {
        let body = json!({"user": self.bob.id, "reason": "spam", "text": "look"});
        let token = Some(self.ann.token.as_str());
        self.street.ask("POST", "/v1/reports", token, Some(&body)).is(201).text("id")
    }
}

/// A group of an owner, with these members.
fn hikers(street: &Street, owner: &Person, members: &[&Person]) -> String {
    let token = Some(owner.token.as_str());
    let body = json!({"name": "Hikers"});
    let group = street.ask("POST", "/v1/groups", token, Some(&body)).is(201).text("id");
    let path = format!("/v1/groups/{group}/members");
    for member in members {
        street.ask("POST", &path, token, Some(&json!({"id": member.id}))).is(201);
    }
    group
}

fn message(to: &Person, client_id: u64) -> Value {
    json!({
        "to": {"user": to.id},
        "client_id": client_id.to_string(),
        "payload": STANDARD.encode("hello"),
    })
}

/// What there is to walk, but for groups.
fn row(cast: &Cast<'_>, operation: &str) -> Option<Row> {
    let street = cast.street;
    let with = |row: Row, body: Value| Row { body: Some(body), ..row };
    let other = || street.person("dan");
    let fresh = |row: Row| Row { token: street.person("eve").token, ..row };
    let user = |path: &str| path.replace("{id}", &cast.bob.id);
    Some(match operation {
        "GET /v1/health" | "GET /v1/openapi.json" => {
            cast.row(operation.split_once(' ').unwrap().1, 200)
        }
        "POST /v1/accounts" => with(
            cast.row("/v1/accounts", 201),
            json!({"name": "fay", "password": PASSWORD, "label": "phone"}),
        ),
        "GET /v1/accounts/me" => cast.row("/v1/accounts/me", 200),
        "PATCH /v1/accounts/me" => {
            with(cast.row("/v1/accounts/me", 200), json!({"about": "hello"}))
        }
        "DELETE /v1/accounts/me" => {
            with(fresh(cast.row("/v1/accounts/me", 204)), json!({"password": PASSWORD}))
        }
        "PUT /v1/accounts/me/password" => with(
            fresh(cast.row("/v1/accounts/me/password", 204)),
            json!({"old": PASSWORD, "new": "another correct horse"}),
        ),
        "POST /v1/sessions" => with(
            cast.row("/v1/sessions", 201),
            json!({"handle": cast.bob.name, "password": PASSWORD}),
        ),
        "POST /v1/sessions/refresh" => {
            with(cast.row("/v1/sessions/refresh", 201), json!({"refresh_token": other().refresh}))
        }
        "DELETE /v1/sessions/current" => fresh(cast.row("/v1/sessions/current", 204)),
        "GET /v1/devices" => cast.row("/v1/devices", 200),
        "DELETE /v1/devices/{device}" => fresh(cast.row("/v1/devices/1", 204)),
        "GET /v1/users" => cast.row(&format!("/v1/users?handle={}", cast.bob.name), 200),
        "GET /v1/users/{id}" => cast.row(&user("/v1/users/{id}"), 200),
        "GET /v1/contacts" => cast.row("/v1/contacts", 200),
        "PUT /v1/contacts/{id}" => {
            with(cast.row(&user("/v1/contacts/{id}"), 204), json!({"alias": "Bobby"}))
        }
        "DELETE /v1/contacts/{id}" => cast.row(&user("/v1/contacts/{id}"), 204),
        "GET /v1/blocks" => cast.row("/v1/blocks", 200),
        "PUT /v1/blocks/{id}" => cast.row(&format!("/v1/blocks/{}", other().id), 204),
        "DELETE /v1/blocks/{id}" => cast.row(&user("/v1/blocks/{id}"), 204),
        "POST /v1/messages" => with(cast.row("/v1/messages", 201), message(&cast.bob, 1)),
        "POST /v1/reports" => {
            with(cast.row("/v1/reports", 201), json!({"user": cast.bob.id, "reason": "spam"}))
        }
        _ => return admin_row(cast, operation),
    })
}

/// What only the operator may.
fn admin_row(cast: &Cast<'_>, operation: &str) -> Option<Row> {
    let street = cast.street;
    let with = |row: Row, body: Value| Row { body: Some(body), ..row };
    let other = || street.person("dan");
    let user = |path: &str| path.replace("{id}", &cast.bob.id);
    Some(match operation {
        "POST /v1/admin/messages" => with(
            cast.admin("/v1/admin/messages", 201),
            json!({"from": other().id, "message": message(&cast.bob, 1)}),
        ),
        "GET /v1/admin/users" => cast.admin("/v1/admin/users?prefix=ann", 200),
        "POST /v1/admin/users" => with(cast.admin("/v1/admin/users", 201), json!({"name": "bot"})),
        "GET /v1/admin/users/{id}" => cast.admin(&user("/v1/admin/users/{id}"), 200),
        "DELETE /v1/admin/users/{id}" => {
            cast.admin(&format!("/v1/admin/users/{}", other().id), 204)
        }
        "PUT /v1/admin/users/{id}/suspension" => with(
            cast.admin(&format!("/v1/admin/users/{}/suspension", other().id), 204),
            json!({"note": "spam"}),
        ),
        "DELETE /v1/admin/users/{id}/suspension" => {
            cast.admin(&user("/v1/admin/users/{id}/suspension"), 204)
        }
        "GET /v1/admin/invites" => cast.admin("/v1/admin/invites", 200),
        "POST /v1/admin/invites" => {
            with(cast.admin("/v1/admin/invites", 201), json!({"uses": 2, "valid_s": 60}))
        }
        "DELETE /v1/admin/invites/{id}" => {
            let body = json!({"valid_s": 60});
            let made = street.ask("POST", "/v1/admin/invites", Some(ADMIN), Some(&body)).is(201);
            let id = made.body["invite"]["id"].as_str().unwrap();
            cast.admin(&format!("/v1/admin/invites/{id}"), 204)
        }
        "GET /v1/admin/reports" => cast.admin("/v1/admin/reports?open=true", 200),
        "PUT /v1/admin/reports/{id}/closed" => with(
            cast.admin(&format!("/v1/admin/reports/{}/closed", cast.report()), 204),
            json!({"note": "warned"}),
        ),
        "GET /v1/admin/stats" => cast.admin("/v1/admin/stats", 200),
        _ => return None,
    })
}

/// The same for groups. Who is no member may not know that there is one.
fn group_row(cast: &Cast<'_>, operation: &str) -> Option<Row> {
    let with = |row: Row, body: Value| Row { body: Some(body), ..row };
    let hidden = |row: Row| Row { wrong: Some(404), ..row };
    let of = |rest: &str, right| {
        let (group, member) = cast.group();
        let path = format!("/v1/groups/{group}{rest}").replace("{user}", &member.id);
        hidden(cast.row(&path, right))
    };
    Some(match operation {
        "POST /v1/groups" => with(cast.row("/v1/groups", 201), json!({"name": "New"})),
        "GET /v1/groups" => cast.row("/v1/groups", 200),
        "GET /v1/groups/{id}" => of("", 200),
        "PATCH /v1/groups/{id}" => with(of("", 200), json!({"name": "Renamed"})),
        "DELETE /v1/groups/{id}" => of("", 204),
        "POST /v1/groups/{id}/leave" => {
            let (group, member) = cast.group();
            let row = hidden(cast.row(&format!("/v1/groups/{group}/leave"), 204));
            Row { token: member.token, ..row }
        }
        "GET /v1/groups/{id}/members" => of("/members", 200),
        "POST /v1/groups/{id}/members" => {
            with(of("/members", 201), json!({"id": cast.street.person("gus").id}))
        }
        "PATCH /v1/groups/{id}/members/{user}" => {
            with(of("/members/{user}", 204), json!({"role": "admin"}))
        }
        "DELETE /v1/groups/{id}/members/{user}" => of("/members/{user}", 204),
        "GET /v1/groups/{id}/messages/{position}/marks" => {
            let (group, _) = cast.group();
            let body = json!({"to": {"group": group}, "client_id": "7", "payload": ""});
            let token = Some(cast.ann.token.as_str());
            let sent = cast.street.ask("POST", "/v1/messages", token, Some(&body));
            let position = sent.is(201).text("position");
            hidden(cast.row(&format!("/v1/groups/{group}/messages/{position}/marks"), 200))
        }
        "GET /v1/invitations" => cast.row("/v1/invitations", 200),
        "POST /v1/invitations/{id}/accept" => {
            let path = format!("/v1/invitations/{}/accept", cast.invitation());
            hidden(cast.row(&path, 200))
        }
        "DELETE /v1/invitations/{id}" => {
            hidden(cast.row(&format!("/v1/invitations/{}", cast.invitation()), 204))
        }
        _ => return None,
    })
}

fn walk(operations: &[(String, String)], rows: impl Fn(&Cast<'_>, &str) -> Option<Row>) {
    let street = Street::open();
    let (ann, bob) = (street.person("ann"), street.person("bob"));
    let suspended = street.person("sue");
    let path = format!("/v1/admin/users/{}/suspension", suspended.id);
    street.ask("PUT", &path, Some(ADMIN), Some(&json!({"note": "test"}))).is(204);
    let cast = Cast { street: &street, ann, bob, suspended };
    for (operation, wants) in operations {
        let Some(row) = rows(&cast, operation) else {
            panic!("{operation} has no row in tests/api/walk.rs")
        };
        let method = operation.split_once(' ').unwrap().0;
        println!("{operation}: {}", row.path);
        let ask = |token: Option<&str>| street.ask(method, &row.path, token, row.body.as_ref());
        if !wants.is_empty() {
            ask(None).fails(401, "unauthorized");
            ask(Some("no.token.atall")).fails(401, "unauthorized");
        }
        match wants.as_str() {
            "token" => {
                ask(Some(ADMIN)).fails(401, "unauthorized");
                ask(Some(&cast.suspended.token)).fails(403, "suspended");
                if let Some(wrong) = row.wrong {
                    ask(Some(&cast.bob.token)).fails(wrong, "not_found");
                }
            }
            "admin" => {
                for person in [&cast.ann, &cast.suspended] {
                    ask(Some(&person.token)).fails(401, "unauthorized");
                }
            }
            _ => {}
        }
        let right = ask(Some(&row.token));
        assert_eq!(right.status, row.right, "{operation}: {right:?}");
        assert!(right.header("x-request-id").is_some(), "{right:?}");
    }
}

/// Operations with what they want to see, groups apart from the others.
fn operations() -> BTreeMap<bool, Vec<(String, String)>> {
    let mut parts: BTreeMap<bool, Vec<(String, String)>> = BTreeMap::new();
    for (method, path, wants) in myriad::api::operations() {
        let of_groups = path.starts_with("/v1/groups") || path.starts_with("/v1/invitations");
        let operation = (format!("{method} {path}"), wants.unwrap_or_default());
        parts.entry(of_groups).or_default().push(operation);
    }
    parts
}

#[test]
fn every_endpoint_serves_the_right_one_and_nobody_else() {
    walk(&operations()[&false], row);
}

#[test]
fn every_endpoint_of_groups_serves_the_right_one_and_nobody_else() {
    walk(&operations()[&true], group_row);
}

/// What is refused, or does nothing, though the path names nothing of somebody else's.
#[test]
fn who_is_no_member_neither_writes_to_a_group_nor_answers_for_others() {
    let street = Street::open();
    let (ann, bob) = (street.person("ann"), street.person("bob"));
    let suspended = street.person("sue");
    let cast = Cast { street: &street, ann, bob, suspended };
    let (bob, ann) = (Some(cast.bob.token.as_str()), Some(cast.ann.token.as_str()));
    let (group, _) = cast.group();
    let body = json!({"to": {"group": group}, "client_id": "1", "payload": ""});
    let refused = street.ask("POST", "/v1/messages", bob, Some(&body)).is(422);
    let unknown = json!({"to": {"group": "4711"}, "client_id": "2", "payload": ""});
    let never_was = street.ask("POST", "/v1/messages", bob, Some(&unknown)).is(422);
    assert_eq!(refused.body["reason"], never_was.body["reason"], "it may not be told apart");

    let invitation = cast.invitation();
    let path = format!("/v1/invitations/{invitation}");
    street.ask("DELETE", &path, bob, None).is(404);
    let page = street.ask("GET", "/v1/invitations", ann, None).is(200);
    let items = page.body["items"].as_array().unwrap().clone();
    assert!(items.iter().any(|item| item["id"] == invitation.as_str()), "{page:?}");
}

#[test]
fn a_member_without_a_role_changes_nothing_in_its_group() {
    let street = Street::open();
    let [ann, cat, dan, gus] = ["ann", "cat", "dan", "gus"].map(|name| street.person(name));
    let as_ann = |method, path: &str, body: Option<&Value>| {
        street.ask(method, path, Some(ann.token.as_str()), body)
    };
    let group = hikers(&street, &ann, &[&cat, &dan]);
    let whole = format!("/v1/groups/{group}");
    let members = format!("{whole}/members");
    let nobody = json!({"group_adders": "nobody"});
    let gus_token = Some(gus.token.as_str());
    street.ask("PATCH", "/v1/accounts/me", gus_token, Some(&nobody)).is(200);
    let of = |person: &Person| format!("{members}/{}", person.id);
    for (method, path, body) in [
        ("PATCH", whole.clone(), Some(json!({"name": "Mine"}))),
        ("POST", members.clone(), Some(json!({"id": gus.id}))),
        ("PATCH", of(&cat), Some(json!({"role": "admin"}))),
        ("PATCH", of(&dan), Some(json!({"role": "admin"}))),
        ("DELETE", of(&dan), None),
        ("DELETE", of(&ann), None),
        ("DELETE", whole.clone(), None),
    ] {
        let answer = street.ask(method, &path, Some(cat.token.as_str()), body.as_ref());
        println!("{method} {path}: {}", answer.status);
        answer.fails(403, "forbidden");
    }
    assert_eq!(as_ann("GET", &whole, None).is(200).text("name"), "Hikers");
    let page = as_ann("GET", &members, None).is(200);
    let roles: BTreeMap<&str, &str> = page.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["id"].as_str().unwrap(), it["role"].as_str().unwrap()))
        .collect();
    let there = [(ann.id.as_str(), "owner"), (&cat.id, "member"), (&dan.id, "member")];
    assert_eq!(roles, BTreeMap::from(there));
    let invited = street.ask("GET", "/v1/invitations", gus_token, None).is(200);
    assert_eq!(invited.body["items"], json!([]), "no invitation was left");
}

#[test]
fn where_members_stand_is_for_authors() {
    let street = Street::open();
    let [ann, cat] = ["ann", "cat"].map(|name| street.person(name));
    let (ann_token, cat_token) = (Some(ann.token.as_str()), Some(cat.token.as_str()));
    let group = hikers(&street, &ann, &[&cat]);
    let members = format!("/v1/groups/{group}/members");
    let body = json!({"to": {"group": group}, "client_id": "1", "payload": ""});
    let sent = street.ask("POST", "/v1/messages", ann_token, Some(&body)).is(201);
    let position = sent.text("position");
    let has_of_ann = |path: &str, token| {
        let page = street.ask("GET", path, token, None).is(200);
        let items = page.body["items"].as_array().unwrap().clone();
        let of_ann = items.into_iter().find(|it| it["id"] == ann.id.as_str()).unwrap();
        of_ann["has"].as_str().unwrap().to_owned()
    };
    let has = has_of_ann(&members, ann_token);
    assert_ne!(has, "0", "everybody sees where one stands oneself");
    assert_eq!(has_of_ann(&members, cat_token), "0");
    let marks = format!("/v1/groups/{group}/messages/{position}/marks");
    assert_eq!(has_of_ann(&marks, ann_token), has);
    street.ask("GET", &marks, cat_token, None).fails(403, "forbidden");
}

#[test]
fn whom_an_admin_will_not_have_comes_back_by_no_old_invitation() {
    let street = Street::open();
    let [ann, bob] = ["ann", "bob"].map(|name| street.person(name));
    let (ann_token, bob_token) = (Some(ann.token.as_str()), Some(bob.token.as_str()));
    let group = hikers(&street, &ann, &[]);
    let members = format!("/v1/groups/{group}/members");
    let adders = |who: &str| {
        let patch = json!({"group_adders": who});
        street.ask("PATCH", "/v1/accounts/me", bob_token, Some(&patch)).is(200);
    };
    let add =
        |status| street.ask("POST", &members, ann_token, Some(&json!({"id": bob.id}))).is(status);
    let invitations = || {
        let page = street.ask("GET", "/v1/invitations", bob_token, None).is(200);
        page.body["items"].as_array().unwrap().clone()
    };
    adders("nobody");
    add(202);
    assert_eq!(invitations().len(), 1);
    adders("everybody");
    add(201);
    assert_eq!(invitations().len(), 0, "who is in needs none");
    let one = format!("{members}/{}", bob.id);
    street.ask("DELETE", &one, ann_token, None).is(204);
    adders("nobody");
    add(202);
    street.ask("DELETE", &one, ann_token, None).is(204);
    assert_eq!(invitations().len(), 0, "it was withdrawn");
}
