//! Groups and `kill -9`: people change their groups as fast as they can, and the server is killed
//! in the midst of it, again and again on the same files. What was answered must be so, what was
//! not answered may be or not, and all who know of a group must say the same: its own home, the
//! homes of its members, the directory's invitations, and who gets a message.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use loadgen::{ClientEvent, Peer};
use serde_json::{Value, json};

use super::street::{Answer, Person, Street, try_ask};
use crate::support::WAIT;

const KILLS: u64 = 10;
const OWNERS: u64 = 3;
const OTHERS: u64 = 5;
/// Groups of one owner: few, so that each is changed often.
const GROUPS: usize = 4;
/// How long somebody who is to hear nothing is listened to.
const SILENCE: Duration = Duration::from_millis(300);

/// What somebody may be in a group, as far as is known.
type Known = BTreeSet<&'static str>;

#[derive(Clone, Copy, Debug)]
enum Act {
    Add,
    Remove,
    Promote,
    Demote,
    /// Of one who is asked first.
    Accept,
}

impl Act {
    /// What somebody is after this.
    fn on(self, is: &'static str, asks_first: bool) -> &'static str {
        match (self, is) {
            (Self::Add, "none") if asks_first => "invited",
            // An invitation that was followed may be there still, if the server was killed then.
            (Self::Add, "none") | (Self::Accept, "invited" | "none") => "member",
            (Self::Demote, "admin") => "member",
            (Self::Promote, "member") => "admin",
            (Self::Remove, _) => "none", // who is invited is so no more
            _ => is,
        }
    }
}

#[derive(Debug)]
struct Group {
    id: String,
    names: BTreeSet<String>,
    people: BTreeMap<String, Known>,
}

/// Somebody who makes groups and changes them until the server is gone.
struct Owner {
    me: Person,
    /// The last one wants to be asked before it comes into a group.
    others: Vec<Person>,
    groups: Vec<Group>,
    /// Names of groups whose making was not answered.
    begun: BTreeSet<String>,
    random: u64,
}

impl Owner {
    fn random(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from((self.random >> 33) % below as u64).unwrap()
    }

    /// Until nobody answers; how many changes were answered.
    fn run(&mut self, api: &str) -> u64 {
        let mut answered = 0;
        while self.change(api) {
            answered += 1;
        }
        answered
    }

    /// One change. False: it was not answered.
    fn change(&mut self, api: &str) -> bool {
        let name = format!("name {}", self.random(1 << 30));
        if self.groups.len() < GROUPS {
            return self.make(api, name);
        }
        let (at, who) = (self.random(GROUPS), self.random(self.others.len()));
        let path = format!("/v1/groups/{}", self.groups[at].id);
        if self.random(6) == 0 {
            let body = json!({"name": name});
            let answer = try_ask(api, "PATCH", &path, Some(&self.me.token), Some(&body));
            let known = &mut self.groups[at].names;
            return settle(answer, |done| {
                if done {
                    known.clear();
                }
                known.insert(name);
            });
        }
        let act = [Act::Add, Act::Add, Act::Remove, Act::Promote, Act::Demote][self.random(5)];
        let asks_first = who == self.others.len() - 1;
        let accepts = asks_first && self.random(2) == 0;
        let act = if accepts { Act::Accept } else { act };
        let (group, user) = (self.groups[at].id.clone(), self.others[who].clone());
        let answer = match self.ask(api, act, &group, &user) {
            Some(answer) => Some(answer),
            None if accepts => return true, // it was not invited, or could not ask whether
            None => None,
        };
        let known = self.groups[at].people.get_mut(&user.id).unwrap();
        settle(answer, |done| {
            let after: Known = known.iter().map(|is| act.on(is, asks_first)).collect();
            if done {
                known.clear();
            }
            known.extend(after);
        })
    }

