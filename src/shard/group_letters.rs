//! Letters about groups.

use super::Core;
use super::groups::shards;
use crate::log::Reader;
use crate::path::group::{marks, members, page, seats};
use crate::ring::Kind;
use crate::state::groups::{Letter, Page, Typing};
use crate::state::request::Envelope;

impl<S, R: Reader> Core<S, R> {
    /// A letter about a group.
    pub(super) fn group_letter(&mut self, from: usize, kind: Kind, letter: Letter) {
        match letter {
            Letter::Push(pushed) => seats::push(&mut self.tables, &pushed),
            Letter::Head { group, head } => seats::head(&mut self.tables, group, head),
            Letter::Tiding(tiding) => members::hear(&mut self.tables, tiding),
            Letter::Stands(mut stands) if kind == Kind::Question => {
                for stand in stands.stands.drain(..) {
                    marks::take(&mut self.tables, &stand);
                }
                self.mailbox.answer(from, Envelope::Group(Letter::Stands(stands)));
            }
            Letter::Stands(stands) => self.grouping.stands.push(stands),
            Letter::Page(mut asked) if kind == Kind::Question => {
                self.fill(&mut asked);
                self.mailbox.answer(from, Envelope::Group(Letter::Page(asked)));
            }
            Letter::Page(filled) => page::write(&mut self.tables, &filled),
            Letter::Joining(mut joining) if kind == Kind::Question => {
                self.may_join(&mut joining);
                self.mailbox.answer(from, Envelope::Group(Letter::Joining(joining)));
            }
            Letter::Joining(joining) => self.invited(*joining),
            Letter::Quit { group, user } => self.tables.groups.quits.push_back((group, user)),
            Letter::Tick(tick) => marks::push(&mut self.tables, &tick),
            Letter::Typing(typing) => self.type_in_group(typing),
            Letter::Typed(typing) => seats::typing(&mut self.tables, typing),
        }
    }

    pub(super) fn fill(&mut self, asked: &mut Page) {
        page::fill(&mut self.tables, &mut self.reader, asked);
    }

    /// Somebody types: passed on where messages are pushed, and to whom there is a credit for.
    pub(super) fn type_in_group(&mut self, typing: Typing) {
        let Some(index) = self.tables.groups.find(typing.group) else { return };
        let Some(group) = self.tables.groups.get(index) else { return };
        if self.pulls(index) || !group.members.contains_key(&typing.from) {
            return;
        }
        for shard in shards(group.homes_mask()) {
            if shard == self.me {
                seats::typing(&mut self.tables, typing);
            } else if self.mailbox.notify(shard, Envelope::Group(Letter::Typed(typing))).is_err() {
                self.tables.counters.shed += 1;
            }
        }
    }
}
