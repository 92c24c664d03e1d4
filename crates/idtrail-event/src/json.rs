//! Strict JSON (RFC 8259, I-JSON of RFC 7493): what is accepted here can be given back as the same JSON value.
//!
//! Refused: duplicate members, lone surrogates, nesting deeper than 32, integers that fit neither `i64` nor `u64`,
//! numbers beyond `f64`, bytes behind the value. `serde_json` does the parsing; this module adds what it lets pass.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};

/// The deepest nesting of objects and arrays.
const DEPTH_MAX: usize = 32;

const DUPLICATE: &str = "idtrail:duplicate";
const TOO_DEEP: &str = "idtrail:depth";

/// Why a body is not acceptable JSON. Holds no byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not acceptable JSON: {reason}. line={line}, column={column}")]
pub struct JsonError {
    /// A stable code.
    pub code: &'static str,
    /// What is wrong.
    pub reason: &'static str,
    /// Line, from 1; 0 if unknown.
    pub line: usize,
    /// Column in bytes, from 1; 0 if unknown.
    pub column: usize,
}

/// Parses a body.
///
/// # Errors
/// [`JsonError`] with the place and the reason.
pub fn parse(body: &[u8]) -> Result<Value, JsonError> {
    if core::str::from_utf8(body).is_err() {
        return Err(JsonError { code: "invalid_utf8", reason: "it is not UTF-8", line: 0, column: 0 });
    }
    let large = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Strict { depth: 0, large: &large }
        .deserialize(&mut deserializer)
        .map_err(|error| classify(&error))?;
    deserializer.end().map_err(|error| classify(&error))?;
    // The parser turns an integer beyond u64 into the nearest float, which would come back as another number.
    if large.get() && has_large_integer(body) {
        return Err(number_range(0, 0));
    }
    Ok(value)
}

fn number_range(line: usize, column: usize) -> JsonError {
    let reason = "a number is an integer beyond 64 bits or a float beyond IEEE 754 double precision";
    JsonError { code: "number_out_of_range", reason, line, column }
}

fn classify(error: &serde_json::Error) -> JsonError {
    let (line, column) = (error.line(), error.column());
    // Only fixed words are looked for; the text itself may quote the input and goes no further.
    let text = error.to_string();
    let (code, reason) = if text.starts_with(DUPLICATE) {
        ("duplicate_member", "a member name occurs twice in one object")
    } else if text.starts_with(TOO_DEEP) || text.starts_with("recursion limit") {
        ("too_deep", "it is nested more than 32 deep")
    } else if text.starts_with("number out of range") {
        return number_range(line, column);
    } else {
        match error.classify() {
            Category::Eof => ("truncated", "it ends too early"),
            _ => ("malformed", "it breaks the grammar of JSON"),
        }
    };
    JsonError { code, reason, line, column }
}

#[derive(Clone, Copy)]
struct Strict<'c> {
    depth: usize,
    large: &'c Cell<bool>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(TOO_DEEP));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        if value.abs() >= 9.2e18 {
            self.large.set(true);
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(String::from(value)))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        Ok(Value::Object(object))
    }
}

/// Tells whether valid JSON holds an integer literal that fits neither `i64` nor `u64`.
fn has_large_integer(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some((byte, tail)) = rest.split_first() {
        match byte {
            b'"' => rest = skip_string(tail),
            b'-' | b'0'..=b'9' => {
                let length = rest
                    .iter()
                    .take_while(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
                    .count();
                let (literal, behind) = rest.split_at(length);
                rest = behind;
                let text = core::str::from_utf8(literal).unwrap_or_default();
                let integer = !text.contains(['.', 'e', 'E']);
                if integer && text.parse::<u64>().is_err() && text.parse::<i64>().is_err() {
                    return true;
                }
            }
            _ => rest = tail,
        }
    }
    false
}

fn skip_string(mut rest: &[u8]) -> &[u8] {
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'"' => break,
            b'\\' => rest = rest.get(1..).unwrap_or_default(),
            _ => {}
        }
    }
    rest
}
