//! Normal forms against `vectors/identity/normalise.json`, and tokens of values that are known in several ways.
//!
//! A normal form cannot be read, so what is compared are tokens: that of the value with that of the expected form.

use idtrail_event::{IdentifierToken, IdentifierType, Pepper, RawIdentifier, token};
use idtrail_identity::Assurance;
use idtrail_identity::normalise::{
    NORMALISER_VERSION, Normaliser, NormaliserConfig, Raw, Refusal, person_key,
};
use idtrail_identity::ruleset::types;
use idtrail_identity::tokens::{
    LegacyAlgorithm, LegacyEncoding, LegacyFormat, LegacyHashSpec, TokenKeys, TokenKeysError,
};
use proptest::prelude::*;
use serde_json::Value;

const TENANT: &str = "tenant-a";

fn pepper(first: u8) -> Pepper {
    Pepper::new(std::array::from_fn(|at| first + at as u8))
}

fn expected(kind: IdentifierType, normal: &str) -> IdentifierToken {
    token(&pepper(0), TENANT, &RawIdentifier::from_normal_form(kind, normal.to_owned()))
}

fn of(raw: &RawIdentifier) -> IdentifierToken {
    token(&pepper(0), TENANT, raw)
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../vectors/identity/normalise.json")).unwrap()
}

fn normaliser() -> Normaliser {
    let config: NormaliserConfig = serde_json::from_value(vectors()["config"].clone()).unwrap();
    Normaliser::new(config).unwrap()
}

