//! The body of an event as the text of a JSON object, with the places of its members.
//!
//! Most values go out as they stand in the text, so no tree of them is made: a look-up goes over a short list of places,
//! and a value that goes out is copied once. Members are listed down to those of an object within the event
//! (`auditEvent.complianceFlags.gdprConsentRecorded`); what lies deeper is read when somebody asks for it.

use std::borrow::Cow;

use serde_json::{Number, Value};

use crate::json_text::{write_text, write_value};

/// The deepest members that are listed; those of the body itself have depth 0.
pub const LISTED_DEPTH_MAX: u8 = 2;

/// A body.
#[derive(Clone, PartialEq)]
pub struct Body {
    text: String,
    members: Vec<BodyMember>,
}

/// Where a member of an object stands in a body's text, as byte ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyMember {
    /// How deep: 0 for members of the body, 1 for those of an object in it, 2 for those of an object in one of these.
    pub depth: u8,
    /// Start and end of the name, without quotes.
    pub name: (u32, u32),
    /// Start and end of the value's text.
    pub value: (u32, u32),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body(…)")
    }
}

impl Default for Body {
    /// A body without members.
    fn default() -> Self {
        Self { text: "{}".to_owned(), members: Vec::new() }
    }
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        let mut body = Self { text: String::new(), members: Vec::new() };
        body.write(&value, 0);
        body
    }
}

impl Body {
    /// Puts a text and its members together, as [`Self::from`] makes them of a value: the text is that of a JSON object
    /// without blanks, each member down to [`LISTED_DEPTH_MAX`] is listed once, before what it holds. A place outside of
    /// the text stands for null.
    pub fn from_parts(text: String, members: Vec<BodyMember>) -> Self {
        Self { text, members }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the body as a tree.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    fn write(&mut self, value: &Value, depth: u8) {
        let Value::Object(members) = value else { return write_value(&mut self.text, value) };
        if depth > LISTED_DEPTH_MAX {
            return write_value(&mut self.text, value);
        }
        let mut separator = '{';
        for (name, value) in members {
            self.text.push(separator);
            separator = ',';
            let start = self.text.len();
            write_text(&mut self.text, name);
            let name = (place(start + 1), place(self.text.len() - 1));
            self.text.push(':');
            let (start, at) = (self.text.len(), self.members.len());
            self.members.push(BodyMember { depth, name, value: (0, 0) });
            self.write(value, depth + 1);
            let end = self.text.len();
            if let Some(member) = self.members.get_mut(at) {
                member.value = (place(start), place(end));
            }
        }
        self.text.push_str(if members.is_empty() { "{}" } else { "}" });
    }

    /// Returns a member of the body itself, with the members inside of it.
    pub(crate) fn top(&self, name: &str) -> Option<Json<'_>> {
        Json { body: self, raw: &self.text, inside: &self.members, depth: 0 }.get(name)
    }

    /// Looks a path up; `None` if there is no such value, or if it is null.
    pub(crate) fn find(&self, path: &[String]) -> Option<Scalar<'_>> {
        let (first, rest) = path.split_first()?;
        self.top(first)?.find(rest)
    }

    fn part(&self, (start, end): (u32, u32)) -> &str {
        self.text.get(start as usize..end as usize).unwrap_or("null")
    }
}

/// Bodies are far shorter than 4 GiB; a longer one would point at nothing.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// A value of a body.
#[derive(Clone, Copy)]
pub(crate) struct Json<'a> {
    body: &'a Body,
    /// Its text.
    pub(crate) raw: &'a str,
    /// Listed members inside of it, at `depth` and deeper.
    inside: &'a [BodyMember],
    depth: u8,
}

impl<'a> Json<'a> {
    /// Tells whether the value is an object.
    pub(crate) fn is_object(self) -> bool {
        self.raw.starts_with('{')
    }

    /// Tells whether the value is null.
    pub(crate) fn is_null(self) -> bool {
        self.raw == "null"
    }

    /// Tells whether the value is a list.
    pub(crate) fn is_list(self) -> bool {
        self.raw.starts_with('[')
    }

    /// Tells whether the value is a text.
    pub(crate) fn is_text(self) -> bool {
        self.raw.starts_with('"')
    }

