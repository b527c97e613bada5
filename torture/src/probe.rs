//! How long the system takes to serve again after a fault.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::{join, join_all};
use testkit::{Api, ServiceProcess};
use tokio::time::{Instant, timeout_at};

use crate::{
    client::{Client, Prefer},
    history::{Outcome, Request},
    system::System,
    workload::RECIPIENT,
};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until a write succeeds through each gateway and every service says that it is ready.
/// `None` where that is not so by the deadline.
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
    let writes = join_all((0..probe.gateways.len()).map(|gateway| written(probe, gateway)));
    let ready = join_all(apis.iter().map(ready));
    let all = timeout_at(deadline, join(writes, ready)).await;
    Ok(all.is_ok().then(|| since.elapsed()))
}

/// Which services do not say that they are ready, and what they say.
pub(crate) async fn not_ready(system: &System) -> Vec<String> {
    let mut unready = Vec::new();
    for service in system.services() {
        let said = said(service).await;
        if !said.starts_with("200") {
            unready.push(format!("{:?}: {said}", service.process()));
        }
    }
    unready
}

async fn said(service: &ServiceProcess) -> String {
    let Ok(api) = service.api() else { return "it has no address".to_owned() };
    let call = api.request(reqwest::Method::GET, "/readyz").timeout(Duration::from_secs(2));
    match api.send(call).await {
        Ok(answer) => format!("{} {}", answer.status, answer.text),
        Err(error) => format!("{error:#}"),
    }
}

async fn written(probe: &Client, gateway: usize) {
    loop {
        let request = Request::Create {
            id: None,
            from: probe.name.clone(),
            to: RECIPIENT.to_owned(),
            content: probe.history.token("probe"),
            key: None,
        };
        let done = probe.ask(gateway, request, Prefer::Nothing).await;
        if matches!(done.outcome, Outcome::Stored { .. }) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ready(api: &Api) {
    loop {
        let call = api.request(reqwest::Method::GET, "/readyz").timeout(Duration::from_secs(2));
        if api.send(call).await.is_ok_and(|answer| answer.status == 200) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
