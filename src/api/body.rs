//! What handlers are given: bodies, paths and queries, read strictly, with a problem when they
//! can't be.
//!
//! A body has been read by `front` before, within its bounds of size and time.

use super::problem::{Code, Problem};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// A body of JSON.
#[derive(Debug)]
pub(super) struct Given<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Given<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers().get(CONTENT_TYPE).map(|value| value.as_bytes())) {
            return Err(Problem::new(
                Code::WrongMediaType,
                "Send JSON, with the header Content-Type: application/json.",
            ));
        }
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|_| Problem::invalid("The body ended too early; send it whole."))?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            Problem::invalid(format!("The body is not what is expected here: {error}."))
        })
    }
}

fn is_json(kind: Option<&[u8]>) -> bool {
    let kind = kind.unwrap_or_default();
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// The ids in a path.
#[derive(Debug)]
pub(super) struct At<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(ids) = Path::from_request_parts(parts, state).await.map_err(|_| {
            Problem::invalid("An id in the path is not usable: ids are whole numbers above 0.")
        })?;
        Ok(Self(ids))
    }
}

/// The query.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(asked) = Query::from_request_parts(parts, state).await.map_err(|rejection| {
            Problem::invalid(format!("The query is not usable: {}.", rejection.body_text()))
        })?;
        Ok(Self(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_named_by_its_type_whatever_its_parameters() {
        assert!(is_json(Some(b"application/json")));
        assert!(is_json(Some(b"Application/JSON ; charset=utf-8")));
        assert!(!is_json(Some(b"text/json")));
        assert!(!is_json(None));
    }
}
