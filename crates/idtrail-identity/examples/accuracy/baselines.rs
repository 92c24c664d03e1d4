//! Simplified versions of how others resolve identities, written from their public descriptions. They are policies, not
//! products, and serve to show how hard the data are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use idtrail_contact_centre::{Interaction, Kind, Value};

/// Which cluster each interaction is in; `None` for none.
pub(crate) type Clusters = Vec<Option<u32>>;

#[derive(Default)]
struct Forest(Vec<u32>);

impl Forest {
    fn add(&mut self) -> u32 {
        self.0.push(self.0.len() as u32);
        self.0.len() as u32 - 1
    }

    fn root(&mut self, mut at: u32) -> u32 {
        while self.0[at as usize] != at {
            self.0[at as usize] = self.0[self.0[at as usize] as usize];
            at = self.0[at as usize];
        }
        at
    }

    fn union(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[b.max(a) as usize] = a.min(b);
    }
}

fn is_blocked(value: Value) -> bool {
    matches!(value, Value::Withheld)
}

/// Everything that was ever seen together is one customer.
pub(crate) fn union_of_everything(all: &[Interaction], block: bool) -> Clusters {
    let mut forest = Forest::default();
    let mut nodes: HashMap<Value, u32> = HashMap::new();
    let mut first = Vec::new();
    for interaction in all {
        let mut before = None;
        for seen in &interaction.sightings {
            if block && is_blocked(seen.value) {
                continue;
            }
            let node = *nodes.entry(seen.value).or_insert_with(|| forest.add());
            if let Some(before) = before {
                forest.union(before, node);
            }
            before = Some(node);
        }
        first.push(before);
    }
    first.into_iter().map(|node| node.map(|node| forest.root(node))).collect()
}

/// Strongest identifier first: account, mail, phone.
fn by_priority(interaction: &Interaction) -> Vec<Value> {
    let mut values: Vec<Value> =
        interaction.sightings.iter().map(|seen| seen.value).filter(|&value| !is_blocked(value)).collect();
    values.sort_by_key(|value| std::cmp::Reverse(value.kind()));
    values
}

/// A profile has one account, five mail addresses, five numbers; what does not fit is dropped from the event, lowest
/// priority first.
pub(crate) fn limits_and_priority(all: &[Interaction]) -> Clusters {
    let limit = |kind: Kind| if kind == Kind::Account { 1 } else { 5 };
    let mut forest = Forest::default();
    let mut owner: HashMap<Value, u32> = HashMap::new();
    let mut held: HashMap<u32, BTreeSet<Value>> = HashMap::new();
    let fits = |values: &BTreeSet<Value>| {
        let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
        for value in values {
            *counts.entry(value.kind()).or_default() += 1;
        }
        counts.iter().all(|(kind, count)| *count <= limit(*kind))
    };
    let mut profiles = Vec::new();
    for interaction in all {
        let mut profile: Option<u32> = None;
        for value in by_priority(interaction) {
            let theirs = owner.get(&value).map(|&at| forest.root(at));
            match (profile, theirs) {
                (None, Some(theirs)) => profile = Some(theirs),
                (None, None) => {
                    let new = forest.add();
                    owner.insert(value, new);
                    held.insert(new, BTreeSet::from([value]));
                    profile = Some(new);
                }
                (Some(mine), None) => {
                    let mut together = held[&mine].clone();
                    together.insert(value);
                    if fits(&together) {
                        owner.insert(value, mine);
                        held.insert(mine, together);
                    }
                }
                (Some(mine), Some(theirs)) if mine != theirs => {
                    let together: BTreeSet<Value> = held[&mine].union(&held[&theirs]).copied().collect();
                    if fits(&together) {
                        forest.union(mine, theirs);
                        let root = forest.root(mine);
                        held.insert(root, together);
                        profile = Some(root);
                    }
                }
                _ => {}
            }
        }
        profiles.push(profile);
    }
    profiles.into_iter().map(|profile| profile.map(|at| forest.root(at))).collect()
}

/// The account is the only unique identifier; from the moment an identifier was seen with two accounts it links nothing
/// and names nobody.
pub(crate) fn one_unique_id(all: &[Interaction]) -> Clusters {
    let mut accounts: HashMap<Value, BTreeSet<Value>> = HashMap::new();
    let mut forest = Forest::default();
    let mut nodes: HashMap<Value, u32> = HashMap::new();
    let mut top: HashMap<u32, Value> = HashMap::new();
    let mut first = Vec::new();
    for interaction in all {
        let values = by_priority(interaction);
        for account in values.iter().filter(|value| value.kind() == Kind::Account) {
            for value in values.iter().filter(|value| value.kind() != Kind::Account) {
                accounts.entry(*value).or_default().insert(*account);
            }
        }
        let mut before = None;
        for value in values.into_iter().filter(|value| accounts.get(value).is_none_or(|all| all.len() < 2)) {
            let node = *nodes.entry(value).or_insert_with(|| {
                let node = forest.add();
                if value.kind() == Kind::Account {
                    top.insert(node, value);
                }
                node
            });
            let Some(known) = before else {
                before = Some(node);
                continue;
            };
            let (a, b) = (forest.root(known), forest.root(node));
            let account = top.get(&a).or(top.get(&b)).copied();
            if top.get(&a).zip(top.get(&b)).is_none_or(|(a, b)| a == b) {
                forest.union(a, b);
                if let Some(account) = account {
                    top.insert(a.min(b), account);
                }
            }
        }
        first.push(before);
    }
    first.into_iter().map(|node| node.map(|node| forest.root(node))).collect()
}

/// An identifier belongs to whoever claimed it first.
pub(crate) fn first_claim_wins(all: &[Interaction]) -> Clusters {
    let mut owner: HashMap<Value, u32> = HashMap::new();
    let mut next = 0;
    let mut clusters = Vec::new();
    for interaction in all {
        let values = by_priority(interaction);
        let known = values.iter().find_map(|value| owner.get(value)).copied();
        let cluster = (!values.is_empty()).then(|| {
            known.unwrap_or_else(|| {
                next += 1;
                next
            })
        });
        if let Some(cluster) = cluster {
            for value in values {
                owner.entry(value).or_insert(cluster);
            }
        }
        clusters.push(cluster);
    }
    clusters
}
