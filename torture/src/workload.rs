//! The load: each client chooses its next request at random, about its own messages and about some that all
//! clients share.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use contracts::{MessageId, Version};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Client, Prefer},
    condition::Condition,
    history::{Failure, Operation, Request, Response},
    plan::REPLICAS,
};

/// Maximum numbers of messages that a client, and all clients together, remember.
const REMEMBERED: usize = 24;
const CONTENDED: usize = 6;

/// A contended message with more versions is deleted and replaced. The system remembers 32 commands
/// of each message.
const MAX_VERSIONS: Version = 20;

/// Pause after a failure, as a well-behaved client makes one.
const PAUSE: Duration = Duration::from_millis(40);

/// The recipient of everything.
pub(crate) const RECIPIENT: &str = "peer";
/// The sender of the contended messages.
pub(crate) const EVERYONE: &str = "everyone";

/// State that all clients share.
pub(crate) struct Shared {
    pub(crate) stop: CancellationToken,
    /// Number of requests that are left.
    pub(crate) budget: AtomicU64,
    contended: Mutex<Vec<Known>>,
}

/// A message that a client knows of, and the newest version it has seen.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: MessageId,
    version: Option<Version>,
}

/// A create that can be repeated.
#[derive(Clone, Debug)]
struct Repeatable {
    key: String,
    content: String,
}

/// One client at work.
pub(crate) struct Worker {
    client: Client,
    /// The same client as the sender of the contended messages.
    everyone: Client,
    rng: StdRng,
    shared: Arc<Shared>,
    own: Vec<Known>,
    repeatable: Vec<Repeatable>,
    /// Gateway of the last failure; the next request goes to the other one.
    avoid: Option<usize>,
}

impl Shared {
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            stop: CancellationToken::new(),
            budget: AtomicU64::new(budget),
            contended: Mutex::default(),
        }
    }

    fn contended(&self) -> MutexGuard<'_, Vec<Known>> {
        self.contended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spend(&self) -> bool {
        let spend = |left: u64| left.checked_sub(1);
        self.budget.try_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }
}

