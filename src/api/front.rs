//! What every request passes first: an id, a place, its body within bounds, an answer in time, and
//! a line in the access log.
//!
//! The log has the pattern of a path and never the path, no query, no header and no body: what a
//! client keeps secret can't get in. [`PeerAddress`] is set by `serve`.

use super::App;
use super::problem::{Code, Problem};
use super::serve::PeerAddress;
use crate::clock::wall_ms;
use crate::limits;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, Limited};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The header that names a request, in the answer and in the server's log.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where a proxy says who is behind it; its last entry is the proxy's own word.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Milliseconds since the first question: never back, whatever happens to the wall clock.
pub(super) fn now_ms() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = BEGAN.get_or_init(Instant::now);
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// For whom a request counts that nobody logged in for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source(pub(super) IpAddr);

/// Lets a request in, and its answer out.
pub(super) async fn front(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let number = app.requests.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:08x}-{number:x}", app.boot);
    let path = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let from = address(&app, &request);
    let mut response = admit(&app, request, from, next).await.into_response();
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response.headers_mut().insert(
        axum::http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-store"), // answers are somebody's own, and tokens
    );
    if app.settings.access_log || response.status() == StatusCode::INTERNAL_SERVER_ERROR {
        let path = path.as_ref().map_or("-", MatchedPath::as_str);
        tell(&Told { id: &id, method: &method, path, from, status: response.status(), began });
    }
    response
}

async fn admit(
    app: &Arc<App>,
    request: Request,
    from: IpAddr,
    next: Next,
) -> Result<Response, Problem> {
    app.buckets.request(from)?;
    let (mut parts, body) = request.into_parts();
    let body = read(body, &parts.headers).await?;
    // Not before: bodies that come slowly would take all places. Connections bound them.
    let _place = app.places.try_acquire().map_err(|_| Problem::overloaded())?;
    parts.extensions.insert(Source(from));
    let request = Request::from_parts(parts, Body::from(body));
    let time = Duration::from_millis(limits::API_ANSWER_MS);
    timeout(time, next.run(request)).await.map_err(|_| {
        Problem::new(
            Code::TimedOut,
            "It may have happened. Repeat it with the same Idempotency-Key, or look.",
        )
    })
}

/// The body, whole.
async fn read(body: Body, headers: &HeaderMap) -> Result<Bytes, Problem> {
    let too_large = || {
        let most = limits::API_BODY_BYTES_MAX;
        Problem::new(Code::TooLarge, format!("A body has at most {most} bytes; send less."))
    };
    let length = headers.get(axum::http::header::CONTENT_LENGTH);
    let stated = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if stated.is_some_and(|bytes| bytes > limits::API_BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let whole = Limited::new(body, limits::API_BODY_BYTES_MAX).collect();
    match timeout(Duration::from_millis(limits::API_BODY_MS), whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::invalid("The body ended too early; send it whole.")),
        Err(_) => {
            let time = limits::API_BODY_MS;
            let detail = format!("A body has to come within {time} ms; send it faster.");
            Err(Problem::new(Code::TooSlow, detail))
        }
    }
}

/// Whom the request counts for: the peer, or whom the operator's proxy names.
fn address(app: &App, request: &Request) -> IpAddr {
    let peer = request.extensions().get::<PeerAddress>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    if !app.settings.behind_proxy {
        return peer;
    }
    forwarded(request.headers()).unwrap_or(peer)
}

fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(FORWARDED_FOR).iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// What the access log says of a request.
struct Told<'r> {
    id: &'r str,
    method: &'r Method,
    path: &'r str,
    from: IpAddr,
    status: StatusCode,
    began: Instant,
}

fn tell(told: &Told<'_>) {
    let line = serde_json::json!({
        "api": told.path,
        "method": told.method.as_str(),
        "status": told.status.as_u16(),
        "ms": u64::try_from(told.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "from": told.from,
        "request_id": told.id,
        "time_ms": wall_ms(),
    });
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxys_own_word_is_the_last() {
        let mut headers = HeaderMap::new();
        assert_eq!(forwarded(&headers), None);
        headers.append(FORWARDED_FOR, HeaderValue::from_static("198.51.100.7"));
        headers.append(FORWARDED_FOR, HeaderValue::from_static("10.0.0.1, 203.0.113.9"));
        assert_eq!(forwarded(&headers), Some("203.0.113.9".parse().unwrap()));
        headers.append(FORWARDED_FOR, HeaderValue::from_static("somebody"));
        assert_eq!(forwarded(&headers), None);
    }
}
