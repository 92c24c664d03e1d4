//! Placeholder.
/// f
pub struct Fate;
/// f
pub struct NetworkRates;
/// f
pub struct NetworkRecord;
/// f
pub struct SimNetwork;
