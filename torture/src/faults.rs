//! Faults: how they strike and heal.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use serde_json::json;
use testkit::Proxy;
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    plan::{Fault, Kind},
    replays::{COMMANDS, Replays},
    system::System,
};

/// The policy that puts the queue at its limit.
const FULL: &str = "torture-full";

/// A fault that has not yet been healed.
pub(crate) struct Active {
    pub(crate) fault: Fault,
    /// Cuts a link over and over until it is healed.
    cutting: Option<JoinHandle<()>>,
}

/// Causes a fault.
pub(crate) async fn strike(
    system: &mut System,
    replays: &mut Replays,
    fault: Fault,
) -> Result<Active> {
    let mut cutting = None;
    match fault.kind {
        Kind::KillGateway => system.gateway(fault.replica)?.kill()?,
        Kind::KillWorker => system.worker(fault.replica)?.kill()?,
        Kind::KillBroadcaster => system.broadcaster(fault.replica)?.kill()?,
        Kind::KillBroker => system.broker.kill()?,
        Kind::KillMongod => system.mongod.kill()?,
        Kind::FreezeGateway => system.gateway(fault.replica)?.freeze()?,
        Kind::FreezeWorker => system.worker(fault.replica)?.freeze()?,
        Kind::FreezeBroadcaster => system.broadcaster(fault.replica)?.freeze()?,
        Kind::FreezeBroker => system.broker.freeze()?,
        Kind::FreezeMongod => system.mongod.freeze()?,
        Kind::Cut => {
            let proxy = system.link(fault.link)?;
            // Every other time no connection succeeds between the cuts.
            proxy.refuse(fault.seed.is_multiple_of(2));
            cutting = Some(tokio::spawn(cut_over_and_over(proxy, 200 + fault.seed % 800)));
        }
        Kind::Delay => {
            let delay = Duration::from_millis(20 + fault.seed % 400);
            system.link(fault.link)?.delay(delay);
        }
        Kind::BlackHole => system.link(fault.link)?.freeze(),
        Kind::Alarm => system.broker.raise_alarm().await?,
        Kind::FullQueue => {
            let full = json!({ "max-length-bytes": 1 });
            let pattern = format!("^{COMMANDS}$");
            system.env.management().set_policy(FULL, &pattern, full).await?;
            for worker in &system.workers {
                worker.process.freeze()?;
            }
        }
        Kind::Replay => replays.copy().await?,
        Kind::Poison => replays.poison(&fault.seed.to_string()).await?,
        Kind::NewEpoch => system.renew_epoch().await?,
    }
    Ok(Active { fault, cutting })
}

/// Heals faults, servers before services. Returns the time at which the recovery began: when a killed server is
/// back, or when a killed service is started.
pub(crate) async fn heal(
    system: &mut System,
    replays: &mut Replays,
    mut active: Vec<Active>,
) -> Result<Instant> {
    let restarts =
        |kind| matches!(kind, Kind::KillGateway | Kind::KillWorker | Kind::KillBroadcaster);
    active.sort_by_key(|active| restarts(active.fault.kind) || active.fault.kind == Kind::Replay);
    let mut healed = Instant::now();
    for active in active {
        let service_restarts = restarts(active.fault.kind);
        if service_restarts {
            healed = Instant::now();
        }
        heal_one(system, replays, active).await?;
        if !service_restarts {
            healed = Instant::now();
        }
    }
    Ok(healed)
}

async fn heal_one(system: &mut System, replays: &mut Replays, active: Active) -> Result<()> {
    let fault = active.fault;
    match fault.kind {
        Kind::KillGateway => system.gateway(fault.replica)?.restart().await?,
        Kind::KillWorker => system.worker(fault.replica)?.restart().await?,
        Kind::KillBroadcaster => system.broadcaster(fault.replica)?.restart().await?,
        Kind::KillBroker => system.broker.restart().await?,
        Kind::KillMongod => system.mongod.restart().await?,
        Kind::FreezeGateway => system.gateway(fault.replica)?.thaw()?,
        Kind::FreezeWorker => system.worker(fault.replica)?.thaw()?,
        Kind::FreezeBroadcaster => system.broadcaster(fault.replica)?.thaw()?,
        Kind::FreezeBroker => system.broker.thaw()?,
        Kind::FreezeMongod => system.mongod.thaw()?,
        Kind::Cut => {
            if let Some(cutting) = active.cutting {
                cutting.abort();
            }
            system.link(fault.link)?.refuse(false);
        }
        Kind::Delay => system.link(fault.link)?.delay(Duration::ZERO),
        Kind::BlackHole if fault.strands() => system.link(fault.link)?.strand(),
        Kind::BlackHole => system.link(fault.link)?.thaw(),
        Kind::Alarm => system.broker.clear_alarm().await?,
        Kind::FullQueue => {
            system.env.management().clear_policy(FULL).await?;
            for worker in &system.workers {
                worker.process.thaw()?;
            }
        }
        Kind::Replay => {
            for worker in &system.workers {
                worker.process.kill()?;
            }
            replays.replay(fault.seed).await?;
            for worker in &mut system.workers {
                worker.process.restart().await?;
            }
        }
        Kind::Poison | Kind::NewEpoch => {}
    }
    Ok(())
}

async fn cut_over_and_over(proxy: Arc<Proxy>, pause_ms: u64) {
    loop {
        proxy.cut().await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}
