//! Tokens of a foreign issuer, against a made-up one over real HTTP that rotates its keys, fails, and is slow.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::rig::{ACCESS, Installation, Local};

/// The simulated clock's start.
const NOW_S: i64 = 1_790_000_000;

struct SigningKey {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl SigningKey {
    fn new(id: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self { id, algorithm: Algorithm::ES256, key: EncodingKey::from_ec_der(&pair.serialize_der()) }
    }

    fn published(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    fn sign(&self, claims: &Value, with: impl FnOnce(&mut Header)) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.to_owned());
        with(&mut header);
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

/// What the issuer does with the next requests; after that it answers as it should.
#[derive(Clone, Copy)]
enum Mood {
    Fails,
    NeverAnswers,
    SendsNonsense,
    NamesAnother,
    Redirects,
}

#[derive(Default)]
struct Book {
    keys: Vec<Value>,
    moods: VecDeque<Mood>,
    asked_for_keys: usize,
    address: String,
}

#[derive(Clone, Default)]
struct Issuer(Arc<Mutex<Book>>);

impl Issuer {
    async fn start() -> Self {
        let issuer = Self::default();
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        issuer.0.lock().unwrap().address = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        issuer
    }

    fn address(&self) -> String {
        self.0.lock().unwrap().address.clone()
    }

    fn publish(&self, keys: &[&SigningKey]) {
        self.0.lock().unwrap().keys = keys.iter().map(|key| key.published()).collect();
    }

    fn moods(&self, moods: &[Mood]) {
        self.0.lock().unwrap().moods = moods.iter().copied().collect();
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().asked_for_keys
    }

