//! Fills the cells of a row, in one pass over the members of the event.
//!
//! Which member goes into which column was found out once, when the mapping was read: a row costs one walk over the event's
//! members, not a search by name for each column. References are made once a row, whichever columns show them. Texts go
//! from the event into the row's one buffer, and what of the event may go out is written there without a copy of the event.

use serde_json::Value;

use super::{Source, Unmappable};
use crate::event::{EVENT_MEMBER, EventRow};
use crate::path::Path;
use crate::personal::{Pii, Privacy, References, write_redacted};
use crate::row::{Column, ColumnType, Misfit, Row};

/// Bytes of text that a row has room for at once: a usual event as JSON, and a usual cell.
const EVENT_BYTES: usize = 640;
const CELL_BYTES: usize = 32;

/// Knows where the values of a mapping stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Filler {
    /// Names of the event's members that are asked for, sorted, each once.
    names: Vec<String>,
    steps: Vec<Step>,
    needs: Needs,
}

/// What is made once a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Needs {
    customer: bool,
    interaction: bool,
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
    event: Option<&'a Value>,
    found: Vec<Option<&'a Value>>,
    customer: Option<Id<'a>>,
    interaction: Option<Id<'a>>,
}

enum Id<'a> {
    Own(&'a str),
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
        let mut names: Vec<String> = sources.iter().filter_map(member).map(str::to_owned).collect();
        names.push(INTERACTION.to_owned());
        names.sort();
        names.dedup();
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
            text_bytes: CELL_BYTES * steps.len() + if shows_event { EVENT_BYTES } else { 0 },
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
        let mut row = Row::begin(event.position, columns.len(), self.needs.text_bytes);
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
        let customer = row
            .customer_id
            .as_deref()
            .filter(|_| self.needs.customer)
            .map(|id| if refers { Id::Reference(references.customer(id)) } else { Id::Own(id) });
        let named = self.names.binary_search_by(|known| known.as_str().cmp(INTERACTION)).ok();
        let named = named.and_then(|at| found.get(at).copied().flatten()).and_then(Value::as_str);
        let interaction = named
            .filter(|_| self.needs.interaction)
            .map(|id| if refers { Id::Reference(references.interaction(id)) } else { Id::Own(id) });
        Shared { event, found, customer, interaction }
    }

    /// Returns the members that are asked for, by their places in `names`; a null is none.
    fn gather<'a>(&self, event: Option<&'a Value>) -> Vec<Option<&'a Value>> {
        let mut found = vec![None; self.names.len()];
        let Some(Value::Object(members)) = event else { return found };
        let mut next = 0;
        for (name, value) in members {
            if let Some(at) = self.place(name, &mut next)
                && let Some(slot) = found.get_mut(at)
                && !value.is_null()
            {
                *slot = Some(value);
            }
        }
        found
    }

    /// Finds a name. Members usually come in the order of their names, so the search goes on where the last one ended.
    fn place(&self, name: &str, next: &mut usize) -> Option<usize> {
        while let Some(known) = self.names.get(*next) {
            match known.as_str().cmp(name) {
                std::cmp::Ordering::Less => *next += 1,
                std::cmp::Ordering::Equal => {
                    *next += 1;
                    return Some(*next - 1);
                }
                std::cmp::Ordering::Greater => break,
            }
        }
        let before = self.names.get(..*next).unwrap_or_default();
        before.binary_search_by(|known| known.as_str().cmp(name)).ok()
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
            let inside = names.iter().try_fold(found(*at), |value, name| Some(value?.get(name)));
            fill_value(row, inside.flatten(), kind)
        }
        Step::Other(path) => {
            if kind == path.natural_type() && path.fill_log_cell(event, row)? {
                return Ok(());
            }
            fill_value(row, path.lookup(event).as_deref(), kind)
        }
        Step::Customer => fill_id(row, shared.customer.as_ref()),
        Step::Interaction(at) => match (found(*at), &shared.interaction) {
            (None, _) => fill_id(row, None),
            (Some(Value::String(_)), Some(id)) => fill_id(row, Some(id)),
            _ => Err(Misfit),
        },
        Step::Event => match shared.event {
            None => fill_id(row, None),
            Some(whole) if privacy.pii() == Pii::Tokens => row.value(whole, kind),
            Some(Value::Object(members)) if kind == ColumnType::Json => row.json(|out| {
                let (customer, interaction) = (shared.customer.as_ref(), shared.interaction.as_ref());
                write_redacted(out, members, privacy, customer.map(Id::as_str), interaction.map(Id::as_str));
            }),
            Some(Value::Object(_)) => Err(Misfit),
            // What is no object has no members that may go out.
            Some(_) => fill_id(row, None),
        },
    }
}

fn fill_value(row: &mut Row, value: Option<&Value>, kind: ColumnType) -> Result<(), Misfit> {
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
