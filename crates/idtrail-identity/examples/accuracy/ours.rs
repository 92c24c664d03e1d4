//! The resolver on the generated contact centre.

use std::collections::HashMap;

use idtrail_contact_centre::{Interaction, Kind, Value};
use idtrail_event::{GlobalCustomerId, IdentifierToken, IdentifierType};
use idtrail_identity::{
    Assurance, Home, Observation, ObservationId, Recorded, Ruleset, Sighting, State, Tier,
};
use idtrail_tlog::LogIndex;
use sha2::{Digest, Sha256};

/// What the resolver made of it.
pub(crate) struct Resolved {
    /// The customer of each interaction today, if one was named.
    pub(crate) clusters: Vec<Option<u32>>,
    /// Those of tier VERIFIED only.
    pub(crate) verified: Vec<Option<u32>>,
    /// How many customers have more identifiers than the cap allows.
    pub(crate) over_cap: usize,
}

fn token(value: Value) -> IdentifierToken {
    // Stands for the keyed hash; who may compute it does not matter here.
    IdentifierToken::new(Sha256::digest(value.text().as_bytes()).into())
}

/// Returns the observation of an interaction. A withheld number is no identifier: normal forms refuse it.
pub(crate) fn observation(interaction: &Interaction) -> Observation {
    let sightings = interaction.sightings.iter().filter(|seen| seen.value != Value::Withheld).map(|seen| {
        let kind = match seen.value.kind() {
            Kind::Phone => IdentifierType::PHONE,
            Kind::Mail => IdentifierType::EMAIL,
            Kind::Account => IdentifierType::ACCOUNT,
        };
        let assurance = Assurance::try_from(seen.assurance).expect("the generator keeps to 0 to 5");
        Sighting::new(kind, token(seen.value), assurance)
    });
    let mut id = [0; 16];
    id[..4].copy_from_slice(&interaction.number.to_be_bytes());
    Observation { id: ObservationId::new(id), time_ms: interaction.time_ms, sightings: sightings.collect() }
}

/// Resolves all interactions in order, then asks of each whose it is.
pub(crate) fn resolve(all: &[Interaction], rules: Ruleset) -> Resolved {
    let mut state = State::new(rules).expect("the default rules are valid");
    let mut given = 0_u64;
    for interaction in all {
        let at = Recorded { index: LogIndex::new(u64::from(interaction.number)), at_ms: interaction.time_ms };
        let mut give = |_: Home| {
            given += 1;
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&given.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            GlobalCustomerId::new(bytes)
        };
        state.resolve(&observation(interaction), at, &mut give).expect("within all limits");
    }
    let mut numbers: HashMap<GlobalCustomerId, u32> = HashMap::new();
    let mut clusters = Vec::new();
    let mut verified = Vec::new();
    for interaction in all {
        let whose = state.whose(&observation(interaction).id).expect("it was resolved");
        let next = numbers.len() as u32;
        let cluster = whose.gcid.map(|gcid| *numbers.entry(gcid).or_insert(next));
        verified.push(cluster.filter(|_| whose.tier == Tier::Verified));
        clusters.push(cluster);
    }
    let cap = state.ruleset().cluster_identifiers_max as usize;
    let over_cap = state.partition().iter().filter(|customer| customer.len() > cap).count();
    Resolved { clusters, verified, over_cap }
}
