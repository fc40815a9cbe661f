//! What a session writes, and in which order.
//!
//! Messages first, then what lets the server go on (`Ack`), then the rest.

use super::{Phase, Session};
use crate::client::ASKED_PEERS_MAX;
use crate::{
    Ack, AskReceipts, ClientFrame, Hello, Ping, Read, Renew, Stream, Typing, WatchPresence,
};

impl Session {
    /// Hands out every frame that is to leave now. What is handed out counts as written: after a
    /// failure to write it call [`Session::disconnected`].
    pub fn take_output(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        match self.phase {
            Phase::Offline => {}
            Phase::Greeting => self.take_hello(sink),
            Phase::Live => {
                if std::mem::take(&mut self.renew_due) {
                    sink(&ClientFrame::Renew(Renew { token: &self.token }));
                }
                if self.outbox.take(&mut |send| sink(&ClientFrame::Send(*send))) {
                    self.beat_ms = self.now_ms;
                }
                if let Some(up_to) = self.inbox.take_ack() {
                    sink(&ClientFrame::Ack(Ack { stream: None, up_to }));
                }
                self.take_group_acks(sink);
                self.take_reads(sink);
                self.take_asks(sink);
                self.take_questions(sink);
                self.take_group_fetches(sink);
                self.take_rest(sink);
            }
        }
    }

    fn take_hello(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        if std::mem::take(&mut self.hello_due) {
            self.renew_due = false;
            sink(&ClientFrame::Hello(Hello {
                token: &self.token,
                resume_after: self.inbox.received_up_to(),
                confirmed: self.outbox.confirmed(),
                active: self.active,
            }));
        }
    }

    fn take_reads(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        for (stream, (up_to, written)) in &mut self.reads {
            if !*written {
                *written = true;
                let (stream, up_to) = (*stream, *up_to);
                sink(&ClientFrame::Read(Read { stream, up_to, automatic: false }));
            }
        }
    }

    fn take_asks(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        for asked in self.asks.drain(..) {
            match asked {
                Stream::User(user) => users.push(user),
                Stream::Group(group) => groups.push(group),
            }
        }
        for (ids, groups) in [(users, false), (groups, true)] {
            for peers in ids.chunks(ASKED_PEERS_MAX) {
                sink(&ClientFrame::AskReceipts(AskReceipts { peers: peers.to_vec(), groups }));
            }
        }
    }

    fn take_rest(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        if std::mem::take(&mut self.watch_due) {
            self.watched_ms = self.now_ms;
            self.watched_unknown = false;
            sink(&ClientFrame::WatchPresence(WatchPresence { users: self.watched.clone() }));
        }
        while let Some((to, stopped)) = self.typing.pop_first() {
            sink(&ClientFrame::Typing(Typing { to, stopped }));
        }
        if std::mem::take(&mut self.ping_due) {
            self.beat_ms = self.now_ms;
            // Silence for a whole interval is worth a question.
            let answer = self.now_ms.saturating_sub(self.heard_ms) >= self.heartbeat_ms;
            sink(&ClientFrame::Ping(Ping {
                active: self.active,
                confirmed: self.outbox.confirmed(),
                answer,
            }));
        }
    }
}
