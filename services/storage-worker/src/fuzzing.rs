//! What holds for the parsers here, whatever the input. Fuzz targets and property tests call these
//! functions, which panic if it does not hold.

use broker::{Delivery, TraceParents};
use contracts::{Action, Actor, Command, CommandId, MAX_BATCH_COMMANDS, Payload, Scope, Timestamp};
use serde_json::Value;
use telemetry::traces::Tracer;

use crate::{
    admission::Admission,
    dead_letters::{command_ids, one_line, readable},
    delivery_group::{ParsedGroup, ReceivedCommand},
};

/// Each element of a delivery is applied, refused or a dead letter, and a delivery that is no array is
/// one dead letter as a whole. No user writes in another's name, no service without the scope, and nobody without an actor
/// where one is required.
pub fn delivery(data: &[u8]) {
    let delivery = Delivery {
        body: data.to_vec(),
        redelivered: false,
        replayed: false,
        suspect: false,
        reply_to: None,
        traceparents: TraceParents::default(),
    };
    let now = Timestamp::now();
    let parse = |require_actor| {
        let admission = Admission { now, require_actor };
        ParsedGroup::parse(std::slice::from_ref(&delivery), admission, &Tracer::default())
    };
    let group = parse(false);
    let refused = group.refused.iter().map(|(received, _)| received);
    let readable: Vec<&Command> =
        group.commands.iter().chain(refused).map(|received| &received.command).collect();
    match serde_json::from_slice::<Vec<Value>>(data) {
        Ok(elements) if elements.len() <= MAX_BATCH_COMMANDS => {
            assert_eq!(readable.len() + group.unreadable.len(), elements.len());
        }
        Ok(_) => assert!(readable.is_empty() && group.unreadable.len() == 1),
        // A single element may be beyond what a `Value` holds.
        Err(_) => {}
    }
    for received in &group.commands {
        let Payload::Message(message) = &received.command.payload;
        match (&message.action, &received.command.actor) {
            (Action::Create { from_user_id, .. }, Some(Actor::User(user))) => {
                assert_eq!(from_user_id, user);
            }
            (_, Some(Actor::Service { scope, .. })) => assert_eq!(*scope, Scope::WriteAs),
            (_, Some(Actor::User(_)) | None) => {}
        }
    }
    // Which commands are applied depends on the setting in this respect only.
    let ids = |commands: &[ReceivedCommand], all: bool| -> Vec<CommandId> {
        let applied = commands.iter().filter(|it| all || it.command.actor.is_some());
        applied.map(ReceivedCommand::id).collect()
    };
    assert_eq!(ids(&parse(true).commands, true), ids(&group.commands, false));
    for command in readable {
        let written = serde_json::to_vec(command).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<Command>(&written).ok().as_ref(), Some(command));
    }
    for dead_letter in &group.unreadable {
        assert!(!dead_letter.reason.is_empty());
        assert!(dead_letter.body == data || dead_letter.body.len() <= data.len());
        dead_letter_on_a_terminal(&dead_letter.body);
    }
}

/// What an operator sees of a dead letter makes no terminal do anything.
pub fn dead_letter_on_a_terminal(data: &[u8]) {
    let _ = command_ids(data);
    let body = readable(data);
    assert!(!body.chars().any(|c| c.is_control() && c != '\n'), "{body:?}");
    let reason = one_line(&String::from_utf8_lossy(data));
    assert!(!reason.chars().any(char::is_control), "{reason:?}");
}

#[cfg(test)]
mod tests {
    use contracts::{MessageId, UserId};
    use proptest::{
        collection::vec,
        prelude::*,
        sample::{self, Index},
    };

    use super::*;

    fn user(id: &str) -> UserId {
        id.to_owned().try_into().unwrap()
    }

    fn actor() -> impl Strategy<Value = Option<Actor>> {
        prop_oneof![
            Just(None),
            Just(Some(Actor::User(user("alice")))),
            Just(Some(Actor::User(user("bob")))),
            sample::select(&Scope::ALL)
                .prop_map(|scope| { Some(Actor::Service { name: "importer".to_owned(), scope }) }),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes(data in vec(any::<u8>(), 0..100)) {
            delivery(&data);
            dead_letter_on_a_terminal(&data);
        }

        #[test]
        fn strings(text in "[\\u{0}-\\u{ff}]{0,20}") {
            dead_letter_on_a_terminal(&serde_json::to_vec(&[&text]).unwrap());
            dead_letter_on_a_terminal(text.as_bytes());
        }

        #[test]
        fn damaged_batches(
            contents in vec((actor(), "\\PC{1,20}"), 1..4),
            damage in vec((any::<Index>(), any::<u8>()), 0..3),
            cut in any::<Index>(),
        ) {
            let commands: Vec<Command> = contents.into_iter().map(|(actor, content)| {
                let action = Action::Create {
                    from_user_id: user("alice"),
                    to_user_id: user("bob"),
                    content: content.try_into().unwrap(),
                };
                Command::new(MessageId::generate(), Timestamp::now(), action).by(actor)
            }).collect();
            let mut body = serde_json::to_vec(&commands).unwrap();
            delivery(&body);
            for (at, byte) in damage {
                let at = at.index(body.len());
                body[at] = byte;
            }
            delivery(&body);
            body.truncate(cut.index(body.len()));
            delivery(&body);
        }
    }
}
