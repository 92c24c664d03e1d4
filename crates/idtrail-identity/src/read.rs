//! Reading the state: who is behind an identifier, what belongs to a customer, why, and what was believed when.
//!
//! Nothing here changes anything. Whoever asks must have been allowed to; the core knows no permissions.

use std::collections::{BTreeMap, BTreeSet};

use idtrail_event::GlobalCustomerId;
use idtrail_tlog::LogIndex;

use crate::arena::NONE;
use crate::assertion::Subject;
use crate::error::IdentityError;
use crate::event::Evidence;
use crate::model::{Guard, Identifier, IdentifierState, ObservationId, RuleId, StateReason, Tier, named};
use crate::ruleset::Class;
use crate::store::{State, edge_flag, id_flag, node_flag, seconds};

named! {
    /// What a global id stands for today.
    CustomerState {
        /// A customer.
        Active = "ACTIVE",
        /// A customer that must not merge for now.
        Held = "HELD",
        /// An identifier that is nobody's, or an interaction without customer.
        Nobody = "NOBODY",
        /// An erased customer.
        Erased = "ERASED",
    }
}

/// One identifier of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The identifier.
    pub identifier: Identifier,
    /// From when on it is the customer's, milliseconds since 1970: its first sighting, or the start of its slice.
    pub from_ms: u64,
    /// Until when, if it passed to somebody else.
    pub to_ms: Option<u64>,
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    /// The id that the customer has today.
    pub gcid: GlobalCustomerId,
    /// What it stands for.
    pub state: CustomerState,
    /// Other ids of the same customer.
    pub aliases: Vec<GlobalCustomerId>,
    /// The identifiers.
    pub identifiers: Vec<Owned>,
}

/// Whose an observation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    /// The customer today; `None` if nobody or several.
    pub gcid: Option<GlobalCustomerId>,
    /// How sure it is.
    pub tier: Tier,
    /// The rule that it rests on.
    pub rule: Option<RuleId>,
    /// All that are possible, if there are several.
    pub candidates: Vec<GlobalCustomerId>,
    /// The id that was answered then.
    pub believed: GlobalCustomerId,
}

/// One interaction of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interaction {
    /// The observation.
    pub observation: ObservationId,
    /// Its leaf.
    pub index: LogIndex,
    /// When it happened, milliseconds since 1970.
    pub time_ms: u64,
    /// How sure it is that it is the customer's, today.
    pub tier: Tier,
    /// The id that was answered then.
    pub believed: GlobalCustomerId,
}

/// Everything that belongs to one person, for a request about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closure {
    /// The customer.
    pub customer: Customer,
    /// Identifiers that the person uses and others too; they say nothing about whose an interaction is.
    pub shared: Vec<Identifier>,
    /// The interactions of tier VERIFIED and PROBABLE, by log index.
    pub interactions: Vec<Interaction>,
    /// How many interactions may or may not be the person's. They are counted and never named.
    pub ambiguous: u32,
}

/// One link of an explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The identifier that was known.
    pub from: Identifier,
    /// The one that it led to.
    pub to: Identifier,
    /// The rule.
    pub rule: RuleId,
    /// In how many observations both were seen.
    pub support: u32,
    /// The best assurance among them.
    pub assurance: u8,
    /// First and last of them, milliseconds since 1970; `None` if only an assertion links.
    pub seen_ms: Option<(u64, u64)>,
    /// Observations, latest recorded first, at most 8.
    pub evidence: Vec<Evidence>,
    /// The assertions that say so.
    pub assertions: Vec<u64>,
}

/// A link that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Both ends.
    pub ends: [Identifier; 2],
    /// Why.
    pub guard: Guard,
    /// Names the entry of the quarantine.
    pub number: u64,
    /// The leaf since which it is refused.
    pub since: LogIndex,
    /// The customers of both ends, where there are any.
    pub gcids: Vec<GlobalCustomerId>,
}

