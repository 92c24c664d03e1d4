//! The running log: many senders, one order, every answer proved.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use idtrail_log::LogError;
use idtrail_log::commit::{Answer, Told};
use idtrail_log::shell::{Follower, Limits, Log};
use idtrail_port::Disk;
use idtrail_sim::{Count, Fault, Seed, SimDisk};
use idtrail_tlog::{LogIndex, leaf_hash};

use crate::support::*;

struct Collect(Arc<Mutex<Vec<LogIndex>>>);

impl Follower<LogIndex> for Collect {
    fn apply(&mut self, told: Told<LogIndex>) {
        self.0.lock().unwrap().extend(told.facts);
    }
}

fn start(
    disk: &SimDisk,
    limits: Limits,
    stopped: mpsc::Sender<LogError>,
) -> (Log<Texts>, Arc<Mutex<Vec<LogIndex>>>) {
    let log = open(disk).unwrap();
    let followed = Arc::new(Mutex::new(Vec::new()));
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let follower = Collect(Arc::clone(&followed));
    let running = Log::start(shared, log.sequencer, log.committer, follower, limits, move |error| {
        let _ = stopped.send(error);
    });
    (running.unwrap(), followed)
}

#[test]
fn many_senders_get_contiguous_proved_places() {
    let disk = SimDisk::new(Seed::new(8));
    create(&disk);
    let (stopped, _) = mpsc::channel();
    let (log, followed) = start(&disk, Limits::for_segments(SEGMENT_BYTES, 100_000), stopped);
    let (sender, answers) = mpsc::channel();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (log, sender) = (&log, sender.clone());
            scope.spawn(move || {
                for number in 0..500 {
                    let text = text(thread * 1000 + number, 50);
                    let (sender, again) = (sender.clone(), text.clone());
                    log.submit(text, Box::new(move |answer| sender.send((again, answer)).unwrap())).unwrap();
                }
            });
        }
    });
    drop(sender);
    let mut indices = Vec::new();
    for (text, answer) in answers {
        let Ok(Answer::Appended { commit, first, count: 1, .. }) = answer else { panic!("{answer:?}") };
        let verified = commit.proof(first).unwrap().verify(&leaf_hash(&text), &policy()).unwrap();
        assert_eq!(verified.checkpoint.size, commit.size());
        indices.push(first.get());
    }
    indices.sort_unstable();
    assert_eq!(indices, (0..2000).collect::<Vec<_>>());
    assert!(log.applied().wait(log.reader().size(), Duration::from_secs(30)));
    log.stop();
    assert_eq!(
        followed.lock().unwrap().iter().map(|index| index.get()).collect::<Vec<_>>(),
        (0..2000).collect::<Vec<_>>()
    );
    assert!(matches!(log.submit(text(1, 10), Box::new(|_| {})), Err(LogError::Stopped)));
}

#[test]
fn a_failed_sync_stops_the_log_and_tells_everybody() {
    let disk = SimDisk::new(Seed::new(9));
    create(&disk);
    let (stopped, reason) = mpsc::channel();
    let (log, _) = start(&disk, Limits::for_segments(SEGMENT_BYTES, 100), stopped);
    disk.fail(Fault::forever(0).counting(Count::Of(idtrail_sim::OperationKind::SyncData)));
    let (sender, answers) = mpsc::channel();
    let outcome = log.submit(text(1, 10), Box::new(move |answer| sender.send(answer.is_err()).unwrap()));
    outcome.unwrap();
    assert!(answers.recv().unwrap(), "nothing is acknowledged");
    assert!(matches!(reason.recv().unwrap(), LogError::Disk { .. }));
    assert!(!log.is_running());
}

#[test]
fn a_full_queue_refuses_at_once() {
    let disk = SimDisk::new(Seed::new(10));
    create(&disk);
    let (stopped, _) = mpsc::channel();
    let (log, _) = start(&disk, Limits::for_segments(SEGMENT_BYTES, 1), stopped);
    let (hold, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    // The first answer blocks the committer, so that what follows queues up.
    log.submit(
        text(1, 10),
        Box::new(move |_| {
            let _ = held.lock().unwrap().recv();
        }),
    )
    .unwrap();
    let busy = (2..200_000).find_map(|number| log.submit(text(number, 10), Box::new(|_| {})).err());
    assert!(matches!(busy, Some(LogError::Busy { limit: 1, .. })));
    drop(hold);
    log.stop();
}
