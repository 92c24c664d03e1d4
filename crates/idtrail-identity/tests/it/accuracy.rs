//! A small version of the accuracy example with a fixed seed, so that a change of the rules shows at once.

#[path = "../../examples/accuracy/baselines.rs"]
mod baselines;
#[path = "../../examples/accuracy/ours.rs"]
mod ours;
#[path = "../../examples/accuracy/score.rs"]
mod score;

use idtrail_contact_centre::{Parameters, interactions};
use idtrail_identity::Ruleset;
use score::score;

#[test]
fn better_than_simpler_policies_on_a_small_contact_centre() {
    let all = interactions(&Parameters { people: 4_000, ..Parameters::default() }, 1);
    let resolved = ours::resolve(&all, Ruleset::default());
    let ours = score(&all, &resolved.clusters);
    let verified = score(&all, &resolved.verified);
    let union = score(&all, &baselines::union_of_everything(&all, false));
    let blocked = score(&all, &baselines::union_of_everything(&all, true));
    let limits = score(&all, &baselines::limits_and_priority(&all));
    let unique = score(&all, &baselines::one_unique_id(&all));
    let claims = score(&all, &baselines::first_claim_wins(&all));
    // The data are hard: whoever unites everything is nearly always wrong.
    assert!(union.precision < 0.01 && blocked.precision < 0.05, "{union:?} {blocked:?}");
    assert!(limits.precision < 0.93, "{limits:?}");
    assert!(ours.precision > 0.96 && ours.recall > 0.80, "{ours:?}");
    for other in [union, blocked, limits, unique, claims] {
        assert!(ours.f1() > other.f1() && ours.precision > other.precision, "{ours:?} {other:?}");
    }
    assert!(verified.leaking < 0.025 && verified.recall > 0.5, "{verified:?}");
    assert_eq!(resolved.over_cap, 0);
}
