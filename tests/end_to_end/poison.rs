//! Deliveries that cannot be applied.

use std::time::Duration;

use anyhow::{Context, Result};
use end_to_end::{System, at_millis, create_command, inject};
use serde_json::Value;
use testkit::eventually;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_cannot_be_read_is_parked_and_its_neighbours_are_applied() -> Result<()> {
    let system = System::start().await?;
    let (before, after) =
        (create_command("alice", "bob", "before")?, create_command("alice", "bob", "after")?);
    inject(&system.env, b"not JSON").await?;
    let neighbours = format!(
        "[{},{{\"format\":99}},{}]",
        serde_json::to_string(&before)?,
        serde_json::to_string(&after)?
    );
    inject(&system.env, neighbours.as_bytes()).await?;
    let mut late = create_command("alice", "bob", "a week late")?;
    late.issued_at = at_millis(late.issued_at, -7 * 24 * 60 * 60 * 1000)?;
    inject(&system.env, &serde_json::to_vec(&[&late])?).await?;

    eventually("the neighbours are applied", SOON, async || {
        system.list("alice", "bob").await.is_ok_and(|listed| listed.len() == 2)
    })
    .await;
    let management = system.env.management();
    eventually("three letters are parked", SOON, async || {
        let depth = management.queue_depth("messages.dead").await?;
        anyhow::ensure!(depth == 3, "{depth} are parked");
        Ok(())
    })
    .await;
    let parked = management.take("messages.dead", 10).await?;
    assert_eq!(parked[0].payload, b"not JSON");
    assert_eq!(parked[1].payload, b"[{\"format\":99}]");
    let reason = |index: usize| {
        parked[index].headers.get("x-parked-reason").and_then(Value::as_str).context("no reason")
    };
    assert!(reason(0)?.starts_with("the delivery is not a JSON array of commands"));
    assert!(reason(1)?.starts_with("the command cannot be read: unknown command format 99"));
    assert_eq!(reason(2)?, "the create is older than 6 days");
    for letter in &parked {
        for header in ["x-parked-at", "x-parked-by", "x-parked-from"] {
            assert!(letter.headers.contains_key(header), "{header} is missing");
        }
    }
    eventually("nothing is left to deliver", SOON, async || {
        let depth = management.queue_depth("messages.commands").await?;
        anyhow::ensure!(depth == 0, "{depth} are left");
        Ok(())
    })
    .await;
    Ok(())
}
