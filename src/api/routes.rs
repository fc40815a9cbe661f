//! All endpoints, and the OpenAPI document that is made from them.

use super::problem::{Code, PROBLEM_JSON, Problem, ProblemBody};
use super::{
    App, accounts, admin, front, groups, health, members, messages, once, people, reports,
};
use super::{sessions, stats};
use axum::Router;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use std::sync::Arc;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Info, OpenApi, OpenApiBuilder, Ref, RefOr, Required,
    ResponseBuilder,
};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

type Routes = OpenApiRouter<Arc<App>>;

/// Endpoints whose answers hold secrets.
fn secret() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(accounts::register))
        .routes(routes!(sessions::log_in))
        .routes(routes!(sessions::refresh))
        .routes(routes!(admin::make_invite, admin::invites))
}

/// All others.
fn plain() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::document))
        .routes(routes!(accounts::me, accounts::change, accounts::delete))
        .routes(routes!(accounts::change_password))
        .routes(routes!(sessions::log_out))
        .routes(routes!(sessions::devices))
        .routes(routes!(sessions::end_device))
        .routes(routes!(people::find))
        .routes(routes!(people::user))
        .routes(routes!(people::contacts))
        .routes(routes!(people::put_contact, people::end_contact))
        .routes(routes!(people::blocks))
        .routes(routes!(people::block, people::unblock))
        .routes(routes!(groups::create, groups::list))
        .routes(routes!(groups::group, groups::change, groups::end))
        .routes(routes!(groups::leave))
        .routes(routes!(members::list, members::add))
        .routes(routes!(members::change, members::remove))
        .routes(routes!(members::marks))
        .routes(routes!(members::invitations))
        .routes(routes!(members::accept))
        .routes(routes!(members::decline))
        .routes(routes!(messages::send))
        .routes(routes!(messages::send_as))
        .routes(routes!(reports::report))
        .routes(routes!(admin::users, admin::provision))
        .routes(routes!(admin::user, admin::delete))
        .routes(routes!(admin::suspend, admin::unsuspend))
        .routes(routes!(admin::end_invite))
        .routes(routes!(admin::reports))
        .routes(routes!(admin::close_report))
        .routes(routes!(stats::stats))
}

/// The service.
pub(super) fn router(app: &Arc<App>) -> Router {
    let (secret, _) = secret().split_for_parts();
    let (plain, _) = plain().split_for_parts();
    secret
        .route_layer(from_fn_with_state(Arc::clone(app), once::in_memory))
        .merge(plain.route_layer(from_fn_with_state(Arc::clone(app), once::kept)))
        .fallback(async || {
            Problem::new(Code::NotFound, "There is no such path; /v1/openapi.json lists all.")
        })
        .method_not_allowed_fallback(async || {
            Problem::new(
                Code::MethodNotAllowed,
                "The path has other methods; /v1/openapi.json lists them.",
            )
        })
        .layer(from_fn_with_state(Arc::clone(app), front::front))
        .with_state(Arc::clone(app))
}

/// The OpenAPI document.
pub(super) fn document() -> OpenApi {
    let (_, mut document) =
        OpenApiRouter::with_openapi(head()).merge(secret()).merge(plain()).split_for_parts();
    let components = document.components.get_or_insert_default();
    finish_components(components);
    for (path, item) in &mut document.paths.paths {
        finish_item(path, item);
    }
    document
}

fn head() -> OpenApi {
    let mut info = Info::new("Myriad", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Accounts, contacts, groups and messages of a Myriad server. Ids and positions are 64-bit \
         numbers as text. Every answer that is no success is a problem (RFC 9457)."
            .to_owned(),
    );
    OpenApiBuilder::new().info(info).components(Some(Components::new())).build()
}

/// What all operations share: problems, and the two kinds of tokens.
fn finish_components(components: &mut Components) {
    let bearer = |about: &str| {
        let mut http = Http::new(HttpAuthScheme::Bearer);
        http.description = Some(about.to_owned());
        SecurityScheme::Http(http)
    };
    components.add_security_scheme("token", bearer("An access token of POST /v1/sessions."));
    components.add_security_scheme("admin", bearer("What the file of admin_token_file holds."));
    let mut schemas = Vec::new();
    ProblemBody::schemas(&mut schemas);
    schemas.push((ProblemBody::name().into_owned(), ProblemBody::schema()));
    components.schemas.extend(schemas);
    let problem = ResponseBuilder::new()
        .description("It was not done; `code` and `detail` say why, and what to do.")
        .content(
            PROBLEM_JSON,
            ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build(),
        );
    components.responses.insert("Problem".to_owned(), problem.build().into());
}

fn finish_item(path: &str, item: &mut PathItem) {
    if let Some(operation) = &mut item.post {
        let key = ParameterBuilder::new()
            .name(once::IDEMPOTENCY_KEY.as_str())
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("Repeats with the same key are done once and answered alike."))
            .schema(Some(
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern(Some("^[!-~]{1,64}$"))
                    .build(),
            ));
        operation.parameters.get_or_insert_default().push(key.build().into());
    }
    let all = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ];
    for (method, operation) in all {
        if let Some(operation) = operation {
            operation.operation_id = Some(name(method, path));
            finish_operation(operation);
        }
    }
}

/// A name for generated clients: method and path are unique together.
fn name(method: &str, path: &str) -> String {
    let path = path.trim_start_matches("/v1/").replace(['{', '}'], "");
    let path = path.trim_end_matches(".json").replace('/', "_");
    format!("{method}_{path}")
}

fn finish_operation(operation: &mut Operation) {
    for range in ["4XX", "5XX"] {
        let problem = RefOr::Ref(Ref::from_response_name("Problem"));
        operation.responses.responses.insert(range.to_owned(), problem);
    }
}

/// Every operation: method, path, and what it wants to see (`token`, `admin`, or nothing).
#[must_use]
pub fn operations() -> Vec<(Method, String, Option<String>)> {
    let mut operations = Vec::new();
    for (path, item) in document().paths.paths {
        let all = [
            (Method::GET, item.get),
            (Method::PUT, item.put),
            (Method::POST, item.post),
            (Method::PATCH, item.patch),
            (Method::DELETE, item.delete),
        ];
        for (method, operation) in all {
            let Some(operation) = operation else { continue };
            let wants = operation.security.iter().flatten().find_map(|requirement| {
                let named = serde_json::to_value(requirement).ok()?;
                named.as_object()?.keys().next().cloned()
            });
            operations.push((method, path.clone(), wants));
        }
    }
    operations
}
