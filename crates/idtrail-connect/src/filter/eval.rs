//! What an expression says about an entry.
//!
//! A value that is missing is null. Values of different types are different, and neither is less than the other. Numbers
//! compare by value; texts by their characters, except that two texts that are both RFC 3339 times compare as times when
//! asked which is less. Objects and lists only equal themselves.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::{Compare, Expression, Literal, Operand};
use crate::event::EventRow;
use crate::row::parse_timestamp;

pub(crate) fn holds(expression: &Expression, row: &EventRow) -> bool {
    match expression {
        Expression::Or(all) => all.iter().any(|one| holds(one, row)),
        Expression::And(all) => all.iter().all(|one| holds(one, row)),
        Expression::Not(inner) => !holds(inner, row),
        Expression::Exists(path) => path.lookup(row).is_some(),
        Expression::Truth(operand) => *value(operand, row) == Value::Bool(true),
        Expression::Compare(left, compare, right) => {
            let (left, right) = (value(left, row), value(right, row));
            match compare {
                Compare::Equal => equal(&left, &right),
                Compare::NotEqual => !equal(&left, &right),
                Compare::Less => order(&left, &right) == Some(Ordering::Less),
                Compare::LessOrEqual => order(&left, &right).is_some_and(Ordering::is_le),
                Compare::Greater => order(&left, &right) == Some(Ordering::Greater),
                Compare::GreaterOrEqual => order(&left, &right).is_some_and(Ordering::is_ge),
            }
        }
        Expression::In(operand, list) => {
            let wanted = value(operand, row);
            list.iter().any(|literal| equal(&wanted, &literal_value(literal)))
        }
    }
}

fn value<'a>(operand: &'a Operand, row: &'a EventRow) -> Cow<'a, Value> {
    match operand {
        Operand::Path(path) => path.lookup(row).unwrap_or(Cow::Owned(Value::Null)),
        Operand::Literal(literal) => Cow::Owned(literal_value(literal)),
    }
}

fn literal_value(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(flag) => Value::Bool(*flag),
        Literal::Number(number) => Value::Number(number.clone()),
        Literal::Text(text) => Value::String(text.clone()),
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => order_numbers(left, right) == Some(Ordering::Equal),
        (left, right) => left == right,
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => order_numbers(left, right),
        (Value::String(left), Value::String(right)) => {
            match (parse_timestamp(left), parse_timestamp(right)) {
                (Some(left), Some(right)) => Some(left.cmp(&right)),
                _ => Some(left.cmp(right)),
            }
        }
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Null, Value::Null) => None,
        _ => None,
    }
}

/// Whole numbers compare exactly; a float loses digits only where one of the two is a float.
fn order_numbers(left: &Number, right: &Number) -> Option<Ordering> {
    let whole = |number: &Number| number.as_i128();
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}
