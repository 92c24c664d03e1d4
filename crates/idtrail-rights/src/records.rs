//! Records of processing (Art. 30), as data: what a controller does with data, why, for how long, and who gets them.
//!
//! From them follow the information that an answer to a request for access must hold (Art. 15(1) and (2)), and the export
//! for the authority. A record that leaves one of the questions open is refused, not answered with silence.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::csv;
use crate::id::SystemName;

/// The records of one controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Records {
    /// The controller: name and address.
    pub controller: String,
    /// How to reach the data protection officer.
    pub officer: String,
    /// The supervisory authority that a complaint goes to.
    pub authority: String,
    /// What is done with data.
    pub activities: Vec<Activity>,
}

/// One processing activity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Activity {
    /// Its name.
    pub name: String,
    /// The systems in which it takes place.
    pub systems: BTreeSet<SystemName>,
    /// Why.
    pub purposes: Vec<String>,
    /// On which basis in law.
    pub legal_basis: String,
    /// Which kinds of data.
    pub categories: Vec<String>,
    /// Of which people.
    pub subjects: Vec<String>,
    /// Who gets them, by name.
    pub recipients: Vec<Recipient>,
    /// For how long, or by which criteria.
    pub retention: String,
    /// Where the data come from, if not from the person.
    #[serde(default)]
    pub source: Option<String>,
    /// Decisions that nobody but a machine makes, with their logic and consequences.
    #[serde(default)]
    pub automated_decisions: Option<String>,
    /// How the data are protected.
    pub security: String,
}

/// Who gets data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recipient {
    /// Their name.
    pub name: String,
    /// The country, if it is outside the Union.
    #[serde(default)]
    pub third_country: Option<String>,
    /// What protects the data there (Art. 46).
    #[serde(default)]
    pub safeguard: Option<String>,
}

/// A question that a record leaves open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// The activity; empty for the records as a whole.
    pub activity: String,
    /// The member.
    pub member: &'static str,
}

/// One answer of Art. 15(1) or (2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answered {
    /// Where the law asks: `15(1)(a)`.
    pub article: &'static str,
    /// What it asks.
    pub question: &'static str,
    /// The answers.
    pub answers: Vec<String>,
}

