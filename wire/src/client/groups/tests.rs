//! A session in a group against a tiny model of the group's home: it pushes to who is level, names
//! the head to who is not, answers pages of what is durable, loses what is not when it crashes, and
//! with it some acks. Whatever happens: every message is shown once, in the order of positions,
//! and in the end all of it is held and acked.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use crate::client::*;
use crate::{
    Change, ClientFrame, Deliver, Fetch, Fetched, GroupChange, GroupNews, Item, Limits, Mark,
    MessageId, Receipt, Refusal, RequestRefused, Role, Sent, ServerFrame, Stream, TypingFrom,
    Welcome,
};

const USER: u64 = 1;
const OTHER: u64 = 2;
const GROUP: u64 = 7;
/// Un-acked messages, and items of a page, of the model.
const WINDOW: usize = 4;

fn id(client_id: u64) -> MessageId {
    MessageId { sender: OTHER, device: 1, client_id }
}

fn welcome() -> ServerFrame<'static> {
    ServerFrame::Welcome(Welcome {
        user: USER,
        device: 1,
        next_client_id: 1,
        heartbeat_ms: 5_000,
        limits: Limits::default(),
        server_time_ms: 0,
        cursor: 0,
    })
}

fn push(position: u64, id: MessageId, change: Option<GroupChange>) -> ServerFrame<'static> {
    ServerFrame::Deliver(Deliver {
        stream: Some(Stream::Group(GROUP)),
        position,
        id,
        time_ms: 1,
        kind: 0,
        payload: b"hi",
        relation: None,
        to: None,
        to_position: 0,
        change,
        request: false,
    })
}

fn item(request: u64, position: u64, id: MessageId) -> ServerFrame<'static> {
    ServerFrame::Item(Item {
        request,
        number: position,
        id,
        position,
        time_ms: 1,
        kind: 0,
        payload: b"hi",
        relation: None,
        deleted: false,
        change: None,
    })
}

fn news(head: u64, cursor: u64) -> ServerFrame<'static> {
    ServerFrame::GroupNews(GroupNews { group: GROUP, head, cursor, left: false })
}

fn fetched(request: u64, more: bool, up_to: u64) -> ServerFrame<'static> {
    ServerFrame::Fetched(Fetched { request, count: 0, more, up_to })
}

/// The home of the group, and one connection.
#[derive(Debug, Default)]
struct Model {
    records: Vec<(u64, MessageId)>,
    durable: usize,
    last_position: u64,
    epoch: u64,
    cursor: u64,
    live: bool,
    /// The head the client was told and has not acked up to.
    told: Option<u64>,
    to_client: VecDeque<ServerFrame<'static>>,
    connected: bool,
}

impl Model {
    fn head(&self) -> u64 {
        self.records.last().map_or(0, |(position, _)| *position)
    }

    /// With `anyhow` it is pushed although the client is behind, if all before it is named.
    fn post(&mut self, id: MessageId, anyhow: bool) {
        let named = anyhow && self.told == Some(self.head());
        self.last_position += 3;
        let position = (self.epoch << 32) + self.last_position;
        self.records.push((position, id));
        if !self.connected {
            return;
        }
        let unacked = self.records.iter().filter(|(position, _)| *position > self.cursor).count();
        self.live &= unacked <= WINDOW;
        if self.live || named {
            self.to_client.push_back(push(position, id, None));
        }
        self.tell();
    }

    /// Names the head to a client that is behind, unless it still has to ack up to one.
    fn tell(&mut self) {
        self.live |= self.cursor >= self.head();
        self.told = self.told.filter(|told| self.cursor < *told);
        if self.connected && !self.live && self.told.is_none() {
            self.told = Some(self.head());
            self.to_client.push_back(news(self.head(), self.cursor));
        }
    }

    fn hello(&mut self) {
        self.connected = true;
        self.to_client = VecDeque::from([welcome()]);
        (self.live, self.told) = (false, None);
        self.tell();
    }

    fn take(&mut self, frame: &ClientFrame<'_>) {
        match frame {
            ClientFrame::Hello(_) => self.hello(),
            ClientFrame::Ack(ack) => {
                self.cursor = self.cursor.max(ack.up_to.min(self.head()));
                self.tell();
            }
            ClientFrame::Fetch(fetch) => self.answer(fetch),
            _ => {}
        }
    }

