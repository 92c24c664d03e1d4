//! Strict JSON (RFC 8259, I-JSON of RFC 7493): what is accepted here can be given back as the same JSON value.
//!
//! Refused: duplicate members, lone surrogates, nesting beyond a limit, integers that fit neither `i64` nor `u64`,
//! numbers beyond `f64`, bytes behind the value. `serde_json` does the parsing; this module adds what it lets pass.
//! An error names place and reason and holds no byte of the input.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};

use crate::ErrorKind;

const DUPLICATE: &str = "idtrail:duplicate";
const TOO_DEEP: &str = "idtrail:depth";
const OUT_OF_RANGE: &str = "number out of range";
/// Every integer literal beyond 64 bits becomes a float at least this large.
const LARGE: f64 = 9.2e18;

/// What a body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonLimits {
    /// The longest body.
    pub bytes_max: usize,
    /// The deepest nesting of objects and arrays. The leaf format holds 32; a batch adds one or two around its events.
    pub depth_max: usize,
}

impl JsonLimits {
    /// What one event may be: 48 KiB, 32 deep.
    pub const EVENT: Self = Self { bytes_max: 48 * 1024, depth_max: 32 };
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self::EVENT
    }
}

/// Why a body is not acceptable JSON. Holds no byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not acceptable JSON: {reason}. line={line}, column={column}")]
pub struct JsonError {
    /// A stable code.
    pub code: &'static str,
    /// What is wrong, in words.
    pub reason: &'static str,
    /// Byte at which it was noticed, from 0.
    pub offset: usize,
    /// Line of that byte, from 1.
    pub line: usize,
    /// Column of that byte, in bytes, from 1.
    pub column: usize,
}

impl JsonError {
    /// Returns what the caller must do: send something else.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn at(body: &[u8], offset: usize, code: &'static str, reason: &'static str) -> Self {
        let before = body.get(..offset).unwrap_or(body);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        Self { code, reason, offset: before.len(), line, column }
    }
}

/// Parses a body.
///
/// # Errors
/// [`JsonError`] with the place and the reason.
pub fn parse(body: &[u8], limits: JsonLimits) -> Result<Value, JsonError> {
    if body.len() > limits.bytes_max {
        return Err(JsonError::at(body, limits.bytes_max, "too_large", "it is longer than allowed"));
    }
    let text = core::str::from_utf8(body)
        .map_err(|error| JsonError::at(body, error.valid_up_to(), "invalid_utf8", "it is not UTF-8"))?;
    let large = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // The parser's own limit is 128; ours is never beyond what it allows.
    let strict = Strict { depth_left: limits.depth_max.min(100), large: &large };
    let value = strict.deserialize(&mut deserializer).map_err(|error| classify(body, &error))?;
    deserializer.end().map_err(|error| trailing(body, &error))?;
    // The parser turns an integer beyond 64 bits into the nearest float, which would come back as another number.
    if large.get()
        && let Some(offset) = large_integer(body)
    {
        return Err(number_range(body, offset));
    }
    Ok(value)
}

fn number_range(body: &[u8], offset: usize) -> JsonError {
    let reason = "a number is an integer beyond 64 bits or a float beyond IEEE 754 double precision";
    JsonError::at(body, offset, "number_out_of_range", reason)
}

/// Returns the byte that an error points to.
fn offset_of(body: &[u8], error: &serde_json::Error) -> usize {
    let newlines = body.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let line_start = match error.line().checked_sub(2) {
        Some(line) => newlines.map(|(at, _)| at + 1).nth(line).unwrap_or(0),
        None => 0,
    };
    (line_start + error.column().saturating_sub(1)).min(body.len())
}

fn trailing(body: &[u8], error: &serde_json::Error) -> JsonError {
    JsonError::at(body, offset_of(body, error), "trailing_bytes", "something follows the JSON value")
}

fn classify(body: &[u8], error: &serde_json::Error) -> JsonError {
    let offset = offset_of(body, error);
    // Only fixed words are looked for; the text itself may quote the input and goes no further.
    let text = error.to_string();
    let (code, reason) = if text.starts_with(DUPLICATE) {
        ("duplicate_member", "a member name occurs twice in one object")
    } else if text.starts_with(TOO_DEEP) || text.starts_with("recursion limit") {
        ("too_deep", "objects and arrays are nested too deep")
    } else if text.starts_with(OUT_OF_RANGE) {
        return number_range(body, offset);
    } else if text.starts_with("lone leading surrogate") || text.starts_with("unexpected end of hex escape") {
        ("lone_surrogate", "a \\u escape is half of a surrogate pair")
    } else if error.classify() == Category::Eof {
        ("truncated", "it ends too early")
    } else {
        ("malformed", "it breaks the grammar of JSON")
    };
    JsonError::at(body, offset, code, reason)
}

#[derive(Clone, Copy)]
struct Strict<'c> {
    depth_left: usize,
    large: &'c Cell<bool>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom(TOO_DEEP))?;
        Ok(Self { depth_left, ..self })
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
        if value.abs() >= LARGE {
            self.large.set(true);
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom(OUT_OF_RANGE))
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

/// Returns where valid JSON holds an integer literal that fits neither `i64` nor `u64`.
fn large_integer(json: &[u8]) -> Option<usize> {
    let mut rest = json;
    while let Some((byte, tail)) = rest.split_first() {
        match byte {
            b'"' => rest = skip_string(tail),
            b'-' | b'0'..=b'9' => {
                let is_number = |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let (literal, behind) = rest.split_at_checked(rest.iter().take_while(is_number).count())?;
                let text = core::str::from_utf8(literal).unwrap_or_default();
                let integer = !text.contains(['.', 'e', 'E']);
                if integer && text.parse::<u64>().is_err() && text.parse::<i64>().is_err() {
                    return Some(json.len() - rest.len());
                }
                rest = behind;
            }
            _ => rest = tail,
        }
    }
    None
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
