use data_encoding::HEXLOWER;
use idtrail_event::{ErrorKind, JsonLimits, parse_json};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../vectors/event/json.json")).unwrap()
}

#[test]
fn refuses_with_the_codes_of_the_vectors() {
    for case in vectors()["refused"].as_array().unwrap() {
        let body = HEXLOWER.decode(case["hex"].as_str().unwrap().as_bytes()).unwrap();
        let error = parse_json(&body, JsonLimits::EVENT).expect_err(case["name"].as_str().unwrap());
        assert_eq!(error.code, case["code"], "{}: {error}", case["name"]);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.offset <= body.len() && error.line >= 1 && error.column >= 1, "{error:?}");
    }
}

#[test]
fn accepts_and_gives_back_the_vectors() {
    for case in vectors()["accepted"].as_array().unwrap() {
        let text = case.as_str().unwrap();
        let value = parse_json(text.as_bytes(), JsonLimits::EVENT).expect(text);
        let again = parse_json(value.to_string().as_bytes(), JsonLimits::EVENT).expect(text);
        assert_eq!(again.to_string(), value.to_string());
        assert_eq!(again, value);
    }
}

#[test]
fn keeps_what_kind_of_number_it_is() {
    for (text, shown) in
        [("1", "1"), ("1.0", "1.0"), ("-0.0", "-0.0"), ("-0", "-0.0"), ("1e2", "100.0"), ("0.1", "0.1")]
    {
        assert_eq!(parse_json(text.as_bytes(), JsonLimits::EVENT).unwrap().to_string(), shown);
    }
}

#[test]
fn names_the_place() {
    let at = |body: &str| {
        let error = parse_json(body.as_bytes(), JsonLimits::EVENT).expect_err(body);
        (error.offset, error.line, error.column)
    };
    assert_eq!(at("{\"a\": x}"), (6, 1, 7));
    assert_eq!(at("{\n\"a\": 1,\n  x}"), (12, 3, 3));
    assert_eq!(at("[1,\n 18446744073709551616]"), (5, 2, 2));
    assert_eq!(at("{}\n{}"), (3, 2, 1));
    assert_eq!(parse_json(b"[\n\"\xff\"]", JsonLimits::EVENT).expect_err("bad").offset, 3);
}

#[test]
fn keeps_to_its_limits() {
    let limits = JsonLimits { bytes_max: 10, depth_max: 2 };
    assert!(parse_json(b"[[1,2,3]]", limits).is_ok());
    assert_eq!(parse_json(b"[[[1]]]", limits).expect_err("depth").code, "too_deep");
    assert_eq!(parse_json(b"[1,2,3,4,5]", limits).expect_err("length").code, "too_large");
}
