//! Questions to history: handed to its thread with a way back, answered when that thread did.
//!
//! A shard never waits for history. What finds no room in the queue is refused with "try again";
//! without history it is not supported. Each question counts as many frames.

use super::Core;
use super::intake::{Step, spend};
use crate::limits;
use crate::log::Reader;
use crate::mem::Token;
use crate::path::session::for_each_conn;
use crate::ring::Inlet;
use crate::state::NONE;
use std::sync::Arc;
use wire::{
    ClientFrame, Conversation, Conversations, Fetched, Item, MessageId, PAGE_ITEMS, PAGE_ITEMS_MAX,
    Parting, RETENTION_SECONDS_MAX, Refusal, Relation, RequestRefused, Retention, ServerFrame,
    Stream,
};

/// A shard's ends of the queues to and from history.
#[derive(Debug, Clone)]
pub struct HistoryEnds {
    /// Questions of all shards.
    pub asks: Arc<Inlet<Ask>>,
    /// Answers for this shard.
    pub answers: Arc<Inlet<Answer>>,
}

/// A question of a user's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Where the answer goes.
    pub shard: usize,
    /// Whose question.
    pub conn: Token,
    /// Of which user.
    pub user: u64,
    /// The client's number of it.
    pub request: u64,
    /// What is asked.
    pub question: Question,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A page of the conversation with `peer`.
    Page {
        /// The other side.
        peer: u64,
        /// From (and without) this number; 0: from the end, or the beginning.
        from: u64,
        /// Towards newer items.
        forwards: bool,
        /// Items at the most, 1 to [`PAGE_ITEMS_MAX`].
        limit: u32,
    },
    /// The conversations after this peer.
    Conversations {
        /// 0: from the first.
        after: u64,
        /// Conversations at the most, 1 to [`PAGE_ITEMS_MAX`].
        limit: u32,
    },
    /// Keep the own side of the conversation with `peer` so long.
    Retain {
        /// The other side.
        peer: u64,
        /// How long.
        retention: Retention,
    },
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub struct Answer {
    /// Whose question it was.
    pub conn: Token,
    /// The client's number of it.
    pub request: u64,
    /// What there is to say.
    pub found: Found,
}

/// What history found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A page, in the direction that was asked for.
    Page {
        /// The items.
        items: Vec<Kept>,
        /// There are further ones.
        more: bool,
    },
    /// A page of conversations, by peer.
    Conversations {
        /// The conversations; their `request` is that of the answer.
        list: Vec<Conversation>,
        /// There are further ones.
        more: bool,
    },
    /// The retention was changed; how the conversation stands now.
    Retained(Conversation),
    /// It could not be answered.
    Refused(Refusal),
}

/// An item with its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number in the conversation.
    pub number: u64,
    /// Which message.
    pub id: MessageId,
    /// In the recipient's stream.
    pub position: u64,
    /// When the server took it.
    pub time_ms: u64,
    /// The application's own.
    pub kind: u32,
    /// As sent; empty if it was deleted.
    pub payload: Vec<u8>,
    /// The earlier message it speaks of.
    pub relation: Option<Relation>,
    /// Its author deleted it.
    pub deleted: bool,
}

impl<S, R: Reader> Core<S, R> {
    /// A frame that asks history something.
    pub(super) fn on_question(&mut self, token: Token, user: u32, frame: &ClientFrame<'_>) -> Step {
        let Some((request, question)) = question_of(frame) else { return Step::Taken };
        let Some(conn) = self.tables.conns.get_mut(token) else { return Step::Taken };
        if spend(conn, limits::HISTORY_ASK_COST_FRAMES, self.host_ms) {
            return self.doom(token, Parting::TooManyFrames);
        }
        let refusal = match (question, self.side.as_ref().and_then(|side| side.history.as_ref())) {
            (_, None) => Some(Refusal::NotSupported),
            (Err(refusal), Some(_)) => Some(refusal),
            (Ok(question), Some(history)) => {
                let user = self.tables.users.user(user).id;
                let ask = Ask { shard: self.me, conn: token, user, request, question };
                history.asks.push(ask).err().map(|_| Refusal::Overloaded)
            }
        };
        if let Some(reason) = refusal {
            self.refuse_question(token, request, reason);
        }
        Step::Taken
    }

