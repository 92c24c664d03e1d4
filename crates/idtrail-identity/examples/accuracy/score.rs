//! Scores of a clustering against the truth.

use std::collections::{BTreeMap, HashMap};

use idtrail_contact_centre::Interaction;

/// The scores of one policy on one seed; shares from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Score {
    pub(crate) precision: f64,
    pub(crate) recall: f64,
    /// Persons whose answer holds somebody else's interaction.
    pub(crate) leaking: f64,
    /// The share of somebody else's interactions in all answers.
    pub(crate) foreign: f64,
    /// The share of a person's interactions that are in the answer, over all persons.
    pub(crate) completeness: f64,
    pub(crate) largest: f64,
}

impl Score {
    pub(crate) fn f1(&self) -> f64 {
        2.0 * self.precision * self.recall / (self.precision + self.recall).max(f64::MIN_POSITIVE)
    }
}

fn pairs(count: usize) -> f64 {
    count as f64 * (count as f64 - 1.0) / 2.0
}

/// Scores clusters. A person's answer is the cluster that holds most of the person's interactions.
pub(crate) fn score(all: &[Interaction], clusters: &[Option<u32>]) -> Score {
    let mut cells: HashMap<(u32, u32), usize> = HashMap::new();
    let mut predicted: HashMap<u32, usize> = HashMap::new();
    let mut truth: BTreeMap<u32, usize> = BTreeMap::new();
    for (interaction, cluster) in all.iter().zip(clusters) {
        *truth.entry(interaction.person).or_default() += 1;
        if let Some(cluster) = cluster {
            *cells.entry((interaction.person, *cluster)).or_default() += 1;
            *predicted.entry(*cluster).or_default() += 1;
        }
    }
    let hits: f64 = cells.values().copied().map(pairs).sum();
    let said: f64 = predicted.values().copied().map(pairs).sum();
    let there: f64 = truth.values().copied().map(pairs).sum();
    let mut best: BTreeMap<u32, (usize, u32)> = BTreeMap::new();
    for ((person, cluster), count) in &cells {
        let entry = best.entry(*person).or_insert((0, u32::MAX));
        if (*count, u32::MAX - cluster) > (entry.0, u32::MAX - entry.1) {
            *entry = (*count, *cluster);
        }
    }
    let (mut leaking, mut foreign, mut answered, mut complete) = (0, 0, 0, 0.0);
    for (person, total) in &truth {
        let Some((own, cluster)) = best.get(person) else { continue };
        let size = predicted[cluster];
        leaking += usize::from(size > *own);
        foreign += size - own;
        answered += size;
        complete += *own as f64 / *total as f64;
    }
    let persons = truth.len() as f64;
    Score {
        precision: hits / said.max(1.0),
        recall: hits / there.max(1.0),
        leaking: leaking as f64 / persons,
        foreign: foreign as f64 / (answered as f64).max(1.0),
        completeness: complete / persons,
        largest: predicted.values().copied().max().unwrap_or(0) as f64,
    }
}
