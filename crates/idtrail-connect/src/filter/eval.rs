//! What an expression says about an entry.
//!
//! A value that is missing is null. Values of different types are different, and neither is less than the other. Numbers
//! compare by value; texts by their characters, except that two texts that are both RFC 3339 times compare as times when
//! asked which is less. Objects and lists only equal themselves.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::{Compare, Expression, Literal, Operand};
use crate::body::Scalar;
use crate::event::EventRow;
use crate::row::parse_timestamp;

pub(crate) fn holds(expression: &Expression, row: &EventRow) -> bool {
    match expression {
        Expression::Or(all) => all.iter().any(|one| holds(one, row)),
        Expression::And(all) => all.iter().all(|one| holds(one, row)),
        Expression::Not(inner) => !holds(inner, row),
        Expression::Exists(path) => path.lookup(row).is_some(),
        Expression::Truth(operand) => matches!(value(operand, row), Scalar::Bool(true)),
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

fn value<'a>(operand: &'a Operand, row: &'a EventRow) -> Scalar<'a> {
    match operand {
        Operand::Path(path) => path.lookup(row).unwrap_or(Scalar::Null),
        Operand::Literal(literal) => literal_value(literal),
    }
}

fn literal_value(literal: &Literal) -> Scalar<'_> {
    match literal {
        Literal::Null => Scalar::Null,
        Literal::Bool(flag) => Scalar::Bool(*flag),
        Literal::Number(number) => Scalar::Number(number.to_string().into()),
        Literal::Text(text) => Scalar::Text(text.into()),
    }
}

fn equal(left: &Scalar<'_>, right: &Scalar<'_>) -> bool {
    match (left, right) {
        (Scalar::Null, Scalar::Null) => true,
        (Scalar::Bool(left), Scalar::Bool(right)) => left == right,
        (Scalar::Text(left), Scalar::Text(right)) => left == right,
        (Scalar::Number(_), Scalar::Number(_)) => order(left, right) == Some(Ordering::Equal),
        // The order of members is not part of an object.
        (Scalar::Compound(left), Scalar::Compound(right)) => tree(left) == tree(right),
        _ => false,
    }
}

fn tree(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

fn order(left: &Scalar<'_>, right: &Scalar<'_>) -> Option<Ordering> {
    match (left, right) {
        (Scalar::Number(_), Scalar::Number(_)) => order_numbers(&left.number()?, &right.number()?),
        (Scalar::Text(left), Scalar::Text(right)) => match (parse_timestamp(left), parse_timestamp(right)) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => Some(left.cmp(right)),
        },
        (Scalar::Bool(left), Scalar::Bool(right)) => Some(left.cmp(right)),
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
