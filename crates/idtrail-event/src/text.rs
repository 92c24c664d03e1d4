//! Events as JSON texts, written straight from their CBOR: for whoever hands events on and needs no tree of them.
//!
//! The text says what [`crate::OpenLeaf::body`] says, member for member, in the order of the leaf. A list of places comes
//! with it, so that a member is found without reading the text again. What the tree refuses is refused here too.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use data_encoding::HEXLOWER;
use serde_json::Number;

use crate::cbor::{CborError, DEPTH_MAX, Kind, Reader};
use crate::code::{ChannelCode, TypeCode};
use crate::compact;
use crate::value::{Form, Registry};

/// The deepest members that are listed; those of the body itself have depth 0.
const LISTED_DEPTH_MAX: u8 = 2;

/// The body of an event as the text of a JSON object without blanks, with the places of its members.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BodyText {
    /// The text.
    pub text: String,
    /// Its members down to those of an object within the event, each before what it holds.
    pub members: Vec<TextMember>,
}

/// Where a member of an object stands in a text, as byte ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextMember {
    /// How deep: 0 for members of the body, 1 for those of the event, 2 for those of an object in it.
    pub depth: u8,
    /// Start and end of the name, without quotes.
    pub name: (u32, u32),
    /// Start and end of the value's text.
    pub value: (u32, u32),
}

impl core::fmt::Debug for BodyText {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("BodyText(…)")
    }
}

impl BodyText {
    pub(crate) fn with_capacity(bytes: usize, members: usize) -> Self {
        Self { text: String::with_capacity(bytes), members: Vec::with_capacity(members) }
    }

    /// Begins a member: its name is written, its value is to be written next and ended with [`Self::end_member`].
    pub(crate) fn begin_member(&mut self, name: &str, depth: u8) -> usize {
        let start = self.text.len() + 1;
        write_text(&mut self.text, name);
        let name = (place(start), place(self.text.len().saturating_sub(1)));
        self.text.push(':');
        let at = self.members.len();
        if depth <= LISTED_DEPTH_MAX {
            self.members.push(TextMember { depth, name, value: (place(self.text.len()), 0) });
        }
        at
    }

    /// Ends the member that was begun as the one at `at`.
    pub(crate) fn end_member(&mut self, at: usize, depth: u8) {
        let end = place(self.text.len());
        if depth <= LISTED_DEPTH_MAX
            && let Some(member) = self.members.get_mut(at)
        {
            member.value.1 = end;
        }
    }

    /// Returns a part of the text.
    pub(crate) fn part(&self, (start, end): (u32, u32)) -> &str {
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    /// Adds the members of another text, which holds nothing else, behind a comma.
    pub(crate) fn append(&mut self, other: &Self) {
        self.text.push(',');
        let shift = place(self.text.len());
        self.text.push_str(&other.text);
        let moved = |(start, end): (u32, u32)| (start.saturating_add(shift), end.saturating_add(shift));
        self.members.extend(other.members.iter().map(|member| TextMember {
            depth: member.depth,
            name: moved(member.name),
            value: moved(member.value),
        }));
    }

    /// Reads the members of an object and writes them with commas between and before, unless they are the first.
    pub(crate) fn write_members(
        &mut self,
        input: &mut Reader<'_>,
        registry: Registry,
        cbor_depth: usize,
        depth: u8,
        is_first: &mut bool,
    ) -> Result<(), CborError> {
        if cbor_depth > DEPTH_MAX {
            return Err(CborError);
        }
        input.members(|input| {
            let (name, form) = if input.kind()? == Kind::Text {
                let name = input.text()?;
                // A registered name that is written out would be a second key for the same member.
                if registry.key(name).is_some() {
                    return Err(CborError);
                }
                (name, Form::Any(Registry::None))
            } else {
                let key = input.uint()?;
                (registry.name(key).ok_or(CborError)?, registry.form(key))
            };
            if !core::mem::take(is_first) {
                self.text.push(',');
            }
            let at = self.begin_member(name, depth);
            self.write_value(input, form, cbor_depth + 1, depth.saturating_add(1))?;
            self.end_member(at, depth);
            Ok(())
        })
    }

    fn write_value(
        &mut self,
        input: &mut Reader<'_>,
        form: Form,
        cbor_depth: usize,
        depth: u8,
    ) -> Result<(), CborError> {
        if cbor_depth > DEPTH_MAX {
            return Err(CborError);
        }
        match input.kind()? {
            Kind::Null => {
                input.null()?;
                self.text.push_str("null");
            }
            Kind::Bool => self.text.push_str(if input.bool()? { "true" } else { "false" }),
            Kind::Float => self.write_number(&Number::from_f64(input.float()?).ok_or(CborError)?),
            Kind::Text => write_text(&mut self.text, input.text()?),
            Kind::Tag if !matches!(form, Form::Any(_)) => {
                if input.tag()? != compact::TAG_ID {
                    return Err(CborError);
                }
                self.write_integer(input)?;
            }
            Kind::Bytes => {
                self.text.push('"');
                HEXLOWER.encode_append(input.bytes()?, &mut self.text);
                self.text.push('"');
            }
            Kind::Tag => {
                let text = compact::read_string(input)?;
                write_text(&mut self.text, &text);
            }
            Kind::Array => {
                let count = input.array()?;
                self.text.push('[');
                for item in 0..count {
                    if item > 0 {
                        self.text.push(',');
                    }
                    // What is in a list is not listed.
                    self.write_value(input, Form::Any(Registry::None), cbor_depth + 1, u8::MAX)?;
                }
                self.text.push(']');
            }
            Kind::Map => {
                let registry = if let Form::Any(registry) = form { registry } else { Registry::None };
                self.text.push('{');
                self.write_members(input, registry, cbor_depth, depth, &mut true)?;
                self.text.push('}');
            }
            Kind::Int => match form {
                Form::EventType => self.write_name(TypeCode::new(input.small()?).name())?,
                Form::Channel => self.write_name(ChannelCode::new(input.small()?).name())?,
                Form::Any(_) => self.write_integer(input)?,
            },
            Kind::Other => return Err(CborError),
        }
        Ok(())
    }

    fn write_name(&mut self, name: Option<&'static str>) -> Result<(), CborError> {
        write_text(&mut self.text, name.ok_or(CborError)?);
        Ok(())
    }

    fn write_integer(&mut self, input: &mut Reader<'_>) -> Result<(), CborError> {
        let number = input.int()?;
        let signed = || i64::try_from(number).map(Number::from);
        let number = u64::try_from(number).map(Number::from).or_else(|_| signed()).map_err(|_| CborError)?;
        self.write_number(&number);
        Ok(())
    }

    fn write_number(&mut self, number: &Number) {
        // Writing into a string cannot fail.
        let _ = write!(self.text, "{number}");
    }
}

/// A content is far shorter than 4 GiB.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Writes a text in quotes, escaped as `serde_json` does it.
pub(crate) fn write_text(out: &mut String, text: &str) {
    out.push('"');
    // One pass without branches, which runs in vectors: hardly any text has something to escape.
    let escapes =
        text.bytes().fold(false, |found, byte| found | (byte < 0x20) | (byte == b'"') | (byte == b'\\'));
    if !escapes {
        out.push_str(text);
    } else {
        for c in text.chars() {
            write_escaped(out, c);
        }
    }
    out.push('"');
}

fn write_escaped(out: &mut String, c: char) {
    let short = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        c if u32::from(c) < 0x20 => {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
            return;
        }
        c => return out.push(c),
    };
    out.push_str(short);
}
