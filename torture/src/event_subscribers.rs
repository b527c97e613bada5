//! Event subscribers: each follows the messages of one user for the whole run, over one transport. At the end of a stream it
//! resumes at its last position, at another replica or through a gateway. Now and then it reads nothing for a while, leaves
//! by itself, or resumes further back. After a reset it lists the messages.

mod connection;

use std::{
    collections::{HashMap, VecDeque},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use contracts::EventPosition;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use testkit::Api;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    arrivals::{Arrival, Arrived, Followed, Transport},
    checker::{
        Conversation,
        events::missing::{expected, missing},
    },
    history::History,
    settle::list,
    system::System,
    tokens::Tokens,
    workload::{EVERYONE, RECIPIENT},
};
use connection::{Connection, Request, is_refused_for_good};

/// Pause before the next stream.
const PAUSE: Duration = Duration::from_millis(100);

/// Number of past positions that a subscriber may resume at.
const REMEMBERED: usize = 200;

/// Longest time in which a subscriber does nothing but read.
const MAX_CALM_SECS: f64 = 30.0;

/// Longest time in which a subscriber does not read. A WebSocket that takes nothing is closed within it.
const MAX_REST_SECS: f64 = 14.0;

/// Seconds for which a token of a stream is valid. It ends streams that nothing else ends.
const TOKEN_SECS: RangeInclusive<i64> = 5..=60;

