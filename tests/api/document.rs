//! The OpenAPI document in docs/ is the one that the code makes and the server serves.

use std::path::Path;

/// Set it to write docs/openapi.json anew.
const WRITE: &str = "MYRIAD_WRITE_OPENAPI";

#[test]
fn the_document_in_docs_is_made_from_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let made = myriad::api::openapi();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = made.lines().zip(kept.lines()).position(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "docs/openapi.json is not what the code says (line {}); write it anew with \
         {WRITE}=1 cargo nextest run --test api the_document_in_docs",
        differs.unwrap_or_else(|| made.lines().count().min(kept.lines().count())) + 1
    );
}

#[test]
fn every_operation_says_what_it_is_and_whom_it_is_for() {
    let document: serde_json::Value = serde_json::from_str(&myriad::api::openapi()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut names = std::collections::BTreeSet::new();
    let operations = myriad::api::operations();
    assert!(operations.len() > 40, "{}", operations.len());
    for (method, path, wants) in operations {
        let operation = &document["paths"][&path][method.as_str().to_lowercase()];
        let named = |name: &str| operation[name].as_str().unwrap_or_default().to_owned();
        assert!(!named("summary").is_empty(), "{method} {path} has no summary");
        assert!(names.insert(named("operationId")), "{method} {path}: operationId twice");
        assert!(operation["responses"]["4XX"].is_object(), "{method} {path} has no problems");
        let admin = path.starts_with("/v1/admin/");
        assert_eq!(admin, wants.as_deref() == Some("admin"), "{method} {path}: {wants:?}");
    }
}
