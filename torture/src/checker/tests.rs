//! Each rule finds what it is for, and leaves alone what the promises allow.

mod events;
mod watch;

use std::time::Duration;

use contracts::{CommandId, Message, OperationId, Timestamp, Version, VersionedMessage};
use uuid::Uuid;

use super::*;
use crate::{
    condition::Condition,
    history::{Failure, Request},
};

const ID: Uuid = Uuid::from_u128(1);

fn id() -> MessageId {
    MessageId::from(ID)
}

fn message(content: &str, edited: i64) -> Message {
    let at = |millis: i64| Timestamp::from_unix_millis(1_000_000 + millis).unwrap();
    Message {
        id: id(),
        from_user_id: "a".to_owned().try_into().unwrap(),
        to_user_id: "b".to_owned().try_into().unwrap(),
        content: content.to_owned().try_into().unwrap(),
        publish_timestamp: at(0),
        edit_timestamp: (edited > 0).then(|| at(edited)),
    }
}

/// The state of a version whose edit, if any, was at `edited`.
fn state(version: Version, content: &str, edited: i64) -> Response {
    let state = VersionedMessage { message: message(content, edited), version };
    Response::Stored { state, replayed: false }
}

fn replayed(version: Version, content: &str, edited: i64) -> Response {
    let state = VersionedMessage { message: message(content, edited), version };
    Response::Stored { state, replayed: true }
}

fn accepted(status: OperationStatus) -> Response {
    let operation = OperationId::new(CommandId::generate(), id());
    Response::Accepted { operation, status }
}

fn unknown() -> Response {
    Response::Unknown("no answer".to_owned())
}

const REFUSED: Response = Response::Refused("not accepted");
const NOT_FOUND: Response = Response::Failed(Failure::NotFound);

fn at(began: u64, ended: u64, request: Request, response: Response) -> Operation {
    Operation {
        client: "client".to_owned(),
        gateway: 0,
        request,
        wait: Duration::ZERO,
        began: Duration::from_millis(began),
        answered: Duration::from_millis(ended),
        ended: Duration::from_millis(ended),
        response,
    }
}

fn create(content: &str) -> Request {
    let (from, to) = ("a".to_owned(), "b".to_owned());
    Request::Create { id: Some(id()), from, to, content: content.to_owned(), key: None }
}

fn edit(content: &str) -> Request {
    edit_on(content, Condition::default())
}

fn edit_if(content: &str, version: Version) -> Request {
    edit_on(content, Condition::version(version))
}

fn edit_on(content: &str, condition: Condition) -> Request {
    Request::Edit { id: id(), content: content.to_owned(), condition }
}

fn delete() -> Request {
    Request::Delete { id: id(), condition: Condition::default() }
}

fn read() -> Request {
    Request::Read { id: id() }
}

/// The rules that a history breaks. It begins with a create that was acknowledged.
fn broken(rest: Vec<Operation>) -> Vec<&'static str> {
    let mut operations = vec![at(0, 10, create("new"), state(1, "new", 0))];
    operations.extend(rest);
    rules(&operations)
}

fn rules(operations: &[Operation]) -> Vec<&'static str> {
    let mut rules: Vec<&str> =
        check(operations, &Aftermath::default()).iter().map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

#[test]
fn an_acknowledged_message_must_be_there_unless_it_may_have_been_deleted() {
    let missing = || at(20, 30, read(), NOT_FOUND);
    assert_eq!(broken(vec![missing()]), ["an acknowledged message is missing"]);
    // A read that began before the create was answered may miss it.
    assert!(broken(vec![at(5, 30, read(), NOT_FOUND)]).is_empty());
    for response in [Response::Deleted, unknown(), accepted(OperationStatus::Succeeded)] {
        assert!(broken(vec![at(12, 28, delete(), response), missing()]).is_empty());
    }
    for response in [
        REFUSED,
        Response::Failed(Failure::VersionMismatch),
        accepted(OperationStatus::Failed(Failure::NotFound)),
    ] {
        let rules = broken(vec![at(12, 18, delete(), response), missing()]);
        assert!(rules.contains(&"an acknowledged message is missing"), "{rules:?}");
    }
    let too_late = at(40, 50, delete(), Response::Deleted);
    assert_eq!(broken(vec![missing(), too_late])[0], "an acknowledged message is missing");
}

