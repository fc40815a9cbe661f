//! `Idempotency-Key`: a POST that is repeated with its key is done once and answered alike.
//!
//! Answers wait in the directory for a day, through restarts. Answers with
//! secrets in them (tokens, codes) are kept in memory only, for [`limits::API_SECRET_KEY_MS`]:
//! what a disk does not hold can't be read from it. An answer that says "try again" is not kept.
//!
//! A key belongs to its user. Before anybody is logged in it belongs to the request itself: only
//! who knows the whole body, password included, gets its answer again.

use super::App;
use super::ask::wanted;
use super::caller::owner;
use super::front::now_ms;
use super::problem::{Code, Problem};
use crate::directory::{Answer, Begun, Command};
use crate::limits;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The header with the key.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that the answer is that of an earlier request.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// For requests whose answers hold no secret.
pub(super) async fn kept(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(key) = key(&request)? else { return Ok(next.run(request).await) };
    let (mut parts, body) = request.into_parts();
    // None of these endpoints is for strangers.
    let user = owner(&mut parts, &app).await?;
    let body = whole(body, limits::API_BODY_BYTES_MAX).await?;
    let hash = hash(&parts.method, parts.uri.path(), &body);
    let begin = Command::Begin { user, key: key.clone(), request: hash };
    match wanted!(app.ask(begin).await?, Answer::Begun(begun) => begun) {
        Begun::First => {}
        Begun::Answered { status, body } => return Ok(replayed(status, body)),
        Begun::UnderWay => return Err(under_way()),
        Begun::Other => return Err(reused()),
    }
    // A client that goes away must not leave its key under way: the request ends by itself.
    let app = Arc::clone(&app);
    let carried = tokio::spawn(async move {
        let response = next.run(Request::from_parts(parts, Body::from(body))).await;
        finish(&app, user, key, response).await
    });
    carried.await.map_err(|_| Problem::stopping())?
}

/// Keeps the answer, or frees the key.
async fn finish(
    app: &App,
    user: u64,
    key: String,
    response: Response,
) -> Result<Response, Problem> {
    let status = response.status();
    let (parts, body) = response.into_parts();
    let body = whole(body, limits::IDEMPOTENCY_BODY_BYTES_MAX).await?;
    let command = if is_final(status) {
        Command::Finish { user, key, status: status.as_u16(), body: body.to_vec() }
    } else {
        Command::Abandon { user, key }
    };
    // What was done is done, whether its answer could be kept or not.
    let _the_repeat_is_told_under_way = app.ask(command).await;
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// For requests whose answers hold secrets.
pub(super) async fn in_memory(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(key) = key(&request)? else { return Ok(next.run(request).await) };
    let (parts, body) = request.into_parts();
    let body = whole(body, limits::API_BODY_BYTES_MAX).await?;
    let hash = hash(&parts.method, parts.uri.path(), &body);
    // The operator's token is part of the name: nobody else gets a code that was made. Without one
    // the request itself is: strangers do not share their keys.
    let token = parts.headers.get(axum::http::header::AUTHORIZATION);
    let name = name(&key, token.map_or(&hash[..], HeaderValue::as_bytes));
    match app.secrets.begin(name, hash, now_ms())? {
        Begun::First => {}
        Begun::Answered { status, body } => return Ok(replayed(status, body)),
        Begun::UnderWay => return Err(under_way()),
        Begun::Other => return Err(reused()),
    }
    let app = Arc::clone(&app);
    let carried = tokio::spawn(async move {
        let response = next.run(Request::from_parts(parts, Body::from(body))).await;
        let (parts, body) = response.into_parts();
        let body = whole(body, limits::IDEMPOTENCY_BODY_BYTES_MAX).await?;
        // Anybody may ask here: what was refused must not take the room of what was not.
        let kept = parts.status.is_success();
        let answer = kept.then(|| (parts.status.as_u16(), body.to_vec()));
        app.secrets.end(name, answer);
        Ok(Response::from_parts(parts, Body::from(body)))
    });
    carried.await.map_err(|_| Problem::stopping())?
}

/// The key of a POST.
fn key(request: &Request) -> Result<Option<String>, Problem> {
    if request.method() != Method::POST {
        return Ok(None);
    }
    let Some(key) = request.headers().get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let letters = key.to_str().ok().filter(|key| {
        (1..=limits::API_KEY_LETTERS_MAX).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_graphic())
    });
    letters.map(|key| Some(key.to_owned())).ok_or_else(|| {
        let most = limits::API_KEY_LETTERS_MAX;
        Problem::invalid(format!(
            "Idempotency-Key: 1 to {most} letters of ASCII without spaces, such as a UUID."
        ))
    })
}

