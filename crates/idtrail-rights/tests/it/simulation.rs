//! Whole requests in a world where every call may be lost, repeated, fail, or fail after it happened, and where the process
//! may die between any two actions: the end is always the same.

use idtrail_rights::{Action, Answer, Command, Engine, Input, Kind, Level, Outcomes, Refusal, State};
use proptest::prelude::*;

use crate::world::{Fate, HOUR_MS, START_MS, World, code, hash, hold, item, plan, settings, who};

const FATES: [Fate; 5] =
    [Fate::Well, Fate::Fails, Fate::AppliedButFails, Fate::AppliedButSilent, Fate::Silent];

/// Where the faults come from: a small generator, so that one seed is one run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// What people say during the run: always in this order, repeated until it is taken.
fn script(kind: Kind, with_hold: bool) -> Vec<(&'static str, fn(&World, &Engine) -> Option<Command>)> {
    let mut script: Vec<(&'static str, fn(&World, &Engine) -> Option<Command>)> =
        vec![("desk", |_, _| Some(Command::Verify(Level::OneChannel, code("otp-mail"), hash(6))))];
    if kind.is_reading() {
        script.push(("archivist", |_, _| Some(Command::Attest(item("paper/file"), 1, hash(1)))));
        script.push(("dpo-1", |_, _| Some(Command::Review(hash(1), 2))));
        return script;
    }
    script
        .push(("dpo-1", |_, engine| engine.case().plan.as_ref().map(|(_, hash, _)| Command::Approve(*hash))));
    if with_hold {
        script.push(("legal", |_, _| {
            Some(Command::SetHold(
                hold("h-1"),
                vec![item("idtrail/leaves"), item("crm/contact")],
                code("claims"),
            ))
        }));
    }
    script
        .push(("dpo-2", |_, engine| engine.case().plan.as_ref().map(|(_, hash, _)| Command::Approve(*hash))));
    script.push(("archivist", |_, engine| {
        let frozen = engine.case().frozen.is_some() || engine.case().kind() != Kind::Erasure;
        frozen.then(|| Command::Attest(item("paper/file"), 1, hash(1)))
    }));
    if with_hold {
        script.push(("legal", |_, engine| {
            (engine.case().state == State::ClosedPartial).then(|| Command::ReleaseHold(hold("h-1")))
        }));
    }
    script
}

/// Which faults there are.
#[derive(Clone, Copy)]
enum Faults {
    None,
    /// Each call fails once in this way, and then goes well; each action is carried out twice.
    EachOnce(Fate),
    /// The process dies after so many actions.
    CrashAt(u64),
    /// Anything, one time in so many.
    Random(u64),
}

struct Ended {
    world: World,
    engine: Engine,
    actions: u64,
}

fn run(kind: Kind, with_hold: bool, faults: Faults, seed: u64) -> Ended {
    let settings = settings();
    let mut world = World::new(kind, "gdpr", plan(kind, true));
    let mut engine = world.engine();
    let mut dice = Dice(seed);
    let mut now_ms = START_MS;
    let mut script = script(kind, with_hold).into_iter().peekable();
    let mut failed_once = std::collections::BTreeSet::new();
    let mut pending: Vec<Input> = vec![Input::Tick];
    let mut actions_done = 0_u64;
    for turn in 0..20_000_u64 {
        if let Some((by, command)) = script.peek()
            && let Some(command) = command(&world, &engine)
        {
            // Somebody says something as soon as it is taken.
            let sets_hold = matches!(command, Command::SetHold(..));
            let releases = matches!(command, Command::ReleaseHold(_));
            match engine.step(Input::Said(who(by), command), now_ms, &settings) {
                Ok(actions) => {
                    if releases {
                        world.held.clear();
                    }
                    if sets_hold {
                        world.held = [item("idtrail/leaves"), item("crm/contact")].into();
                    }
                    // A person sees to it that what they said is written, whatever dies meanwhile.
                    let Some(Action::Append(entry)) = actions.first() else { panic!("{actions:?}") };
                    world.append(entry);
                    engine = world.engine();
                    pending = vec![Input::Tick];
                    script.next();
                }
                Err(Refusal::Busy | Refusal::State(_) | Refusal::Item(_) | Refusal::NotFound) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        let input = pending.pop().unwrap_or(Input::Tick);
        let repeated = input.clone();
        let mut actions = engine.step(input, now_ms, &settings).unwrap();
        if matches!(faults, Faults::EachOnce(_)) {
            // The same input once more.
            actions.extend(engine.step(repeated, now_ms, &settings).unwrap());
        }
        let idle = actions.iter().all(|action| matches!(action, Action::WakeAt(_))) && pending.is_empty();
        if idle {
            if engine.case().state.is_closed() && script.peek().is_none() {
                return Ended { world, engine, actions: actions_done };
            }
            let wake_ms = actions.iter().find_map(|action| match action {
                Action::WakeAt(at_ms) => Some(*at_ms),
                _ => None,
            });
            now_ms = wake_ms.unwrap_or(now_ms + HOUR_MS).clamp(now_ms + 1, now_ms + HOUR_MS);
        }
        for action in actions {
            actions_done += 1;
            let dies = match faults {
                Faults::CrashAt(at) => at == actions_done,
                Faults::Random(one_in) => dice.roll(one_in * 4) == 0,
                _ => false,
            };
            // The process may die before or after the action took place.
            if dies && dice.roll(2) == 0 {
                engine = world.engine();
                pending = vec![Input::Tick];
                break;
            }
            match action {
                Action::Append(entry) => {
                    world.append(&entry);
                    if matches!(faults, Faults::EachOnce(_)) {
                        world.append(&entry);
                        pending.push(Input::Appended((*entry).clone()));
                    }
                    pending.push(Input::Appended(*entry));
                }
                Action::Call(call) => {
                    let fate = match faults {
                        Faults::EachOnce(fate)
                            if failed_once
                                .insert((call.effect_id, call.ask.clone() == idtrail_rights::Ask::Do)) =>
                        {
                            fate
                        }
                        Faults::Random(one_in) if dice.roll(one_in) == 0 => FATES[dice.roll(5) as usize],
                        _ => Fate::Well,
                    };
                    let mut answer = world.call(&call, fate, now_ms);
                    if matches!(faults, Faults::EachOnce(_)) && fate == Fate::Well {
                        // Carried out twice: what the second time finds must do no harm.
                        answer = answer.map(|first| match world.call(&call, Fate::Well, now_ms) {
                            Some(Answer::Found(..)) | None => first,
                            Some(other) => other,
                        });
                    }
                    match answer {
                        Some(answer) => pending.insert(0, Input::Answered(call.effect_id, answer)),
                        None => now_ms += settings.call_ms,
                    }
                }
                Action::WakeAt(_) => {}
            }
            if dies {
                engine = world.engine();
                pending = vec![Input::Tick];
                break;
            }
        }
        assert!(turn < 19_999, "seed {seed}: no end; {:#?}", engine.case());
    }
    unreachable!()
}

/// What must be the same however the run went.
fn check(kind: Kind, with_hold: bool, ended: &Ended, how: &str) {
    let case = ended.engine.case();
    let world = &ended.world;
    assert_eq!(case, world.engine().case(), "{how}: rebuilt as it was live");
    let open = case.open_items();
    assert_eq!(
        (case.state, case.outcome()),
        (State::ClosedFulfilled, Outcomes::Fulfilled),
        "{how}: {open:?}"
    );
    assert!(world.outcomes().values().all(|count| *count == 1), "{how}: one outcome for each effect");
    let effects = case.effects.values().filter(|effect| effect.outcome.is_some()).count();
    assert_eq!(world.outcomes().len(), effects, "{how}");
    let finals = world.log.iter().filter(|entry| entry.step.name() == "DSR_CLOSED").count();
    assert_eq!(finals, if with_hold && !kind.is_reading() { 2 } else { 1 }, "{how}");
    if kind.is_reading() {
        return;
    }
    let left = |name: &&str| world.objects[&item(name)];
    let systems = ["idtrail/leaves", "crm/contact", "mail/profile", "empty/rows", "slow/recordings"];
    if kind == Kind::Erasure {
        assert_eq!(systems.iter().map(left).sum::<u64>(), 0, "{how}");
        assert_eq!(world.shredded.len(), 1, "{how}");
        let written: Vec<(&str, u32)> =
            world.deletions.iter().map(|(item, count)| (item.as_str(), *count)).collect();
        let expected = ["crm/contact", "idtrail/leaves", "mail/profile", "paper/file", "slow/recordings"]
            .map(|item| (item, 1));
        assert_eq!(written, expected, "{how}: one DATA_DELETION for each");
    }
}

#[test]
fn every_call_twice_and_each_failed_once() {
    for kind in Kind::ALL {
        for fate in FATES {
            let ended = run(kind, kind == Kind::Erasure, Faults::EachOnce(fate), 1);
            check(kind, kind == Kind::Erasure, &ended, &format!("{kind:?} {fate:?}"));
        }
    }
}

#[test]
fn the_process_dies_at_every_action() {
    for (kind, with_hold) in [(Kind::Erasure, true), (Kind::Erasure, false), (Kind::Access, false)] {
        let whole = run(kind, with_hold, Faults::None, 0);
        check(kind, with_hold, &whole, "without faults");
        for at in 1..=whole.actions {
            for seed in [0, 1, 2] {
                let ended = run(kind, with_hold, Faults::CrashAt(at), seed);
                check(kind, with_hold, &ended, &format!("{kind:?} crash at {at}, seed {seed}"));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn anything_may_fail(seed: u64, one_in in 2_u64..12, with_hold: bool, kind in proptest::sample::select(&Kind::ALL[..])) {
        let with_hold = with_hold && kind == Kind::Erasure;
        let ended = run(kind, with_hold, Faults::Random(one_in), seed);
        check(kind, with_hold, &ended, &format!("{kind:?} seed {seed}, one in {one_in}"));
    }
}