    fn answer(&mut self, fetch: &Fetch) {
        let durable = &self.records[..self.durable];
        let first = durable.partition_point(|(position, _)| *position <= fetch.from);
        let page: Vec<_> = durable[first..].iter().take(WINDOW).copied().collect();
        let more = first + page.len() < durable.len();
        let last = if more { page.last() } else { durable.last() };
        let up_to = last.map_or(0, |(position, _)| *position);
        let items = page.iter().map(|(position, id)| item(fetch.request, *position, *id));
        self.to_client.extend(items);
        self.to_client.push_back(fetched(fetch.request, more, up_to));
    }

    /// What was not durable is gone and, later, sent again by its authors; acks since the last
    /// checkpoint are gone.
    fn crash(&mut self, acks_kept: u64) {
        let lost: Vec<_> = self.records.drain(self.durable..).collect();
        self.connected = false;
        self.to_client.clear();
        self.epoch += 1;
        self.cursor = self.cursor * acks_kept / 10;
        lost.into_iter().for_each(|(_, id)| self.post(id, false));
    }
}

/// A session, the model, and what was shown.
struct World {
    session: Session,
    model: Model,
    now_ms: u64,
    shown: Vec<MessageId>,
    last_shown_at: u64,
    next_id: u64,
}

impl World {
    fn new() -> Self {
        let session = Session::new("token", SessionOptions::default());
        let model = Model::default();
        Self { session, model, now_ms: 0, shown: Vec::new(), last_shown_at: 0, next_id: 1 }
    }

    fn hear(&mut self, frames: usize) {
        let mut events = Vec::new();
        for _ in 0..frames {
            let Some(frame) = self.model.to_client.pop_front() else { break };
            self.session.on_frame(&frame, self.now_ms, &mut events);
        }
        for event in events {
            let ClientEvent::GroupMessage { group, id, position, repeat, .. } = event else {
                continue;
            };
            assert_eq!(group, GROUP);
            assert!(position > self.last_shown_at, "{position} behind {}", self.last_shown_at);
            self.last_shown_at = position;
            if !repeat {
                self.shown.push(id);
            }
        }
    }

    fn say(&mut self) {
        let Self { session, model, .. } = self;
        session.take_output(&mut |frame| model.take(frame));
    }

    fn disconnect(&mut self) {
        self.model.connected = false;
        self.model.to_client.clear();
        self.session.disconnected();
    }

    fn step(&mut self, choice: u8) {
        match choice {
            0..60 => {
                self.model.post(id(self.next_id), choice > 57);
                self.next_id += 1;
            }
            60..90 => self.model.durable = self.model.records.len(),
            90..150 => self.hear(usize::from(choice) % 7 + 1),
            150..210 => self.say(),
            210..232 => self.pass(u64::from(choice) * 3),
            232..238 => self.disconnect(),
            238..242 => {
                self.disconnect();
                self.model.crash(u64::from(choice) % 11);
            }
            242..245 => {
                // The program starts anew from what it saved.
                self.disconnect();
                let state = self.session.state();
                self.session = Session::restore("token", SessionOptions::default(), &state);
            }
            _ => self.connect(),
        }
    }

