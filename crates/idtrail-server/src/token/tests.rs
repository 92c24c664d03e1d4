use std::sync::atomic::{AtomicI64, Ordering};

use idtrail_port::os::{OsDisk, OsEntropy};
use serde_json::{Value, json};

use super::*;
use crate::credentials::{CredentialStore, NewPerson, Role};

pub(crate) const NOW_S: i64 = 1_790_000_000;
const SEED: [u8; 32] = [7; 32];

/// A clock that stands where it is put; monotonic time follows wall time.
#[derive(Debug)]
pub(crate) struct TestClock(pub(crate) AtomicI64);

impl TestClock {
    pub(crate) fn at_s(seconds: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(seconds * 1000)))
    }

    pub(crate) fn advance_ms(&self, by: i64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn wall_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.wall_ms()).unwrap() * 1_000_000
    }
}

pub(crate) fn issuer(seed: &[u8; 32], clock: Arc<TestClock>) -> TokenIssuer {
    let names = IssuerNames {
        issuer: "example.org/audit".to_owned(),
        audience: "idtrail-test".to_owned(),
        ttl_s: 900,
    };
    TokenIssuer::new(seed, names, clock, Arc::new(OsEntropy)).unwrap()
}

fn person() -> PersonRecord {
    let dir = tempfile::tempdir().unwrap();
    let store = CredentialStore::open(Arc::new(OsDisk), dir.path()).unwrap();
    let new = NewPerson { name: "Zoë".to_owned(), roles: Role::Dpo.into(), expires_ms: None };
    store.create_person(&OsEntropy, NOW_S * 1000, new).unwrap();
    store.persons().remove(0)
}

fn claims() -> Value {
    json!({
        "iss": "example.org/audit", "aud": "idtrail-test", "sub": "person_a", "client_id": "person_a",
        "name": "Zoë", "roles": ["dpo"], "iat": NOW_S, "nbf": NOW_S, "exp": NOW_S + 900, "jti": "00",
    })
}

fn part(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

/// Signs any header and claims with the issuer's own key.
fn signed(issuer: &TokenIssuer, header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &issuer.encoding, Algorithm::EdDSA).unwrap();
    format!("{message}.{signature}")
}

fn header(issuer: &TokenIssuer) -> Value {
    json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": issuer.key_id() })
}

fn changed(mut value: Value, name: &str, to: Value) -> Value {
    value[name] = to;
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name);
    value
}

