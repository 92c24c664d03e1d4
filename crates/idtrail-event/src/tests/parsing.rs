use std::format;
use std::string::String;
use std::vec::Vec;

use crate::parse_json;

#[test]
fn refuses_what_is_not_strict_json() {
    let deep = format!("{}1{}", "[".repeat(33), "]".repeat(33));
    let very_deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let cases: &[(&[u8], &str)] = &[
        (b"", "truncated"),
        (b"{\"a\":", "truncated"),
        (b"garbage", "malformed"),
        (b"{} {}", "malformed"),
        (b"{\"a\":NaN}", "malformed"),
        (b"{\"a\":Infinity}", "malformed"),
        (b"{\"a\":01}", "malformed"),
        (b"{\"a\":1,\"a\":1}", "duplicate_member"),
        (b"{\"x\":{\"a\":1,\"\\u0061\":2}}", "duplicate_member"),
        (b"{\"a\":\"\xff\"}", "invalid_utf8"),
        (b"\"\\ud800\"", "malformed"),
        (b"\"\\udc00x\"", "malformed"),
        (b"1e400", "number_out_of_range"),
        (b"18446744073709551616", "number_out_of_range"),
        (b"{\"n\":[-9223372036854775809]}", "number_out_of_range"),
        (deep.as_bytes(), "too_deep"),
        (very_deep.as_bytes(), "too_deep"),
    ];
    for (body, code) in cases {
        let error = parse_json(body).expect_err("it is refused");
        assert_eq!(error.code, *code, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn accepts_the_borders() {
    let nested = format!("{}1{}", "[".repeat(32), "]".repeat(32));
    let cases: Vec<&[u8]> = std::vec![
        b"18446744073709551615",
        b"-9223372036854775808",
        b"1e300",
        b"1e19",
        b"1.5",
        b"-0",
        b"\"\\ud83d\\ude00 18446744073709551616\"",
        nested.as_bytes(),
    ];
    for body in cases {
        assert!(parse_json(body).is_ok(), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn errors_never_quote_the_input() {
    for body in ["{\"secretvalue\":secretvalue}", "{\"secretvalue\":1,\"secretvalue\":2}", "\"secretvalue"] {
        let error = parse_json(body.as_bytes()).expect_err("it is refused");
        assert!(!format!("{error} {error:?}").contains("secretvalue"));
    }
}