    fn connect(&mut self) {
        if !self.model.connected {
            self.session.connected(self.now_ms);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.session.tick(self.now_ms);
    }
}

proptest! {
    #[test]
    fn every_message_of_a_group_is_shown_once_in_order(
        steps in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut world = World::new();
        for choice in steps {
            world.step(choice);
        }
        world.model.durable = world.model.records.len();
        world.connect();
        for _ in 0..400 {
            world.say();
            world.hear(1_000);
            world.pass(300);
        }
        let shown: BTreeSet<_> = world.shown.iter().copied().collect();
        prop_assert_eq!(shown.len(), world.shown.len(), "shown twice");
        prop_assert_eq!(shown.len() as u64, world.next_id - 1, "every one is shown");
        prop_assert_eq!(world.model.cursor, world.model.head(), "and acked");
        prop_assert!(world.model.live);
    }
}

fn live() -> Session {
    let mut session = Session::new("token", SessionOptions::default());
    session.connected(0);
    words(&mut session);
    session.on_frame(&welcome(), 0, &mut Vec::new());
    words(&mut session);
    session
}

fn hear(session: &mut Session, frame: &ServerFrame<'_>) -> Vec<ClientEvent> {
    let mut events = Vec::new();
    session.on_frame(frame, 0, &mut events);
    events
}

fn words(session: &mut Session) -> Vec<String> {
    let mut words = Vec::new();
    session.take_output(&mut |frame| {
        words.push(match frame {
            ClientFrame::Ack(ack) => format!("ack {:?} {}", ack.stream, ack.up_to),
            ClientFrame::Fetch(fetch) => format!("fetch {} from {}", fetch.request, fetch.from),
            ClientFrame::AskReceipts(ask) => format!("ask {:?} {}", ask.peers, ask.groups),
            ClientFrame::Read(read) => format!("read {:?} {}", read.stream, read.up_to),
            other => format!("{other:?}").chars().take(5).collect(),
        });
    });
    words
}

#[test]
fn acks_of_a_group_are_few() {
    let mut session = live();
    for n in 1..=u64::from(GROUP_ACK_EVERY) - 1 {
        assert_eq!(hear(&mut session, &push(n, id(n), None)).len(), 1);
        assert!(words(&mut session).is_empty(), "after {n}");
    }
    hear(&mut session, &push(100, id(100), None));
    assert_eq!(words(&mut session), ["ack Some(Group(7)) 100"]);
    hear(&mut session, &push(101, id(101), None));
    session.tick(GROUP_ACK_MS - 1);
    assert!(words(&mut session).is_empty());
    session.tick(GROUP_ACK_MS);
    assert_eq!(words(&mut session), ["ack Some(Group(7)) 101"]);
    assert_eq!(session.group_cursor(GROUP), 101);
}

#[test]
fn what_is_behind_is_fetched_and_a_push_ahead_of_it_waits_for_its_page() {
    let mut session = live();
    hear(&mut session, &push(5, id(1), None));
    let events = hear(&mut session, &news(9, 0));
    assert!(matches!(events[..], [ClientEvent::GroupNews(_)]));
    assert_eq!(words(&mut session), ["ack Some(Group(7)) 5", "fetch 1 from 5"]);
    assert!(hear(&mut session, &push(12, id(4), None)).is_empty());
    assert_eq!(hear(&mut session, &item(1, 7, id(2))).len(), 1);
    hear(&mut session, &fetched(1, true, 7));
    assert_eq!(words(&mut session), ["fetch 2 from 7"]);
    assert_eq!(hear(&mut session, &item(2, 9, id(3))).len(), 1);
    hear(&mut session, &fetched(2, false, 9));
    assert!(words(&mut session).is_empty(), "12 is not durable yet");
    session.tick(49);
    assert!(words(&mut session).is_empty());
    session.tick(50);
    assert_eq!(words(&mut session), ["fetch 3 from 9"]);
    // 12 has expired meanwhile: the page is empty and reaches beyond it.
    hear(&mut session, &fetched(3, false, 12));
    assert_eq!(words(&mut session), ["ack Some(Group(7)) 12"]);
    assert_eq!(hear(&mut session, &push(13, id(5), None)).len(), 1);
}

#[test]
fn pages_are_paced_and_bounded() {
    let mut session = live();
    for group in 1..=100 {
        let news = GroupNews { group, head: 5, cursor: 0, left: false };
        hear(&mut session, &ServerFrame::GroupNews(news));
    }
    assert_eq!(words(&mut session).len(), GROUP_FETCHES_MAX);
    let mut asked = GROUP_FETCHES_MAX as u64;
    for request in 1..=100 {
        hear(&mut session, &fetched(request, false, 5));
        asked += words(&mut session).iter().filter(|word| word.starts_with("fetch")).count() as u64;
    }
    assert_eq!(asked, u64::from(FETCHES_PER_SECOND));
    session.tick(1_000);
    let more = words(&mut session);
    assert_eq!(more.iter().filter(|word| word.starts_with("fetch")).count(), GROUP_FETCHES_MAX);
}

#[test]
fn own_messages_are_repeats_and_those_of_other_devices_get_their_ticks() {
    let mut session = live();
    session.send(Stream::Group(GROUP), b"hi", 0).unwrap();
    words(&mut session);
    let own = |device, client_id| MessageId { sender: USER, device, client_id };
    let repeats =
        |events: &[ClientEvent]| matches!(events, [ClientEvent::GroupMessage { repeat: true, .. }]);
    assert!(repeats(&hear(&mut session, &push(5, own(1, 1), None))), "ahead of Sent");
    let sent = ServerFrame::Sent(Sent { client_id: 1, position: 5, time_ms: 1 });
    hear(&mut session, &sent);
    assert!(repeats(&hear(&mut session, &push(6, own(1, 1), None))), "stored again");
    let events = hear(&mut session, &push(7, own(2, 9), None));
    assert!(matches!(events[..], [ClientEvent::GroupMessage { repeat: false, .. }]));
    let receipt = ServerFrame::Receipt(Receipt {
        stream: Some(Stream::Group(GROUP)),
        after: 4,
        up_to: 7,
        mark: Mark::Has,
    });
    let ticked = hear(&mut session, &receipt);
    let ticks = |event: &ClientEvent| match event {
        ClientEvent::Tick { device, client_id, .. } => Some((*device, *client_id)),
        _ => None,
    };
    assert_eq!(ticked.iter().filter_map(ticks).collect::<Vec<_>>(), [(1, 1), (2, 9)]);
    session.disconnected();
    session.connected(0);
    words(&mut session);
    hear(&mut session, &welcome());
    assert_eq!(words(&mut session), ["ack Some(Group(7)) 7", "ask [7] true"]);
}

#[test]
fn who_is_removed_acks_to_the_end_and_forgets_the_group() {
    let mut session = live();
    let by = MessageId { sender: OTHER, device: 0, client_id: 0 };
    let change = |what, user| GroupChange { what, user, role: Role::Member };
    let added = change(Change::Added, USER);
    let events = hear(&mut session, &push(5, by, Some(added)));
    assert!(matches!(&events[..], [ClientEvent::GroupChanged { by: OTHER, position: 5, .. }]));
    assert!(hear(&mut session, &push(5, by, Some(added))).is_empty(), "a repeat by position");
    hear(&mut session, &push(6, by, Some(change(Change::Removed, OTHER))));
    session.acknowledge();
    words(&mut session);
    assert_eq!(session.state().groups, [GroupCursor { group: GROUP, up_to: 6 }]);
    hear(&mut session, &push(8, by, Some(change(Change::Removed, USER))));
    session.tick(GROUP_ACK_MS);
    assert_eq!(words(&mut session), ["ack Some(Group(7)) 8"]);
    assert!(session.state().groups.is_empty());
    hear(&mut session, &news(20, 8));
    assert_eq!(words(&mut session), ["fetch 1 from 8"]);
    let reason = Refusal::NotMember;
    let refused = RequestRefused { request: 1, reason, retriable: false, retry_after_ms: 0 };
    let events = hear(&mut session, &ServerFrame::RequestRefused(refused));
    assert_eq!(events, [ClientEvent::GroupRefused { group: GROUP, reason }]);
    session.tick(10_000);
    assert!(!words(&mut session).iter().any(|word| word.starts_with("fetch")));
}

#[test]
fn a_refused_page_is_asked_for_again_and_marks_of_groups_leave() {
    let mut session = live();
    hear(&mut session, &news(20, 8));
    words(&mut session);
    let refused = ServerFrame::RequestRefused(RequestRefused {
        request: 1,
        reason: Refusal::Overloaded,
        retriable: true,
        retry_after_ms: 700,
    });
    assert!(hear(&mut session, &refused).is_empty());
    session.read_group(GROUP, 8);
    session.typing_in(GROUP, false);
    session.tick(699);
    assert_eq!(words(&mut session), ["read Some(Group(7)) 8", "Typin"]);
    session.tick(700);
    assert_eq!(words(&mut session), ["fetch 2 from 8"]);
    let typing = ServerFrame::Typing(TypingFrom { user: OTHER, stopped: false, group: GROUP });
    let expected = ClientEvent::GroupTyping { group: GROUP, user: OTHER, stopped: false };
    assert_eq!(hear(&mut session, &typing), [expected]);
}

#[test]
fn groups_are_bounded_and_the_one_used_longest_ago_goes() {
    let mut session = live();
    for group in 1..=GROUPS_MAX as u64 + 1 {
        let deliver = ServerFrame::Deliver(Deliver {
            stream: Some(Stream::Group(group)),
            position: 5,
            id: id(group),
            time_ms: 1,
            kind: 0,
            payload: b"",
            relation: None,
            to: None,
            to_position: 0,
            change: None,
            request: false,
        });
        hear(&mut session, &deliver);
    }
    assert_eq!(session.state().groups.len(), GROUPS_MAX);
    assert_eq!(session.group_cursor(1), 0);
}
