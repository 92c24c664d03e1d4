//! Who owns one identifier, given everybody who claims it: nobody, one, one after the other, or several at a time.
//!
//! A claim is an owner (a customer with stronger identifiers) that the identifier was seen with: how often, from when,
//! until when. The verdict is a function of the claims alone, whatever order they came in.

use crate::model::StateReason;
use crate::ruleset::{Ruleset, TypeRule};

/// An owner that claims an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim<O> {
    pub(crate) owner: O,
    pub(crate) support: u32,
    pub(crate) first_s: u32,
    pub(crate) last_s: u32,
    /// A person or master system said so.
    pub(crate) asserted: bool,
    /// The strongest edge behind the claim, and the owner's identifier at its end.
    pub(crate) edge: u32,
    pub(crate) anchor: u32,
    /// Orders claims that are equal otherwise: the token of the anchor.
    pub(crate) anchor_token: [u8; 32],
}

/// Whom an identifier belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<O> {
    /// Nobody claims it.
    Free,
    /// One owner; the others' claims are set aside.
    One { claim: Claim<O>, aside: Vec<Claim<O>> },
    /// Owners that follow one another, each with the start of its time, seconds since 1970.
    Slices(Vec<(Claim<O>, u32)>),
    /// Several at a time.
    Shared(StateReason),
}

/// How many owners a household has at most; more are a switchboard.
const HOUSEHOLD_MAX: usize = 6;

/// Judges. `silence(from, to, least)` returns the longest pause of at least so many seconds between sightings of the
/// identifier from one time to another: its end.
pub(crate) fn judge<O: Copy + Eq>(
    mut claims: Vec<Claim<O>>,
    kind: &TypeRule,
    rules: &Ruleset,
    silence: impl Fn(u32, u32, u32) -> Option<u32>,
) -> Verdict<O> {
    if claims.len() > rules.fanout_max as usize {
        return Verdict::Shared(StateReason::Pbx);
    }
    claims.sort_by_key(|claim| (claim.first_s, claim.anchor_token));
    let mut asserted = claims.iter().filter(|claim| claim.asserted);
    if let (Some(claim), None) = (asserted.next().copied(), asserted.next()) {
        return Verdict::One { claim, aside: Vec::new() };
    }
    match claims.as_slice() {
        [] => return Verdict::Free,
        [claim] => return Verdict::One { claim: *claim, aside: Vec::new() },
        _ => {}
    }
    let quiet_s = kind.quiet_days.map(|days| days.saturating_mul(86_400));
    if let Some(slices) = quiet_s.and_then(|quiet| slice(&claims, quiet, &silence)) {
        return Verdict::Slices(slices);
    }
    // The dominant claim: most support, then the oldest.
    let dominant = claims
        .iter()
        .copied()
        .reduce(|best, claim| if claim.support > best.support { claim } else { best })
        .filter(|claim| claim.support >= rules.miskey_dominance_min);
    let several = claims.len();
    if let Some(dominant) = dominant {
        let (aside, kept): (Vec<_>, Vec<_>) = claims
            .into_iter()
            .partition(|claim| claim.owner != dominant.owner && claim.support <= rules.miskey_support_max);
        if kept.len() == 1 {
            return Verdict::One { claim: dominant, aside };
        }
        // Slips between the times of two owners hide that they follow one another.
        if !aside.is_empty()
            && let Some(slices) = quiet_s.and_then(|quiet| slice(&kept, quiet, &silence))
        {
            return Verdict::Slices(slices);
        }
    }
    Verdict::Shared(if several <= kind.max_owners as usize {
        StateReason::Several
    } else if several <= HOUSEHOLD_MAX {
        StateReason::Household
    } else {
        StateReason::Pbx
    })
}