/// Why identifiers belong to one customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The customer.
    pub gcid: GlobalCustomerId,
    /// The identifier from which the path starts: the strongest.
    pub anchor: Identifier,
    /// How each of the others is reached, nearest first.
    pub links: Vec<Link>,
    /// Links that were refused.
    pub refused: Vec<Refused>,
}

/// What was believed about a customer at some place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Believed {
    /// The id that the customer had.
    pub gcid: GlobalCustomerId,
    /// The identifiers that the customer had.
    pub identifiers: Vec<Identifier>,
}

/// How many observations stand behind a link in an explanation.
const EVIDENCE_MAX: usize = 8;

impl State {
    /// Returns the customer of an identifier today, and the identifier's state.
    pub fn lookup(
        &self,
        identifier: &Identifier,
    ) -> Option<(Option<GlobalCustomerId>, IdentifierState, StateReason)> {
        let node = self.find_node(identifier.kind.number(), identifier.token.as_bytes())?;
        let record = self.nodes.at(node);
        let gcid = (record.cluster != NONE).then(|| self.gcid(record.cluster));
        Some((gcid, self.public_state(node), record.reason))
    }

    /// Returns the id that a global id leads to today, in constant time.
    pub fn current(&self, gcid: &GlobalCustomerId) -> Option<GlobalCustomerId> {
        self.find_id(gcid).map(|id| self.gcid(self.canonical(id)))
    }

    /// Returns the identifier that a global id lives at: what a source means that names the customer by it. `None` if
    /// the id was never given, was erased, or stands for an interaction only.
    pub fn home_of(&self, gcid: &GlobalCustomerId) -> Option<Identifier> {
        let record = self.ids.at(self.find_id(gcid)?);
        if record.flags & (id_flag::ERASED | id_flag::INTERACTION) != 0 || record.home == NONE {
            return None;
        }
        Some(self.identifier(record.home))
    }

    /// Returns whose an observation is today.
    pub fn whose(&self, id: &ObservationId) -> Option<Whose> {
        let observation = self.find_observation(id)?;
        let attribution = self.attribute(observation);
        let named = attribution.cluster.filter(|_| attribution.rule.is_some());
        Some(Whose {
            gcid: named.map(|id| self.gcid(id)),
            tier: attribution.tier,
            rule: attribution.rule,
            candidates: attribution.candidates.iter().map(|&id| self.gcid(id)).collect(),
            believed: self.gcid(self.observations.at(observation).believed),
        })
    }

    /// Returns what a global id stands for today.
    ///
    /// # Errors
    /// [`IdentityError::NotKnown`] if it was never given.
    pub fn customer(&self, gcid: &GlobalCustomerId) -> Result<Customer, IdentityError> {
        let id = self.find_id(gcid).ok_or(IdentityError::NotKnown { what: "customer" })?;
        Ok(self.customer_of(self.canonical(id)))
    }

    pub(crate) fn customer_of(&self, id: u32) -> Customer {
        let members: Vec<u32> = self.members_of(id).collect();
        let state = if self.ids.at(id).flags & id_flag::ERASED != 0 {
            CustomerState::Erased
        } else if members.is_empty() {
            CustomerState::Nobody
        } else if members.iter().any(|node| self.held.contains_key(node)) {
            CustomerState::Held
        } else {
            CustomerState::Active
        };
        let mut aliases: Vec<u32> = self
            .linked_to(id)
            .iter()
            .flat_map(|node| {
                let more = self.more_homes.get(node).into_iter().flatten().copied();
                more.chain([self.nodes.at(*node).home])
            })
            .filter(|&alias| alias != NONE && alias != id && self.home_cluster(alias) == id)
            .collect();
        aliases.sort_unstable();
        Customer {
            gcid: self.gcid(id),
            state,
            aliases: aliases.into_iter().map(|alias| self.gcid(alias)).collect(),
            identifiers: self.owned_by(id),
        }
    }

