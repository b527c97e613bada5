//! The rules about waiting: answers in time, frames in time.

use super::*;
use crate::checker::{frames::worst_gap, latency::worst_overtime};

const SECOND: u64 = 1_000;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Two subscribers that listened for a minute.
fn watch(frames: Vec<Frame>) -> Watch {
    let limits = Limits { answer_slack: millis(SECOND), frame_gap: millis(5 * SECOND) };
    Watch { subscribers: 2, frames, until: millis(60 * SECOND), limits, ..Watch::default() }
}

fn disturbed(mut watch: Watch, from: u64, until: u64, who: usize) -> Watch {
    watch.disturbances.push(Disturbance {
        from: millis(from * SECOND),
        until: millis(until * SECOND),
        gateways: vec![who],
        subscribers: vec![who],
    });
    watch
}

/// A frame each second to both, but none to the second subscriber from `from` to `until`.
fn frames_but(from: u64, until: u64) -> Vec<Frame> {
    let each = (0..60).flat_map(|second| [0, 1].map(|subscriber| (second, subscriber)));
    each.filter(|(second, subscriber)| *subscriber == 0 || !(from..until).contains(second))
        .map(|(second, subscriber)| frame(subscriber, second * SECOND, "new"))
        .collect()
}

fn frame(subscriber: usize, at: u64, content: &str) -> Frame {
    Frame { subscriber, at: millis(at), message: message(content, 0) }
}

fn created() -> Operation {
    at(0, 10, create("new"), state(1, "new", 0))
}

fn watched(rest: Vec<Operation>, watch: Watch) -> Vec<&'static str> {
    let mut operations = vec![created()];
    operations.extend(rest);
    let aftermath = Aftermath { watch, ..Aftermath::default() };
    check(&operations, &aftermath).iter().map(|violation| violation.rule).collect()
}

fn waiting(took: u64, wait: u64, request: Request, response: Response) -> Operation {
    Operation { wait: millis(wait), ..at(20 * SECOND, 20 * SECOND + took, request, response) }
}

#[test]
fn an_answer_that_takes_longer_than_its_wait_and_2_s_is_late() {
    let late = ["a response comes within 2 s beyond its wait"];
    let rules = |operation| watched(vec![operation], watch(frames_but(0, 0)));
    for (limit, wait, request) in
        [(3_000, 0, read()), (4_500, 1_500, delete()), (5_000, 0, edit("edited"))]
    {
        assert!(rules(waiting(limit, wait, request.clone(), unknown())).is_empty());
        assert_eq!(rules(waiting(limit + 1, wait, request, unknown())), late);
    }
    // A client that gave up.
    assert_eq!(rules(waiting(16_000, 3_000, create("new"), unknown())), late);
}

#[test]
fn an_answer_from_behind_a_disturbance_may_be_late() {
    let slow = || waiting(9_000, 0, read(), unknown());
    let disturbed = |from, until, gateway| disturbed(watch(frames_but(0, 0)), from, until, gateway);
    for (from, until) in [(22, 24), (10, 21), (28, 40)] {
        assert!(watched(vec![slow()], disturbed(from, until, 0)).is_empty());
    }
    assert!(!watched(vec![slow()], disturbed(22, 24, 1)).is_empty(), "another gateway's");
    assert!(!watched(vec![slow()], disturbed(30, 40, 0)).is_empty(), "it came later");
    assert_eq!(worst_overtime(&[slow()], &watch(Vec::new())), millis(7_000));
}

#[test]
fn frames_must_come_while_nothing_disturbs_them() {
    let gap = "frames come without a gap";
    assert!(watched(Vec::new(), watch(frames_but(0, 0))).is_empty());
    assert!(watched(Vec::new(), watch(frames_but(20, 24))).is_empty());
    assert_eq!(watched(Vec::new(), watch(frames_but(20, 25))), [gap]);
    assert_eq!(watched(Vec::new(), watch(frames_but(0, 60))), [gap], "he was never sent one");
    assert_eq!(watched(Vec::new(), watch(frames_but(50, 60))), [gap], "they never came again");
    assert_eq!(watched(Vec::new(), watch(Vec::new())), [gap, gap]);
    let excused = disturbed(watch(frames_but(20, 40)), 22, 39, 1);
    assert!(watched(Vec::new(), excused).is_empty());
    let others_fault = disturbed(watch(frames_but(20, 40)), 22, 39, 0);
    assert_eq!(watched(Vec::new(), others_fault), [gap]);
    assert_eq!(worst_gap(&[created()], &watch(frames_but(20, 24))), millis(5 * SECOND));
}

#[test]
fn a_message_that_was_deleted_long_before_is_not_sampled() {
    let rule = "a message that was deleted long before is not sampled";
    let operations = [
        at(SECOND, 2 * SECOND, delete(), Response::Deleted),
        at(0, 10, create("other"), unknown()),
    ];
    // Both subscribers are sent the deleted message until this second, and then another one.
    let sampled_until = |last: u64| {
        let other = Message { id: MessageId::from(Uuid::from_u128(2)), ..message("other", 0) };
        let mut frames = frames_but(0, 0);
        for frame in frames.iter_mut().filter(|frame| frame.at > millis(last * SECOND)) {
            frame.message = other.clone();
        }
        watch(frames)
    };
    let broken = |watch| watched(operations.to_vec(), watch).contains(&rule);
    assert!(!broken(sampled_until(12)));
    assert!(broken(sampled_until(13)));
    // A frame that was sampled before a fault may come after it, if only faults lie between.
    let both = |watch, from, until| disturbed(disturbed(watch, from, until, 0), from, until, 1);
    assert!(!broken(both(sampled_until(40), 11, 35)));
    assert!(!broken(both(both(sampled_until(40), 11, 20), 18, 35)));
    assert!(broken(both(sampled_until(46), 11, 35)));
    assert!(broken(both(sampled_until(40), 14, 35)));
    assert!(broken(disturbed(sampled_until(40), 11, 35, 0)), "the other one's");
}

#[test]
fn a_frame_shows_what_was_written() {
    let mut frames = frames_but(0, 0);
    frames.push(frame(0, 59 * SECOND, "never said"));
    assert_eq!(watched(Vec::new(), watch(frames)), ["a frame shows a state that a client wrote"]);
    let mut frames = frames_but(0, 0);
    frames.push(frame(0, 59 * SECOND, "refused"));
    let refused = vec![at(20, 30, edit("refused"), REFUSED)];
    let rules = watched(refused, watch(frames));
    assert_eq!(rules, ["a write that was refused or had failed took effect"]);
}