#[test]
fn a_deleted_message_never_comes_back() {
    let deleted = || at(20, 30, delete(), Response::Deleted);
    let back = at(40, 50, read(), state(1, "new", 0));
    assert_eq!(broken(vec![deleted(), back.clone()]), ["a deleted message came back"]);
    // Seen while it was being deleted.
    assert!(broken(vec![deleted(), at(25, 50, read(), state(1, "new", 0))]).is_empty());
    // Seen gone after a delete of unknown outcome, and there again.
    let gone = at(25, 30, read(), NOT_FOUND);
    assert_eq!(
        broken(vec![at(20, 24, delete(), unknown()), gone, back]),
        ["a deleted message came back"]
    );
    let late_edit = at(40, 50, edit("e"), accepted(OperationStatus::Succeeded));
    assert_eq!(broken(vec![deleted(), late_edit]), ["a deleted message came back"]);
    let again = at(40, 50, delete(), Response::Deleted);
    assert_eq!(broken(vec![deleted(), again]), ["a delete takes effect once"]);
}

#[test]
fn what_was_seen_is_not_undone() {
    let edited = || at(20, 30, edit("e1"), state(2, "e1", 20));
    let stale = at(40, 50, read(), state(1, "new", 0));
    assert_eq!(broken(vec![edited(), stale]), ["an acknowledged state was undone, or not seen"]);
    assert!(broken(vec![edited(), at(25, 50, read(), state(1, "new", 0))]).is_empty());
    // Accepted, and said to have succeeded by the time it ended.
    let later = || at(20, 30, edit_if("e1", 1), accepted(OperationStatus::Succeeded));
    let stale = at(40, 50, read(), state(1, "new", 0));
    assert_eq!(broken(vec![later(), stale]), ["an acknowledged state was undone, or not seen"]);
    assert!(broken(vec![later(), at(25, 50, read(), state(1, "new", 0))]).is_empty());
    let older = at(40, 50, edit("e2"), state(3, "e2", 15));
    assert_eq!(broken(vec![edited(), older]), ["edit timestamps never run backwards"]);
    let other = at(40, 50, read(), state(2, "e2", 20));
    assert!(broken(vec![edited(), other]).contains(&"one version, two states"));
}

#[test]
fn an_edit_changes_the_content_and_its_timestamp() {
    let edited = |change: fn(&mut Message)| {
        let mut edited = message("e", 20);
        change(&mut edited);
        let state = VersionedMessage { message: edited, version: 2 };
        broken(vec![at(20, 30, edit("e"), Response::Stored { state, replayed: false })])
    };
    assert!(edited(|_| {}).is_empty());
    let elsewhere = edited(|message| message.to_user_id = "c".to_owned().try_into().unwrap());
    assert_eq!(elsewhere, ["an edit changes the content only"]);
    let unmarked = edited(|message| message.edit_timestamp = None);
    assert!(unmarked.contains(&"edit_timestamp is null until the first edit, and then not"));
    let early = edited(|message| message.edit_timestamp = Some(message.publish_timestamp));
    assert_eq!(early, ["an edit is later than the publication"]);
}

#[test]
fn a_write_takes_effect_once_and_versions_have_no_gaps() {
    let edited = || at(20, 30, edit("e1"), state(2, "e1", 20));
    let twice = at(40, 50, read(), state(3, "e1", 20));
    assert!(broken(vec![edited(), twice]).contains(&"a write took effect twice"));
    let jumped = || at(40, 50, edit("e2"), state(4, "e2", 40));
    assert_eq!(broken(vec![edited(), jumped()]), ["versions count the edits, without gaps"]);
    for response in [unknown(), accepted(OperationStatus::Succeeded)] {
        let between = at(31, 39, edit("lost?"), response);
        assert!(broken(vec![edited(), between, jumped()]).is_empty());
    }
    let refused = at(31, 39, edit("refused"), REFUSED);
    assert!(!broken(vec![edited(), refused, jumped()]).is_empty());
}

#[test]
fn what_was_refused_or_has_failed_never_takes_effect() {
    let rule = "a write that was refused or had failed took effect";
    for response in
        [REFUSED, NOT_FOUND, accepted(OperationStatus::Failed(Failure::VersionMismatch))]
    {
        let shown = at(40, 50, read(), state(2, "e", 20));
        assert!(broken(vec![at(5, 12, edit("e"), response), shown]).contains(&rule));
    }
    for response in [unknown(), accepted(OperationStatus::Succeeded)] {
        let shown = at(40, 50, read(), state(2, "e", 20));
        assert!(broken(vec![at(20, 30, edit("e"), response), shown]).is_empty());
    }
    let nobodys = at(40, 50, read(), state(2, "x", 20));
    assert!(broken(vec![nobodys]).contains(&"a state that no client wrote"));
}