    fn refuse_question(&mut self, token: Token, request: u64, reason: Refusal) {
        let retriable = reason.retriable();
        let retry_after_ms = if retriable { limits::RETRY_AFTER_MS } else { 0 };
        let refused = RequestRefused { request, reason, retriable, retry_after_ms };
        self.tables.write(token, &ServerFrame::RequestRefused(refused));
    }

    /// Answers that came meanwhile.
    pub(super) fn answered(&mut self) {
        let ends = self.side.as_ref().and_then(|side| side.history.as_ref());
        let Some(answers) = ends.map(|history| Arc::clone(&history.answers)) else { return };
        for _ in 0..limits::HISTORY_ANSWERS_MAX {
            let Some(answer) = answers.pop() else { return };
            self.answer(answer);
        }
    }

    fn answer(&mut self, answer: Answer) {
        let Answer { conn: token, request, found } = answer;
        let Some(conn) = self.tables.conns.get(token) else { return };
        let device = conn.device;
        if self.tables.outboxes.waiting_bytes(conn) > limits::OUTBOX_BYTES_HIGH {
            // It asks faster than it reads: what it has not read must not grow.
            return self.refuse_question(token, request, Refusal::Overloaded);
        }
        match found {
            Found::Page { items, more } => {
                let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
                for item in &items {
                    self.tables.write(token, &item_frame(request, item));
                }
                let fetched = Fetched { request, count, more, up_to: 0 };
                self.tables.write(token, &ServerFrame::Fetched(fetched));
            }
            Found::Conversations { list, more } => {
                let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
                for conversation in list {
                    self.tables.write(token, &ServerFrame::Conversation(conversation));
                }
                let end = Conversations { request, count, more };
                self.tables.write(token, &ServerFrame::Conversations(end));
            }
            Found::Retained(conversation) => {
                self.tables.write(token, &ServerFrame::Conversation(conversation));
                if device != NONE {
                    let user = self.tables.users.device(device).user;
                    let news = Conversation { request: 0, ..conversation };
                    for_each_conn(&mut self.tables, user, device, |tables, token| {
                        tables.write(token, &ServerFrame::Conversation(news));
                    });
                }
            }
            Found::Refused(reason) => self.refuse_question(token, request, reason),
        }
    }
}

/// What a frame asks, or why it can't be asked.
fn question_of(frame: &ClientFrame<'_>) -> Option<(u64, Result<Question, Refusal>)> {
    // Groups come later.
    let peer_of = |stream: Stream| match stream {
        Stream::User(peer) => Ok(peer),
        Stream::Group(_) => Err(Refusal::NotSupported),
    };
    let limit_of = |limit: u32| if limit == 0 { PAGE_ITEMS } else { limit.min(PAGE_ITEMS_MAX) };
    Some(match frame {
        ClientFrame::Fetch(fetch) => {
            let (from, forwards, limit) = (fetch.from, fetch.forwards, limit_of(fetch.limit));
            let page = |peer| Question::Page { peer, from, forwards, limit };
            (fetch.request, peer_of(fetch.stream).map(page))
        }
        ClientFrame::ListConversations(list) => {
            let (after, limit) = (list.after, limit_of(list.limit));
            (list.request, Ok(Question::Conversations { after, limit }))
        }
        ClientFrame::SetRetention(set) => {
            let retention = set.retention;
            let retain = |peer| Question::Retain { peer, retention };
            let question = if retention.seconds() > RETENTION_SECONDS_MAX {
                Err(Refusal::Invalid)
            } else {
                peer_of(set.stream).map(retain)
            };
            (set.request, question)
        }
        _ => return None,
    })
}

fn item_frame(request: u64, item: &Kept) -> ServerFrame<'_> {
    ServerFrame::Item(Item {
        request,
        number: item.number,
        id: item.id,
        position: item.position,
        time_ms: item.time_ms,
        kind: item.kind,
        payload: &item.payload,
        relation: item.relation,
        deleted: item.deleted,
        change: None,
    })
}
