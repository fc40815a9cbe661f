//! Tells the operator's own program what happened: accounts that began or ended, reports,
//! suspensions.
//!
//! Owner: a task of the API's runtime. Events wait in the directory; one is told at a time, in
//! order, until it is answered with a 2xx. What fails is tried again, later each time, behind
//! others: it holds nothing back but itself. An event may come twice: its `id` says so.

use super::App;
use super::id::Id;
use crate::clock::wall_ms;
use crate::config::WebhookUrl;
use crate::directory::{Answer, Command, Event};
use crate::limits;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderName, Request};
use hmac::{Hmac, Mac as _};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::Sha256;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// The header that proves that an event is ours: `t=SECONDS,v1=HEX`, the HMAC-SHA-256 of
/// `SECONDS.BODY` under the shared secret.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("x-myriad-signature");

/// Whom to tell.
#[derive(Clone)]
pub struct Webhook {
    /// Where.
    pub to: WebhookUrl,
    /// Signs what is told.
    pub secret: Vec<u8>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Webhook").field("to", &self.to).finish_non_exhaustive()
    }
}

/// An event, as it is told.
#[derive(Debug, Serialize)]
struct Told<'e> {
    id: Id,
    #[serde(rename = "type")]
    kind: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Id>,
    at_s: u64,
    data: &'e RawValue,
}

/// Tells events for ever.
pub(super) async fn tell(app: Arc<App>, webhook: Webhook) {
    let mut complained = false;
    loop {
        let command = Command::Events { limit: limits::WEBHOOK_EVENTS_MAX };
        let events = match app.ask(command).await {
            Ok(Answer::Events(events)) => events,
            // Too much is under way: later.
            Ok(_) | Err(_) => Vec::new(),
        };
        let none = events.is_empty();
        for event in events {
            let id = event.id;
            let told = timeout(
                Duration::from_millis(limits::WEBHOOK_ANSWER_MS),
                post(&webhook, &event, wall_ms() / 1_000),
            );
            let done = match told.await.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                Ok(()) => {
                    complained = false;
                    Command::EventSent { id }
                }
                Err(why) => {
                    if !complained {
                        complained = true;
                        eprintln!(
                            "myriad: the webhook at {} was not told an event: {why}. It is tried \
                             again; check the program there",
                            webhook.to
                        );
                    }
                    let retry_at_s = wall_ms() / 1_000 + pause_s(event.attempts);
                    Command::EventFailed { id, retry_at_s }
                }
            };
            let _else_it_is_told_again = app.ask(done).await;
        }
        if none {
            sleep(Duration::from_millis(limits::WEBHOOK_LOOK_MS)).await;
        }
    }
}

/// How long to wait after so many failures: twice as long each time.
fn pause_s(attempts: u32) -> u64 {
    1_u64
        .checked_shl(attempts)
        .map_or(limits::WEBHOOK_PAUSE_S_MAX, |pause_s| pause_s.min(limits::WEBHOOK_PAUSE_S_MAX))
}

async fn post(webhook: &Webhook, event: &Event, now_s: u64) -> Result<(), String> {
    let told = |error: &dyn fmt::Display| error.to_string();
    let body = body(event).map_err(|error| told(&error))?;
    let to = &webhook.to;
    let request = Request::post(to.path())
        .header(HOST, to.authority())
        .header(CONTENT_TYPE, "application/json")
        .header(SIGNATURE, signature(&webhook.secret, now_s, &body))
        .body(Body::from(body))
        .map_err(|error| told(&error))?;
    let stream = TcpStream::connect(to.authority()).await.map_err(|error| told(&error))?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, conn) = handshake.map_err(|error| told(&error))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| told(&error))?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    };
    let mut answer = pin!(answer);
    // The connection moves only while somebody looks at it. A server may end it together with its
    // answer, which then is there all the same.
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = conn => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(told(&error)),
        },
    }
}

fn body(event: &Event) -> Result<String, serde_json::Error> {
    let data = if event.body.is_empty() { "{}" } else { &event.body };
    let told = Told {
        id: event.id.into(),
        kind: &event.kind,
        user: (event.user > 0).then(|| event.user.into()),
        at_s: event.at_s,
        data: serde_json::from_str(data)?,
    };
    serde_json::to_string(&told)
}

fn signature(secret: &[u8], now_s: u64, body: &str) -> String {
    // An HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{now_s}.").as_bytes());
    mac.update(body.as_bytes());
    let hex: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={now_s},v1={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        assert_eq!((pause_s(0), pause_s(3)), (1, 8));
        assert_eq!((pause_s(40), pause_s(64), pause_s(u32::MAX)), (3_600, 3_600, 3_600));
    }

    #[test]
    fn an_event_has_its_ids_as_text_and_its_data_as_json() {
        let event = Event {
            id: 7,
            kind: "report.filed".to_owned(),
            user: 9_007_199_254_740_993,
            body: r#"{"report":"4"}"#.to_owned(),
            at_s: 5,
            attempts: 0,
        };
        assert_eq!(
            body(&event).unwrap(),
            concat!(
                r#"{"id":"7","type":"report.filed","user":"9007199254740993","at_s":5,"#,
                r#""data":{"report":"4"}}"#
            )
        );
        assert_eq!(
            body(&Event { user: 0, body: String::new(), ..event }).unwrap(),
            r#"{"id":"7","type":"report.filed","at_s":5,"data":{}}"#
        );
    }

    #[test]
    fn the_signature_is_an_hmac_of_time_and_body() {
        // printf '5.{}' | openssl dgst -sha256 -hmac secret
        assert_eq!(
            signature(b"secret", 5, "{}"),
            "t=5,v1=f18d2fcd9a24151471e3e2d71bc7ce901fb7b89b341918a08f95e9ffc497ea26"
        );
    }
}
