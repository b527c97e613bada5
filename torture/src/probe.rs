//! Time that the system takes to recover from a fault.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::{join_all, join3};
use testkit::{Api, ServiceProcess};
use tokio::time::Instant;

use crate::{
    client::{Client, Prefer},
    history::{Frame, History, Request, Response},
    system::System,
    workload::RECIPIENT,
};

/// Frames to look at; fewer can arrive between two looks.
const RECENT_FRAMES: usize = 64;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until a write succeeds through each gateway, every service is ready, and every subscriber has had a
/// frame. `None` if that has not happened by the deadline. It may return a little later, because no request is
/// abandoned: it is part of the history.
pub(crate) async fn recovered(
    system: &System,
    probe: &Client,
    since: Instant,
    deadline: Instant,
) -> Result<Option<Duration>> {
    let mut apis = Vec::new();
    for service in system.services() {
        apis.push(service.api()?);
    }
    let writes = (0..probe.gateways.len()).map(|gateway| written(probe, gateway, deadline));
    let ready = apis.iter().map(|api| ready(api, deadline));
    let frames =
        (0..system.broadcasters.len()).map(|number| frame(&probe.history, number, deadline));
    let (writes, ready, frames) = join3(join_all(writes), join_all(ready), join_all(frames)).await;
    let all = [writes, ready, frames].concat().into_iter().all(|recovered| recovered);
    Ok(all.then(|| since.elapsed()))
}

/// Returns the services that are not ready, with their responses.
pub(crate) async fn not_ready(system: &System) -> Vec<String> {
    let mut unready = Vec::new();
    for service in system.services() {
        let response = readyz(service).await;
        if !response.starts_with("200") {
            unready.push(format!("{:?}: {response}", service.process()));
        }
    }
    unready
}

async fn readyz(service: &ServiceProcess) -> String {
    let Ok(api) = service.api() else { return "it has no address".to_owned() };
    let call = api.request(reqwest::Method::GET, "/readyz").timeout(Duration::from_secs(2));
    match api.send(call).await {
        Ok(answer) => format!("{} {}", answer.status, answer.text),
        Err(error) => format!("{error:#}"),
    }
}

async fn written(probe: &Client, gateway: usize, deadline: Instant) -> bool {
    while Instant::now() < deadline {
        let request = Request::Create {
            id: None,
            from: probe.name.clone(),
            to: RECIPIENT.to_owned(),
            content: probe.history.token("probe"),
            key: None,
        };
        let done = probe.ask(gateway, request, Prefer::Nothing).await;
        if matches!(done.response, Response::Stored { .. }) {
            return true;
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}

/// Waits for a frame to this subscriber.
async fn frame(history: &History, subscriber: usize, deadline: Instant) -> bool {
    let now = history.now();
    let is_it = |frame: &Frame| frame.subscriber == subscriber && frame.at > now;
    while Instant::now() < deadline {
        if history.frames().iter().rev().take(RECENT_FRAMES).any(is_it) {
            return true;
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}

async fn ready(api: &Api, deadline: Instant) -> bool {
    while Instant::now() < deadline {
        let call = api.request(reqwest::Method::GET, "/readyz").timeout(Duration::from_secs(2));
        if api.send(call).await.is_ok_and(|answer| answer.status == 200) {
            return true;
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}