    /// Returns the identifiers of a customer, with those that were the customer's once.
    fn owned_by(&self, id: u32) -> Vec<Owned> {
        let mut owned = Vec::new();
        for node in self.linked_to(id) {
            let first_ms = u64::from(self.nodes.at(node).first_s) * 1000;
            let identifier = self.identifier(node);
            match self.slices.get(&node) {
                None => owned.push(Owned { identifier, from_ms: first_ms, to_ms: None }),
                Some(slices) => {
                    let theirs = slices
                        .iter()
                        .filter(|slice| slice.anchor != NONE && self.nodes.at(slice.anchor).cluster == id);
                    owned.extend(theirs.map(|slice| Owned {
                        identifier,
                        from_ms: if slice.from_s == 0 { first_ms } else { u64::from(slice.from_s) * 1000 },
                        to_ms: (slice.to_s != u32::MAX).then(|| u64::from(slice.to_s) * 1000),
                    }));
                }
            }
        }
        owned.sort_by_key(|owned| (owned.identifier, owned.from_ms));
        owned
    }

    /// Returns the members of a customer and the identifiers that were its own once.
    pub(crate) fn linked_to(&self, id: u32) -> BTreeSet<u32> {
        let mut nodes: BTreeSet<u32> = self.members_of(id).collect();
        for anchor in nodes.clone() {
            let sliced = self.sliced_from.range((anchor, 0)..=(anchor, u32::MAX));
            nodes.extend(sliced.map(|(_, node)| *node));
        }
        nodes
    }

    /// Finds the customer that a subject leads to.
    ///
    /// # Errors
    /// [`IdentityError::NotKnown`], [`IdentityError::Erased`].
    pub(crate) fn customer_id(&self, subject: &Subject) -> Result<u32, IdentityError> {
        match subject {
            Subject::Customer(gcid) => Ok(self.canonical(self.known_id(gcid)?)),
            Subject::Identifier(identifier) => {
                let node = self.known_node(identifier)?;
                let cluster = self.nodes.at(node).cluster;
                if cluster == NONE {
                    return Err(IdentityError::NotKnown { what: "owner: the identifier is nobody's alone" });
                }
                Ok(cluster)
            }
        }
    }

    /// Returns everything that belongs to the person whom a global id, an alias or an identifier names.
    ///
    /// # Errors
    /// [`IdentityError::NotKnown`], also for an identifier that several people share; [`IdentityError::Erased`].
    pub fn closure(&self, subject: &Subject) -> Result<Closure, IdentityError> {
        let id = self.customer_id(subject)?;
        let nodes = self.linked_to(id);
        let mut shared: BTreeSet<u32> = BTreeSet::new();
        let mut observations: BTreeSet<u32> = BTreeSet::new();
        for &node in &nodes {
            observations.extend(self.posts_of(node).map(|at| self.incidences.at(at).observation));
            for edge in self.edges_of(node) {
                let record = self.edges.at(edge);
                let other = record.other(node);
                if record.is_evidence()
                    && self.class(other) == Class::Weak
                    && self.nodes.at(other).state == IdentifierState::Shared
                {
                    shared.insert(other);
                }
            }
        }
        for &node in &shared {
            observations.extend(self.posts_of(node).map(|at| self.incidences.at(at).observation));
        }
        let mut interactions = Vec::new();
        let mut ambiguous = 0;
        for observation in observations {
            if !self.is_live(observation) {
                continue;
            }
            let attribution = self.attribute(observation);
            let record = self.observations.at(observation);
            match attribution.cluster {
                Some(owner) if owner == id && attribution.tier != Tier::Ambiguous => {
                    interactions.push(Interaction {
                        observation: self.observation_id(observation),
                        index: self.observation_index(observation),
                        time_ms: record.time_ms,
                        tier: attribution.tier,
                        believed: self.gcid(record.believed),
                    });
                }
                Some(owner) if owner != id && attribution.rule.is_some() => {}
                _ if attribution.candidates.is_empty() || attribution.candidates.contains(&id) => {
                    ambiguous += 1;
                }
                _ => {}
            }
        }
        interactions.sort_by_key(|interaction| interaction.index);
        Ok(Closure {
            customer: self.customer_of(id),
            shared: shared.into_iter().map(|node| self.identifier(node)).collect(),
            interactions,
            ambiguous,
        })
    }

