//! Whether the server lives, and what it can be asked.

use super::App;
use super::routes;
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The server lives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`: a server that is not does not answer.
    #[schema(example = "ok")]
    status: &'static str,
    /// The server's version.
    version: &'static str,
}

/// See whether the server lives
#[utoipa::path(
    get, path = "/v1/health", tag = "server",
    responses((status = 200, body = Health, description = "It lives"))
)]
pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Read this document
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "server",
    responses((status = 200, body = Object, description = "OpenAPI 3.1"))
)]
pub(super) async fn document(State(app): State<Arc<App>>) -> impl IntoResponse {
    let text = app.document.get_or_init(|| text().into());
    ([(CONTENT_TYPE, "application/json")], axum::body::Bytes::clone(text))
}

/// The document as it is kept in `docs/openapi.json`.
pub(super) fn text() -> String {
    routes::document().to_pretty_json().unwrap_or_default() + "\n"
}
