//! The services' logs on standard output while the stack runs, and a notice of each process that dies.

use std::{
    convert::Infallible,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;
use testkit::Process;
use tokio_util::sync::CancellationToken;

use super::Stack;
use crate::console;

/// Pause between two looks at files and processes.
const PAUSE: Duration = Duration::from_millis(100);

/// Prints the services' logs, and the end of the log of a process that dies before `stopping` is
/// cancelled. The others go on.
pub(super) async fn follow(stack: &Stack, stopping: &CancellationToken) -> Infallible {
    let services = stack.services.get().into_iter().flatten();
    let mut tails: Vec<Tail> =
        services.map(|service| Tail::new(service.name(), &service.process)).collect();
    let mut running: Vec<(&str, &Process)> = stack.processes().collect();
    loop {
        for tail in &mut tails {
            // A file that cannot be read now may be readable at the next look.
            let _ = tail.print();
        }
        running.retain(|(name, process)| match process.try_exit() {
            Ok(Some(status)) if !stopping.is_cancelled() => {
                console::line(&format!(
                    "{}\n{name} has died ({status}) and is not restarted; the others go on",
                    process.log_tail()
                ));
                false
            }
            Ok(Some(_)) => false,
            _ => true,
        });
        tokio::time::sleep(PAUSE).await;
    }
}

/// One log file, and the number of bytes of it that have been printed.
struct Tail {
    name: String,
    log: PathBuf,
    printed: u64,
}

impl Tail {
    fn new(name: &str, process: &Process) -> Self {
        Self { name: name.to_owned(), log: process.log_path().to_owned(), printed: 0 }
    }

    /// Prints the new complete lines.
    fn print(&mut self) -> Result<()> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.printed))?;
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        let complete = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        new.truncate(complete);
        for line in String::from_utf8_lossy(&new).lines() {
            console::line(&format!("{} | {line}", self.name));
        }
        self.printed += u64::try_from(complete)?;
        Ok(())
    }
}
