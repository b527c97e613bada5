//! Messages in both storage formats: while the load runs, what is stored is rewritten as release 0.1 stored it.

use std::time::Duration;

use testkit::FormatOne;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::system::System;

/// Interval of rewriting: often enough that commands meet their own format 1 again, seldom enough that format 2 is there,
/// too.
const INTERVAL: Duration = Duration::from_secs(1);

/// Time until the change of a deletion is in the log, whatever faults there are.
const LOGGED_AFTER: Duration = Duration::from_mins(1);

/// Rewrites until `stop`. The task returns the number of documents.
pub(crate) fn mix(system: &System, stop: CancellationToken) -> JoinHandle<u64> {
    let (uri, database) = (system.env.mongo_uri().to_owned(), system.env.database().to_owned());
    tokio::spawn(async move {
        let mut rewritten = 0;
        let mixing = async {
            // Connecting waits for no server.
            let connected = FormatOne::connect(&uri, &database).await;
            while let Ok(format_1) = &connected {
                // Without a server there is nothing to rewrite.
                rewritten +=
                    format_1.rewrite_but_young_tombstones(LOGGED_AFTER).await.unwrap_or_default();
                sleep(INTERVAL).await;
            }
        };
        stop.run_until_cancelled(mixing).await;
        rewritten
    })
}
