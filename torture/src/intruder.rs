//! An intruder: asks for what other users have, and tries to change it, all through the run.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use contracts::MessageId;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use testkit::Api;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    checker::Violation,
    history::{History, Operation, Response},
    system::System,
    workload::RECIPIENT,
};

/// Name of the user; nobody writes to it.
const NAME: &str = "mallory";

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(40);

/// Time for an attempt.
const PATIENCE: Duration = Duration::from_secs(16);

/// Number of operations among which a victim is chosen.
const RECENT: usize = 400;

struct Intruder {
    /// Each gateway, with a token of the intruder and with one of the recipient of everything.
    gateways: Vec<[Api; 2]>,
    history: Arc<History>,
    rng: StdRng,
    found: Vec<Violation>,
}

/// Starts the intruder, if the system has rules that it can break. Returns what it was not refused.
pub(crate) fn intrude(
    system: &System,
    history: &Arc<History>,
    seed: u64,
    stop: CancellationToken,
) -> Result<JoinHandle<Vec<Violation>>> {
    let tokens = &system.tokens;
    let gateways = system
        .client_apis()?
        .into_iter()
        .map(|api| [NAME, RECIPIENT].map(|user| tokens.of_user(api.clone(), user)));
    let mut intruder = Intruder {
        gateways: gateways.collect(),
        history: Arc::clone(history),
        rng: StdRng::seed_from_u64(seed),
        found: Vec::new(),
    };
    let is_ruled = tokens.are_required();
    Ok(tokio::spawn(async move {
        while is_ruled && !stop.is_cancelled() {
            intruder.attempt().await;
            sleep(PAUSE).await;
        }
        intruder.found
    }))
}

impl Intruder {
    /// Attempts one thing. What the system cannot answer is no answer.
    async fn attempt(&mut self) {
        let Some(victim) = self.victim() else { return };
        let place = self.rng.random_range(0..self.gateways.len());
        let as_recipient = self.rng.random_bool(0.3);
        let Some(apis) = self.gateways.get(place) else { return };
        let api = apis[usize::from(as_recipient)].clone();
        let (call, allowed) = self.choose(&api, &victim, as_recipient);
        let Ok(answer) = api.send(call.timeout(PATIENCE)).await else { return };
        // A gateway that is cut off says so.
        let is_outage = (502..=504).contains(&answer.status);
        if !is_outage && !allowed.contains(&answer.status) {
            self.found.push(Violation {
                rule: "intrusion",
                message: victim.message(),
                detail: format!("{victim:?} of another user: {} {}", answer.status, answer.text),
            });
        }
    }

    fn victim(&mut self) -> Option<Operation> {
        let operations = self.history.operations();
        let from = operations.len().saturating_sub(RECENT);
        let place = self.rng.random_range(from..operations.len().max(from + 1));
        operations.get(place).cloned()
    }

    /// Chooses a request about a victim, and says which answers refuse it. A deletion may be accepted before the message was
    /// looked at; the checker finds out whether it took effect.
    fn choose(
        &mut self,
        api: &Api,
        victim: &Operation,
        as_recipient: bool,
    ) -> (RequestBuilder, &'static [u16]) {
        let id = victim.message().unwrap_or_else(MessageId::generate);
        let path = format!("/api/messages/{id}");
        let content = json!({ "content": "intrusion" });
        let client = &victim.client;
        // A stranger does not learn that there is such a message. The recipient knows.
        let (edit, delete): (&[u16], &[u16]) =
            if as_recipient { (&[403, 404], &[202, 403, 404]) } else { (&[404], &[202, 404]) };
        match self.rng.random_range(0..7) {
            0 => (api.request(Method::PUT, &path).json(&content), edit),
            1 => {
                let call = api.request(Method::PUT, &path).json(&content);
                (call.header("if-match", "\"1\", \"2\", \"3\""), edit)
            }
            2 => (api.request(Method::DELETE, &path), delete),
            3 => (api.request(Method::DELETE, &path).header("if-match", "*"), delete),
            4 => {
                let body = json!({ "from_user_id": client, "to_user_id": NAME, "content": "x" });
                (api.request(Method::POST, "/api/messages").json(&body), &[403])
            }
            5 if !as_recipient => {
                let pair = format!("from_user_id={client}&to_user_id={RECIPIENT}");
                (api.request(Method::GET, &format!("/api/messages?{pair}")), &[403])
            }
            _ => match &victim.response {
                Response::Accepted { operation, .. } => {
                    let path = format!("/api/operations/{operation}");
                    (api.request(Method::GET, &path), &[404])
                }
                // The recipient may read the message.
                _ if as_recipient => {
                    let path = format!("/api/events?user_id={client}");
                    (api.request(Method::GET, &path), &[403])
                }
                _ => (api.request(Method::GET, &path), &[404]),
            },
        }
    }
}
