//! The rules about events: nothing is missing, nothing is strange, and all is in order.

use std::collections::HashMap;

use contracts::{DeletedMessage, Event, EventPosition};

use super::*;
use crate::arrivals::{Arrived, Transport};

const MISSING: &str = "every change reaches who follows its message, or a reset comes";
const HOLE: &str = "a stream has no hole";
const ORDER: &str = "events come in the order of the log";
const RESUME: &str = "a stream resumes where it was asked to";
const EPOCH: Uuid = Uuid::from_u128(9);

fn position(seq: u64) -> EventPosition {
    EventPosition::within(EPOCH, seq, EPOCH, 1)
}

fn asked(after: Option<u64>) -> Arrived {
    Arrived::Asked { after: after.map(position), address: "anywhere".to_owned() }
}

fn ready(seq: u64, resumed: bool) -> Arrived {
    Arrived::Ready { position: position(seq), resumed }
}

fn reset(seq: u64, reason: &str) -> Arrived {
    Arrived::Reset { position: position(seq), reason: reason.to_owned() }
}

fn told(seq: u64, version: Version, content: &str, edited: i64) -> Arrived {
    told_of(seq, version, message(content, edited))
}

fn told_of(seq: u64, version: Version, message: Message) -> Arrived {
    let event = match version {
        1 => Event::Created { version, message },
        _ => Event::Edited { version, message },
    };
    Arrived::Event { position: position(seq), event }
}

fn told_deleted(seq: u64, version: Version) -> Arrived {
    let Message { id, from_user_id, to_user_id, .. } = message("gone", 0);
    let message = DeletedMessage { id, from_user_id, to_user_id };
    Arrived::Event { position: position(seq), event: Event::Deleted { version, message } }
}

fn listed(contents: &[&str]) -> Arrived {
    let contents: HashMap<_, _> = contents.iter().map(|it| (id(), (*it).to_owned())).collect();
    Arrived::Listed { began: Duration::from_millis(40), contents }
}

fn followed(user: &str, with: Option<&str>) -> Followed {
    let with = with.map(ToOwned::to_owned);
    Followed { user: user.to_owned(), with, transport: Transport::Sse }
}

/// Streams of the first subscriber, then one of each further subscriber. What arrives in one, arrives each second from the
/// first on.
fn streams(of_first: Vec<Vec<Arrived>>, of_others: Vec<Vec<Arrived>>) -> Streams {
    let followed = std::iter::repeat_with(|| followed("b", None)).take(1 + of_others.len());
    let followed = followed.collect();
    let of_first = of_first.into_iter().map(|stream| (0, stream));
    let of_others = of_others.into_iter().zip(1..).map(|(stream, number)| (number, stream));
    let mut arrivals = Vec::new();
    for ((subscriber, all), stream) in of_first.chain(of_others).zip(1..) {
        arrivals.extend(all.into_iter().zip(1..).map(|(what, second)| Arrival {
            subscriber,
            stream,
            at: Duration::from_secs(second),
            what,
        }));
    }
    Streams { followed, arrivals, epochs: Vec::new() }
}

/// The rules that a history breaks in which a message was created, and in the end was found so.
fn broken_by(rest: Vec<Operation>, last: Response, streams: Streams) -> Vec<&'static str> {
    let mut operations = vec![at(0, 10, create("new"), state(1, "new", 0))];
    operations.extend(rest);
    operations.push(Operation { client: "final".to_owned(), ..at(90_000, 90_009, read(), last) });
    let aftermath = Aftermath { streams, ..Aftermath::default() };
    let mut rules: Vec<&str> =
        check(&operations, &aftermath).iter().map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

/// The same with nothing but the create, and one stream.
fn broken_in(stream: Vec<Arrived>) -> Vec<&'static str> {
    broken_by(Vec::new(), state(1, "new", 0), streams(vec![stream], Vec::new()))
}

fn edited() -> Operation {
    at(20, 30, edit("e"), state(2, "e", 20))
}

fn deleted() -> Operation {
    at(50, 60, delete(), Response::Deleted)
}

#[test]
fn the_last_version_or_the_deletion_must_have_arrived() {
    let begin = || vec![asked(None), ready(1, false)];
    let one = |more: Vec<Arrived>| streams(vec![[begin(), more].concat()], Vec::new());
    assert_eq!(broken_in(begin()), [MISSING]);
    assert_eq!(broken_in([begin(), vec![told(2, 1, "new", 0)]].concat()), NONE);
    let edit = |more| broken_by(vec![edited()], state(2, "e", 20), one(more));
    assert_eq!(edit(vec![told(2, 1, "new", 0)]), [MISSING]);
    assert_eq!(edit(vec![told(2, 2, "e", 20)]), NONE);
    let delete = |more| broken_by(vec![deleted()], NOT_FOUND, one(more));
    assert_eq!(delete(vec![told(2, 1, "new", 0)]), [MISSING]);
    assert_eq!(delete(vec![told_deleted(2, 2)]), NONE);
    // Each subscriber that follows the message must have it, and no other.
    let mut two = streams(vec![[begin(), vec![told(2, 1, "new", 0)]].concat()], vec![begin()]);
    assert_eq!(broken_by(Vec::new(), state(1, "new", 0), two.clone()), [MISSING]);
    for other in [followed("c", None), followed("b", Some("c"))] {
        two.followed[1] = other;
        assert_eq!(broken_by(Vec::new(), state(1, "new", 0), two.clone()), NONE);
    }
    two.followed[1] = followed("b", Some("a"));
    assert_eq!(broken_by(Vec::new(), state(1, "new", 0), two), [MISSING]);
}

