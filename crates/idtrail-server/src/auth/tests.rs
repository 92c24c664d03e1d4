use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::WWW_AUTHENTICATE;
use http_body_util::BodyExt as _;
use idtrail_port::os::{OsDisk, OsEntropy};
use tower::ServiceExt as _;

use super::*;
use crate::credentials::{Created, NewKey, NewPerson};
use crate::token::tests::{NOW_S, TestClock, issuer};

/// One key with the role ingest, one person with the roles dpo and auditor, and what checks them.
pub(crate) struct Fixture {
    pub(crate) auth: Arc<Auth>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) key: Created,
    pub(crate) person: Created,
    _dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock::at_s(NOW_S);
        let store = CredentialStore::open(Arc::new(OsDisk), dir.path()).unwrap();
        let (now, roles) = (NOW_S * 1000, Role::Ingest.into());
        let new = NewKey { env: "live".to_owned(), name: "crm".to_owned(), roles, expires_ms: None };
        let key = store.create_key(&OsEntropy, now, new).unwrap();
        let roles = [Role::Dpo, Role::Auditor].into_iter().collect();
        let new = NewPerson { name: "Zoë".to_owned(), roles, expires_ms: None };
        let person = store.create_person(&OsEntropy, now, new).unwrap();
        let issuer = Arc::new(issuer(&[7; 32], Arc::clone(&clock)));
        let auth = Arc::new(Auth::new(
            Arc::new(store),
            issuer,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::default(),
        ));
        Self { auth, clock, key, person, _dir: dir }
    }

    pub(crate) fn token(&self, roles: RoleSet) -> String {
        let record = self.auth.credentials().live_person(&self.person.id, NOW_S * 1000).unwrap();
        self.auth.issuer().issue(&record, roles).unwrap().token.to_string()
    }
}

async fn send(fixture: &Fixture, path: &str, headers: &[(&str, &str)]) -> (u16, Option<String>, String) {
    let app = Router::new()
        .route(
            "/both",
            get(|system: CallingSystem, caller: Person| async move {
                system.require(&[Role::Ingest])?;
                caller.require(&[Role::Dpo])?;
                Ok::<_, Problem>(format!("{} {}", system.name(), caller.name()))
            }),
        )
        .route(
            "/mirror",
            get(|system: CallingSystem| async move { system.require(&[Role::Mirror, Role::Auditor]) }),
        )
        .with_state(Arc::clone(&fixture.auth));
    let mut request = http::Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let challenge = response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, challenge, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn both_credentials_are_needed_and_never_echoed() {
    let fixture = Fixture::new();
    let key = fixture.key.secret.as_str();
    let token = fixture.token([Role::Dpo].into_iter().collect());
    let auditor = format!("Bearer {}", fixture.token(Role::Auditor.into()));
    let ingest_only = format!("Bearer {}", fixture.token(Role::Ingest.into()));
    let (bearer, lower) = (format!("Bearer {token}"), format!("bearer {token}"));
    let (broken, broken_key) = (format!("{bearer}A"), format!("{key}a"));
    let other = "Basic canary:canary";

    type Case<'a> = (&'a [(&'a str, &'a str)], u16, Option<&'a str>);
    let cases: &[Case<'_>] = &[
        (&[("x-api-key", key), ("authorization", &bearer)], 200, None),
        (&[("x-api-key", key), ("authorization", &lower)], 200, None),
        (&[("authorization", &bearer)], 401, Some("ApiKey")),
        (&[("x-api-key", key)], 401, Some("Bearer realm=\"idtrail\"")),
        (&[], 401, Some("ApiKey")),
        (&[("x-api-key", &broken_key), ("authorization", &bearer)], 401, Some("ApiKey")),
        (&[("x-api-key", key), ("authorization", &broken)], 401, Some("invalid_token")),
        (&[("x-api-key", key), ("authorization", other)], 401, Some("Bearer")),
        (&[("x-api-key", key), ("x-api-key", key), ("authorization", &bearer)], 401, Some("ApiKey")),
        (
            &[("x-api-key", key), ("authorization", &bearer), ("authorization", &bearer)],
            401,
            Some("invalid_token"),
        ),
        (&[("x-api-key", &token), ("authorization", key)], 401, Some("ApiKey")),
        (&[("x-api-key", key), ("authorization", &auditor)], 403, None),
        // A role that the person does not have does not come in by a token that names it.
        (&[("x-api-key", key), ("authorization", &ingest_only)], 403, None),
    ];
    for (case, (headers, status, challenge)) in cases.iter().enumerate() {
        let (found, found_challenge, body) = send(&fixture, "/both", headers).await;
        assert_eq!(found, *status, "{case}: {body}");
        assert_eq!(found_challenge.is_some(), challenge.is_some(), "{case}");
        assert!(found_challenge.unwrap_or_default().contains(challenge.unwrap_or_default()), "{case}");
        assert!(!body.contains(key) && !body.contains(&token) && !body.contains("canary"), "{case}: {body}");
    }
    let (status, _, body) = send(&fixture, "/mirror", &[("x-api-key", key)]).await;
    assert_eq!(status, 403, "{body}");
}

#[tokio::test]
async fn revoked_person_is_refused_at_once_although_the_token_lives() {
    let fixture = Fixture::new();
    let bearer = format!("Bearer {}", fixture.token(Role::Dpo.into()));
    let headers = [("x-api-key", fixture.key.secret.as_str()), ("authorization", bearer.as_str())];
    assert_eq!(send(&fixture, "/both", &headers).await.0, 200);
    fixture.auth.credentials().revoke(&fixture.person.id, NOW_S * 1000).unwrap();
    assert_eq!(send(&fixture, "/both", &headers).await.0, 401);
}

#[tokio::test]
async fn token_ends_with_its_time() {
    let fixture = Fixture::new();
    let bearer = format!("Bearer {}", fixture.token(Role::Dpo.into()));
    let headers = [("x-api-key", fixture.key.secret.as_str()), ("authorization", bearer.as_str())];
    fixture.clock.advance_ms(930_000);
    assert_eq!(send(&fixture, "/both", &headers).await.0, 401);
}
