//! Parsing the deliveries of a group into commands. A delivery or command that cannot be read is kept
//! as a dead letter with its reason; its neighbours are applied.

use broker::{DeadLetter, Delivery};
use contracts::{Command, CommandId, Failure, MAX_BATCH_BYTES, MAX_BATCH_COMMANDS, TraceParent};
use serde_json::value::RawValue;
use store::RecordedOutcome;
use telemetry::traces::{TraceContext, Tracer};

use crate::{
    admission::{Admission, Refusal},
    spans::CommandSpans,
};

/// Contents of a delivery group.
#[derive(Debug, Default)]
pub(crate) struct ParsedGroup {
    /// The commands to apply, in delivery order.
    pub(crate) commands: Vec<ReceivedCommand>,
    /// Commands that are not to be applied, with the reasons.
    pub(crate) refused: Vec<(ReceivedCommand, Refusal)>,
    /// Dead letters of what is no command.
    pub(crate) unreadable: Vec<DeadLetter>,
    /// Spans of the commands.
    pub(crate) spans: CommandSpans,
}

/// A command, and how it arrived.
#[derive(Debug)]
pub(crate) struct ReceivedCommand {
    pub(crate) command: Command,
    /// Index of its delivery in the group.
    pub(crate) delivery: usize,
    /// Set if the broker delivered the command before.
    pub(crate) redelivered: bool,
    /// Set if an operator replayed the command after it was dead-lettered.
    pub(crate) replayed: bool,
    /// The span that published it, if its trace is recorded.
    pub(crate) traceparent: Option<TraceParent>,
    /// The context of its own span, if its trace is recorded.
    pub(crate) trace_context: Option<TraceContext>,
}

impl ParsedGroup {
    pub(crate) fn parse(deliveries: &[Delivery], admission: Admission, tracer: &Tracer) -> Self {
        let mut group = Self::default();
        for (index, delivery) in deliveries.iter().enumerate() {
            if let Err(reason) = group.parse_delivery(index, delivery, admission, tracer) {
                let (body, traceparents) = (delivery.body.clone(), delivery.traceparents.clone());
                group.unreadable.push(DeadLetter { body, reason, traceparents });
            }
        }
        group
    }

    /// Adds the commands of a delivery. Returns the reason if it is no batch of commands.
    fn parse_delivery(
        &mut self,
        index: usize,
        delivery: &Delivery,
        admission: Admission,
        tracer: &Tracer,
    ) -> Result<(), String> {
        let elements: Vec<&RawValue> = serde_json::from_slice(&delivery.body)
            .map_err(|error| format!("the delivery is not a JSON array of commands: {error}"))?;
        if elements.len() > MAX_BATCH_COMMANDS || delivery.body.len() > MAX_BATCH_BYTES {
            return Err(format!(
                "the delivery has more than {MAX_BATCH_COMMANDS} commands or {MAX_BATCH_BYTES} bytes"
            ));
        }
        for (position, element) in elements.into_iter().enumerate() {
            let traceparent = delivery.traceparents.get(position);
            let command = match serde_json::from_str::<Command>(element.get()) {
                Ok(command) => command,
                Err(error) => {
                    self.unreadable.push(DeadLetter {
                        body: format!("[{}]", element.get()).into_bytes(),
                        reason: format!("the command cannot be read: {error}"),
                        traceparents: traceparent.into(),
                    });
                    continue;
                }
            };
            let redelivered = delivery.redelivered;
            let trace_context = self.spans.begin(tracer, command.id, traceparent, redelivered);
            let refusal = admission.refusal(&command);
            let received = ReceivedCommand {
                command,
                delivery: index,
                redelivered,
                replayed: delivery.replayed,
                traceparent,
                trace_context,
            };
            match refusal {
                Some(refusal) => self.refused.push((received, refusal)),
                None => self.commands.push(received),
            }
        }
        Ok(())
    }
}

impl ReceivedCommand {
    pub(crate) fn id(&self) -> CommandId {
        self.command.id
    }

