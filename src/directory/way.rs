//! Ways through the directory's threads: of a command to its answer, and of a number of them.
//!
//! Whatever happens to a command, it is answered once: a [`Way`] that is dropped answers for
//! itself. What is under way is counted, so that no queue between the threads needs a bound of its
//! own.

use super::{Answer, Fault, Reply};
use crate::limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many commands are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    /// Counts one more, unless there are as many as there may be: then the reply comes back.
    pub(super) fn enter(&self, reply: Reply) -> Result<Way, Reply> {
        // No order with anything else: it is a number, and it may be off for a moment.
        if self.0.fetch_add(1, Ordering::Relaxed) >= limits::DIRECTORY_COMMANDS_MAX {
            self.0.fetch_sub(1, Ordering::Relaxed);
            return Err(reply);
        }
        Ok(Way { reply: Some(reply), counted: self.clone() })
    }
}

/// The way back of a command that is under way.
pub(super) struct Way {
    reply: Option<Reply>,
    counted: UnderWay,
}

impl Way {
    /// Answers.
    pub(super) fn answer(mut self, answer: Result<Answer, Fault>) {
        if let Some(reply) = self.reply.take() {
            reply(answer);
        }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.counted.0.fetch_sub(1, Ordering::Relaxed);
        if let Some(reply) = self.reply.take() {
            reply(Err(Fault::Unavailable)); // the directory ends, or a thread of it did
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn every_command_is_answered_once_and_one_too_many_is_not_let_in() {
        let counted = UnderWay::default();
        let (told, answers) = channel();
        let reply = || -> Reply {
            let told = told.clone();
            Box::new(move |answer| told.send(answer).unwrap())
        };
        let ways: Vec<Way> = (0..limits::DIRECTORY_COMMANDS_MAX)
            .map(|_| counted.enter(reply()).unwrap_or_else(|_| panic!("there is room")))
            .collect();
        assert!(counted.enter(reply()).is_err());
        assert!(answers.try_recv().is_err());
        let mut ways = ways.into_iter();
        ways.next().unwrap().answer(Ok(Answer::Done));
        assert_eq!(answers.recv().unwrap(), Ok(Answer::Done));
        drop(ways);
        let rest: Vec<_> = answers.try_iter().collect();
        assert_eq!(rest, vec![Err(Fault::Unavailable); limits::DIRECTORY_COMMANDS_MAX - 1]);
        assert!(counted.enter(reply()).is_ok());
    }
}