    /// Returns the evidence that holds a customer together, and what was kept away from it.
    ///
    /// # Errors
    /// [`IdentityError::NotKnown`], [`IdentityError::Erased`].
    pub fn explain(&self, subject: &Subject) -> Result<Explanation, IdentityError> {
        let id = self.customer_id(subject)?;
        let nodes = self.linked_to(id);
        let members: Vec<u32> = self.members_of(id).collect();
        if members.is_empty() {
            return Err(IdentityError::NotKnown { what: "identifier of the customer" });
        }
        let anchor = self.anchor(&members);
        let mut reached = BTreeSet::from([anchor]);
        let mut links = Vec::new();
        let mut refused: BTreeMap<u32, Refused> = BTreeMap::new();
        for &node in &nodes {
            for edge in self.edges_of(node) {
                if let Some(entry) = self.quarantine.get(&edge) {
                    refused.insert(edge, self.refused(edge, entry));
                }
            }
        }
        // Grows from the anchor by the best link to something that is not reached yet.
        loop {
            let mut best = None;
            for &from in &reached {
                for edge in self.edges_of(from) {
                    let record = self.edges.at(edge);
                    let to = record.other(from);
                    let carries = record.is_evidence() || record.flags & edge_flag::TRANSFER != 0;
                    if !carries
                        || !nodes.contains(&to)
                        || reached.contains(&to)
                        || refused.contains_key(&edge)
                    {
                        continue;
                    }
                    let asserted = record.flags & edge_flag::SAME == 0;
                    let order = (asserted, self.rule_of(edge), u32::MAX - record.support, edge);
                    if best.is_none_or(|(known, _, _)| order < known) {
                        best = Some((order, from, to));
                    }
                }
            }
            let Some(((_, rule, _, edge), from, to)) = best else { break };
            reached.insert(to);
            let record = self.edges.at(edge);
            let ms = |seconds: u32| u64::from(seconds) * 1000;
            links.push(Link {
                from: self.identifier(from),
                to: self.identifier(to),
                rule,
                support: record.support,
                assurance: record.assurance,
                seen_ms: (record.support > 0).then(|| (ms(record.first_s), ms(record.last_s))),
                evidence: self.common(from, to, EVIDENCE_MAX),
                assertions: self.assertions_between(from, to),
            });
        }
        Ok(Explanation {
            gcid: self.gcid(id),
            anchor: self.identifier(anchor),
            links,
            refused: refused.into_values().collect(),
        })
    }

    fn refused(&self, edge: u32, entry: &crate::store::Quarantined) -> Refused {
        let ends = self.edges.at(edge).ends;
        let clusters = ends.map(|end| self.nodes.at(end).cluster);
        Refused {
            ends: ends.map(|end| self.identifier(end)),
            guard: entry.guard,
            number: entry.number,
            since: LogIndex::new(entry.since),
            gcids: clusters.into_iter().filter(|&id| id != NONE).map(|id| self.gcid(id)).collect(),
        }
    }

    /// Returns refused links that wait for a person to look at them, at most `max`, those with higher numbers than
    /// `after`.
    pub fn quarantine(&self, after: Option<u64>, max: usize) -> Vec<Refused> {
        let mut entries: Vec<_> = self
            .quarantine
            .iter()
            .filter(|(_, entry)| after.is_none_or(|after| entry.number > after))
            .collect();
        entries.sort_by_key(|(_, entry)| entry.number);
        entries.into_iter().take(max).map(|(&edge, entry)| self.refused(edge, entry)).collect()
    }

