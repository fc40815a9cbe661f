//! The HTTP API of a server from the client's side: plain calls that wait for their answer.
//!
//! Deliberately not here: what to do about a failure, and the chat socket (`connection`). TLS is
//! not built in: use it on loopback, or behind something that speaks TLS.

mod calls;

pub use calls::{Added, Group, Invitation, Login, Who};

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, Response};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read: a page of anything is smaller.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// A server's HTTP API, as one user or as nobody.
#[derive(Clone)]
pub struct Api {
    agent: Agent,
    /// Such as `http://127.0.0.1:7879`, without a slash at the end.
    base: String,
    token: Option<String>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody answered in time, or not in HTTP.
    #[error("{url} does not answer: {cause}. Is the server running, with --api-listen?")]
    Unreachable {
        /// What was called.
        url: String,
        /// What happened.
        cause: String,
    },
    /// The address is none, or one of HTTPS.
    #[error("{0} is no address of an API here: write http://HOST:PORT (there is no TLS)")]
    Address(String),
    /// The server refused.
    #[error("{detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's word for it, such as `handle_taken`; empty if it gave none.
        code: String,
        /// For people: what to do.
        detail: String,
        /// How long to wait before a retry makes sense, if the server said so.
        retry_after_s: Option<u64>,
    },
    /// The answer lacks what it should have.
    #[error("the server's answer has no {0}: is it of another version?")]
    Lacks(&'static str),
}

impl ApiError {
    /// HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl Api {
    /// The API at `base`, such as `http://127.0.0.1:7879`, as nobody.
    #[must_use]
    pub fn new(base: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .build();
        Self { agent: config.into(), base: base.trim_end_matches('/').to_owned(), token: None }
    }

    /// The same API, as whom `token` is of.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Where it is.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Asks.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.call("GET", path, None)
    }

    /// Asks for something to be done, with `body` as JSON.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.call("POST", path, Some(body))
    }

    /// Calls any method. An empty answer is [`Value::Null`].
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        if !self.base.starts_with("http://") {
            return Err(ApiError::Address(self.base.clone()));
        }
        let url = format!("{}{path}", self.base);
        let unreachable = |cause: ureq::Error| ApiError::Unreachable {
            url: url.clone(),
            cause: cause.to_string(),
        };
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                let request = request.body(body.to_string()).map_err(|e| unreachable(e.into()))?;
                self.agent.run(request)
            }
            None => self.agent.run(request.body(()).map_err(|e| unreachable(e.into()))?),
        };
        let mut response = response.map_err(unreachable)?;
        let retry_after_s = header(&response, "retry-after").and_then(|text| text.parse().ok());
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(unreachable)?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let word = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let detail = match word("detail") {
            detail if detail.is_empty() => format!("{method} {url} was answered {status}"),
            detail => detail,
        };
        Err(ApiError::Refused { status, code: word("code"), detail, retry_after_s })
    }
}

fn header<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}
