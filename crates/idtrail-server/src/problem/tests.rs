use axum::Json;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use http_body_util::BodyExt as _;
use idtrail_port::os::OsEntropy;
use tower::ServiceExt as _;

use super::*;

fn app() -> Router {
    let ids = Arc::new(Envelope { ids: RequestIds::new(&OsEntropy), metrics: Arc::default() });
    Router::new()
        .route("/problems/{code}", get(page))
        .route("/echo", post(|Json(body): Json<Vec<u8>>| async move { Json(body) }))
        .route(
            "/parsed",
            post(|body: Result<Json<Vec<u8>>, JsonRejection>| async move {
                body.map_err(Problem::from).map(drop)
            }),
        )
        .route("/number/{n}", get(|Path(n): Path<u32>| async move { n.to_string() }))
        .route("/busy", get(|| async { Problem::unavailable("queue is full", 2) }))
        .route("/bare", get(|| async { StatusCode::SERVICE_UNAVAILABLE }))
        .route("/oauth", get(|| async { (StatusCode::BAD_REQUEST, Json("kept")) }))
        .route("/key", get(|| async { Problem::unauthorized("key is refused", "ApiKey") }))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(ids, envelope))
}

async fn send(method: &str, path: &str, content_type: &str, body: &str) -> (http::response::Parts, String) {
    let request = http::Request::builder().method(method).uri(path).header(CONTENT_TYPE, content_type);
    let response = app().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn every_error_is_a_document_with_a_request_id() {
    let json = "application/json";
    let canary = "canary-7f3a";
    let cases = [
        ("GET", "/canary-7f3a", json, "", "not_found"),
        ("DELETE", "/echo", json, "", "method_not_allowed"),
        // Of what axum answers by itself the middleware knows the status only.
        ("POST", "/echo", json, "[canary-7f3a", "malformed_request"),
        ("POST", "/parsed", json, "[canary-7f3a", "malformed_json"),
        ("POST", "/parsed", json, "[\"canary-7f3a\"]", "invalid"),
        ("POST", "/parsed", "text/canary-7f3a", "[]", "unsupported_media_type"),
        ("POST", "/echo", json, "[\"canary-7f3a\"]", "invalid"),
        ("POST", "/echo", "text/canary-7f3a", "[]", "unsupported_media_type"),
        ("GET", "/number/canary-7f3a", json, "", "malformed_request"),
        ("GET", "/problems/canary-7f3a", json, "", "not_found"),
        ("GET", "/busy", json, "", "unavailable"),
        ("GET", "/bare", json, "", "unavailable"),
        ("GET", "/key", json, "", "unauthorized"),
    ];
    for (method, path, content_type, body, expected) in cases {
        let (head, text) = send(method, path, content_type, body).await;
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let code = document["code"].as_str().unwrap();
        assert_eq!(code, expected, "{method} {path}");
        assert_eq!(head.headers[CONTENT_TYPE], PROBLEM_JSON, "{method} {path}");
        assert_eq!(document["status"], head.status.as_u16(), "{method} {path}");
        assert_eq!(document["requestId"], head.headers["x-request-id"].to_str().unwrap(), "{method} {path}");
        assert_eq!(document["type"], format!("/problems/{code}"));
        assert!(!text.contains(canary), "{text}");
        assert_eq!(head.status == 503, head.headers.contains_key(RETRY_AFTER), "{method} {path}");
        assert_eq!(head.status == 401, head.headers.contains_key(WWW_AUTHENTICATE), "{method} {path}");
        assert_eq!(head.status == 405, head.headers.contains_key("allow"), "{method} {path}");
    }
}

#[tokio::test]
async fn answers_of_another_json_form_and_good_answers_are_left_alone() {
    let (head, text) = send("GET", "/oauth", "text/plain", "").await;
    assert_eq!((head.status.as_u16(), text.as_str()), (400, "\"kept\""));
    let (head, text) = send("POST", "/echo", "application/json", "[1]").await;
    assert_eq!((head.status.as_u16(), text.as_str()), (200, "[1]"));
    assert!(head.headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn every_code_has_a_page() {
    for code in Code::ALL {
        let (head, text) = send("GET", code.address(), "text/plain", "").await;
        assert_eq!(head.status, 200);
        assert!(text.starts_with(code.title()) && text.contains(code.as_str()), "{text}");
        assert_eq!(Code::from_name(code.as_str()), Some(*code));
    }
}

#[test]
fn status_finds_its_code() {
    let cases = [
        (StatusCode::BAD_REQUEST, Code::MalformedRequest),
        (StatusCode::UNPROCESSABLE_ENTITY, Code::Invalid),
        (StatusCode::IM_A_TEAPOT, Code::MalformedRequest),
        (StatusCode::BAD_GATEWAY, Code::Internal),
        (StatusCode::REQUEST_TIMEOUT, Code::RequestTimeout),
    ];
    for (status, code) in cases {
        assert_eq!(Code::from_status(status), code, "{status}");
    }
}

#[test]
fn document_has_the_published_form() {
    let problem = Problem::invalid(vec![FieldError {
        pointer: "/auditEvent/timestamp".to_owned(),
        code: Cow::Borrowed("bad_timestamp"),
        message: Cow::Borrowed("is not an RFC 3339 time"),
        hint: Some(Cow::Borrowed("write 2023-10-27T14:30:00.123Z")),
    }]);
    let expected = concat!(
        r#"{"type":"/problems/invalid","title":"Invalid content","status":422,"#,
        r#""detail":"the content breaks rules. count=1","code":"invalid","requestId":"req_1","retryable":false,"#,
        r#""errors":[{"pointer":"/auditEvent/timestamp","code":"bad_timestamp","#,
        r#""message":"is not an RFC 3339 time","hint":"write 2023-10-27T14:30:00.123Z"}]}"#
    );
    assert_eq!(String::from_utf8(problem.to_json(Some("req_1"))).unwrap(), expected);
    assert!(
        String::from_utf8(Problem::too_large(Some(50_000), 49_152).to_json(None)).unwrap().contains("50000")
    );
    assert!(
        String::from_utf8(Problem::malformed_json("a member stands twice", Some((2, 7))).to_json(None))
            .unwrap()
            .contains("line=2, column=7")
    );
}

#[test]
fn request_ids_differ() {
    let ids = RequestIds::new(&OsEntropy);
    assert_ne!(ids.next(), ids.next());
}
