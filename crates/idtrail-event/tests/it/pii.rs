//! The search for raw personal data, through `validate`.

use super::support::{check, codes, with};
use serde_json::json;

fn finds(text: &str) -> Option<&'static str> {
    match check(with("note", json!(text))) {
        Ok(_) => None,
        Err(findings) => {
            assert_eq!(codes(&findings), [("/auditEvent/note", "raw_pii")], "{text}");
            Some(findings[0].message)
        }
    }
}

#[test]
fn finds_mail_addresses() {
    for text in [
        "jane@example.com",
        "call jane.doe+x@mail.example.co.uk.",
        "<jane@example.com>",
        "mailto:jane@example.com",
        "żółw@żółw.pl",
        "jane@xn--bcher-kva.xn--p1ai",
        "https://x.example/?q=jane%40example.com",
        "\"Jane\"<j@a-b.io>,x",
    ] {
        assert_eq!(finds(text), Some("it holds a mail address in clear"), "{text}");
    }
}

#[test]
fn finds_marked_phone_numbers() {
    for text in [
        "+14155552671",
        "call +44 20 7946 0958 now",
        "(+49) 151 12345678",
        "+1 (415) 555-2671x12",
        "+49.151.12345678,",
        "call +49 151 12345678 at 10:30",
        "+4915112345678 12345",
        "tel:02079460958",
        "TEL:+1-415",
        "sip:jane@pbx",
        "<sips:4711@pbx>",
    ] {
        assert_eq!(finds(text), Some("it holds a phone number in clear"), "{text}");
    }
}

#[test]
fn finds_cards() {
    for text in [
        "4111111111111111",
        "4111 1111 1111 1111",
        "card-4111-1111-1111-1111",
        "card 378282246310005.",
        "3782 822463 10005",
        "5555555555554444 12/26",
        "pay 4111 1111 1111 1111 12/26 now",
        "6011111111111117",
        "3530111333300000",
        "30569309025904",
        "2223003122003222",
        "6240008631401148",
        "4222222222222",
    ] {
        assert_eq!(finds(text), Some("it holds a card number in clear"), "{text}");
    }
}

#[test]
fn finds_ibans() {
    for text in [
        "GB82WEST12345698765432",
        "GB82 WEST 1234 5698 7654 32",
        "pay DE89370400440532013000 please",
        "iban:de89 3704 0044 0532 0130 00",
        "NO9386011117947",
        "FR1420041010050500013M02606",
        "MT84MALT011000012345MTLCAST001S",
    ] {
        assert_eq!(finds(text), Some("it holds a bank account number (IBAN) in clear"), "{text}");
    }
}

#[test]
fn no_false_alarm_on_what_contact_centres_send() {
    for text in [
        "1698417000123",
        "1698417000123456",
        "1698417000123456789",
        "i-12345678-90ab-cdef-1234-567890abcdef",
        "41234567-1234-4123-8123-412345678901",
        "12345678-4111-1111-1111-111111111111",
        "215446d4-ad95-aaa6-d348-ee9af7400000",
        "00000000-0000-4111-8111-111111111111",
        "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e",
        "4111111111111111111111111111111111111111111111111111111111111111",
        "q-sales-4111",
        "q-18005551234",
        "id_4111111111111111",
        "x4111111111111111",
        "4111111111111111x",
        "0.371449635398431",
        "2023-10-27T14:30:00+02:00",
        "2023-10-27 14:30:00.4111111",
        "skill 12345678901234567890",
        "@home support",
        "a+b=c",
        "gossip: nothing",
        "hotel:12345",
        "GB82WEST12345698765433",
        "Gb82WeSt12345698765432",
        "xGB82WEST12345698765432",
        "order 4111111111111112",
        "price +12.50",
        "UTC+01:00",
        "v1.2.3@build",
        "a@b",
        "5f2b8c1e9d3a4b5c6d7e8f90",
        "dGhpcyBpcyBhIHRlc3Q+12345678abcd",
        "/api/v2/users/12345678",
        "version 2.0+20231027a",
    ] {
        assert_eq!(finds(text), None, "{text}");
    }
}

/// Ten per cent of all numbers pass Luhn's check, one per cent that of IBANs: shape must decide before them.
#[test]
fn no_false_alarm_on_many_ids() {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 11
    };
    for _ in 0..20_000 {
        let (a, b) = (random(), random());
        let wide = u128::from(a) << 75 | u128::from(b) << 22;
        let hex = format!("{wide:032x}");
        let texts = [
            format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]),
            format!("{hex}{hex}"),
            format!("{}", 1_500_000_000_000 + a % 400_000_000_000),
            format!("{:010}-{:06}", a % 10_000_000_000, b % 1_000_000),
            format!("q-{}", a % 100_000_000_000),
        ];
        for text in texts {
            assert_eq!(finds(&text), None, "{text}");
        }
    }
}

#[test]
fn typed_ids_are_refused_only_as_a_whole() {
    for (id, refused) in [
        ("jane@example.com", true),
        (" jane@example.com ", true),
        ("mailto:jane@example.com", true),
        ("+44 20 7946 0958", true),
        ("+1234567", true),
        ("tel:4711", true),
        ("SIP:x", true),
        ("4111111111111111", false),
        ("GB82WEST12345698765432", false),
        ("14155552671", false),
        ("queue:jane@example.com:7", false),
        ("agent+14155552671", false),
        ("a@b", false),
    ] {
        let outcome = check(with("queueId", json!(id)));
        assert_eq!(outcome.is_err(), refused, "{id}");
        if let Err(findings) = outcome {
            assert_eq!(codes(&findings), [("/auditEvent/queueId", "raw_pii")]);
        }
    }
}
