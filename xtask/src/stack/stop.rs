//! Stops a stack's processes in order: first those that take requests, last those that others need.

use std::{env, time::Duration};

use nix::sys::signal::Signal;
use testkit::{Progress, Steps};
use tokio_util::sync::CancellationToken;

use super::{Entry, Role};

/// Maximum time until a killed process is gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Stops the processes, each role after the one before it has ended. One that does not end in time
/// is killed; once `kill` is cancelled, all are.
pub(crate) async fn stop(mut processes: Vec<Entry>, kill: &CancellationToken, steps: Steps) {
    processes.retain(|entry| entry.id.is_alive());
    for role in Role::ALL {
        let stage: Vec<&Entry> = processes.iter().filter(|entry| entry.role == role).collect();
        if stage.is_empty() {
            continue;
        }
        let names: Vec<&str> = stage.iter().map(|entry| entry.name.as_str()).collect();
        steps.say(&format!("stopping {}", names.join(", ")));
        for entry in &stage {
            // A frozen process takes the first signal only after the second.
            for signal in [Signal::SIGTERM, Signal::SIGCONT] {
                send(entry, signal, steps);
            }
        }
        let ended = async {
            let mut all_gone = true;
            for entry in &stage {
                all_gone &= entry.id.gone(grace_period(role)).await;
            }
            all_gone
        };
        if kill.run_until_cancelled(ended).await != Some(true) {
            kill_all(&stage, steps).await;
        }
    }
}

async fn kill_all(stage: &[&Entry], steps: Steps) {
    for entry in stage.iter().filter(|entry| entry.id.is_alive()) {
        steps.say(&format!("killing {} (pid {})", entry.name, entry.id.pid));
        send(entry, Signal::SIGKILL, steps);
    }
    for entry in stage {
        if !entry.id.gone(KILL_LIMIT).await {
            steps.say(&format!("{} (pid {}) cannot be killed", entry.name, entry.id.pid));
        }
    }
}

fn send(entry: &Entry, signal: Signal, steps: Steps) {
    let sent = match entry.role {
        Role::Tests => entry.id.signal_group(signal),
        _ => entry.id.signal(signal),
    };
    if let Err(error) = sent {
        steps.say(&format!("{}: {error:#}", entry.name));
    }
}

/// Returns the time that a process has to end by itself.
fn grace_period(role: Role) -> Duration {
    let grace_ms = env::var("SHUTDOWN_GRACE_MS").ok().and_then(|grace_ms| grace_ms.parse().ok());
    match role {
        Role::Gateway | Role::Backend => {
            Duration::from_millis(grace_ms.unwrap_or(30_000)) + Duration::from_secs(5)
        }
        Role::Broker => Duration::from_secs(30),
        Role::Database => Duration::from_secs(20),
        Role::Tests | Role::PortMapper => Duration::from_secs(2),
    }
}