impl Records {
    /// Returns the questions that are left open; empty if there is none.
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let whole =
            [("controller", &self.controller), ("officer", &self.officer), ("authority", &self.authority)];
        for (member, text) in whole {
            if text.trim().is_empty() {
                gaps.push(Gap { activity: String::new(), member });
            }
        }
        if self.activities.is_empty() {
            gaps.push(Gap { activity: String::new(), member: "activities" });
        }
        for activity in &self.activities {
            let mut gap = |member, open: bool| {
                if open {
                    gaps.push(Gap { activity: activity.name.clone(), member });
                }
            };
            let blank =
                |texts: &[String]| texts.is_empty() || texts.iter().any(|text| text.trim().is_empty());
            gap("name", activity.name.trim().is_empty());
            gap("systems", activity.systems.is_empty());
            gap("purposes", blank(&activity.purposes));
            gap("legalBasis", activity.legal_basis.trim().is_empty());
            gap("categories", blank(&activity.categories));
            gap("subjects", blank(&activity.subjects));
            gap("retention", activity.retention.trim().is_empty());
            gap("security", activity.security.trim().is_empty());
            for recipient in &activity.recipients {
                gap("recipients", recipient.name.trim().is_empty());
                gap("safeguard", recipient.third_country.is_some() && recipient.safeguard.is_none());
            }
        }
        gaps
    }

    /// Returns the systems that no activity names although the person's data are there: they must be recorded first.
    pub fn unrecorded<'a>(&self, systems: &'a BTreeSet<SystemName>) -> Vec<&'a SystemName> {
        let named =
            |system: &SystemName| self.activities.iter().any(|activity| activity.systems.contains(system));
        systems.iter().filter(|system| !named(system)).collect()
    }

    /// Returns what Art. 15(1) and (2) ask for, about the activities in the given systems. `has_data` is the confirmation.
    pub fn information(&self, systems: &BTreeSet<SystemName>, has_data: bool) -> Vec<Answered> {
        let activities: Vec<&Activity> =
            self.activities.iter().filter(|activity| !activity.systems.is_disjoint(systems)).collect();
        let each = |text: &dyn Fn(&Activity) -> Option<String>| -> Vec<String> {
            let texts = activities
                .iter()
                .filter_map(|activity| Some(format!("{}: {}", activity.name, text(activity)?)));
            texts.collect()
        };
        let or_none = |answers: Vec<String>, none: &str| {
            if answers.is_empty() { vec![none.to_owned()] } else { answers }
        };
        let recipients = |activity: &Activity| {
            let names: Vec<&str> =
                activity.recipients.iter().map(|recipient| recipient.name.as_str()).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        let transfers = |activity: &Activity| {
            let abroad = activity.recipients.iter().filter_map(|recipient| {
                let country = recipient.third_country.as_ref()?;
                let safeguard = recipient.safeguard.as_deref().unwrap_or_default();
                Some(format!("{} ({country}): {safeguard}", recipient.name))
            });
            let abroad: Vec<String> = abroad.collect();
            (!abroad.is_empty()).then(|| abroad.join("; "))
        };
        let confirmation = if has_data {
            "Data about you are processed; they are in this package."
        } else {
            "No data about you were found in the systems named here."
        };
        let row = |article, question, answers| Answered { article, question, answers };
        vec![
            row("15(1)", "Are data about you processed?", vec![confirmation.to_owned()]),
            row(
                "15(1)(a)",
                "Why?",
                each(&|activity| {
                    Some(format!("{} ({})", activity.purposes.join(", "), activity.legal_basis))
                }),
            ),
            row("15(1)(b)", "Which kinds of data?", each(&|activity| Some(activity.categories.join(", ")))),
            row("15(1)(c)", "Who got them?", or_none(each(&recipients), "Nobody outside the controller.")),
            row(
                "15(1)(d)",
                "For how long are they kept?",
                each(&|activity| Some(activity.retention.clone())),
            ),
            row(
                "15(1)(e)",
                "What can you ask for?",
                vec![format!(
                    "Correction (Art. 16), erasure (Art. 17), restriction (Art. 18), and you can object (Art. 21). Write \
                     to {}.",
                    self.officer
                )],
            ),
            row("15(1)(f)", "Where can you complain?", vec![self.authority.clone()]),
            row(
                "15(1)(g)",
                "Where do the data come from?",
                or_none(each(&|activity| activity.source.clone()), "From you."),
            ),
            row(
                "15(1)(h)",
                "Does a machine alone decide about you?",
                or_none(each(&|activity| activity.automated_decisions.clone()), "No."),
            ),
            row(
                "15(2)",
                "Did data leave the Union, and what protects them?",
                or_none(each(&transfers), "They did not."),
            ),
        ]
    }

    /// Returns the record of processing activities (Art. 30(1)) as CSV.
    pub fn export_csv(&self) -> String {
        const HEAD: [&str; 13] = [
            "controller",
            "officer",
            "activity",
            "purposes",
            "legalBasis",
            "categories",
            "subjects",
            "recipients",
            "transfers",
            "retention",
            "source",
            "systems",
            "security",
        ];
        let rows = self.activities.iter().map(|activity| {
            let recipients: Vec<&str> = activity.recipients.iter().map(|to| to.name.as_str()).collect();
            let transfers = activity.recipients.iter().filter_map(|to| {
                Some(format!(
                    "{}: {}",
                    to.third_country.as_ref()?,
                    to.safeguard.as_deref().unwrap_or_default()
                ))
            });
            let systems: Vec<&str> = activity.systems.iter().map(SystemName::as_str).collect();
            vec![
                self.controller.clone(),
                self.officer.clone(),
                activity.name.clone(),
                activity.purposes.join("; "),
                activity.legal_basis.clone(),
                activity.categories.join("; "),
                activity.subjects.join("; "),
                recipients.join("; "),
                transfers.collect::<Vec<_>>().join("; "),
                activity.retention.clone(),
                activity.source.clone().unwrap_or_default(),
                systems.join("; "),
                activity.security.clone(),
            ]
        });
        csv::table(&HEAD, rows)
    }
}