    /// Tells whether a recorded outcome stands. A dead-lettering does not once an operator has replayed
    /// the command: the worker that dead-lettered it may record that late.
    pub(crate) fn accepts(&self, recorded: RecordedOutcome) -> bool {
        !(self.replayed && recorded == RecordedOutcome::Failed(Failure::DeadLettered))
    }

    pub(crate) fn dead_letter(&self, reason: String) -> DeadLetter {
        // A command that was read from JSON can be written as JSON.
        let body = serde_json::to_vec(&[&self.command]).unwrap_or_default();
        DeadLetter { body, reason, traceparents: self.traceparent.into() }
    }

    /// Returns the span of the command's log lines, with the id of its trace.
    pub(crate) fn log_span(&self) -> tracing::Span {
        tracing::info_span!(
            "command",
            command.id = %self.id(),
            trace_id = self.traceparent.map(|parent| tracing::field::display(parent.trace_id())),
        )
    }
}

#[cfg(test)]
mod tests {
    use broker::TraceParents;
    use contracts::{Action, Actor, MessageId, Precondition, Timestamp};

    use super::*;

    fn delivery(body: impl Into<Vec<u8>>) -> Delivery {
        Delivery {
            body: body.into(),
            redelivered: false,
            replayed: false,
            suspect: false,
            reply_to: None,
            traceparents: TraceParents::default(),
        }
    }

    fn parse(deliveries: &[Delivery]) -> ParsedGroup {
        let admission = Admission { now: Timestamp::now(), require_actor: false };
        ParsedGroup::parse(deliveries, admission, &Tracer::default())
    }

    fn delete() -> Command {
        let action = Action::Delete { precondition: Precondition::default() };
        Command::new(MessageId::generate(), Timestamp::now(), action)
    }

    #[test]
    fn the_neighbours_of_an_unreadable_command_are_kept() {
        let good = serde_json::to_string(&delete()).unwrap();
        let future = good.replace("\"format\":1", "\"format\":9");
        let body = format!("[{good},{{\"x\":1}},{future},{good}]");
        let group = parse(&[delivery(body)]);
        assert_eq!(group.commands.len(), 2);
        assert_eq!(group.unreadable.len(), 2);
        assert!(group.unreadable[1].reason.contains("unknown command format 9"));
        assert!(group.unreadable[1].body.starts_with(b"[{"));
    }

    #[test]
    fn a_delivery_that_is_no_array_is_kept_as_it_came() {
        let group = parse(&[delivery("{oops"), delivery("[]")]);
        assert!(group.commands.is_empty());
        assert_eq!(group.unreadable.len(), 1);
        assert_eq!(group.unreadable[0].body, b"{oops");
    }

    #[test]
    fn a_create_older_than_six_days_or_in_another_name_is_refused() {
        let now = Timestamp::now();
        let action = Action::Create {
            from_user_id: "alice".to_owned().try_into().unwrap(),
            to_user_id: "bob".to_owned().try_into().unwrap(),
            content: "late".to_owned().try_into().unwrap(),
        };
        let issued = Timestamp::from_unix_millis(now.unix_millis() - 7 * 86_400_000).unwrap();
        let late = Command::new(MessageId::generate(), issued, action.clone());
        let actor = Some(Actor::User("bob".to_owned().try_into().unwrap()));
        let forged = Command::new(MessageId::generate(), now, action).by(actor);
        let body = serde_json::to_vec(&[&late, &forged]).unwrap();
        let group = parse(&[delivery(body)]);
        assert!(group.commands.is_empty());
        let ids: Vec<CommandId> = group.refused.iter().map(|(received, _)| received.id()).collect();
        assert_eq!(ids, [late.id, forged.id]);
        assert_eq!(group.refused[0].1.reason(), "the create is older than 6 days");
        // The dead letter can be replayed as it was.
        let (received, refusal) = &group.refused[1];
        let dead_letter = received.dead_letter(refusal.reason().to_owned());
        assert_eq!(serde_json::from_slice::<Vec<Command>>(&dead_letter.body).unwrap(), [forged]);
    }
}