const NONE: [&str; 0] = [];

#[test]
fn after_a_reset_the_list_counts() {
    let begin = || vec![asked(None), ready(1, false), reset(2, "other-epoch")];
    let broken = |rest, last, list: &[&str]| {
        let mut one = streams(vec![[begin(), vec![listed(list)]].concat()], Vec::new());
        one.epochs.push(Duration::from_secs(2));
        broken_by(rest, last, one)
    };
    assert_eq!(broken(Vec::new(), state(1, "new", 0), &["new"]), NONE);
    assert_eq!(broken(Vec::new(), state(1, "new", 0), &[]), [MISSING]);
    assert_eq!(broken(vec![edited()], state(2, "e", 20), &["new"]), [MISSING]);
    assert_eq!(broken(vec![deleted()], NOT_FOUND, &[]), NONE);
    assert_eq!(broken(vec![deleted()], NOT_FOUND, &["new"]), [MISSING]);
    let later = at(50_000, 50_010, delete(), Response::Deleted);
    assert_eq!(broken(vec![later], NOT_FOUND, &[]), [MISSING], "it was listed before");
}

#[test]
fn a_message_whose_create_had_no_response_must_have_arrived_too() {
    let stream = |more| streams(vec![[vec![asked(None), ready(1, false)], more].concat()], vec![]);
    let broken = |listed: Vec<Message>, streams| {
        let request = Request::Create {
            id: None,
            from: "a".to_owned(),
            to: "b".to_owned(),
            content: "new".to_owned(),
            key: None,
        };
        let (from, to) = ("a".to_owned(), "b".to_owned());
        let conversations = vec![Conversation { from, to, messages: listed }];
        let aftermath = Aftermath { conversations, streams, ..Aftermath::default() };
        let found = check(&[at(0, 10, request, unknown())], &aftermath);
        found.iter().map(|violation| violation.rule).collect::<Vec<_>>()
    };
    assert_eq!(broken(Vec::new(), stream(Vec::new())), NONE);
    assert_eq!(broken(vec![message("new", 0)], stream(Vec::new())), [MISSING]);
    assert_eq!(broken(vec![message("new", 0)], stream(vec![told(2, 1, "new", 0)])), NONE);
}

#[test]
fn a_stream_has_what_others_have_between_its_places() {
    let all = || vec![asked(None), ready(1, false), told(2, 2, "e", 20), told(3, 2, "e", 20)];
    let broken = |stream: Vec<Arrived>| {
        let streams = streams(vec![stream, all()], vec![all()]);
        broken_by(vec![edited()], state(2, "e", 20), streams)
    };
    assert_eq!(broken(vec![asked(Some(1)), ready(1, true), told(3, 2, "e", 20)]), [HOLE]);
    let checkpoint = Arrived::Checkpoint { position: position(3) };
    assert_eq!(broken(vec![asked(Some(2)), checkpoint.clone()]), [HOLE]);
    assert_eq!(broken(vec![asked(Some(3)), checkpoint]), NONE);
    assert_eq!(broken(vec![asked(Some(1)), ready(1, true)]), NONE, "it came not so far");
    assert_eq!(broken(vec![asked(Some(2)), ready(2, true), told(3, 2, "e", 20)]), NONE);
    // What is before a reset, and what is behind it.
    let late = |seq| vec![asked(Some(1)), ready(1, true), told(seq, 2, "e", 20)];
    let mut with_reset = streams(vec![late(3), all()], vec![all()]);
    with_reset.epochs.push(Duration::ZERO);
    let reset = Arrival {
        subscriber: 0,
        stream: 1,
        at: Duration::from_secs(9),
        what: reset(5, "other-epoch"),
    };
    with_reset.arrivals.push(reset);
    assert_eq!(broken_by(vec![edited()], state(2, "e", 20), with_reset), [HOLE]);
    // Streams that come to a change after the deletion leave it out.
    let first = vec![asked(Some(1)), told(2, 1, "new", 0), told_deleted(4, 2)];
    let second = vec![asked(Some(1)), told_deleted(4, 2)];
    assert_eq!(broken_by(vec![deleted()], NOT_FOUND, streams(vec![first, second], vec![])), NONE);
}