#[test]
fn if_match_decides_what_an_edit_is_applied_to() {
    let answered = |version, content| at(30, 40, edit_if("e1", 1), state(version, content, 35));
    let rule = "a conditional edit is answered with its state or newer";
    let other = || at(20, 25, edit("e2"), state(2, "e2", 35));
    assert!(broken(vec![other(), answered(2, "e2")]).contains(&rule));
    assert!(!broken(vec![other(), answered(2, "e1")]).contains(&rule));
    let first = || at(20, 30, edit_if("e1", 1), state(2, "e1", 20));
    let second = at(22, 32, edit_if("e2", 1), replayed(3, "e3", 25));
    let third = at(23, 33, edit("e3"), state(3, "e3", 25));
    assert!(
        broken(vec![first(), second, third])
            .contains(&"two writes made one version, so one is lost")
    );
    let wrong = at(40, 50, edit_if("e2", 1), state(3, "e2", 40));
    assert!(
        broken(vec![first(), wrong]).contains(&"the condition decides what an edit is applied to")
    );
    // After an own edit of unknown outcome.
    let mismatch = || at(40, 50, edit_if("e2", 1), Response::Failed(Failure::VersionMismatch));
    assert!(broken(vec![at(20, 30, edit_if("e1", 1), unknown()), mismatch()]).is_empty());
    let still = at(60, 70, read(), state(1, "new", 0));
    assert_eq!(
        broken(vec![mismatch(), still]),
        ["412 only where the condition does not allow the version"]
    );
    let deleting = Request::Delete { id: id(), condition: Condition::version(1) };
    assert_eq!(
        broken(vec![first(), at(40, 50, deleting, Response::Deleted)]),
        ["the condition decides what a delete is applied to"]
    );
}

#[test]
fn a_condition_may_allow_several_versions() {
    let listed = || edit_on("e2", Condition::any_of(vec![1, 2]));
    let excluding = |versions| edit_on("e2", Condition::none_of(versions));
    let first = || at(20, 30, edit("e1"), state(2, "e1", 20));
    let second = |request| at(40, 50, request, state(3, "e2", 40));
    for request in [listed(), excluding(vec![1, 3])] {
        assert!(broken(vec![first(), second(request)]).is_empty());
    }
    let both = Condition { if_none_match: vec![2], ..Condition::any_of(vec![1, 2]) };
    for request in
        [edit_on("e2", Condition::any_of(vec![1, 3])), excluding(vec![2]), edit_on("e2", both)]
    {
        let rules = broken(vec![first(), second(request)]);
        assert_eq!(rules[0], "the condition decides what an edit is applied to");
    }
    // Nobody has seen which of them it was applied to, but one it was.
    let unseen = || at(40, 50, listed(), accepted(OperationStatus::Succeeded));
    let stale = at(60, 70, read(), state(1, "new", 0));
    assert!(
        broken(vec![unseen(), stale]).contains(&"an acknowledged state was undone, or not seen")
    );
    assert!(broken(vec![unseen(), at(60, 70, read(), state(2, "e2", 20))]).is_empty());
    // A 412 is right if the message may have had another version.
    let refused = |request| at(40, 50, request, Response::Failed(Failure::VersionMismatch));
    let now = |version: Version| match version {
        2 => at(60, 70, read(), state(2, "e1", 20)),
        _ => at(60, 70, read(), state(3, "e3", 20)),
    };
    let third = || at(35, 65, edit("e3"), unknown());
    let rule = ["412 only where the condition does not allow the version"];
    for request in [listed(), excluding(vec![1, 3])] {
        assert_eq!(broken(vec![first(), refused(request.clone()), now(2)]), rule);
        assert!(broken(vec![first(), third(), refused(request), now(3)]).is_empty());
    }
    let either = edit_on("e2", Condition::any_of(vec![2, 3]));
    assert_eq!(broken(vec![first(), third(), refused(either), now(3)]), rule);
    assert!(broken(vec![first(), refused(excluding(vec![2])), now(2)]).is_empty());
    // So is a deletion.
    let delete_on =
        |condition| at(40, 50, Request::Delete { id: id(), condition }, Response::Deleted);
    for condition in
        [Condition::any_of(vec![1, 2]), Condition::any_of(vec![3]), Condition::none_of(vec![1])]
    {
        assert!(broken(vec![first(), delete_on(condition)]).is_empty());
    }
    assert_eq!(
        broken(vec![first(), delete_on(Condition::any_of(vec![0, 1]))]),
        ["the condition decides what a delete is applied to"]
    );
}

