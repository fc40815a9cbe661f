//! What went wrong with a request, in the form of RFC 9457 (`application/problem+json`).
//!
//! A [`Code`] is for programs and never changes its meaning; the detail is for people and says what
//! to do. Nothing of a request is repeated here but its own faulty field, to who sent it.

use crate::limits;
use crate::state::order::Fault;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use utoipa::ToSchema;
use wire::Refusal;

/// The media type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ProblemCode)]
pub(super) enum Code {
    /// A field, parameter or header can't be used; the detail names it.
    Invalid,
    /// No access token, or one that is not (or no longer) good. Log in or refresh.
    Unauthorized,
    /// Handle and password don't fit.
    WrongCredentials,
    /// The operator suspended the account.
    Suspended,
    /// The caller may not do that.
    Forbidden,
    /// It does not exist, or the caller may not know of it.
    NotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// The body did not come in time.
    TooSlow,
    /// It stands against what is there.
    Conflict,
    /// Somebody has the handle or the phone number.
    HandleTaken,
    /// A limit of how many there may be is reached.
    LimitReached,
    /// The first request with this `Idempotency-Key` is under way.
    UnderWay,
    /// The request is larger than it may be.
    TooLarge,
    /// The body is not `application/json`.
    WrongMediaType,
    /// Another request had this `Idempotency-Key`.
    KeyReused,
    /// The message was refused; `reason` says why.
    MessageRefused,
    /// Too many requests; `retry_after_ms` says when to come again.
    RateLimited,
    /// A fault of the server; its log has the request id.
    Internal,
    /// This server does not do that.
    NotSupported,
    /// Too much is under way; nothing was done. Come again after `retry_after_ms`.
    Overloaded,
    /// The disk takes nothing; nothing was done.
    StoreFailed,
    /// The answer took too long; it may have happened. Repeat it with the same `Idempotency-Key`.
    TimedOut,
}

impl Code {
    /// Its status, its name, and the title that goes with it.
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Invalid => (StatusCode::BAD_REQUEST, "invalid", "The request is not valid"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Not logged in"),
            Self::WrongCredentials => {
                (StatusCode::UNAUTHORIZED, "wrong_credentials", "Handle and password don't fit")
            }
            Self::Suspended => (StatusCode::FORBIDDEN, "suspended", "The account is suspended"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "Not allowed"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "Not found"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Not with this method")
            }
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow", "The body came too slowly"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "It stands against what is there"),
            Self::HandleTaken => (StatusCode::CONFLICT, "handle_taken", "The name is taken"),
            Self::LimitReached => (StatusCode::CONFLICT, "limit_reached", "There are too many"),
            Self::UnderWay => (StatusCode::CONFLICT, "under_way", "The request is under way"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large"),
            Self::WrongMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong_media_type", "Not JSON")
            }
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "key_reused",
                "The key was used for another request",
            ),
            Self::MessageRefused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "message_refused", "The message was refused")
            }
            Self::RateLimited => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests")
            }
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", "A fault of the server")
            }
            Self::NotSupported => {
                (StatusCode::NOT_IMPLEMENTED, "not_supported", "This server does not do that")
            }
            Self::Overloaded => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too much is under way")
            }
            Self::StoreFailed => {
                (StatusCode::SERVICE_UNAVAILABLE, "store_failed", "The disk takes nothing")
            }
            Self::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "timed_out", "It took too long"),
        }
    }
}

/// A problem on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: Code,
    detail: Cow<'static, str>,
    retry_after_ms: Option<u32>,
    reason: Option<&'static str>,
}

/// The body of every answer that is no success.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'p> {
    /// Names the kind of problem; the same as `code`, as a URI.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:myriad:problem:not_found")]
    kind: String,
    /// A short name of the kind, for people.
    title: &'p str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Names the kind of problem, for programs.
    code: Code,
    /// What is wrong here, and what to do.
    detail: &'p str,
    /// When to try again, in milliseconds; `Retry-After` has it in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u32>,
    /// Why a message was refused: a name of the protocol's list of refusals.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'p str>,
}

