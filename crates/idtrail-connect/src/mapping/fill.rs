//! Fills the cells of a row, in one pass over the members of the event.
//!
//! Which member goes into which column was found out once, when the mapping was read: a row costs one walk over the event's
//! members, not a search by name for each column. References are made once a row, whichever columns show them. Texts go
//! from the event into the row's one buffer, and what of the event may go out is written there without a copy of the event.

use std::borrow::Cow;

use super::{Source, Unmappable};
use crate::body::{Json, Scalar};
use crate::event::{EVENT_MEMBER, EventRow};
use crate::path::{Path, usual_place};
use crate::personal::{Pii, Privacy, References, write_redacted};
use crate::row::{Column, ColumnType, Misfit, Row};

/// Bytes of text that a usual cell has.
const CELL_BYTES: usize = 32;

/// Knows where the values of a mapping stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Filler {
    /// Names of the event's members that are asked for, each once, in the order in which events usually have them.
    names: Vec<String>,
    steps: Vec<Step>,
    needs: Needs,
}

/// What is made once a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Needs {
    customer: bool,
    interaction: bool,
    /// Room for the event itself.
    event: bool,
    text_bytes: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// A member of the event, by its place in `names`.
    Member(usize),
    /// A value further inside of one.
    Within(usize, Vec<String>),
    /// What the log adds, or what stands beside the event.
    Other(Path),
    Customer,
    /// A member that names the interaction.
    Interaction(usize),
    Event,
}

/// What the columns of one row share.
struct Shared<'a> {
    event: Option<Json<'a>>,
    found: Vec<Option<Json<'a>>>,
    customer: Option<Id<'a>>,
    interaction: Option<Id<'a>>,
}

enum Id<'a> {
    Own(Cow<'a, str>),
    Reference(String),
}

impl Id<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Own(id) => id,
            Self::Reference(reference) => reference,
        }
    }
}

/// The member whose value the references of interactions are made of.
const INTERACTION: &str = "interactionId";

impl Filler {
    pub(super) fn new(sources: &[Source]) -> Self {
        let mut names: Vec<String> = Vec::new();
        for name in sources.iter().filter_map(member).chain([INTERACTION]) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names.sort_by_key(|name| usual_place(name));
        let place = |name: &str| names.iter().position(|known| known == name);
        let step = |source: &Source| match source {
            Source::Customer => Step::Customer,
            Source::Event => Step::Event,
            Source::Interaction(path) | Source::Value(path) => {
                let Some((at, inside)) = inside(path).and_then(|(name, rest)| Some((place(name)?, rest)))
                else {
                    return Step::Other(path.clone());
                };
                match source {
                    Source::Interaction(_) => Step::Interaction(at),
                    _ if inside.is_empty() => Step::Member(at),
                    _ => Step::Within(at, inside.to_vec()),
                }
            }
        };
        let steps: Vec<Step> = sources.iter().map(step).collect();
        let shows_event = steps.contains(&Step::Event);
        let needs = Needs {
            customer: shows_event || steps.contains(&Step::Customer),
            interaction: shows_event || steps.iter().any(|step| matches!(step, Step::Interaction(_))),
            event: shows_event,
            text_bytes: CELL_BYTES * steps.len(),
        };
        Self { names, steps, needs }
    }

    /// Makes the row of an event.
    pub(super) fn row(
        &self,
        event: &EventRow,
        columns: &[Column],
        privacy: Privacy,
        references: &References,
    ) -> Result<Row, Unmappable> {
        let shared = self.shared(event, privacy, references);
        let whole = if self.needs.event { event.body.as_str().len() } else { 0 };
        let mut row = Row::begin(event.position, columns.len(), self.needs.text_bytes + whole);
        for (column, step) in columns.iter().zip(&self.steps) {
            fill(&mut row, event, step, column.kind, &shared, privacy)
                .map_err(|_| Unmappable::Misfit(column.name.clone()))?;
            if column.required && row.ends_in_null() {
                return Err(Unmappable::Missing(column.name.clone()));
            }
        }
        Ok(row)
    }