#[test]
fn a_plain_edit_is_superseded_by_a_concurrent_newer_one_only() {
    let winner = |began, ended| at(began, ended, edit("win"), state(2, "win", 30));
    let loser = || at(40, 60, edit("lose"), state(2, "win", 30));
    assert!(broken(vec![winner(35, 50), loser()]).is_empty());
    assert!(broken(vec![at(20, 28, edit("win"), unknown()), loser()]).is_empty());
    assert_eq!(
        broken(vec![winner(20, 30), loser()]),
        ["a write is superseded by a newer one only"]
    );
    let by_nothing = at(40, 60, edit("lose"), state(1, "new", 0));
    assert_eq!(broken(vec![by_nothing]), ["a write is superseded by a newer one only"]);
}

#[test]
fn a_plain_edit_that_succeeded_later_is_stored_or_superseded_by_a_newer_one() {
    let lost = ["an edit that succeeded is stored, or superseded by a newer one"];
    let edited = |content| at(20, 40, edit(content), accepted(OperationStatus::Succeeded));
    let stored_at_last = |version, content| at(90, 99, read(), state(version, content, 30));
    let unedited = || at(90, 99, read(), state(1, "new", 0));
    assert_eq!(broken(vec![edited("e"), unedited()]), lost);
    assert!(broken(vec![edited("e"), stored_at_last(2, "e")]).is_empty());
    // By one that was under way at the same time, whatever that was told; not by an older or a
    // later one.
    let other = |began, ended, response| at(began, ended, edit("other"), response);
    let stored = || state(2, "other", 30);
    for response in [stored(), unknown(), accepted(OperationStatus::Succeeded)] {
        assert!(
            broken(vec![other(30, 50, response), edited("e"), stored_at_last(2, "other")])
                .is_empty()
        );
    }
    assert!(
        broken(vec![other(12, 18, unknown()), edited("e"), stored_at_last(2, "other")]).is_empty()
    );
    for response in [stored(), accepted(OperationStatus::Succeeded)] {
        let older = other(12, 18, response.clone());
        assert_eq!(broken(vec![older, edited("e"), stored_at_last(2, "other")]), lost);
        let later = other(50, 60, response);
        assert_eq!(broken(vec![edited("e"), later, stored_at_last(2, "other")]), lost);
    }
    // A version that nobody has seen is its own, or that of one that superseded it; unless it was
    // there before, or came after.
    let overwritten = || other(50, 60, state(3, "other", 30));
    assert!(
        broken(vec![edited("e"), edited("f"), overwritten(), stored_at_last(3, "other")])
            .is_empty()
    );
    let unseen = at(12, 14, edit("unseen"), unknown());
    let seen = at(15, 18, edit("seen"), state(3, "seen", 30));
    assert_eq!(broken(vec![unseen, seen, edited("e"), stored_at_last(3, "seen")]), lost);
    let deleted = at(50, 60, delete(), Response::Deleted);
    assert!(broken(vec![edited("e"), deleted]).is_empty());
}

#[test]
fn a_key_makes_one_message_once_from_one_body() {
    let again = at(20, 30, create("new"), replayed(1, "new", 0));
    assert!(broken(vec![again.clone()]).is_empty());
    assert_eq!(rules(&[again]), ["only an earlier create is replayed"]);
    let fresh = at(20, 30, create("new"), state(1, "new", 0));
    assert_eq!(broken(vec![fresh]), ["a create takes effect once"]);
    let mistake = |response| at(20, 30, create("other"), response);
    assert!(broken(vec![mistake(Response::Failed(Failure::KeyReused))]).is_empty());
    assert_eq!(broken(vec![mistake(accepted(OperationStatus::Succeeded))]), ["one key, one body"]);
    let same = at(20, 30, create("new"), Response::Failed(Failure::KeyReused));
    assert_eq!(broken(vec![same]), ["a repeat with the same body succeeds"]);
    assert_eq!(
        rules(&[mistake(Response::Failed(Failure::KeyReused))]),
        ["a key is refused only after it was used"]
    );
    let deleted = at(20, 30, create("new"), Response::Failed(Failure::DeletedSince));
    assert_eq!(broken(vec![deleted]), ["an acknowledged message is missing"]);
}