#[test]
fn a_stream_keeps_the_order_of_the_log_and_begins_where_it_was_asked_to() {
    let event = |seq| told(seq, 1, "new", 0);
    let checkpoint = |seq| Arrived::Checkpoint { position: position(seq) };
    assert_eq!(broken_in(vec![asked(None), ready(1, false), event(3), event(2)]), [ORDER]);
    assert_eq!(broken_in(vec![asked(None), ready(1, false), event(3), event(3)]), [ORDER]);
    assert_eq!(broken_in(vec![asked(Some(3)), event(3)]), [ORDER]);
    assert_eq!(broken_in(vec![asked(None), ready(1, false), event(3), checkpoint(2)]), [ORDER]);
    assert_eq!(broken_in(vec![asked(None), ready(1, false), event(3), checkpoint(3)]), NONE);
    assert_eq!(broken_in(vec![asked(Some(3)), ready(3, true), event(4)]), NONE);
    assert_eq!(broken_in(vec![asked(Some(3)), ready(4, true), event(5)]), [RESUME]);
    assert_eq!(broken_in(vec![asked(Some(3)), ready(4, false), event(5)]), [RESUME]);
    assert_eq!(broken_in(vec![asked(None), ready(4, true), event(5)]), [RESUME]);
    let unexpected = Arrived::Unexpected("400".to_owned());
    let rules = broken_in(vec![asked(None), ready(1, false), event(3), unexpected]);
    assert_eq!(rules, ["a request for events is answered as a promise allows"]);
}

#[test]
fn a_stream_starts_over_only_with_a_reason() {
    let broken = |reason, epoch| {
        let stream = vec![asked(Some(1)), ready(4, false), reset(4, reason), told(5, 1, "new", 0)];
        let mut streams = streams(vec![stream], Vec::new());
        streams.epochs.extend(epoch);
        broken_by(Vec::new(), state(1, "new", 0), streams)
    };
    let early = ["a stream starts over only if it must"];
    assert_eq!(broken("other-epoch", Some(Duration::from_secs(2))), NONE);
    assert_eq!(broken("other-epoch", Some(Duration::from_secs(4))), early);
    assert_eq!(broken("other-epoch", None), early);
    assert_eq!(broken("position-expired", Some(Duration::from_secs(2))), early);
    assert_eq!(broken("too-many", None), early);
}

#[test]
fn versions_do_not_go_back_in_a_stream_and_nothing_comes_after_a_deletion() {
    let stream = |first, second| {
        streams(vec![vec![asked(None), ready(1, false), first, second]], Vec::new())
    };
    let versions =
        |first, second| broken_by(vec![edited()], state(2, "e", 20), stream(first, second));
    let (old, new) = (|seq| told(seq, 1, "new", 0), |seq| told(seq, 2, "e", 20));
    assert_eq!(versions(old(2), new(3)), NONE);
    assert_eq!(versions(new(2), new(3)), NONE);
    assert_eq!(versions(new(2), old(3)), ["a message's versions do not go back in a stream"]);
    let deletion = |first, second| broken_by(vec![deleted()], NOT_FOUND, stream(first, second));
    assert_eq!(deletion(old(2), told_deleted(3, 2)), NONE);
    assert_eq!(deletion(told_deleted(2, 2), told_deleted(3, 2)), NONE);
    let rule = ["nothing of a message comes after its deletion in a stream"];
    assert_eq!(deletion(told_deleted(2, 2), old(3)), rule);
}

#[test]
fn an_event_shows_what_was_written_to_those_whom_it_concerns() {
    let begin = || vec![asked(None), ready(1, false), told(2, 1, "new", 0)];
    let with = |more| broken_in([begin(), vec![more]].concat());
    assert_eq!(with(told(3, 2, "never said", 20)), ["an event shows a state that a client wrote"]);
    let other = Message { publish_timestamp: Timestamp::now(), ..message("new", 0) };
    assert_eq!(with(told_of(3, 1, other)), ["one version, two states"]);
    assert_eq!(with(told_deleted(3, 2)), ["a deletion is told only if a client asked for it"]);
    let refused = at(20, 30, edit("refused"), REFUSED);
    let stream = [begin(), vec![told(3, 2, "refused", 20)]].concat();
    assert_eq!(
        broken_by(vec![refused], state(1, "new", 0), streams(vec![stream], Vec::new())),
        ["a write that was refused or had failed took effect"]
    );
    let mut of_others = streams(vec![begin()], Vec::new());
    of_others.followed[0] = followed("c", None);
    assert_eq!(
        broken_by(Vec::new(), state(1, "new", 0), of_others),
        ["a subscriber is sent messages of the user that it follows only"]
    );
    let twin = Message { id: MessageId::from(Uuid::from_u128(2)), ..message("new", 0) };
    let stream = vec![asked(Some(1)), told_of(2, 1, twin)];
    let rules = broken_by(Vec::new(), state(1, "new", 0), streams(vec![begin(), stream], vec![]));
    assert!(rules.contains(&"one position, one change"), "{rules:?}");
}