/// Interval of looks at what has arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Time until every stream has begun.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// The subscribers and their tasks.
pub(crate) struct EventSubscribers {
    followed: Vec<Followed>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

/// Behaviour of a subscriber beside reading.
#[derive(Clone, Copy, Debug)]
enum Whim {
    Rest,
    Leave,
}

struct EventSubscriber {
    number: usize,
    followed: Followed,
    /// The conversations to list after a reset.
    conversations: Vec<(String, String)>,
    /// Services that it can ask: every broadcaster and every gateway.
    bases: Vec<String>,
    gateways: Vec<Api>,
    tokens: Tokens,
    history: Arc<History>,
    rng: StdRng,
    /// The last positions, newest last.
    positions: VecDeque<EventPosition>,
}

impl EventSubscribers {
    /// Starts the subscribers, and waits until each of them follows. `senders`: the users that send messages.
    pub(crate) async fn start(
        system: &System,
        history: &Arc<History>,
        seed: u64,
        senders: &[String],
    ) -> Result<Self> {
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        let followed = followed(senders);
        for (number, it) in followed.iter().enumerate() {
            let conversations = senders.iter().filter(|sender| it.wants(sender, RECIPIENT));
            let seed = seed.wrapping_mul(1_000).wrapping_add(500 + number as u64);
            let subscriber = EventSubscriber {
                number,
                followed: it.clone(),
                conversations: conversations.map(|it| (it.clone(), RECIPIENT.to_owned())).collect(),
                bases: system.event_bases(),
                gateways: system.apis_of(&it.user)?,
                tokens: system.tokens.clone(),
                history: Arc::clone(history),
                rng: StdRng::seed_from_u64(seed),
                positions: VecDeque::new(),
            };
            let stop = stop.clone();
            tasks.spawn(async move {
                stop.run_until_cancelled(subscriber.follow()).await;
            });
        }
        let subscribers = Self { followed, tasks, stop };
        let all_ready = async {
            while !subscribers.all_are_ready(history) {
                sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(READY_LIMIT, all_ready)
            .await
            .context("an event stream never began")?;
        Ok(subscribers)
    }

    /// Waits until every subscriber has every change, at most for `limit`, and ends the streams. Returns who followed what.
    pub(crate) async fn finish(
        mut self,
        history: &History,
        conversations: &[Conversation],
        limit: Duration,
    ) -> Vec<Followed> {
        let operations = history.operations().clone();
        let expected = expected(&operations, conversations);
        let deadline = Instant::now() + limit;
        while !missing(&expected, &self.followed, &history.arrivals()).is_empty()
            && Instant::now() < deadline
        {
            sleep(LOOK_AGAIN).await;
        }
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.followed
    }

    fn all_are_ready(&self, history: &History) -> bool {
        let arrivals = history.arrivals();
        let ready = arrivals.iter().filter(|it| matches!(it.what, Arrived::Ready { .. }));
        let ready: Vec<usize> = ready.map(|arrival| arrival.subscriber).collect();
        (0..self.followed.len()).all(|number| ready.contains(&number))
    }
}

/// Returns what the subscribers follow: everything, the contended messages, those of one sender, and one conversation, over
/// each transport.
fn followed(senders: &[String]) -> Vec<Followed> {
    let mut follow = vec![(RECIPIENT, None), (EVERYONE, None)];
    if let [first, .., last] = senders {
        follow.extend([(first.as_str(), None), (RECIPIENT, Some(last.clone()))]);
    }
    let all = follow.into_iter().flat_map(|(user, with)| {
        [Transport::Sse, Transport::WebSocket, Transport::Poll].map(|transport| {
            let (user, with) = (user.to_owned(), with.clone());
            Followed { user, with, transport }
        })
    });
    all.collect()
}

impl EventSubscriber {
    async fn follow(mut self) {
        loop {
            let stream = self.history.number();
            let ending = self.stream(stream).await;
            self.record(stream, ending);
            sleep(PAUSE).await;
        }
    }

    /// Follows one stream to its end, and returns how it ended.
    async fn stream(&mut self, stream: u64) -> Arrived {
        let opened = self.open(stream).await;
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(error) if is_refused_for_good(&error) => {
                return Arrived::Unexpected(format!("{error:#}"));
            }
            Err(error) => return Arrived::Ended(format!("{error:#}")),
        };
        let mut whim_at = self.next_whim();
        loop {
            let next = tokio::select! {
                next = connection.next() => next,
                () = sleep_until(whim_at) => match self.whim() {
                    Whim::Leave => return Arrived::Ended("left".to_owned()),
                    Whim::Rest => {
                        let rest = self.rng.random_range(0.1..MAX_REST_SECS);
                        sleep(Duration::from_secs_f64(rest)).await;
                        whim_at = self.next_whim();
                        continue;
                    }
                },
            };
            let arrived = match next {
                Ok(Arrived::Unexpected(what)) => return Arrived::Unexpected(what),
                Ok(arrived) => arrived,
                Err(error) if is_refused_for_good(&error) => {
                    return Arrived::Unexpected(format!("{error:#}"));
                }
                Err(error) => {
                    if let Some(position) = connection.last_position() {
                        self.remember(position);
                    }
                    return Arrived::Ended(format!("{error:#}"));
                }
            };
            if let Some(position) = arrived.position() {
                self.remember(position);
            }
            let is_reset = matches!(arrived, Arrived::Reset { .. });
            self.record(stream, arrived);
            if is_reset {
                // Those before it are in another log.
                let keep_from = self.positions.len().saturating_sub(1);
                self.positions.drain(..keep_from);
                let listed = self.list().await;
                self.record(stream, listed);
            }
        }
    }

    async fn open(&mut self, stream: u64) -> Result<Connection> {
        let after = self.choose_position();
        let place = self.rng.random_range(0..self.bases.len());
        let base = self.bases.get(place).cloned().unwrap_or_default();
        self.record(stream, Arrived::Asked { after, address: base.clone() });
        let Followed { user, with, transport } = &self.followed;
        let with = with.as_ref().map_or(String::new(), |with| format!("&with={with}"));
        Connection::open(Request {
            transport: *transport,
            base: &base,
            query: format!("user_id={user}{with}"),
            after,
            by_header: *transport == Transport::Sse && self.rng.random_bool(0.5),
            wait_secs: self.rng.random_range(0..=5),
            token: self.tokens.token(user, "", self.rng.random_range(TOKEN_SECS)),
        })
        .await
    }

    /// Chooses where to resume: mostly at the end of what has arrived.
    fn choose_position(&mut self) -> Option<EventPosition> {
        if self.positions.len() > 1 && self.rng.random_bool(0.15) {
            let place = self.rng.random_range(0..self.positions.len());
            return self.positions.get(place).copied();
        }
        self.positions.back().copied()
    }

    fn remember(&mut self, position: EventPosition) {
        if self.positions.back() == Some(&position) {
            return;
        }
        if self.positions.len() == REMEMBERED {
            self.positions.pop_front();
        }
        self.positions.push_back(position);
    }

    fn next_whim(&mut self) -> Instant {
        let calm = self.rng.random_range(0.5..MAX_CALM_SECS);
        Instant::now() + Duration::from_secs_f64(calm)
    }

    fn whim(&mut self) -> Whim {
        if self.rng.random_bool(0.4) { Whim::Rest } else { Whim::Leave }
    }

    /// Lists all messages that are followed. Tries again until that succeeds: without it, changes would be missing.
    async fn list(&mut self) -> Arrived {
        let began = self.history.now();
        let mut contents = HashMap::new();
        for (from, to) in self.conversations.clone() {
            let messages = loop {
                let place = self.rng.random_range(0..self.gateways.len());
                let Some(api) = self.gateways.get(place) else { continue };
                match list(api, &from, &to).await {
                    Ok(messages) => break messages,
                    Err(_) => sleep(PAUSE).await,
                }
            };
            let messages = messages.into_iter();
            contents.extend(messages.map(|it| (it.id, it.content.as_str().to_owned())));
        }
        Arrived::Listed { began, contents }
    }

    fn record(&self, stream: u64, what: Arrived) {
        let (subscriber, at) = (self.number, self.history.now());
        self.history.arrivals().push(Arrival { subscriber, stream, at, what });
    }
}