#[test]
fn every_202_ends_as_a_promise_allows() {
    let open = at(20, 30, edit("e"), accepted(OperationStatus::Pending));
    assert_eq!(broken(vec![open]), ["a 202 whose operation never ended"]);
    let odd =
        at(20, 30, edit("e"), accepted(OperationStatus::Unexpected("dead_lettered".to_owned())));
    assert_eq!(broken(vec![odd]), ["a 202 whose operation ended as no promise allows"]);
    let odd = at(20, 30, read(), Response::Unexpected("500".to_owned()));
    assert_eq!(broken(vec![odd]), ["a response that no promise allows"]);
}

/// The rules that the end breaks, with one create whose id nobody was told.
fn broken_end(response: Response, listed: Vec<Message>) -> Vec<&'static str> {
    let request = Request::Create {
        id: None,
        from: "a".to_owned(),
        to: "b".to_owned(),
        content: "new".to_owned(),
        key: None,
    };
    let conversation = Conversation { from: "a".to_owned(), to: "b".to_owned(), messages: listed };
    let aftermath = Aftermath { conversations: vec![conversation], ..Aftermath::default() };
    let found = check(&[at(0, 10, request, response)], &aftermath);
    found.iter().map(|violation| violation.rule).collect()
}

#[test]
fn a_create_nobody_heard_of_again_exists_once_or_not_at_all() {
    let new = || message("new", 0);
    assert!(broken_end(unknown(), vec![]).is_empty());
    assert!(broken_end(unknown(), vec![new()]).is_empty());
    let twin = Message { id: MessageId::from(Uuid::from_u128(2)), ..new() };
    assert_eq!(broken_end(unknown(), vec![new(), twin]), ["a create takes effect once"]);
    assert_eq!(
        broken_end(REFUSED, vec![new()]),
        ["a write that was refused or had failed took effect"]
    );
    assert_eq!(
        broken_end(unknown(), vec![message("other", 0)]),
        ["a message that no client wrote"]
    );
}

#[test]
fn the_end_has_lists_as_reads_show_them_nothing_queued_and_only_poison_dead_lettered() {
    let final_read =
        |response| Operation { client: "final".to_owned(), ..at(90, 99, read(), response) };
    let operations = [at(0, 10, create("new"), state(1, "new", 0)), final_read(state(1, "new", 0))];
    let conversation =
        |messages| Conversation { from: "a".to_owned(), to: "b".to_owned(), messages };
    let end = |messages| Aftermath {
        watch: Watch::default(),
        conversations: vec![conversation(messages)],
        left_in_queue: 0,
        dead_letters: vec![b"poison".to_vec(), b"poison".to_vec()],
        poison: vec![b"poison".to_vec()],
        streams: Streams::default(),
    };
    assert_eq!(check(&operations, &end(vec![message("new", 0)])), []);
    let rule = |aftermath: &Aftermath| check(&operations, aftermath)[0].rule;
    assert_eq!(rule(&end(vec![])), "a list has what is stored");
    let twice = end(vec![message("new", 0), message("new", 0)]);
    assert_eq!(rule(&twice), "a list has each message once");
    let deleted = [
        at(0, 10, create("new"), state(1, "new", 0)),
        at(20, 30, delete(), Response::Deleted),
        final_read(NOT_FOUND),
    ];
    assert_eq!(
        check(&deleted, &end(vec![message("new", 0)]))[0].rule,
        "a list has no deleted message"
    );
    let mut bad = end(vec![message("new", 0)]);
    bad.left_in_queue = 1;
    assert_eq!(rule(&bad), "every command comes to its end");
    bad.left_in_queue = 0;
    bad.dead_letters.push(b"good".to_vec());
    assert_eq!(rule(&bad), "only poison is dead-lettered");
    bad.dead_letters.clear();
    assert_eq!(rule(&bad), "all poison is dead-lettered");
    let unreadable = [final_read(unknown())];
    let found = check(&unreadable, &Aftermath::default());
    assert_eq!(found[0].rule, "what is stored can be read in the end");
}