#[test]
fn vectors_hold() {
    let (vectors, normaliser) = (vectors(), normaliser());
    assert_eq!(vectors["version"], NORMALISER_VERSION);
    let mut wrong = Vec::new();
    for case in vectors["cases"].as_array().unwrap() {
        let kind = IdentifierType::new(case["kind"].as_u64().unwrap() as u16);
        let value = case["value"].as_str().unwrap();
        let raw = Raw { kind, value, region: case["region"].as_str(), namespace: case["namespace"].as_str() };
        let right = match normaliser.normalise(raw) {
            Err(refusal) => case["refusal"] == refusal.name(),
            Ok(normal) => {
                let variants: Vec<IdentifierToken> = normal.variants().map(|raw| of(&raw)).collect();
                let mut wanted: Vec<IdentifierToken> = Vec::new();
                for variant in case["variants"].as_array().into_iter().flatten() {
                    wanted.push(expected(kind, variant.as_str().unwrap()));
                }
                let folded = case["folded"].as_str().map(|text| expected(types::EMAIL_FOLDED, text));
                case["normal"].as_str().is_some_and(|text| expected(kind, text) == of(&normal.identifier()))
                    && variants == wanted
                    && normal.folded().map(|raw| of(&raw)) == folded
                    && normal.has_extension() == case["extension"].as_bool().unwrap_or(false)
            }
        };
        if !right {
            wrong.push(format!("{case} gave {:?}", normaliser.normalise(raw)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(vectors["cases"].as_array().unwrap().len() > 80);
}

#[test]
fn refusals_say_whether_the_caller_was_wrong() {
    assert!(Refusal::Withheld.is_blocked() && Refusal::OwnNumber.is_blocked());
    assert!(!Refusal::Malformed("number").is_blocked() && !Refusal::Region.is_blocked());
    let long = "1".repeat(10_000);
    let raw = Raw { kind: IdentifierType::PHONE, value: &long, region: Some("DE"), namespace: None };
    assert_eq!(normaliser().normalise(raw).unwrap_err(), Refusal::Malformed("length"));
    for config in [
        NormaliserConfig { own_numbers: vec!["030".to_owned()], ..NormaliserConfig::default() },
        NormaliserConfig { issuers: vec!["CRM".to_owned()], ..NormaliserConfig::default() },
    ] {
        assert!(Normaliser::new(config).is_err());
    }
}

#[test]
fn names_and_dates() {
    let key = |name: Option<&str>, date: Option<&str>| {
        person_key(name, date).map(|normal| of(&normal.identifier()))
    };
    let muller = key(Some("Müller"), Some("1980-02-29")).unwrap();
    assert_eq!(muller, key(Some(" MU\u{308}LLER "), Some("1980-02-29")).unwrap());
    assert_eq!(muller, expected(types::PERSON_KEY, "muller|1980-02-29"));
    assert_ne!(muller, key(Some("Muller"), None).unwrap());
    for date in ["1981-02-29", "1980-13-01", "80-01-01", "1980/01/01", "1980-1-011"] {
        assert!(key(None, Some(date)).is_err(), "{date}");
    }
    assert!(key(None, None).is_err() && key(Some("-"), None).is_err());
}

fn spec(id: &str) -> LegacyHashSpec {
    LegacyHashSpec {
        id: id.to_owned(),
        kind: 1,
        algorithm: LegacyAlgorithm::Sha256,
        template: "{value}{salt}".to_owned(),
        formats: vec![LegacyFormat::Canonical, LegacyFormat::TelUri, LegacyFormat::Digits],
        encoding: LegacyEncoding::Hex,
    }
}

fn keys(peppers: Vec<Pepper>) -> TokenKeys {
    TokenKeys::new(TENANT, peppers, vec![(spec("flow"), "pinch".to_owned().into())]).unwrap()
}

fn phone(value: &str) -> idtrail_identity::normalise::Normal {
    let raw = Raw { kind: IdentifierType::PHONE, value, region: None, namespace: None };
    normaliser().normalise(raw).unwrap()
}

#[test]
fn a_legacy_hash_meets_its_value() {
    use sha2::{Digest, Sha256};
    let keys = keys(vec![pepper(0)]);
    let number = phone("+14155552671");
    let shown = keys.sighting(&number, Assurance::MASTER);
    assert_eq!(shown.identifier.token, expected(IdentifierType::PHONE, "+14155552671"));
    for written in ["+14155552671", "tel:+14155552671", "14155552671"] {
        let hash = Sha256::digest(format!("{written}pinch").as_bytes());
        let hex = data_encoding::HEXLOWER.encode(&hash);
        let seen = keys.legacy_sighting("flow", &hex, Assurance::AUTHENTICATED).unwrap();
        assert!(shown.aliases.contains(&seen.identifier.token), "{written}");
        // Never what came in, and never more sure than the network.
        assert_ne!(seen.identifier.token.as_bytes()[..], hash[..]);
        assert_eq!(seen.assurance, Assurance::NETWORK);
        let upper = keys.legacy_sighting("flow", &hex.to_uppercase(), Assurance::NETWORK).unwrap();
        assert_eq!(upper.identifier, seen.identifier);
    }
    assert_eq!(keys.legacy_sighting("other", "00", Assurance::CLAIMED), Err(Refusal::Namespace));
    assert_eq!(
        keys.legacy_sighting("flow", "9f86d08", Assurance::CLAIMED),
        Err(Refusal::Malformed("encoding"))
    );
    assert_eq!(
        keys.legacy_sighting("flow", "9f86d081", Assurance::CLAIMED),
        Err(Refusal::Malformed("length"))
    );
}

#[test]
fn an_older_pepper_is_an_alias() {
    let (old, both) = (keys(vec![pepper(0)]), keys(vec![pepper(100), pepper(0)]));
    let number = phone("+521 55 1234 5678");
    let before = old.sighting(&number, Assurance::NETWORK);
    let after = both.sighting(&number, Assurance::NETWORK);
    assert_ne!(before.identifier, after.identifier);
    assert!(after.aliases.contains(&before.identifier.token));
    // The variant without the old mobile prefix, under both peppers.
    let other = phone("+52 55 1234 5678");
    assert!(after.aliases.contains(&both.identifier(&other).token));
    assert!(after.aliases.contains(&old.identifier(&other).token));
}

#[test]
fn keys_that_make_no_sense() {
    let salt = || zeroize::Zeroizing::new(String::new());
    assert_eq!(TokenKeys::new(TENANT, vec![], vec![]).unwrap_err(), TokenKeysError::NoPepper);
    let twice = vec![(spec("a"), salt()), (spec("a"), salt())];
    assert_eq!(TokenKeys::new(TENANT, vec![pepper(0)], twice).unwrap_err(), TokenKeysError::SpecId);
    let without = LegacyHashSpec { template: "{salt}".to_owned(), ..spec("a") };
    let error = TokenKeys::new(TENANT, vec![pepper(0)], vec![(without, salt())]).unwrap_err();
    assert_eq!(error, TokenKeysError::SpecTemplate);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// P17 and no panic: whatever comes in, nothing of it comes out in an error or in debug output.
    #[test]
    fn p17_nothing_of_a_value_is_shown(value in "\\PC{4,40}|[+0-9 ()a-z@.:;=-]{4,40}", kind in 0..12_u16) {
        let raw = Raw { kind: IdentifierType::new(kind), value: &value, region: Some("US"), namespace: Some("crm") };
        let shown = match normaliser().normalise(raw) {
            Ok(normal) => format!("{normal:?}"),
            Err(refusal) => format!("{refusal:?} {refusal} {}", refusal.name()),
        };
        // Words of our own reasons may stand in the value too.
        if value.chars().any(|c| c.is_numeric()) && value.len() > 12 {
            prop_assert!(!shown.contains(value.trim()));
        }
    }

    /// A canonical form is the canonical form of itself.
    #[test]
    fn normal_forms_are_stable(national in "[2-9][0-9]{2}[2-9][0-9]{6}", local in "[a-z]{1,8}[.+][a-z0-9]{1,8}") {
        let normaliser = normaliser();
        for (kind, value, again) in [
            (IdentifierType::PHONE, national.clone(), format!("+1{national}")),
            (IdentifierType::EMAIL, format!("{}@EXAMPLE.org", local.to_uppercase()), format!("{local}@example.org")),
        ] {
            let form = |value: &str| {
                let raw = Raw { kind, value, region: Some("US"), namespace: None };
                normaliser.normalise(raw).map(|normal| of(&normal.identifier()))
            };
            if let Ok(token) = form(&value) {
                prop_assert_eq!(token, expected(kind, &again));
                prop_assert_eq!(form(&again).unwrap(), token);
            }
        }
    }
}