    fn assertions_between(&self, a: u32, b: u32) -> Vec<u64> {
        use crate::assertion::Mark;
        let records = self.assertions.iter();
        let about = records.filter(|record| {
            !record.revoked
                && match &record.mark {
                    Mark::Same(left, right) => [*left, *right] == [a, b] || [*left, *right] == [b, a],
                    Mark::Transfer { node, from, to, .. } => {
                        [a, b].contains(node) && ([a, b].contains(from) || [a, b].contains(to))
                    }
                    _ => false,
                }
        });
        about.map(|record| record.index).collect()
    }

    /// Returns a customer as it was at a time, by what is known today: the identifiers that were its own then, and the
    /// interactions up to then.
    ///
    /// # Errors
    /// [`IdentityError::NotKnown`], [`IdentityError::Erased`].
    pub fn as_of(&self, subject: &Subject, time_ms: u64) -> Result<Closure, IdentityError> {
        let mut closure = self.closure(subject)?;
        closure.customer.identifiers.retain(|owned| {
            seconds(owned.from_ms) <= seconds(time_ms) && owned.to_ms.is_none_or(|to| time_ms < to)
        });
        closure.interactions.retain(|interaction| interaction.time_ms <= time_ms);
        Ok(closure)
    }

    /// Returns what was believed about a customer when the leaf `index` had been taken over. Later leaves never change
    /// the answer, erasure apart.
    ///
    /// # Errors
    /// [`IdentityError::NotKnown`] if the id had not been given by then; [`IdentityError::Erased`].
    pub fn recorded_as_of(
        &self,
        gcid: &GlobalCustomerId,
        index: LogIndex,
    ) -> Result<Believed, IdentityError> {
        let id = self.known_id(gcid)?;
        let record = self.ids.at(id);
        if record.created > index.get() || record.flags & id_flag::INTERACTION != 0 {
            return Err(IdentityError::NotKnown { what: "customer at that place in the log" });
        }
        let moves = self.moves.get(&id).map_or(&[][..], Vec::as_slice);
        let moved = moves.iter().find(|(at, _)| *at > index.get()).map(|(_, home)| *home);
        let home = moved.unwrap_or_else(|| self.first_owner(record.home));
        let then = if home == NONE { None } else { self.cluster_at(home, index) }.unwrap_or(id);
        let mut nodes: BTreeSet<u32> =
            self.members_of(then).filter(|&node| self.cluster_at(node, index) == Some(then)).collect();
        let mut at = self.ids.at(then).left;
        while at != NONE {
            let change = self.changes.at(at);
            if self.cluster_at(change.node, index) == Some(then) {
                nodes.insert(change.node);
            }
            at = change.next_of_id;
        }
        let mut identifiers: Vec<Identifier> = nodes.into_iter().map(|node| self.identifier(node)).collect();
        identifiers.sort_unstable();
        Ok(Believed { gcid: self.gcid(then), identifiers })
    }

    /// Returns the customer that an identifier had when the leaf `index` had been taken over.
    fn cluster_at(&self, node: u32, index: LogIndex) -> Option<u32> {
        // The oldest incidence is the last of the list.
        let first = self.posts_of(node).last().map(|at| self.incidences.at(at).observation)?;
        if self.observations.at(first).index > index.get() {
            return None;
        }
        let mut then = self.nodes.at(node).cluster;
        let mut at = self.nodes.at(node).history;
        while at != NONE {
            let change = self.changes.at(at);
            if change.index <= index.get() {
                break;
            }
            then = change.previous;
            at = change.next_of_node;
        }
        (then != NONE).then_some(then)
    }

    /// Tells whether an identifier's owners followed one another.
    pub fn is_sliced(&self, identifier: &Identifier) -> bool {
        let node = self.find_node(identifier.kind.number(), identifier.token.as_bytes());
        node.is_some_and(|node| self.nodes.at(node).flags & node_flag::SLICED != 0)
    }
}