#[test]
fn key_is_the_one_of_the_standard() {
    // RFC 8032 §7.1 test 1 and the thumbprint of RFC 8037 A.3 belong to this seed.
    let seed: [u8; 32] = HEXLOWER
        .decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
        .unwrap()
        .try_into()
        .unwrap();
    let issuer = issuer(&seed, TestClock::at_s(NOW_S));
    assert_eq!(
        HEXLOWER.encode(issuer.public_key()),
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    );
    assert_eq!(issuer.key_id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn token_comes_back_as_its_claims_until_it_expires() {
    let clock = TestClock::at_s(NOW_S);
    let issuer = issuer(&SEED, Arc::clone(&clock));
    let person = person();
    let issued = issuer.issue(&person, person.roles).unwrap();
    assert_eq!(issued.expires_in_s, 900);
    let claims = issuer.verify(&issued.token).unwrap();
    assert_eq!((claims.sub.as_str(), claims.name.as_str()), (person.id.as_str(), "Zoë"));
    assert_eq!((claims.iat, claims.nbf, claims.exp), (NOW_S, NOW_S, NOW_S + 900));
    assert_eq!(claims.roles, Role::Dpo.into());

    clock.advance_ms(929_999);
    assert!(issuer.verify(&issued.token).is_ok());
    clock.advance_ms(1);
    assert_eq!(issuer.verify(&issued.token), Err(TokenError::Expired));
    clock.advance_ms(-930_000 - 30_000);
    assert!(issuer.verify(&issued.token).is_ok());
    clock.advance_ms(-1);
    assert_eq!(issuer.verify(&issued.token), Err(TokenError::NotYetValid));
}

#[test]
fn everything_else_is_refused_with_its_reason() {
    let issuer = issuer(&SEED, TestClock::at_s(NOW_S));
    let other = self::issuer(&[8; 32], TestClock::at_s(NOW_S));
    let good = signed(&issuer, &header(&issuer), &claims());
    assert!(issuer.verify(&good).is_ok());

    let of_claims = |claims: Value| signed(&issuer, &header(&issuer), &claims);
    let of_header = |header: Value| signed(&issuer, &header, &claims());
    let add = |name: &str, value: Value| of_header(changed(header(&issuer), name, value));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (head, body) = message.split_once('.').unwrap();
    let forged_body = part(&changed(claims(), "roles", json!(["admin"])));
    let mac_header = Header { kid: Some(issuer.key_id().to_owned()), ..Header::new(Algorithm::HS256) };
    let mac_key = EncodingKey::from_secret(issuer.public_key());
    let mac = jsonwebtoken::encode(&mac_header, &claims(), &mac_key).unwrap();
    // The same attack with a header that says EdDSA over a signature that is a MAC.
    let mac_signature = jsonwebtoken::crypto::sign(message.as_bytes(), &mac_key, Algorithm::HS256).unwrap();
    let none = |alg: &str| format!("{}.{body}.", part(&changed(header(&issuer), "alg", json!(alg))));

    let cases = [
        ("alg none", none("none"), TokenError::WrongAlgorithm),
        ("alg None", none("None"), TokenError::WrongAlgorithm),
        ("alg none, old signature", format!("{}{signature}", none("none")), TokenError::WrongAlgorithm),
        ("alg missing", of_header(without(header(&issuer), "alg")), TokenError::WrongAlgorithm),
        ("HS256 with the public key", mac, TokenError::WrongAlgorithm),
        ("MAC under EdDSA", format!("{message}.{mac_signature}"), TokenError::Forged),
        ("RS256", add("alg", json!("RS256")), TokenError::WrongAlgorithm),
        ("alg list", add("alg", json!(["EdDSA"])), TokenError::Malformed),
        ("no signature", format!("{message}."), TokenError::Forged),
        ("changed claims", format!("{head}.{forged_body}.{signature}"), TokenError::Forged),
        ("other key, our kid", signed(&other, &header(&issuer), &claims()), TokenError::Forged),
        ("other key, its kid", signed(&other, &header(&other), &claims()), TokenError::WrongKey),
        ("kid missing", of_header(without(header(&issuer), "kid")), TokenError::UnexpectedHeader),
        ("kid path", add("kid", json!("../../dev/null")), TokenError::WrongKey),
        ("jku", add("jku", json!("https://example.com/jwks")), TokenError::UnexpectedHeader),
        ("jwk", add("jwk", json!({ "kty": "OKP" })), TokenError::UnexpectedHeader),
        ("x5u", add("x5u", json!("https://example.com")), TokenError::UnexpectedHeader),
        ("crit", add("crit", json!(["b64"])), TokenError::UnexpectedHeader),
        ("id token", add("typ", json!("JWT")), TokenError::UnexpectedHeader),
        ("issuer", of_claims(changed(claims(), "iss", json!("example.com"))), TokenError::WrongIssuer),
        (
            "issuer list",
            of_claims(changed(claims(), "iss", json!(["example.org/audit"]))),
            TokenError::Malformed,
        ),
        ("issuer missing", of_claims(without(claims(), "iss")), TokenError::Malformed),
        ("audience", of_claims(changed(claims(), "aud", json!("other"))), TokenError::WrongAudience),
        ("audience missing", of_claims(without(claims(), "aud")), TokenError::Malformed),
        ("expired", of_claims(changed(claims(), "exp", json!(NOW_S - 30))), TokenError::Expired),
        ("expiry missing", of_claims(without(claims(), "exp")), TokenError::Malformed),
        ("expiry text", of_claims(changed(claims(), "exp", json!("9999999999"))), TokenError::Malformed),
        ("future", of_claims(changed(claims(), "nbf", json!(NOW_S + 31))), TokenError::NotYetValid),
        ("unknown role", of_claims(changed(claims(), "roles", json!(["root"]))), TokenError::Malformed),
        ("empty", String::new(), TokenError::Malformed),
        ("two parts", message.to_owned(), TokenError::Malformed),
        ("four parts", format!("{good}.x"), TokenError::Malformed),
        ("padding", format!("{head}=.{body}.{signature}"), TokenError::Malformed),
        ("long", format!("{good}{}", "A".repeat(5000)), TokenError::Malformed),
        ("not ASCII", format!("é{good}"), TokenError::Malformed),
    ];
    for (name, token, reason) in cases {
        assert_eq!(issuer.verify(&token), Err(reason), "{name}");
    }
}

#[test]
fn every_changed_character_is_noticed() {
    let issuer = issuer(&SEED, TestClock::at_s(NOW_S));
    let good = signed(&issuer, &header(&issuer), &claims());
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let token = String::from_utf8(bytes).unwrap();
        assert!(issuer.verify(&token).is_err(), "{at}");
    }
}
