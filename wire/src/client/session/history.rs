//! Questions to the server's history, and what they are answered with.
//!
//! A question is written once: if the connection ends before its answer, ask again. Nothing about
//! history is kept here.

use super::{Phase, Session};
use crate::client::event::ClientEvent;
use crate::{
    ClientFrame, Fetch, Item, ListConversations, Retention, ServerFrame, SetRetention, Stream,
};

/// Questions that may wait to be written.
const QUESTIONS_MAX: usize = 64;

/// Too many questions wait to be written, or there is no connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not connected, or too many questions wait; ask again later")]
pub struct CannotAsk;

impl Session {
    /// Asks for a page of the conversation with `stream`, from (and without) number `from`: 0 is
    /// the end, or with `forwards` the beginning. Returns the number of the question.
    ///
    /// # Errors
    /// Not connected, or too many questions wait.
    pub fn fetch(
        &mut self,
        stream: Stream,
        from: u64,
        forwards: bool,
        limit: u32,
    ) -> Result<u64, CannotAsk> {
        self.question(|request| {
            ClientFrame::Fetch(Fetch { request, stream, from, forwards, limit })
        })
    }

    /// Asks for the conversations after `after` (0: from the first). Returns the number of the
    /// question.
    ///
    /// # Errors
    /// Not connected, or too many questions wait.
    pub fn list_conversations(&mut self, after: u64, limit: u32) -> Result<u64, CannotAsk> {
        self.question(|request| {
            ClientFrame::ListConversations(ListConversations { request, after, limit })
        })
    }

    /// Decides how long the own side of a conversation is kept. Returns the number of the
    /// question.
    ///
    /// # Errors
    /// Not connected, or too many questions wait.
    pub fn set_retention(
        &mut self,
        stream: Stream,
        retention: Retention,
    ) -> Result<u64, CannotAsk> {
        self.question(|request| {
            ClientFrame::SetRetention(SetRetention { request, stream, retention })
        })
    }

    fn question(
        &mut self,
        ask: impl FnOnce(u64) -> ClientFrame<'static>,
    ) -> Result<u64, CannotAsk> {
        if self.phase != Phase::Live || self.questions.len() >= QUESTIONS_MAX {
            return Err(CannotAsk);
        }
        self.last_request += 1;
        self.questions.push(ask(self.last_request));
        Ok(self.last_request)
    }

    pub(super) fn take_questions(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        for question in self.questions.drain(..) {
            sink(&question);
        }
    }

    /// A frame of history becomes an event; others are none.
    pub(super) fn history_event(frame: &ServerFrame<'_>) -> Option<ClientEvent> {
        Some(match frame {
            ServerFrame::Item(item) => item_event(item),
            ServerFrame::Fetched(fetched) => ClientEvent::Fetched(*fetched),
            ServerFrame::Conversation(conversation) => ClientEvent::Conversation(*conversation),
            ServerFrame::Conversations(page) => ClientEvent::Conversations(*page),
            ServerFrame::RequestRefused(refused) => ClientEvent::RequestRefused(*refused),
            _ => return None,
        })
    }
}

fn item_event(item: &Item<'_>) -> ClientEvent {
    ClientEvent::Item {
        request: item.request,
        number: item.number,
        id: item.id,
        position: item.position,
        time_ms: item.time_ms,
        kind: item.kind,
        payload: item.payload.to_vec(),
        relation: item.relation,
        deleted: item.deleted,
        change: item.change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::SessionOptions;
    use crate::{Fetched, Refusal, RequestRefused, Welcome};

    fn live() -> Session {
        let mut session = Session::new("token", SessionOptions::default());
        session.connected(0);
        session.take_output(&mut |_| {});
        let welcome = Welcome {
            user: 1,
            device: 1,
            next_client_id: 1,
            heartbeat_ms: 5_000,
            limits: crate::Limits::default(),
            server_time_ms: 0,
            cursor: 0,
        };
        session.on_frame(&ServerFrame::Welcome(welcome), 0, &mut Vec::new());
        session.take_output(&mut |_| {});
        session
    }

    #[test]
    fn questions_are_numbered_written_once_and_bounded() {
        let mut session = Session::new("token", SessionOptions::default());
        assert_eq!(session.list_conversations(0, 0), Err(CannotAsk), "not connected");
        let mut session = live();
        assert_eq!(session.fetch(Stream::User(2), 0, false, 10), Ok(1));
        assert_eq!(session.list_conversations(0, 0), Ok(2));
        assert_eq!(session.set_retention(Stream::User(2), Retention::Permanent), Ok(3));
        let mut written = Vec::new();
        session.take_output(&mut |frame| written.push(format!("{frame:?}")));
        assert_eq!(written.len(), 3, "{written:?}");
        session.take_output(&mut |frame| panic!("{frame:?}"));
        let asked = (0..1000).take_while(|_| session.list_conversations(0, 0).is_ok()).count();
        assert_eq!(asked, QUESTIONS_MAX);
        session.disconnected();
        session.connected(0);
        session.take_output(&mut |frame| assert!(matches!(frame, ClientFrame::Hello(_))));
    }

    #[test]
    fn answers_become_events() {
        let mut session = live();
        let mut events = Vec::new();
        let fetched = Fetched { request: 1, count: 0, more: false, up_to: 0 };
        session.on_frame(&ServerFrame::Fetched(fetched), 1, &mut events);
        let refused = RequestRefused {
            request: 2,
            reason: Refusal::NotSupported,
            retriable: false,
            retry_after_ms: 0,
        };
        session.on_frame(&ServerFrame::RequestRefused(refused), 1, &mut events);
        assert_eq!(events, [ClientEvent::Fetched(fetched), ClientEvent::RequestRefused(refused)]);
    }
}
