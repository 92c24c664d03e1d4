//! How well identities are resolved, beside simpler policies, on a made-up contact centre whose truth is known.
//!
//! ```text
//! cargo run --release -p idtrail-identity --example accuracy [-- --json] [--people N] [--seeds N]
//! ```

mod baselines;
mod ours;
mod score;

use idtrail_contact_centre::{Parameters, interactions};
use idtrail_identity::Ruleset;
use score::{Score, score};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, otherwise: u32| -> anyhow::Result<u32> {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).map_or(Ok(otherwise), |text| Ok(text.parse()?))
    };
    let parameters = Parameters { people: number("--people", 20_000)?, ..Parameters::default() };
    let seeds = number("--seeds", 5)?;
    let names = [
        "union of everything",
        "+ blocked values",
        "limits and priority",
        "one unique id",
        "first claim wins",
        "idtrail",
        "idtrail, VERIFIED only",
    ];
    let mut scores: Vec<Vec<Score>> = vec![Vec::new(); names.len()];
    let (mut count, mut over_cap) = (0, 0);
    for seed in 1..=u64::from(seeds) {
        let all = interactions(&parameters, seed);
        count += all.len();
        let resolved = ours::resolve(&all, Ruleset::default());
        over_cap += resolved.over_cap;
        let clusterings = [
            baselines::union_of_everything(&all, false),
            baselines::union_of_everything(&all, true),
            baselines::limits_and_priority(&all),
            baselines::one_unique_id(&all),
            baselines::first_claim_wins(&all),
            resolved.clusters,
            resolved.verified,
        ];
        for (scores, clusters) in scores.iter_mut().zip(&clusterings) {
            scores.push(score(&all, clusters));
        }
    }
    let mean = |scores: &[Score], what: fn(&Score) -> f64| {
        scores.iter().map(what).sum::<f64>() / scores.len().max(1) as f64
    };
    let spread = |scores: &[Score], what: fn(&Score) -> f64| {
        let (low, high) =
            scores.iter().map(what).fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(x), h.max(x)));
        high - low
    };
    if arguments.iter().any(|argument| argument == "--json") {
        let policies: Vec<_> = names
            .iter()
            .zip(&scores)
            .map(|(name, scores)| {
                serde_json::json!({
                    "policy": name,
                    "precision": mean(scores, |s| s.precision),
                    "recall": mean(scores, |s| s.recall),
                    "f1": mean(scores, Score::f1),
                    "personsLeaking": mean(scores, |s| s.leaking),
                    "foreignShare": mean(scores, |s| s.foreign),
                    "completeness": mean(scores, |s| s.completeness),
                })
            })
            .collect();
        let report = serde_json::json!({
            "people": parameters.people,
            "seeds": seeds,
            "interactions": count,
            "clustersOverCap": over_cap,
            "policies": policies,
        });
        println!("{report:#}");
        return Ok(());
    }
    println!(
        "{} people, {} days, {seeds} seeds, {count} interactions in all",
        parameters.people, parameters.days
    );
    println!("means over the seeds; ± is highest less lowest precision\n");
    println!("policy                  precision      ±  recall     F1  leaking foreign complete largest");
    for (name, scores) in names.iter().zip(&scores) {
        println!(
            "{name:<24}{:>9.4} {:>6.4} {:>7.4} {:>6.4} {:>7.2}% {:>6.2}% {:>8.3} {:>7.0}",
            mean(scores, |s| s.precision),
            spread(scores, |s| s.precision),
            mean(scores, |s| s.recall),
            mean(scores, Score::f1),
            100.0 * mean(scores, |s| s.leaking),
            100.0 * mean(scores, |s| s.foreign),
            mean(scores, |s| s.completeness),
            mean(scores, |s| s.largest),
        );
    }
    println!("\ncustomers over the cap of identifiers: {over_cap}");
    Ok(())
}
