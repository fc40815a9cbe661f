//! Asks the directory and shards, and waits for what they answer.

use super::App;
use super::problem::{Code, Problem};
use crate::directory::{Answer, Command, Fault, Standing};
use crate::state::order::{Done, Fault as Refused, Order};
use tokio::sync::oneshot;

impl App {
    /// Asks the directory.
    pub(super) async fn ask(&self, command: Command) -> Result<Answer, Problem> {
        let (tell, told) = oneshot::channel();
        self.directory.ask(command, move |answer| {
            let _nobody_waits_any_more = tell.send(answer);
        });
        Ok(told.await.map_err(|_| Problem::stopping())??)
    }

    /// Asks a home among the shards.
    pub(super) async fn order(&self, order: Order) -> Result<Done, Problem> {
        Ok(self.home(order).await?)
    }

    /// The same, for whom it matters why not.
    pub(super) async fn home(&self, order: Order) -> Result<Done, Refused> {
        let (tell, told) = oneshot::channel();
        self.desk.send(
            order,
            Box::new(move |answer| {
                let _nobody_waits_any_more = tell.send(answer);
            }),
        );
        // A shard that ends drops its orders.
        told.await.unwrap_or(Err(Refused::Overloaded))
    }
}

impl Answer {
    /// The standing of a token's holder.
    pub(super) fn standing(self) -> Result<Standing, Problem> {
        match self {
            Self::Standing(standing) => Ok(standing),
            _ => Err(unexpected()),
        }
    }
}

/// Takes one kind of answer, or ends the handler with a problem: a fault of ours.
macro_rules! wanted {
    ($answer:expr, $pattern:pat => $value:expr) => {
        match $answer {
            $pattern => $value,
            _ => return Err($crate::api::ask::unexpected()),
        }
    };
}
pub(super) use wanted;

/// An answer of another kind than the question's.
pub(super) fn unexpected() -> Problem {
    Problem::new(
        Code::Internal,
        "The server answered itself something unexpected. Tell its operator the X-Request-Id.",
    )
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let code = match fault {
            Fault::Overloaded => Code::Overloaded,
            Fault::Unavailable => Code::StoreFailed,
            Fault::Closed | Fault::InviteNeeded | Fault::InviteNotGood => Code::Forbidden,
            Fault::Invalid { .. } => Code::Invalid,
            Fault::Taken(_) => Code::HandleTaken,
            Fault::WrongPassword => Code::WrongCredentials,
            Fault::SessionOver => Code::Unauthorized,
            Fault::Suspended => Code::Suspended,
            Fault::Unknown(_) => Code::NotFound,
            Fault::Full { .. } => Code::LimitReached,
            Fault::Conflict(_) => Code::Conflict,
        };
        let mut detail = fault.to_string();
        if let Some(first) = detail.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let problem = Self::new(code, detail + ".");
        match fault.retry_after() {
            Some(time) => problem.after(u32::try_from(time.as_millis()).unwrap_or(u32::MAX)),
            None => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_becomes_a_sentence_that_says_what_to_do() {
        let problem = Problem::from(Fault::Taken("name"));
        assert_eq!(problem.code, Code::HandleTaken);
        let text = format!("{problem:?}");
        assert!(text.contains("This name is taken; choose another one."), "{text}");
    }
}
