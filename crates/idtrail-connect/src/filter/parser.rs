//! From tokens to an expression, by recursive descent; the grammar stands in [`super`].

use std::ops::Range;

use super::lexer::Token;
use super::{DEPTH_MAX, Expression, FilterError, Literal, Operand};

pub(crate) fn parse(end: usize, tokens: &[(Token, Range<usize>)]) -> Result<Expression, FilterError> {
    let mut parser = Parser { tokens, at: 0, end, depth: 0 };
    let expression = parser.or()?;
    match parser.peek() {
        None => Ok(expression),
        Some(_) => Err(parser.unexpected("the filter should end here, or go on with and, or")),
    }
}

struct Parser<'a> {
    tokens: &'a [(Token, Range<usize>)],
    at: usize,
    /// Length of the text: the place of an error at its end.
    end: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn span(&self) -> Range<usize> {
        self.tokens.get(self.at).map_or(self.end..self.end, |(_, span)| span.clone())
    }

    fn unexpected(&self, message: &str) -> FilterError {
        FilterError::new(message, self.span())
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, FilterError>) -> Result<T, FilterError> {
        if self.depth >= DEPTH_MAX {
            return Err(self.unexpected("the filter is nested too deeply"));
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    fn or(&mut self) -> Result<Expression, FilterError> {
        self.deeper(|parser| {
            let mut all = vec![parser.and()?];
            while parser.take(&Token::Or) {
                all.push(parser.and()?);
            }
            Ok(one_or(all, Expression::Or))
        })
    }

    fn and(&mut self) -> Result<Expression, FilterError> {
        let mut all = vec![self.not()?];
        while self.take(&Token::And) {
            all.push(self.not()?);
        }
        Ok(one_or(all, Expression::And))
    }

    fn not(&mut self) -> Result<Expression, FilterError> {
        if self.take(&Token::Not) {
            return self.deeper(|parser| Ok(Expression::Not(Box::new(parser.not()?))));
        }
        self.test()
    }

    fn test(&mut self) -> Result<Expression, FilterError> {
        if self.take(&Token::Mark('(')) {
            let inner = self.or()?;
            if !self.take(&Token::Mark(')')) {
                return Err(self.unexpected("a closing ) is missing"));
            }
            return Ok(inner);
        }
        if self.take(&Token::Exists) {
            let bracket = self.take(&Token::Mark('('));
            let Operand::Path(path) = self.operand()? else {
                self.at -= 1;
                return Err(self.unexpected("exists asks for a path"));
            };
            if bracket && !self.take(&Token::Mark(')')) {
                return Err(self.unexpected("a closing ) is missing"));
            }
            return Ok(Expression::Exists(path));
        }
        let start = self.span();
        let left = self.operand()?;
        match self.peek() {
            Some(Token::Compare(compare)) => {
                self.at += 1;
                Ok(Expression::Compare(left, *compare, self.operand()?))
            }
            Some(Token::In) => {
                self.at += 1;
                Ok(Expression::In(left, self.list()?))
            }
            Some(Token::Not) if matches!(self.tokens.get(self.at + 1), Some((Token::In, _))) => {
                self.at += 2;
                Ok(Expression::Not(Box::new(Expression::In(left, self.list()?))))
            }
            _ => match left {
                Operand::Literal(Literal::Bool(_)) | Operand::Path(_) => Ok(Expression::Truth(left)),
                // A text or number alone would be false for ever, which nobody can have meant.
                Operand::Literal(_) => {
                    Err(FilterError::new("a comparison is missing after this value", start))
                }
            },
        }
    }

    fn operand(&mut self) -> Result<Operand, FilterError> {
        let operand = match self.peek() {
            Some(Token::Path(path)) => Operand::Path(path.clone()),
            Some(Token::Literal(literal)) => Operand::Literal(literal.clone()),
            _ => return Err(self.unexpected("a path or a value is missing")),
        };
        self.at += 1;
        Ok(operand)
    }

    fn list(&mut self) -> Result<Vec<Literal>, FilterError> {
        let close = if self.take(&Token::Mark('[')) {
            ']'
        } else if self.take(&Token::Mark('(')) {
            ')'
        } else {
            return Err(self.unexpected("in asks for a list in brackets: [\"VOICE\", \"CHAT\"]"));
        };
        let mut all = Vec::new();
        loop {
            let Some(Token::Literal(literal)) = self.peek() else {
                return Err(self.unexpected("a list holds texts, numbers, true, false or null"));
            };
            all.push(literal.clone());
            self.at += 1;
            if self.take(&Token::Mark(close)) {
                return Ok(all);
            }
            if !self.take(&Token::Mark(',')) {
                return Err(self.unexpected("a comma or the end of the list is missing"));
            }
        }
    }
}

fn one_or(mut all: Vec<Expression>, many: impl FnOnce(Vec<Expression>) -> Expression) -> Expression {
    match all.pop() {
        Some(only) if all.is_empty() => only,
        Some(last) => {
            all.push(last);
            many(all)
        }
        None => many(all),
    }
}