    /// None: no answer; of `Accept` also: there was no invitation.
    fn ask(&self, api: &str, act: Act, group: &str, user: &Person) -> Option<Answer> {
        let token = Some(self.me.token.as_str());
        let all = format!("/v1/groups/{group}/members");
        let one = format!("{all}/{}", user.id);
        let role = |role: &str| json!({"role": role});
        match act {
            Act::Add => try_ask(api, "POST", &all, token, Some(&json!({"id": user.id}))),
            Act::Remove => try_ask(api, "DELETE", &one, token, None),
            Act::Promote => try_ask(api, "PATCH", &one, token, Some(&role("admin"))),
            Act::Demote => try_ask(api, "PATCH", &one, token, Some(&role("member"))),
            Act::Accept => {
                let token = Some(user.token.as_str());
                let page = try_ask(api, "GET", "/v1/invitations?limit=200", token, None)?;
                let invitation = invitation_to(&page.body, group)?;
                let path = format!("/v1/invitations/{invitation}/accept");
                // Not answered: the caller knows that by what it finds afterwards.
                let answer = try_ask(api, "POST", &path, token, None);
                Some(answer.unwrap_or_else(Answer::none))
            }
        }
    }

    fn make(&mut self, api: &str, name: String) -> bool {
        let token = Some(self.me.token.as_str());
        let answer = try_ask(api, "POST", "/v1/groups", token, Some(&json!({"name": name})));
        let id = answer.as_ref().filter(|it| it.status == 201).map(|it| it.text("id"));
        let Self { groups, begun, others, .. } = self;
        settle(answer, |done| match id {
            Some(id) => groups.push(group(id, name, others)),
            None if done => {}
            None => {
                begun.insert(name);
            }
        })
    }
}

fn group(id: String, name: String, others: &[Person]) -> Group {
    let people = others.iter().map(|user| (user.id.clone(), Known::from(["none"]))).collect();
    Group { id, names: BTreeSet::from([name]), people }
}

/// What an answer says of a change: `note(true)` that it was obeyed or refused for good,
/// `note(false)` that nobody knows. False: the server is gone.
fn settle(answer: Option<Answer>, note: impl FnOnce(bool)) -> bool {
    let status = answer.map_or(0, |answer| answer.status);
    match status {
        429 => thread::sleep(Duration::from_millis(20)), // before anybody looked at it
        0 | 500.. => note(false),
        _ => note(true),
    }
    status != 0
}

fn invitation_to(page: &Value, group: &str) -> Option<String> {
    let items = page["items"].as_array()?;
    let item = items.iter().find(|item| item["group"] == group)?;
    item["id"].as_str().map(str::to_owned)
}

/// All items of a list.
fn list(street: &Street, path: &str, token: &str) -> Vec<Value> {
    let page = street.ask("GET", &format!("{path}?limit=200"), Some(token), None).is(200);
    assert_eq!(page.body["next"], Value::Null, "few enough for a page");
    page.body["items"].as_array().unwrap().clone()
}

fn ids(items: &[Value]) -> BTreeSet<String> {
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

impl Owner {
    /// What was made without an answer is there or not; then all groups are known.
    fn adopt(&mut self, street: &Street) {
        let there = list(street, "/v1/groups", &self.me.token);
        let own: Vec<_> = there.iter().filter(|item| item["role"] == "owner").collect();
        for item in own {
            let (id, name) = (item["id"].as_str().unwrap(), item["name"].as_str().unwrap());
            if !self.groups.iter().any(|group| group.id == id) {
                assert!(self.begun.remove(name), "nobody made the group {item}");
                self.groups.push(group(id.to_owned(), name.to_owned(), &self.others));
            }
        }
        self.begun.clear();
        let there = ids(&there);
        for group in &self.groups {
            assert!(there.contains(&group.id), "{group:?} was made, and {there:?} are there");
        }
    }

    /// Compares what the groups say with what is known, and knows just that afterwards. Returns
    /// who is in which group.
    fn check(&mut self, street: &Street) -> Vec<(String, BTreeSet<String>)> {
        let mut all = Vec::new();
        for group in &mut self.groups {
            let path = format!("/v1/groups/{}", group.id);
            let card = street.ask("GET", &path, Some(&self.me.token), None).is(200);
            let name = card.text("name");
            assert!(group.names.contains(&name), "{name}, and {group:?}");
            group.names = BTreeSet::from([name]);
            let members = list(street, &format!("{path}/members"), &self.me.token);
            assert_eq!(card.body["members"], members.len(), "{card:?}");
            for user in &self.others {
                let member = members.iter().find(|member| member["id"] == *user.id);
                let role = member.map_or("none", |it| it["role"].as_str().unwrap());
                let known = group.people.get_mut(&user.id).unwrap();
                let invited = || {
                    let page =
                        street.ask("GET", "/v1/invitations?limit=200", Some(&user.token), None);
                    invitation_to(&page.is(200).body, &group.id).is_some()
                };
                let is = match role {
                    "none" if !known.contains("none") && known.contains("invited") => {
                        assert!(invited(), "{} was invited to {}", user.name, group.id);
                        "invited"
                    }
                    "none" if known.contains("invited") && invited() => "invited",
                    "none" => "none",
                    "member" => "member",
                    _ => "admin",
                };
                assert!(known.contains(is), "{} is {is} in {}: {known:?}", user.name, group.id);
                *known = Known::from([is]);
            }
            all.push((group.id.clone(), ids(&members)));
        }
        all
    }

    /// Says something in one of the groups: its members get it, and nobody else.
    fn speak(&mut self, street: &Street, members: &[(String, BTreeSet<String>)], round: u64) {
        let (group, members) = &members[self.random(GROUPS.min(members.len()))];
        let login = |user: &Person| Peer::login(&street.server.url("ws"), &user.token).unwrap();
        let mut peers: Vec<_> = self.others.iter().map(|user| (user, login(user))).collect();
        let client_id = (round + 1).to_string();
        let body = json!({"to": {"group": group}, "client_id": client_id, "payload": "aGVsbG8="});
        let sent = street.ask("POST", "/v1/messages", Some(&self.me.token), Some(&body)).is(201);
        let position: u64 = sent.text("position").parse().unwrap();
        let is_it = |event: &ClientEvent| {
            matches!(event, ClientEvent::GroupMessage { group: to, position: at, .. }
                if to.to_string() == *group && *at == position)
        };
        for (user, peer) in &mut peers {
            let is_in = members.contains(&user.id);
            let heard = peer.wait_for(is_it, if is_in { WAIT } else { SILENCE });
            assert_eq!(heard.is_ok(), is_in, "{} of {members:?} in {group}: {heard:?}", user.id);
        }
    }
}

#[test]
fn slow_groups_agree_with_what_was_answered_after_every_kill() {
    let mut street = Street::open();
    let others: Vec<_> = (0..OTHERS).map(|_| street.person("other")).collect();
    let shy = Some(others.last().unwrap().token.as_str());
    let body = json!({"group_adders": "nobody"});
    street.ask("PATCH", "/v1/accounts/me", shy, Some(&body)).is(200);
    let mut owners: Vec<Owner> = (0..OWNERS)
        .map(|nth| {
            let (me, others) = (street.person("owner"), others.clone());
            let (groups, begun) = (Vec::new(), BTreeSet::new());
            Owner { me, others, groups, begun, random: nth + 1 }
        })
        .collect();
    let mut answered = 0;
    for round in 0..KILLS {
        let api = street.api.clone();
        thread::scope(|scope| {
            let writers = owners.iter_mut().map(|owner| {
                let api = &api;
                scope.spawn(move || owner.run(api))
            });
            let writers: Vec<_> = writers.collect();
            // Each time elsewhere: among the first changes, and in the midst of many.
            thread::sleep(Duration::from_millis(40 + 97 * (round * 7 % KILLS)));
            street.server.kill();
            answered += writers.into_iter().map(|it| it.join().unwrap()).sum::<u64>();
        });
        street.start_again();
        let mut homes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for owner in &mut owners {
            owner.adopt(&street);
            let groups = owner.check(&street);
            for (group, members) in &groups {
                for user in members {
                    homes.entry(user.clone()).or_default().insert(group.clone());
                }
            }
            if !groups.is_empty() {
                owner.speak(&street, &groups, round);
            }
        }
        for user in others.iter().chain(owners.iter().map(|owner| &owner.me)) {
            let of = ids(&list(&street, "/v1/groups", &user.token));
            let expected = homes.remove(&user.id).unwrap_or_default();
            assert_eq!(of, expected, "{} says its home, and the groups differ", user.name);
        }
    }
    println!("{answered} changes were answered between {KILLS} kills");
    assert!(answered > KILLS * 10, "it was killed before anything happened: {answered}");
}
