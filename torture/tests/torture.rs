//! A short torture of the real system, and one of a system that lies. Run by `cargo xtask test`.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
use testkit::{Progress, TestEnvironment};
use torture::{
    Lie, Options, Report,
    arrivals::{Arrival, Arrived},
    run,
};

/// A verdict must not hang on how busy the machine is, so recoveries may take their time here.
const PATIENT_SECS: u64 = 120;

async fn torture(options: Options) -> Result<Report> {
    let liar = PathBuf::from(env!("CARGO_BIN_EXE_lying-worker"));
    let options = Options {
        clients: 8,
        recovery_secs: PATIENT_SECS,
        black_hole_recovery_secs: PATIENT_SECS,
        answer_slack_secs: 8,
        frame_gap_secs: 30,
        // Where something is missing, that is waited for.
        arrival_secs: if options.lie.is_some() { 10 } else { PATIENT_SECS },
        ..options
    };
    // Shown where the test fails.
    let progress = |line: &str| println!("{line}");
    let report = run(&options, liar, &progress as &dyn Progress).await?;
    println!("{report}");
    Ok(report)
}

#[tokio::test]
async fn the_promises_are_kept_under_faults() -> Result<()> {
    let options = Options { seconds: Some(40), ..Options::with_seed(11) };
    let report = torture(options).await?;
    assert!(report.is_clean(), "{report}");
    assert!(!report.recoveries.is_empty());
    let resumed = |arrival: &Arrival| matches!(arrival.what, Arrived::Ready { resumed: true, .. });
    assert!(report.streams.arrivals.iter().any(resumed), "no event stream was resumed");
    assert!(report.rewritten > 0, "all documents were in storage format 2");
    Ok(())
}

/// Workers that lie break this rule, and nothing else is done to them.
async fn is_found_out(lie: Lie, rule: &str) -> Result<()> {
    let (lie, faults) = (Some(lie), "none".to_owned());
    let options = Options { operations: Some(300), faults, lie, ..Options::with_seed(12) };
    let report = torture(options).await?;
    assert!(report.violations.iter().any(|violation| violation.rule == rule), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_answers_before_it_creates_is_found_out() -> Result<()> {
    is_found_out(Lie::Creates, "an acknowledged message is missing").await
}

#[tokio::test]
async fn a_worker_that_answers_before_it_edits_is_found_out() -> Result<()> {
    is_found_out(Lie::Edits, "an acknowledged state was undone, or not seen").await
}

#[tokio::test]
async fn a_worker_that_answers_before_it_deletes_is_found_out() -> Result<()> {
    is_found_out(Lie::Deletions, "a deleted message came back").await
}

#[tokio::test]
async fn a_worker_that_keeps_changes_out_of_the_log_is_found_out() -> Result<()> {
    is_found_out(Lie::Events, "every change reaches who follows its message, or a reset comes")
        .await
}

/// What the replays of a torture lean on: a copy that was looked at and put back is delivered as what
/// it is, a delivery that is not the first.
#[tokio::test]
async fn a_copied_delivery_can_be_marked_as_delivered_before() -> Result<()> {
    let env = TestEnvironment::new().await;
    let management = env.management();
    management.declare_queue("copies", json!({ "x-queue-type": "quorum" })).await?;
    assert!(management.publish("", "copies", b"again", json!({})).await?);
    management.peek("copies", 1).await?;
    let taken = management.take("copies", 1).await?;
    assert_eq!(taken[0].headers.get("x-delivery-count"), Some(&json!(1)), "{taken:?}");
    Ok(())
}