    fn shared<'a>(&self, row: &'a EventRow, privacy: Privacy, references: &References) -> Shared<'a> {
        let event = row.event();
        let found = self.gather(event);
        let refers = privacy.uses_references();
        let customer = row.customer_id.as_deref().filter(|_| self.needs.customer).map(|id| {
            if refers { Id::Reference(references.customer(id)) } else { Id::Own(Cow::Borrowed(id)) }
        });
        let named = self.names.iter().position(|known| known == INTERACTION);
        let named = named.and_then(|at| found.get(at).copied().flatten());
        let named = named.filter(|_| self.needs.interaction).map(|value| Scalar::read(value.raw));
        let interaction = match named {
            Some(Scalar::Text(id)) if refers => Some(Id::Reference(references.interaction(&id))),
            Some(Scalar::Text(id)) => Some(Id::Own(id)),
            _ => None,
        };
        Shared { event, found, customer, interaction }
    }

    /// Returns the members that are asked for, by their places in `names`; a null is none.
    fn gather<'a>(&self, event: Option<Json<'a>>) -> Vec<Option<Json<'a>>> {
        let mut found = vec![None; self.names.len()];
        let Some(event) = event else { return found };
        let mut next = 0;
        for (name, value) in event.members() {
            if let Some(at) = self.place(name, next) {
                next = at + 1;
                if let Some(slot) = found.get_mut(at).filter(|_| !value.is_null()) {
                    *slot = Some(value);
                }
            }
        }
        found
    }

    /// Finds a name. Members usually come in one order, so the search goes on where the last one ended.
    fn place(&self, name: &str, next: usize) -> Option<usize> {
        let (before, behind) = self.names.split_at_checked(next)?;
        let at = |names: &[String]| names.iter().position(|known| known == name);
        at(behind).map(|at| next + at).or_else(|| at(before))
    }
}

/// Returns the event's member in which a source stands.
fn member(source: &Source) -> Option<&str> {
    match source {
        Source::Value(path) | Source::Interaction(path) => inside(path).map(|(name, _)| name),
        Source::Customer | Source::Event => None,
    }
}

/// Splits a path into the event into the member's name and what follows.
fn inside(path: &Path) -> Option<(&str, &[String])> {
    let (first, rest) = path.body_segments()?.split_first()?;
    let (name, rest) = rest.split_first()?;
    (first == EVENT_MEMBER).then_some((name, rest))
}

fn fill(
    row: &mut Row,
    event: &EventRow,
    step: &Step,
    kind: ColumnType,
    shared: &Shared<'_>,
    privacy: Privacy,
) -> Result<(), Misfit> {
    let found = |at: usize| shared.found.get(at).copied().flatten();
    match step {
        Step::Member(at) => fill_value(row, found(*at), kind),
        Step::Within(at, names) => {
            let inside = found(*at).and_then(|value| value.find(names));
            fill_scalar(row, inside.as_ref(), kind)
        }
        Step::Other(path) => {
            if kind == path.natural_type() && path.fill_log_cell(event, row)? {
                return Ok(());
            }
            fill_scalar(row, path.lookup(event).as_ref(), kind)
        }
        Step::Customer => fill_id(row, shared.customer.as_ref()),
        Step::Interaction(at) => match (found(*at), &shared.interaction) {
            (None, _) => fill_id(row, None),
            (Some(_), Some(id)) => fill_id(row, Some(id)),
            _ => Err(Misfit),
        },
        Step::Event => match shared.event {
            None => fill_id(row, None),
            Some(whole) if privacy.pii() == Pii::Tokens => fill_value(row, Some(whole), kind),
            Some(whole) if whole.is_object() && kind == ColumnType::Json => row.json(|out| {
                let (customer, interaction) = (shared.customer.as_ref(), shared.interaction.as_ref());
                write_redacted(out, whole, privacy, customer.map(Id::as_str), interaction.map(Id::as_str));
            }),
            Some(whole) if whole.is_object() => Err(Misfit),
            // What is no object has no members that may go out.
            Some(_) => fill_id(row, None),
        },
    }
}

fn fill_value(row: &mut Row, value: Option<Json<'_>>, kind: ColumnType) -> Result<(), Misfit> {
    match value {
        Some(value) if kind == ColumnType::Json && !value.is_null() => {
            row.json(|out| out.push_str(value.raw))
        }
        Some(value) => row.value(&Scalar::read(value.raw), kind),
        None => fill_id(row, None),
    }
}

fn fill_scalar(row: &mut Row, value: Option<&Scalar<'_>>, kind: ColumnType) -> Result<(), Misfit> {
    match value {
        Some(value) => row.value(value, kind),
        None => fill_id(row, None),
    }
}

fn fill_id(row: &mut Row, id: Option<&Id<'_>>) -> Result<(), Misfit> {
    match id {
        Some(id) => row.text(|out| out.push_str(id.as_str())),
        None => {
            row.null();
            Ok(())
        }
    }
}
