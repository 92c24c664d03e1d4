//! From text to tokens.

use std::ops::Range;

use super::{Compare, FilterError, Literal};
use crate::path::{Path, is_name_char};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Path(Path),
    Literal(Literal),
    Compare(Compare),
    And,
    Or,
    Not,
    In,
    Exists,
    /// An opening or closing bracket, round or square, or a comma.
    Mark(char),
}

/// Returns the tokens with their places.
pub(crate) fn tokens(text: &str) -> Result<Vec<(Token, Range<usize>)>, FilterError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (token, length) = next(text, at, c)?;
        found.push((token, at..at + length));
        at += length;
    }
    Ok(found)
}

fn next(text: &str, at: usize, c: char) -> Result<(Token, usize), FilterError> {
    let rest = text.get(at..).unwrap_or_default();
    let operators: [(&str, Token); 11] = [
        ("==", Token::Compare(Compare::Equal)),
        ("!=", Token::Compare(Compare::NotEqual)),
        ("<=", Token::Compare(Compare::LessOrEqual)),
        (">=", Token::Compare(Compare::GreaterOrEqual)),
        ("&&", Token::And),
        ("||", Token::Or),
        ("=", Token::Compare(Compare::Equal)),
        ("<", Token::Compare(Compare::Less)),
        (">", Token::Compare(Compare::Greater)),
        ("!", Token::Not),
        (",", Token::Mark(',')),
    ];
    if let Some((written, token)) = operators.into_iter().find(|(written, _)| rest.starts_with(written)) {
        return Ok((token, written.len()));
    }
    match c {
        '(' | ')' | '[' | ']' => Ok((Token::Mark(c), 1)),
        '"' | '\'' => quoted(rest, at, c),
        '{' => braced(rest, at),
        c if c.is_ascii_digit() || c == '-' => number(rest, at),
        c if is_name_char(c) => word(rest, at),
        c => Err(FilterError::new(
            format!("'{}' has no meaning here", c.escape_default()),
            at..at + c.len_utf8(),
        )),
    }
}

fn braced(rest: &str, at: usize) -> Result<(Token, usize), FilterError> {
    let inner = rest
        .strip_prefix("{{")
        .ok_or_else(|| FilterError::new("a path is written {{auditEvent.member}}", at..at + 1))?;
    let Some(end) = inner.find("}}") else {
        return Err(FilterError::new("}} is missing", at..at + rest.len()));
    };
    let length = end + 4;
    let path = Path::parse(inner.get(..end).unwrap_or_default().trim())
        .map_err(|error| FilterError::new(error.to_string(), at..at + length))?;
    Ok((Token::Path(path), length))
}

fn quoted(rest: &str, at: usize, quote: char) -> Result<(Token, usize), FilterError> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((position, c)) = characters.next() {
        if c == quote {
            return Ok((Token::Literal(Literal::Text(text)), position + 1));
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        match characters.next() {
            Some((_, escaped @ ('\\' | '"' | '\''))) => text.push(escaped),
            Some((_, 'n')) => text.push('\n'),
            Some((_, 't')) => text.push('\t'),
            Some((end, other)) => {
                let span = at + position..at + end + other.len_utf8();
                return Err(FilterError::new(
                    "only \\\\ \\\" \\' \\n and \\t are known after a backslash",
                    span,
                ));
            }
            None => break,
        }
    }
    Err(FilterError::new("the text is not closed", at..at + rest.len()))
}

fn number(rest: &str, at: usize) -> Result<(Token, usize), FilterError> {
    let length = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+')))
        .unwrap_or(rest.len());
    // JSON's own rules decide what a number is.
    match serde_json::from_str::<serde_json::Number>(rest.get(..length).unwrap_or_default()) {
        Ok(number) => Ok((Token::Literal(Literal::Number(number)), length)),
        Err(_) => Err(FilterError::new("this is no number; texts stand in quotes", at..at + length)),
    }
}

fn word(rest: &str, at: usize) -> Result<(Token, usize), FilterError> {
    let length = rest.find(|c: char| !(is_name_char(c) || c == '.')).unwrap_or(rest.len());
    let text = rest.get(..length).unwrap_or_default();
    let token = match text {
        "and" | "AND" => Token::And,
        "or" | "OR" => Token::Or,
        "not" | "NOT" => Token::Not,
        "in" | "IN" => Token::In,
        "exists" | "EXISTS" => Token::Exists,
        "true" => Token::Literal(Literal::Bool(true)),
        "false" => Token::Literal(Literal::Bool(false)),
        "null" => Token::Literal(Literal::Null),
        _ => Token::Path(
            Path::parse(text).map_err(|error| FilterError::new(error.to_string(), at..at + length))?,
        ),
    };
    Ok((token, length))
}
