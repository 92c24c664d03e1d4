//! Stands in for Google's token and grant endpoints.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::Router;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

/// A token endpoint that checks assertions as Google does, and grant endpoints that name what they are told.
#[derive(Clone)]
pub(crate) struct Google {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) tokens: Arc<Mutex<u64>>,
    pub(crate) granted: Arc<Mutex<Vec<&'static str>>>,
    /// The service account's key file.
    pub(crate) key: String,
    public: Vec<u8>,
}

impl Google {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pair = rsa();
        let key = json!({
            "type": "service_account",
            "client_email": "writer@p.iam.gserviceaccount.com",
            "private_key": pair.serialize_pem(),
            "private_key_id": "k1",
            "token_uri": format!("http://{address}/token"),
        });
        let google = Self {
            address,
            tokens: Arc::default(),
            granted: Arc::default(),
            key: key.to_string(),
            public: rcgen::PublicKeyData::der_bytes(&pair).to_vec(),
        };
        let app = Router::new()
            .route("/token", axum::routing::post(token))
            .fallback(grants)
            .with_state(google.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        google
    }
}

/// Makes a key such as services have.
pub(crate) fn rsa() -> rcgen::KeyPair {
    rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap()
}

#[derive(serde::Deserialize)]
struct Asked {
    grant_type: String,
    assertion: String,
}

async fn token(State(google): State<Google>, Form(asked): Form<Asked>) -> (StatusCode, Json<Value>) {
    assert_eq!(asked.grant_type, "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let mut checks = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    checks.set_audience(&[format!("http://{}/token", google.address)]);
    checks.set_issuer(&["writer@p.iam.gserviceaccount.com"]);
    let key = jsonwebtoken::DecodingKey::from_rsa_der(&google.public);
    let claims = jsonwebtoken::decode::<Value>(&asked.assertion, &key, &checks);
    let Ok(claims) = claims else {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"})));
    };
    assert_eq!(claims.header.kid.as_deref(), Some("k1"));
    assert!(claims.claims["scope"].as_str().unwrap().contains("/auth/bigquery"));
    *google.tokens.lock().unwrap() += 1;
    (StatusCode::OK, Json(json!({"access_token": "t-1", "expires_in": 3599, "token_type": "Bearer"})))
}

async fn grants(
    State(google): State<Google>,
    uri: Uri,
    headers: HeaderMap,
    body: Json<Value>,
) -> (StatusCode, Json<Value>) {
    assert!(uri.path().ends_with(":testIamPermissions"), "{uri}");
    if headers.get("authorization").is_none_or(|value| value != "Bearer t-1") {
        return (StatusCode::UNAUTHORIZED, Json(json!({})));
    }
    let asked = body["permissions"].as_array().unwrap();
    let held: Vec<&str> =
        google.granted.lock().unwrap().iter().copied().filter(|held| asked.contains(&json!(held))).collect();
    (StatusCode::OK, Json(json!({"permissions": held})))
}