/// Whether the answer would be the same again.
fn is_final(status: StatusCode) -> bool {
    let again = [
        StatusCode::UNAUTHORIZED,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::CONFLICT,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    !status.is_server_error() && !again.contains(&status)
}

async fn whole(body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    to_bytes(body, bytes_max).await.map_err(|_| Problem::stopping())
}

fn hash(method: &Method, path: &str, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [method.as_str().as_bytes(), path.as_bytes(), body] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn name(key: &str, whose: &[u8]) -> [u8; 32] {
    hash(&Method::POST, key, whose)
}

fn replayed(status: u16, body: Vec<u8>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut headers = HeaderMap::new();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    if !body.is_empty() {
        let success = status.is_success();
        let kind = if success { "application/json" } else { super::problem::PROBLEM_JSON };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    (status, headers, body).into_response()
}

fn under_way() -> Problem {
    Problem::new(
        Code::UnderWay,
        "The first request with this Idempotency-Key is under way: ask again in a moment.",
    )
    .after(limits::API_RETRY_MS)
}

fn reused() -> Problem {
    Problem::new(
        Code::KeyReused,
        "This Idempotency-Key was used for another request: make a new key for each.",
    )
}

/// Answers with secrets in them.
#[derive(Default)]
pub(super) struct Secrets(Mutex<HashMap<[u8; 32], Kept>>);

struct Kept {
    request: [u8; 32],
    until_ms: u64,
    answer: Option<(u16, zeroize::Zeroizing<Vec<u8>>)>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Secrets")
    }
}

impl Secrets {
    /// Notes that a request begins, or says what became of it.
    fn begin(&self, name: [u8; 32], request: [u8; 32], now_ms: u64) -> Result<Begun, Problem> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= limits::API_SECRET_KEYS_MAX {
            kept.retain(|_, kept| kept.until_ms > now_ms);
        }
        match kept.get(&name).filter(|kept| kept.until_ms > now_ms) {
            Some(kept) if kept.request != request => return Ok(Begun::Other),
            Some(Kept { answer: Some((status, body)), .. }) => {
                return Ok(Begun::Answered { status: *status, body: body.to_vec() });
            }
            Some(_) => return Ok(Begun::UnderWay),
            None => {}
        }
        if kept.len() >= limits::API_SECRET_KEYS_MAX {
            // Who repeats late is told that the token is spent; who comes first is served.
            let answered = kept.iter().filter(|(_, kept)| kept.answer.is_some());
            let oldest = answered.min_by_key(|(_, kept)| kept.until_ms).map(|(name, _)| *name);
            let Some(oldest) = oldest else { return Err(Problem::overloaded()) };
            kept.remove(&oldest);
        }
        let until_ms = now_ms.saturating_add(limits::API_SECRET_KEY_MS);
        kept.insert(name, Kept { request, until_ms, answer: None });
        Ok(Begun::First)
    }

    /// Keeps the answer, or frees the key.
    fn end(&self, name: [u8; 32], answer: Option<(u16, Vec<u8>)>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Some((status, body)) => {
                if let Some(kept) = kept.get_mut(&name) {
                    kept.answer = Some((status, body.into()));
                }
            }
            None => drop(kept.remove(&name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_answer_comes_again_for_the_same_request_alone_and_for_a_while() {
        let secrets = Secrets::default();
        let (name, request, other) = ([1; 32], [2; 32], [3; 32]);
        let begin = |request, now_ms| secrets.begin(name, request, now_ms).unwrap();
        assert_eq!(begin(request, 0), Begun::First);
        assert_eq!(begin(request, 0), Begun::UnderWay);
        secrets.end(name, Some((201, b"x".to_vec())));
        assert_eq!(begin(request, 1), Begun::Answered { status: 201, body: b"x".to_vec() });
        assert_eq!(begin(other, 1), Begun::Other);
        assert_eq!(begin(other, limits::API_SECRET_KEY_MS), Begun::First);
        secrets.end(name, None);
        assert_eq!(begin(request, limits::API_SECRET_KEY_MS), Begun::First);
    }

    #[test]
    fn a_full_table_forgets_what_is_over_then_the_oldest_answer_and_then_refuses() {
        let secrets = Secrets::default();
        let name = |number: usize| hash(&Method::POST, &number.to_string(), b"");
        for number in 0..limits::API_SECRET_KEYS_MAX {
            secrets.begin(name(number), [0; 32], 0).unwrap();
        }
        secrets.begin([9; 32], [0; 32], 0).unwrap_err();
        secrets.end(name(3), Some((201, Vec::new())));
        assert_eq!(secrets.begin([8; 32], [0; 32], 0).unwrap(), Begun::First);
        assert_eq!(secrets.begin(name(5), [0; 32], 0).unwrap(), Begun::UnderWay);
        secrets.begin(name(3), [0; 32], 0).unwrap_err();
        let later = limits::API_SECRET_KEY_MS;
        assert_eq!(secrets.begin([9; 32], [0; 32], later).unwrap(), Begun::First);
    }

    #[test]
    fn what_may_be_tried_again_is_not_kept() {
        for status in [401, 408, 409, 429, 500, 503, 504] {
            assert!(!is_final(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [201, 204, 400, 403, 404, 422] {
            assert!(is_final(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }

    #[test]
    fn every_part_of_a_request_counts() {
        let hash = |path, body: &str| hash(&Method::POST, path, body.as_bytes());
        assert_eq!(hash("/a", "b"), hash("/a", "b"));
        assert_ne!(hash("/a", "b"), hash("/ab", ""));
    }
}