    /// Returns the listed members of this object, names as they stand in the text.
    pub(crate) fn members(self) -> impl Iterator<Item = (&'a str, Json<'a>)> {
        let Self { body, mut inside, depth, .. } = self;
        std::iter::from_fn(move || {
            let (member, behind) = inside.split_first()?;
            let deeper = behind.iter().take_while(|other| other.depth > depth).count();
            let (own, rest) = behind.split_at(deeper);
            inside = rest;
            let value = Json { body, raw: body.part(member.value), inside: own, depth: depth + 1 };
            Some((body.part(member.name), value))
        })
    }

    fn get(self, name: &str) -> Option<Json<'a>> {
        self.members().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Looks a path up from here; `None` if there is no such value, or if it is null.
    pub(crate) fn find(self, path: &[String]) -> Option<Scalar<'a>> {
        let Some((first, rest)) = path.split_first() else {
            return (!self.is_null()).then(|| Scalar::read(self.raw));
        };
        if self.depth <= LISTED_DEPTH_MAX {
            return self.get(first)?.find(rest);
        }
        let tree: Value = serde_json::from_str(self.raw).ok()?;
        let found = path.iter().try_fold(&tree, |value, name| value.get(name))?;
        (!found.is_null()).then(|| Scalar::owned(found))
    }
}

/// A value as filters and columns see it. Numbers and what is no scalar are texts of JSON.
#[derive(Clone, Debug)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    Number(Cow<'a, str>),
    Text(Cow<'a, str>),
    Compound(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    /// Reads the text of a JSON value.
    pub(crate) fn read(raw: &'a str) -> Self {
        match raw.as_bytes().first() {
            Some(b'"') => Self::Text(text(raw)),
            Some(b'{' | b'[') => Self::Compound(Cow::Borrowed(raw)),
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'n') | None => Self::Null,
            Some(_) => Self::Number(Cow::Borrowed(raw)),
        }
    }

    fn owned(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Number(number) => Self::Number(Cow::Owned(number.to_string())),
            Value::String(text) => Self::Text(Cow::Owned(text.clone())),
            other => Self::Compound(Cow::Owned(other.to_string())),
        }
    }

    /// Returns the number, if it is one.
    pub(crate) fn number(&self) -> Option<Number> {
        if let Self::Number(text) = self { serde_json::from_str(text).ok() } else { None }
    }
}

/// Returns what stands between the quotes, with escapes resolved if there are any.
fn text(raw: &str) -> Cow<'_, str> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if inner.contains('\\') {
        // It was written as JSON, so it reads as such.
        Cow::Owned(serde_json::from_str(raw).unwrap_or_default())
    } else {
        Cow::Borrowed(inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_found_at_any_depth_as_in_a_tree() {
        let tree = json!({
            "a": {"b": {"c": {"d": {"e": [1, "x"]}, "n": null, "t": "q\"\\\n\u{0}é"}, "empty": {}}, "l": [{"x": 1}]},
            "auditEvent": {"n": -3, "f": 1.5, "u": u64::MAX, "yes": true, "no": false, "name\"d": "x"},
            "nothing": null
        });
        let body = Body::from(tree.clone());
        assert_eq!(body.to_value(), tree);
        let paths = [
            "a",
            "a.b",
            "a.b.c",
            "a.b.c.d",
            "a.b.c.d.e",
            "a.b.c.d.e.x",
            "a.b.c.n",
            "a.b.c.t",
            "a.b.empty",
            "a.l",
            "a.l.x",
            "a.x",
            "auditEvent.n",
            "auditEvent.f",
            "auditEvent.u",
            "auditEvent.yes",
            "auditEvent.no",
            "auditEvent.n.x",
            "nothing",
            "nothing.x",
            "missing",
        ];
        for path in paths {
            let names: Vec<String> = path.split('.').map(str::to_owned).collect();
            let wanted = names.iter().try_fold(&tree, |value, name| value.get(name));
            let found = body.find(&names).map(|found| match found {
                Scalar::Null => Value::Null,
                Scalar::Bool(flag) => flag.into(),
                Scalar::Text(text) => text.into(),
                Scalar::Number(text) | Scalar::Compound(text) => serde_json::from_str(&text).unwrap(),
            });
            assert_eq!(found.as_ref(), wanted.filter(|value| !value.is_null()), "{path}");
        }
    }
}