impl Worker {
    pub(crate) fn new(client: Client, everyone: Client, seed: u64, shared: Arc<Shared>) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { client, everyone, rng, shared, own: Vec::new(), repeatable: Vec::new(), avoid: None }
    }

    /// Sends one request after the other until it is stopped or the budget is spent.
    pub(crate) async fn work(mut self) {
        while !self.shared.stop.is_cancelled() && self.shared.spend() {
            let (request, contended) = self.choose();
            let is_read = matches!(request, Request::Read { .. });
            let prefer = if is_read { Prefer::Nothing } else { self.choose_preference() };
            let gateway = self.choose_gateway();
            let client = if contended { &self.everyone } else { &self.client };
            let done = client.ask(gateway, request, prefer).await;
            let well = !matches!(
                done.response,
                Response::Refused(_) | Response::Unknown(_) | Response::Unexpected(_)
            );
            self.avoid = (!well).then_some(gateway);
            self.learn(&done, contended);
            if !well {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn choose_gateway(&mut self) -> usize {
        let gateway = self.rng.random_range(0..REPLICAS);
        if self.avoid == Some(gateway) { (gateway + 1) % REPLICAS } else { gateway }
    }

    fn choose_preference(&mut self) -> Prefer {
        match self.rng.random_range(0..100) {
            0..10 => Prefer::RespondAsync,
            10..18 => Prefer::Wait(self.rng.random_range(0..=3)),
            _ => Prefer::Nothing,
        }
    }

    /// Chooses the next request, and says whether it is about a contended message.
    fn choose(&mut self) -> (Request, bool) {
        match self.rng.random_range(0..100) {
            0..17 => (self.create(), false),
            17..28 => (self.keyed_create(), false),
            28..38 => (self.repeat(), false),
            38..45 => self.on_contended(Self::read),
            45..58 => self.on_contended(Self::edit),
            58..65 => self.on_contended(Self::conditional_edit),
            65..67 => self.on_contended(Self::delete),
            67..77 => (self.on_own(Self::read), false),
            77..87 => (self.on_own(Self::edit), false),
            87..94 => (self.on_own(Self::conditional_edit), false),
            94..97 => (self.on_own(Self::delete), false),
            _ => (self.on_own(Self::conditional_delete), false),
        }
    }

    fn create(&self) -> Request {
        self.new_message(self.client.name.clone(), None)
    }

    fn new_message(&self, from: String, key: Option<String>) -> Request {
        let content = self.client.history.token("m");
        let id = key.as_deref().map(|key| MessageId::from_idempotency_key(&from, key, None, None));
        Request::Create { id, from, to: RECIPIENT.to_owned(), content, key }
    }

    fn keyed_create(&mut self) -> Request {
        let key = self.client.history.token("key");
        let request = self.new_message(self.client.name.clone(), Some(key.clone()));
        if let Request::Create { content, .. } = &request {
            remember(&mut self.repeatable, Repeatable { key, content: content.clone() });
        }
        request
    }

    /// Repeats an earlier create, now and then with another body, which is an error.
    fn repeat(&mut self) -> Request {
        if self.repeatable.is_empty() {
            return self.keyed_create();
        }
        let place = self.rng.random_range(0..self.repeatable.len());
        let Some(Repeatable { key, content: body }) = self.repeatable.get(place).cloned() else {
            return self.create();
        };
        let mut request = self.new_message(self.client.name.clone(), Some(key));
        if let Request::Create { content, .. } = &mut request
            && self.rng.random_bool(0.9)
        {
            *content = body;
        }
        request
    }

    fn on_own(&mut self, what: fn(&mut Self, Known) -> Request) -> Request {
        if self.own.is_empty() {
            return self.create();
        }
        let place = self.rng.random_range(0..self.own.len());
        match self.own.get(place).copied() {
            Some(known) => what(self, known),
            None => self.create(),
        }
    }

    fn on_contended(&mut self, what: fn(&mut Self, Known) -> Request) -> (Request, bool) {
        let place = self.rng.random_range(0..CONTENDED);
        let known = self.shared.contended().get(place).copied();
        let request = match known {
            Some(worn) if worn.version > Some(MAX_VERSIONS) => Self::delete(self, worn),
            Some(known) => what(self, known),
            None => self.new_message(EVERYONE.to_owned(), None),
        };
        (request, true)
    }

    fn read(&mut self, known: Known) -> Request {
        let _ = self;
        Request::Read { id: known.id }
    }

    fn edit(&mut self, known: Known) -> Request {
        let content = self.client.history.token("e");
        Request::Edit { id: known.id, content, condition: Condition::default() }
    }

    fn conditional_edit(&mut self, known: Known) -> Request {
        let content = self.client.history.token("e");
        Request::Edit { id: known.id, content, condition: self.choose_condition(known) }
    }

    fn delete(&mut self, known: Known) -> Request {
        let _ = self;
        Request::Delete { id: known.id, condition: Condition::default() }
    }

    fn conditional_delete(&mut self, known: Known) -> Request {
        Request::Delete { id: known.id, condition: self.choose_condition(known) }
    }

    /// Chooses a condition about the version that the client knows and those that come next.
    fn choose_condition(&mut self, known: Known) -> Condition {
        let version = known.version.unwrap_or(1);
        match self.rng.random_range(0..10) {
            0..5 => Condition::version(version),
            5..7 => Condition::any_of(vec![version, version + 1, version + 3]),
            7 => Condition {
                if_none_match: vec![version],
                ..Condition::any_of(vec![version, version + 1])
            },
            8 => Condition::none_of(vec![version]),
            _ => Condition::none_of(vec![version + 1, version + 2]),
        }
    }

    /// Updates the remembered messages from a response.
    fn learn(&mut self, done: &Operation, contended: bool) {
        let Some(id) = done.message() else { return };
        let mut shared;
        let (messages, room) = if contended {
            shared = self.shared.contended();
            (&mut *shared, CONTENDED)
        } else {
            (&mut self.own, REMEMBERED)
        };
        let gone = done.response == Response::Deleted
            || matches!(done.failure(), Some(Failure::NotFound | Failure::DeletedSince));
        let place = messages.iter().position(|known| known.id == id);
        match (place, gone) {
            // Not always: a deleted message must stay deleted, which later requests check.
            (Some(place), true) if contended || self.rng.random_bool(0.5) => {
                messages.remove(place);
            }
            (Some(place), _) => {
                if let (Some(known), Some(seen)) = (messages.get_mut(place), done.seen()) {
                    known.version = known.version.max(Some(seen.version));
                }
            }
            (None, false) if matches!(done.request, Request::Create { .. }) => {
                if !contended && messages.len() == room {
                    messages.remove(0);
                }
                if messages.len() < room {
                    messages.push(Known { id, version: done.seen().map(|seen| seen.version) });
                }
            }
            (None, _) => {}
        }
    }
}

fn remember(list: &mut Vec<Repeatable>, entry: Repeatable) {
    if list.len() == REMEMBERED {
        list.remove(0);
    }
    list.push(entry);
}
