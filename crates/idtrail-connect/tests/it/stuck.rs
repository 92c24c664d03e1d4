//! What a target that never answers costs: a bounded queue, and nothing that grows.

use idtrail_connect::engine::{Action, Cursor, Engine, EngineSettings, Input, Limits, Now, Opened};
use idtrail_connect::personal::{Erase, Pii};
use idtrail_connect::{Outcome, Position};

use crate::support::{plan, samples};

#[test]
fn a_target_that_never_answers_is_read_for_no_further_than_its_queue() {
    let plan = plan("{{auditEvent}} != null", Pii::None, Erase::None);
    for (rows_max, bytes_max) in [(500, 64 * 1024 * 1024), (500, 1024 * 1024), (50_000, 8 * 1024 * 1024)] {
        let limits = Limits {
            rows_max,
            bytes_max,
            linger_ms: 0,
            notes_intent: false,
            saves_every_batch: false,
            keyed: true,
        };
        let mut engine = Engine::new(EngineSettings::new(limits, 1), Cursor::default(), Vec::new());
        let mut now = Now { mono_ms: 1, wall_ms: 1 };
        let mut actions = engine.step(Input::Wake, now);
        let (mut read, mut bytes, mut delivered) = (0, 0, 0);
        while let Some(action) = actions.pop() {
            let input = match action {
                Action::Open(_) => Input::Opened(Opened::default(), None),
                Action::Read { from, entries_max, bytes_max } => {
                    // As a feed does: an event is about a kilobyte of JSON.
                    let count = entries_max.min(bytes_max / 1000).max(1) as u64;
                    let entries: Vec<_> = samples(0, from.seq..from.seq + count)
                        .iter()
                        .map(|entry| plan.prepare(entry))
                        .collect();
                    read += entries.len();
                    bytes += entries
                        .iter()
                        .map(|entry| match &entry.outcome {
                            Outcome::Row(row) => row.bytes(),
                            _ => 0,
                        })
                        .sum::<usize>();
                    assert!(read < 100_000, "it reads on and on");
                    Input::Entries(entries)
                }
                Action::SaveCursor(_) => Input::CursorSaved(true),
                Action::Deliver(batch) => {
                    delivered += 1;
                    assert_eq!(batch.first(), Position::START);
                    continue;
                }
                other => panic!("nothing else is to be done: {other:?}"),
            };
            actions.extend(engine.step(input, now));
        }
        assert_eq!(delivered, 1, "one batch is under way, and no second one");
        assert!(read <= 7 * 4096, "{read} entries");
        assert!(bytes <= bytes_max / 2 * 5 + 4 * 1024 * 1024, "{bytes} bytes");
        // However long it takes, nothing more is read and nothing is sent; the cursor's file may be brought up to date.
        for _ in 0..100 {
            now.mono_ms += 3_600_000;
            for action in engine.step(Input::Wake, now) {
                assert!(matches!(action, Action::SaveCursor(_)), "while a call is under way: {action:?}");
                assert_eq!(engine.step(Input::CursorSaved(true), now), []);
            }
        }
        assert_eq!(engine.cursor().next, Position::START, "nothing is settled that nobody confirmed");
    }
}
