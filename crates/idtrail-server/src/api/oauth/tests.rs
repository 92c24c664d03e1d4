use axum::body::Body;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::auth::tests::Fixture;

const FORM: &str = "application/x-www-form-urlencoded";

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: serde_json::Value,
}

async fn send(
    endpoint: &Arc<TokenEndpoint>,
    authorization: Option<&str>,
    content_type: &str,
    body: &str,
) -> Answer {
    let app = axum::Router::new()
        .route("/oauth/token", axum::routing::post(token))
        .with_state(Arc::clone(endpoint));
    let mut request = http::Request::post("/oauth/token").header(CONTENT_TYPE, content_type);
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let response = app.oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: serde_json::from_slice(&bytes).unwrap(),
    }
}

#[tokio::test]
async fn person_gets_a_token_that_verifies() {
    let fixture = Fixture::new();
    let endpoint = Arc::new(TokenEndpoint::new(Arc::clone(&fixture.auth)));
    let (id, secret) = (fixture.person.id.as_str(), fixture.person.secret.as_str());
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let cases = [
        (None, form.clone(), "dpo auditor"),
        (None, format!("{form}&scope=auditor&unknown=1"), "auditor"),
        (None, format!("{form}&scope="), "dpo auditor"),
        (Some(basic.as_str()), "grant_type=client_credentials".to_owned(), "dpo auditor"),
        (Some(basic.as_str()), format!("grant_type=client_credentials&client_id={id}"), "dpo auditor"),
    ];
    for (authorization, body, scope) in cases {
        let answer = send(&endpoint, authorization, FORM, &body).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert_eq!(
            (answer.body["token_type"].as_str(), answer.body["expires_in"].as_u64()),
            (Some("Bearer"), Some(900))
        );
        assert_eq!(answer.body["scope"], scope);
        assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
        let claims = fixture.auth.issuer().verify(answer.body["access_token"].as_str().unwrap()).unwrap();
        assert_eq!((claims.sub.as_str(), claims.roles.to_string().as_str()), (id, scope));
    }
}

#[tokio::test]
async fn everything_else_is_an_error_of_the_standard() {
    let fixture = Fixture::new();
    let (id, secret) = (fixture.person.id.as_str(), fixture.person.secret.as_str());
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let cases = [
        (None, FORM, format!("client_id={id}&client_secret={secret}"), 400, "invalid_request"),
        (None, FORM, form.replace("client_credentials", "password"), 400, "unsupported_grant_type"),
        (None, FORM, "grant_type=client_credentials".to_owned(), 401, "invalid_client"),
        (None, FORM, format!("grant_type=client_credentials&client_id={id}"), 401, "invalid_client"),
        (None, FORM, format!("{form}x"), 401, "invalid_client"),
        (None, FORM, form.replace(id, "person_nobody"), 401, "invalid_client"),
        (None, FORM, format!("{form}&client_id={id}"), 400, "invalid_request"),
        (None, FORM, format!("{form}&scope=admin"), 400, "invalid_scope"),
        (None, FORM, format!("{form}&scope=root"), 400, "invalid_scope"),
        (None, "application/json", form.clone(), 400, "invalid_request"),
        (Some(basic.as_str()), FORM, form.clone(), 400, "invalid_request"),
        (
            Some(basic.as_str()),
            FORM,
            "grant_type=client_credentials&client_id=x".to_owned(),
            400,
            "invalid_request",
        ),
        (Some("Basic !"), FORM, "grant_type=client_credentials".to_owned(), 401, "invalid_client"),
        (Some("Bearer x"), FORM, "grant_type=client_credentials".to_owned(), 401, "invalid_client"),
    ];
    for (authorization, content_type, body, status, error) in cases {
        // A new endpoint each time: its budget is not what is tested here.
        let endpoint = Arc::new(TokenEndpoint::new(Arc::clone(&fixture.auth)));
        let answer = send(&endpoint, authorization, content_type, &body).await;
        assert_eq!((answer.status, answer.body["error"].as_str()), (status, Some(error)), "{body}");
        assert_eq!(answer.headers.contains_key(WWW_AUTHENTICATE), status == 401, "{body}");
        assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
        assert!(!answer.body.to_string().contains(secret) && !answer.body.to_string().contains(id), "{body}");
    }
}

#[tokio::test]
async fn attempts_are_limited_per_client() {
    let fixture = Fixture::new();
    let endpoint = Arc::new(TokenEndpoint::new(Arc::clone(&fixture.auth)));
    let (id, secret) = (fixture.person.id.as_str(), fixture.person.secret.as_str());
    let good = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    for attempt in 0..10 {
        assert_eq!(send(&endpoint, None, FORM, &format!("{good}x")).await.status, 401, "{attempt}");
    }
    let answer = send(&endpoint, None, FORM, &good).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.headers[RETRY_AFTER], "3");
    // Another client is not concerned, and made-up ids share one budget.
    for attempt in 0..10 {
        let body = good.replace(id, &format!("person_{attempt}"));
        assert_eq!(send(&endpoint, None, FORM, &body).await.status, 401, "{attempt}");
    }
    assert_eq!(send(&endpoint, None, FORM, &good.replace(id, "person_x")).await.status, 429);
    fixture.clock.advance_ms(3000);
    assert_eq!(send(&endpoint, None, FORM, &good).await.status, 200);
}
