//! Filters: which entries a sink wants, written as the integration guides write it: `{{auditEvent}} != null`.
//!
//! ```text
//! filter     = or
//! or         = and { ("or" | "||") and }
//! and        = not { ("and" | "&&") not }
//! not        = ("not" | "!") not | test
//! test       = "exists" operand | operand [ compare operand | ["not"] "in" list ] | "(" or ")"
//! compare    = "=" | "==" | "!=" | "<" | "<=" | ">" | ">="
//! list       = "[" literal { "," literal } "]" | "(" literal { "," literal } ")"
//! operand    = path | literal
//! path       = "{{" name { "." name } "}}" | name { "." name }
//! literal    = text in single or double quotes | number | "true" | "false" | "null"
//! ```
//! A filter is a pure function of one entry: no clock, no state, no functions of its own. `docs/spec/filter.md` says
//! what each operator means. Errors carry the place in the text, so that a person sees where to look.

mod eval;
mod lexer;
mod parser;

use std::ops::Range;

use crate::event::EventRow;
use crate::path::Path;

/// Longest filter in bytes, and deepest nesting: parsing recurses.
const TEXT_BYTES_MAX: usize = 8 * 1024;
const DEPTH_MAX: usize = 64;

/// A filter that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    text: String,
    expression: Expression,
}

/// Why a text is no filter, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}. at={}..{}", span.start, span.end)]
pub struct FilterError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes of the text.
    pub span: Range<usize>,
}

impl FilterError {
    pub(crate) fn new(message: impl Into<String>, span: Range<usize>) -> Self {
        Self { message: message.into(), span }
    }

    /// Shows the line with the place underlined, for people.
    pub fn render(&self, text: &str) -> String {
        let cut = |at: usize| text.get(..at).unwrap_or(text);
        let before = cut(self.span.start);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = text.get(line_start..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let marked = text.get(self.span.clone()).unwrap_or_default();
        let width = marked.lines().next().unwrap_or_default().chars().count().max(1);
        format!("{line}\n{}{} {}", " ".repeat(column), "^".repeat(width), self.message)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Not(Box<Expression>),
    Exists(Path),
    /// An operand alone: true if it is the value `true`.
    Truth(Operand),
    Compare(Operand, Compare, Operand),
    In(Operand, Vec<Literal>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Path(Path),
    Literal(Literal),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`FilterError`] with the place of the first mistake.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(FilterError::new(
                format!("a filter has at most {TEXT_BYTES_MAX} bytes"),
                0..text.len(),
            ));
        }
        let tokens = lexer::tokens(text)?;
        Ok(Self { text: text.to_owned(), expression: parser::parse(text.len(), &tokens)? })
    }

    /// Returns the filter that wants every entry that holds an event: `{{auditEvent}} != null`.
    pub fn events() -> Self {
        Self::parse("{{auditEvent}} != null").expect("the text is a filter")
    }

    /// Tells whether the sink wants an entry.
    pub fn accepts(&self, row: &EventRow) -> bool {
        eval::holds(&self.expression, row)
    }

    /// Returns the text that was read.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
