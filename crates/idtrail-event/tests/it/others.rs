//! Other implementations read what this crate writes: coset and aes-gcm, minicbor, jiff.

use aes_gcm::KeyInit;
use aes_gcm::aead::{Aead, Payload};
use coset::{CborSerializable, CoseEncrypt0};
use idtrail_event::{LeafKey, hour_of_ms, leaf_key, month_of_hour};
use proptest::prelude::*;
use serde_json::json;

use super::support::{IVS, ORIGIN, RECEIVED_MS, check, header, identity_resolution, sealed, secrets, with};

fn open_with_coset(bytes: &[u8], key: &LeafKey) -> Vec<u8> {
    let cose = CoseEncrypt0::from_slice(bytes).expect("it is COSE_Encrypt0");
    assert_eq!(cose.clone().to_vec().expect("it encodes"), bytes, "decode and encode give the same bytes");
    assert_eq!(cose.protected.header.alg, Some(coset::Algorithm::Assigned(coset::iana::Algorithm::A256GCM)));
    assert!(cose.unprotected.is_empty());
    let nonce: [u8; 12] = cose.protected.header.iv.as_slice().try_into().unwrap();
    cose.decrypt_ciphertext(
        &[],
        || "no ciphertext",
        |ciphertext, aad| {
            let cipher = aes_gcm::Aes256Gcm::new(&(*key.expose()).into());
            cipher.decrypt(&nonce.into(), Payload { msg: ciphertext, aad }).map_err(|_| "wrong key")
        },
    )
    .expect("it decrypts")
}

#[test]
fn another_cose_library_opens_both_sections() {
    let secrets = secrets();
    let bytes = sealed(&with("agentId", json!("agent-4711")), &header());
    let content = open_with_coset(&bytes, &leaf_key(&secrets.event, &secrets.class, &IVS[0], ORIGIN));
    assert_eq!(content.len() % 32, 0);
    let mut decoder = minicbor::Decoder::new(&content);
    let mut section = None;
    for _ in 0..decoder.map().unwrap().unwrap() {
        if decoder.u8().unwrap() == 7 {
            section = Some(decoder.bytes().unwrap().to_vec());
        } else {
            decoder.skip().unwrap();
        }
    }
    assert!(content[decoder.position()..].iter().all(|byte| *byte == 0), "a CBOR sequence of zeros follows");
    let staff =
        open_with_coset(&section.unwrap(), &leaf_key(&secrets.staff, &secrets.class, &IVS[1], ORIGIN));
    let mut decoder = minicbor::Decoder::new(&staff);
    assert_eq!(decoder.map().unwrap(), Some(1));
    assert_eq!((decoder.u8().unwrap(), decoder.str().unwrap()), (9, "agent-4711"));
    assert_eq!(staff.len(), 32);
}

#[test]
fn another_cbor_library_reads_the_header() {
    let bytes = sealed(&identity_resolution(), &header());
    let mut leaf = minicbor::Decoder::new(&bytes);
    leaf.array().unwrap();
    let mut protected = minicbor::Decoder::new(leaf.bytes().unwrap());
    assert_eq!(protected.map().unwrap(), Some(3));
    assert_eq!((protected.i32().unwrap(), protected.i32().unwrap(), protected.i32().unwrap()), (1, 3, 5));
    assert_eq!(protected.bytes().unwrap(), IVS[0]);
    assert_eq!((protected.i32().unwrap(), protected.array().unwrap()), (-65537, Some(7)));
    let codes: Vec<u32> = (0..6).map(|_| protected.u32().unwrap()).collect();
    assert_eq!(codes, [1, 1, 471_792, 1, 1, 1]);
    assert_eq!(protected.bytes().unwrap().len(), 32);
}

fn event_time(text: &str) -> Option<i64> {
    let mut body = with("timestamp", json!(text));
    body["auditEvent"]["interactionId"] = json!("i-1");
    let rules =
        idtrail_event::Rules { future_limit_ms: i64::MAX, old_warning_ms: i64::MAX, ..Default::default() };
    idtrail_event::validate(body, &rules, RECEIVED_MS as i64).ok().map(|event| event.event_time_ms())
}

#[test]
fn event_times_of_the_edges() {
    assert_eq!(event_time("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(event_time("1969-12-31T23:59:59.999Z"), Some(-1));
    assert_eq!(event_time("2000-02-29T12:00:00.5-12:00"), Some(951_868_800_500));
    assert!(check(with("timestamp", json!("2023-10-27T14:30:00.0000000000Z"))).is_err());
}

proptest! {
    #[test]
    fn event_times_as_jiff_reads_them(
        (year, month, day) in (1_i16..=9998, 0_i8..=13, 0_i8..=32),
        (hour, minute, second) in (0_i8..=24, 0_i8..=60, 0_i8..=59),
        fraction in "(\\.[0-9]{1,9})?",
        zone in "Z|[+-](0[0-9]|1[0-9]|2[0-4]):([0-5][0-9])",
    ) {
        let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}");
        // What is finer than a millisecond is dropped towards the past here, towards 1970 there.
        let theirs = text.parse::<jiff::Timestamp>().ok().map(|time| time.as_nanosecond().div_euclid(1_000_000) as i64);
        let ours = event_time(&text);
        // jiff knows 24:00 and offsets of 24 hours and more, which RFC 3339 does not.
        let beyond = hour == 24 || zone[1..].starts_with("24");
        prop_assert_eq!(ours, theirs.filter(|_| !beyond), "{}", text);
    }

    #[test]
    fn months_as_jiff_counts_them(hour in 0_u32..574_000_000) {
        let time = jiff::Timestamp::from_second((i64::from(hour) * 3600).min(253_402_207_199)).unwrap();
        let hour = hour_of_ms(time.as_millisecond() as u64);
        let date = jiff::tz::Offset::UTC.to_datetime(time);
        let months = (i32::from(date.year()) - 1970) * 12 + i32::from(date.month()) - 1;
        prop_assert_eq!(i32::from(month_of_hour(hour)), months.min(65_535));
    }
}