impl Problem {
    /// A problem with what to do about it.
    pub(super) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), retry_after_ms: None, reason: None }
    }

    /// A field, parameter or header can't be used.
    pub(super) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Invalid, detail)
    }

    /// What the caller asks for does not exist, or not for it.
    pub(super) fn not_found() -> Self {
        Self::new(
            Code::NotFound,
            "There is no user or group with this id that you may know of. Check the id; groups are \
             known to their members only.",
        )
    }

    /// Too much is under way.
    pub(super) fn overloaded() -> Self {
        Self::new(Code::Overloaded, "Nothing was done. Try again after retry_after_ms.")
            .after(limits::API_RETRY_MS)
    }

    /// The server ends.
    pub(super) fn stopping() -> Self {
        Self::new(
            Code::Overloaded,
            "The server stops. Whether this was done is not known: repeat it with the same \
             Idempotency-Key when it is back.",
        )
        .after(limits::API_RETRY_MS)
    }

    /// With a time to wait.
    pub(super) fn after(mut self, retry_after_ms: u32) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// With the reason of a message's refusal.
    pub(super) fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The body.
    fn body(&self) -> Vec<u8> {
        let (status, name, title) = self.code.row();
        let body = ProblemBody {
            kind: format!("urn:myriad:problem:{name}"),
            title,
            status: status.as_u16(),
            code: self.code,
            detail: &self.detail,
            retry_after_ms: self.retry_after_ms,
            reason: self.reason,
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, ..) = self.code.row();
        let mut response = (status, self.body()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(wait_ms) = self.retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1_000).max(1)));
        }
        if self.code == Code::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unknown => Self::not_found(),
            Fault::Forbidden => {
                Self::new(Code::Forbidden, "Your role does not allow this; ask who has it.")
            }
            Fault::Full => Self::new(
                Code::LimitReached,
                "It would be one more than the limit. Remove something first.",
            ),
            Fault::Conflict => Self::new(
                Code::Conflict,
                "It stands against what is there: who owns a group hands it over or ends it before \
                 leaving it, and keeps the role until then. Read it again and decide anew.",
            ),
            Fault::Refused(refusal) if refusal.retriable() => {
                let code = match refusal {
                    Refusal::RateLimited => Code::RateLimited,
                    _ => Code::Overloaded,
                };
                let (name, advice) = (refusal.name(), refusal.advice());
                let problem = Self::new(code, format!("Not now ({name}): {advice}."));
                problem.because(name).after(limits::API_RETRY_MS)
            }
            Fault::Refused(refusal) => {
                let problem = Self::new(
                    Code::MessageRefused,
                    format!(
                        "The server refused the message ({}): {}.",
                        refusal.name(),
                        refusal.advice()
                    ),
                );
                problem.because(refusal.name())
            }
            Fault::Overloaded => Self::overloaded(),
            Fault::StoreFailed => Self::new(
                Code::StoreFailed,
                "The server's disk takes nothing more; its operator has to see to it. Nothing was \
                 done; try again later.",
            )
            .after(limits::API_RETRY_MS),
            Fault::NotSupported => Self::new(
                Code::NotSupported,
                "This server does not do that; its operator has to change its settings or \
                 version.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_its_media_type_its_code_and_when_to_come_again() {
        let response = Problem::overloaded().into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let body: serde_json::Value = serde_json::from_slice(&Problem::not_found().body()).unwrap();
        assert_eq!(body["type"], "urn:myriad:problem:not_found");
        assert_eq!((&body["code"], &body["status"]), (&"not_found".into(), &404.into()));
        assert!(body.get("retry_after_ms").is_none());
    }

    #[test]
    fn a_message_that_may_be_tried_again_says_when_and_any_other_is_refused_for_good() {
        for (refusal, status) in
            [(Refusal::RateLimited, 429), (Refusal::InboxFull, 503), (Refusal::NotMember, 422)]
        {
            let problem = Problem::from(Fault::Refused(refusal));
            let body: serde_json::Value = serde_json::from_slice(&problem.body()).unwrap();
            assert_eq!(
                (&body["status"], &body["reason"]),
                (&status.into(), &refusal.name().into())
            );
            assert_eq!(body.get("retry_after_ms").is_some(), refusal.retriable(), "{body}");
        }
    }

    #[test]
    fn the_name_of_a_code_is_what_json_has() {
        for code in [Code::Invalid, Code::WrongMediaType, Code::KeyReused, Code::TimedOut] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.row().1);
        }
    }
}