    fn claims(&self) -> Value {
        json!({
            "iss": self.address(), "sub": "jane.doe@example.com", "aud": "idtrail", "name": "Jane",
            "iat": NOW_S, "nbf": NOW_S, "exp": NOW_S + 100_000, "realm_access": { "roles": ["privacy", "other"] },
        })
    }
}

async fn discovery(State(issuer): State<Issuer>) -> Response {
    let (mood, address) = {
        let mut book = issuer.0.lock().unwrap();
        (book.moods.pop_front(), book.address.clone())
    };
    let good = json!({ "issuer": address, "jwks_uri": format!("{address}/keys") });
    match mood {
        None => axum::Json(good).into_response(),
        Some(Mood::Fails) => StatusCode::BAD_GATEWAY.into_response(),
        Some(Mood::NeverAnswers) => std::future::pending().await,
        Some(Mood::SendsNonsense) => "<html>maintenance</html>".into_response(),
        Some(Mood::NamesAnother) => {
            axum::Json(json!({ "issuer": "https://evil.example", "jwks_uri": format!("{address}/keys") }))
                .into_response()
        }
        Some(Mood::Redirects) => (StatusCode::FOUND, [("location", "/keys")]).into_response(),
    }
}

async fn keys(State(issuer): State<Issuer>) -> Response {
    let mut book = issuer.0.lock().unwrap();
    book.asked_for_keys += 1;
    let mut all = book.keys.clone();
    // Kinds that we do not know must not cost the others.
    all.push(json!({ "kty": "QUANTUM", "kid": "future" }));
    all.push(json!({ "kty": "oct", "kid": "shared", "alg": "HS256", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0" }));
    axum::Json(json!({ "keys": all })).into_response()
}

struct Rig {
    issuer: Issuer,
    local: Local,
    installation: Installation,
}

impl Rig {
    async fn start() -> Self {
        let issuer = Issuer::start().await;
        let section = format!(
            "[[oidc]]\nissuer = \"{}\"\naudience = \"idtrail\"\nalgorithms = [\"ES256\"]\n\
             roles_claim = \"realm_access.roles\"\nroles = {{ privacy = \"dpo\", audit = \"auditor\" }}\nclock_skew_s = 10\n",
            issuer.address()
        );
        let installation = tokio::task::spawn_blocking(move || Installation::with(&section)).await.unwrap();
        let local = Local::start(&installation).await;
        Self { issuer, local, installation }
    }

    /// Asks for access without a body: 415 says that both credentials and their roles were good.
    async fn status(&self, token: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        let headers = [("x-api-key", self.installation.key.as_str()), ("authorization", bearer.as_str())];
        self.local.ask("post", ACCESS, &headers).await.status().as_u16()
    }
}

const GOOD: u16 = 415;

fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test());
}

#[test]
fn only_tokens_that_the_issuer_meant_for_us_count() {
    run(async || {
        let rig = Rig::start().await;
        let (key, other) = (SigningKey::new("one"), SigningKey::new("one"));
        rig.issuer.publish(&[&key]);
        let claims = rig.issuer.claims();
        let with = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            claims
        };
        let without = |name: &str| {
            let mut claims = claims.clone();
            claims.as_object_mut().unwrap().remove(name);
            claims
        };
        let plain = |claims: &Value| key.sign(claims, |_| {});
        let good = plain(&claims);
        let payload = good.split('.').nth(1).unwrap();
        // The public key taken as a shared secret: the classic confusion.
        let public = key.published()["x"].as_str().unwrap().to_owned();
        let hs256 = {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = Some("one".to_owned());
            jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(public.as_bytes())).unwrap()
        };
        let shared = {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = Some("shared".to_owned());
            let secret = EncodingKey::from_secret(b"secretsecretsecretsecretsecret");
            jsonwebtoken::encode(&header, &claims, &secret).unwrap()
        };
        let bring_own =
            other.sign(&claims, |header| header.jwk = serde_json::from_value(other.published()).ok());
        let elsewhere =
            other.sign(&claims, |header| header.jku = Some(format!("{}/keys", rig.issuer.address())));
        let cases: Vec<(&str, String, u16)> = vec![
            ("good", good.clone(), GOOD),
            ("type of RFC 9068", key.sign(&claims, |header| header.typ = Some("at+jwt".to_owned())), GOOD),
            ("no kid, one key", key.sign(&claims, |header| header.kid = None), GOOD),
            ("audience in a list", plain(&with("aud", json!(["x", "idtrail"]))), GOOD),
            ("within the skew", plain(&with("exp", json!(NOW_S - 9))), GOOD),
            ("fraction of a second", plain(&with("exp", json!(NOW_S as f64 + 0.5))), GOOD),
            ("expired", plain(&with("exp", json!(NOW_S - 10))), 401),
            ("not yet", plain(&with("nbf", json!(NOW_S + 11))), 401),
            ("issued in the future", plain(&with("iat", json!(NOW_S + 11))), 401),
            ("no end", plain(&without("exp")), 401),
            ("end is a text", plain(&with("exp", json!("2030"))), 401),
            ("no audience", plain(&without("aud")), 401),
            ("other audience", plain(&with("aud", json!("idtrail2"))), 401),
            ("no subject", plain(&without("sub")), 401),
            ("other issuer", plain(&with("iss", json!("https://evil.example"))), 401),
            ("no issuer", plain(&without("iss")), 401),
            ("forged", other.sign(&claims, |_| {}), 401),
            ("brings its own key", bring_own, 401),
            ("says where its key is", elsewhere, 401),
            ("logout token", key.sign(&claims, |header| header.typ = Some("logout+jwt".to_owned())), 401),
            ("public key as secret", hs256, 401),
            ("shared secret in the list", shared, 401),
            ("none", format!("eyJhbGciOiJub25lIn0.{payload}."), 401),
            ("crit", format!("eyJhbGciOiJFUzI1NiIsImNyaXQiOlsieCJdfQ.{payload}.AAAA"), 401),
            ("no roles", plain(&without("realm_access")), 403),
            ("other roles", plain(&with("realm_access", json!({ "roles": ["audit"] }))), 403),
            ("role as a text", plain(&with("realm_access", json!({ "roles": "privacy" }))), GOOD),
            ("roles elsewhere", plain(&with("roles", json!(["privacy"]))), GOOD),
            ("mapped name is not the role", plain(&with("realm_access", json!({ "roles": ["dpo"] }))), 403),
            ("huge", "a".repeat(20_000), 401),
            ("not three parts", format!("{good}.x"), 401),
        ];
        for (name, token, status) in cases {
            assert_eq!(rig.status(&token).await, status, "{name}");
        }
        assert!(rig.issuer.asked() <= 2, "made-up key ids must not be passed on to the issuer");
        rig.local.stop().await;
    });
}

#[test]
fn keys_are_rotated_withdrawn_and_not_lost_with_the_issuer() {
    run(async || {
        let rig = Rig::start().await;
        let (first, second, third) = (SigningKey::new("1"), SigningKey::new("2"), SigningKey::new("3"));
        let token = |key: &SigningKey| key.sign(&rig.issuer.claims(), |_| {});
        let advance = |seconds: u64| rig.local.clock.advance_ms(seconds * 1000);
        rig.issuer.publish(&[&first]);
        // Nothing was ever fetched: nothing can be said about a token, which is not the client's fault.
        for mood in [Mood::Fails, Mood::SendsNonsense, Mood::NamesAnother, Mood::Redirects] {
            rig.issuer.moods(&[mood]);
            assert_eq!(rig.status(&token(&first)).await, 503);
            // Asked again only after a while.
            assert_eq!(rig.status(&token(&first)).await, 503);
            advance(11);
        }
        assert_eq!(rig.status(&token(&first)).await, GOOD);
        // A new key is found at once, for all who wait with one question.
        rig.issuer.publish(&[&first, &second]);
        advance(11);
        let before = rig.issuer.asked();
        let new = token(&second);
        let (a, b, c) = tokio::join!(rig.status(&new), rig.status(&new), rig.status(&new));
        assert_eq!((a, b, c, rig.issuer.asked()), (GOOD, GOOD, GOOD, before + 1));
        // A withdrawn key stops to count when the keys are looked at again.
        rig.issuer.publish(&[&second]);
        advance(301);
        assert_eq!(rig.status(&token(&second)).await, GOOD);
        let old = token(&first);
        let mut tries = 0;
        while rig.status(&old).await != 401 {
            tries += 1;
            assert!(tries < 200, "the withdrawn key still counts");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The issuer is down: known keys go on for an hour, unknown ones cannot be judged.
        rig.issuer.moods(&[Mood::Fails; 50]);
        for _ in 0..5 {
            advance(600);
            assert_eq!(rig.status(&token(&second)).await, GOOD);
        }
        advance(700);
        assert_eq!(rig.status(&token(&second)).await, 503);
        assert_eq!(rig.status(&token(&third)).await, 503);
        // It is back.
        rig.issuer.moods(&[]);
        rig.issuer.publish(&[&third]);
        advance(11);
        assert_eq!(rig.status(&token(&third)).await, GOOD);
        advance(11);
        assert_eq!(rig.status(&token(&second)).await, 401);
        rig.local.stop().await;
    });
}

#[test]
fn a_slow_issuer_holds_up_nobody_whose_key_is_known() {
    run(async || {
        let rig = Rig::start().await;
        let (known, new) = (SigningKey::new("known"), SigningKey::new("new"));
        rig.issuer.publish(&[&known]);
        let token = |key: &SigningKey| key.sign(&rig.issuer.claims(), |_| {});
        assert_eq!(rig.status(&token(&known)).await, GOOD);
        rig.local.clock.advance_ms(301_000);
        rig.issuer.moods(&[Mood::NeverAnswers]);
        let started = std::time::Instant::now();
        for _ in 0..10 {
            assert_eq!(rig.status(&token(&known)).await, GOOD);
        }
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        // One that has to be looked up waits for the deadline at most.
        assert!(matches!(rig.status(&token(&new)).await, 401 | 503));
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        rig.local.stop().await;
    });
}

#[test]
fn a_foreign_person_stands_in_the_log_without_its_address() {
    run(async || {
        let rig = Rig::start().await;
        let key = SigningKey::new("one");
        rig.issuer.publish(&[&key]);
        let token = format!("Bearer {}", key.sign(&rig.issuer.claims(), |_| {}));
        let post = |path: &str, body: String| {
            http::Request::post(format!("{}{path}", rig.local.base))
                .header("x-api-key", &rig.installation.key)
                .header("authorization", &token)
                .header("content-type", "application/json")
                .body(bytes::Bytes::from(body))
                .unwrap()
        };
        let event = rig.local.send(post(crate::rig::EVENTS, crate::rig::sample().to_string())).await;
        assert_eq!(event.status(), StatusCode::CREATED, "{:?}", event.body());
        let answer = rig.local.send(post(ACCESS, crate::rig::query("cust_hash_9f86d08").to_string())).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let text = String::from_utf8(answer.body().to_vec()).unwrap();
        assert!(!text.contains("jane.doe"), "{text}");
        rig.local.stop().await;
    });
}
