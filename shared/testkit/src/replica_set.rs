//! A replica set of three real servers, one of which may be killed, frozen or lag behind.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{PrivateMongod, Silent, eventually, mongod::REPLICA_SET};

/// Number of members: the smallest that survives the loss of one.
const MEMBERS: usize = 3;

/// Longest election that is waited for.
const ELECTION_LIMIT: Duration = Duration::from_mins(1);

/// Three members of a replica set, killed on drop.
#[derive(Debug)]
pub struct PrivateReplicaSet {
    members: Vec<PrivateMongod>,
}

impl PrivateReplicaSet {
    /// Starts a test's own replica set, empty, whose first member is the primary.
    pub async fn start() -> Result<Self> {
        let members = (0..MEMBERS).map(|_| PrivateMongod::spawn_member());
        let members = members.collect::<Result<Vec<_>>>()?;
        for member in &members {
            member.ready(&Silent).await?;
        }
        let ports: Vec<u16> = members.iter().map(PrivateMongod::port).collect();
        store::admin::initiate_replica_set(&ports, REPLICA_SET).await?;
        Ok(Self { members })
    }

    /// Returns the URI for clients.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts = self.members.iter().map(|it| format!("127.0.0.1:{}", it.port()));
        let hosts = hosts.collect::<Vec<_>>().join(",");
        format!("mongodb://{hosts}/?replicaSet={REPLICA_SET}")
    }

    /// Returns a member.
    #[must_use]
    pub fn member(&self, index: usize) -> &PrivateMongod {
        &self.members[index]
    }

    /// Returns the index of the member that takes writes, once there is one.
    pub async fn primary(&self) -> usize {
        eventually("a member is the primary", ELECTION_LIMIT, async || {
            for (index, member) in self.members.iter().enumerate() {
                if store::admin::is_primary(member.port()).await.unwrap_or(false) {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    /// Makes a member the primary, once the others vote for it.
    pub async fn step_up(&self, index: usize) {
        let port = self.members[index].port();
        eventually("the others elect the member", ELECTION_LIMIT, async || {
            let asked = store::admin::step_up(port).await;
            if matches!(store::admin::is_primary(port).await, Ok(true)) {
                Ok(())
            } else {
                Err(asked)
            }
        })
        .await;
    }

    /// Switches a fail point of a member on or off.
    pub async fn set_fail_point(&self, index: usize, name: &str, on: bool) -> Result<()> {
        let port = self.members[index].port();
        let set = store::admin::set_fail_point(port, name, on).await;
        set.with_context(|| format!("the fail point {name} cannot be set"))
    }

    /// Starts a member again, with its data.
    pub async fn restart(&mut self, index: usize) -> Result<()> {
        self.members[index].restart().await
    }
}