/// Returns the claims with the starts of their times, if each ends and the identifier falls silent before the next
/// begins.
fn slice<O: Copy>(
    claims: &[Claim<O>],
    quiet_s: u32,
    silence: &impl Fn(u32, u32, u32) -> Option<u32>,
) -> Option<Vec<(Claim<O>, u32)>> {
    let mut slices = Vec::with_capacity(claims.len());
    let mut before: Option<Claim<O>> = None;
    for claim in claims {
        let start = match before {
            None => 0,
            Some(before) if before.last_s.saturating_add(quiet_s) <= claim.first_s => {
                silence(before.last_s, claim.first_s, quiet_s)?
            }
            Some(_) => return None,
        };
        slices.push((*claim, start));
        before = Some(*claim);
    }
    Some(slices)
}

#[cfg(test)]
mod tests {
    use super::{Claim, Verdict, judge};

    use crate::ruleset::{Ruleset, types};
    use idtrail_event::IdentifierType;

    const DAY: u32 = 86_400;
    /// Type, claims (owner, support, first day, last day), verdict.
    type Case<'a> = (IdentifierType, &'a [(u32, u32, u32, u32)], &'a str);

    /// (owner, support, first day, last day)
    fn verdict(kind: IdentifierType, claims: &[(u32, u32, u32, u32)]) -> String {
        let rules = Ruleset::default();
        let claims = claims
            .iter()
            .map(|&(owner, support, first, last)| Claim {
                owner,
                support,
                first_s: first * DAY,
                last_s: last * DAY,
                asserted: false,
                edge: 0,
                anchor: owner,
                anchor_token: [u8::try_from(owner).unwrap(); 32],
            })
            .collect();
        let rule = rules.type_rule(kind).unwrap();
        match judge(claims, rule, &rules, |_, to, _| Some(to)) {
            Verdict::Free => "free".to_owned(),
            Verdict::One { claim, aside } => format!("{} aside {}", claim.owner, aside.len()),
            Verdict::Slices(slices) => {
                let parts: Vec<_> =
                    slices.iter().map(|(claim, from)| format!("{}@{}", claim.owner, from / DAY)).collect();
                parts.join(" ")
            }
            Verdict::Shared(reason) => reason.name().to_owned(),
        }
    }

    #[test]
    fn verdicts() {
        let phone = IdentifierType::PHONE;
        let email = IdentifierType::EMAIL;
        let cases: &[Case<'_>] = &[
            (phone, &[], "free"),
            (phone, &[(1, 1, 0, 0)], "1 aside 0"),
            (phone, &[(1, 2, 0, 50), (2, 2, 10, 60)], "HOUSEHOLD"),
            (phone, &[(1, 2, 0, 50), (2, 2, 95, 120)], "1@0 2@95"),
            (phone, &[(1, 2, 0, 50), (2, 2, 94, 120)], "HOUSEHOLD"),
            (phone, &[(2, 2, 95, 120), (1, 2, 0, 50)], "1@0 2@95"),
            // A mail address never passes to another person.
            (email, &[(1, 2, 0, 50), (2, 2, 95, 120)], "HOUSEHOLD"),
            (phone, &[(1, 3, 0, 50), (2, 1, 10, 10)], "1 aside 1"),
            (phone, &[(1, 2, 0, 50), (2, 1, 10, 10)], "HOUSEHOLD"),
            (phone, &[(1, 3, 0, 50), (3, 1, 20, 20), (2, 2, 95, 120)], "1@0 2@95"),
            (phone, &[(1, 9, 0, 50), (2, 9, 0, 50), (3, 1, 3, 3)], "HOUSEHOLD"),
            (types::COOKIE, &[(1, 2, 0, 50), (2, 2, 10, 60)], "SEVERAL"),
        ];
        for (kind, claims, expected) in cases {
            assert_eq!(verdict(*kind, claims), *expected, "{claims:?}");
        }
        let many: Vec<_> = (0..7).map(|owner| (owner, 5, 0, 9)).collect();
        assert_eq!(verdict(phone, &many), "PBX");
        let crowd: Vec<_> = (0..13).map(|owner| (owner, 5, owner * 100, owner * 100)).collect();
        assert_eq!(verdict(phone, &crowd), "PBX");
    }
}
