//! The load processes as their starter sees them.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::load::{Answer, Report, Request};

/// Subscribers of one load process at most.
const PER_PROCESS: usize = 10_000;

/// Longest wait for an answer; a thousand handshakes may lie between two.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// The processes that hold all subscribers of one measurement.
pub(crate) struct Loads(Vec<Load>);

struct Load {
    // Killed on drop.
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    subscribers: usize,
}

impl Loads {
    /// Connects `subscribers` in all to these addresses, `stalling` of which will stall.
    pub(crate) async fn connect(
        addresses: &[SocketAddr],
        subscribers: usize,
        stalling: usize,
    ) -> Result<Self> {
        let mut loads = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            for part in parts(part_of(subscribers, addresses.len(), index)) {
                let stalling = if loads.is_empty() { stalling } else { 0 };
                loads.push(Load::start(*address, part, stalling, loads.len())?);
            }
        }
        let mut this = Self(loads);
        for load in &mut this.0 {
            loop {
                match load.answer().await? {
                    Answer::Connected(count) if count == load.subscribers => break,
                    Answer::Connected(_) => {}
                    answer => bail!("a load process said {answer:?}"),
                }
            }
        }
        Ok(this)
    }

    pub(crate) async fn reset(&mut self) -> Result<()> {
        self.ask(&Request::Reset).await.map(drop)
    }

    pub(crate) async fn stall(&mut self) -> Result<()> {
        self.ask(&Request::Stall).await.map(drop)
    }

    pub(crate) async fn report(&mut self) -> Result<Vec<Report>> {
        let answers = self.ask(&Request::Report).await?.into_iter();
        let reports = answers.map(|answer| match answer {
            Answer::Report(report) => Ok(report),
            answer => bail!("a load process said {answer:?}"),
        });
        reports.collect()
    }

    async fn ask(&mut self, request: &Request) -> Result<Vec<Answer>> {
        let line = format!("{}\n", serde_json::to_string(request)?);
        for load in &mut self.0 {
            load.stdin.write_all(line.as_bytes()).await?;
        }
        let mut answers = Vec::new();
        for load in &mut self.0 {
            answers.push(load.answer().await?);
        }
        Ok(answers)
    }
}

impl Load {
    fn start(
        target: SocketAddr,
        subscribers: usize,
        stalling: usize,
        number: usize,
    ) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("load")
            .args(["--target", &target.to_string()])
            .args(["--subscribers", &subscribers.to_string()])
            .args(["--stalling", &stalling.to_string()])
            .args(["--number", &number.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("a load process cannot be started")?;
        let stdin = child.stdin.take().context("it has a standard input")?;
        let stdout = child.stdout.take().context("it has a standard output")?;
        let stdout = BufReader::new(stdout).lines();
        Ok(Self { _child: child, stdin, stdout, subscribers })
    }

    async fn answer(&mut self) -> Result<Answer> {
        let line = timeout(ANSWER_LIMIT, self.stdout.next_line())
            .await
            .with_context(|| format!("a load process said nothing for {ANSWER_LIMIT:?}"))??
            .context("a load process ended")?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// The size of one of `count` parts of `whole` that are as equal as can be.
fn part_of(whole: usize, count: usize, index: usize) -> usize {
    whole / count + usize::from(index < whole % count)
}

fn parts(whole: usize) -> impl Iterator<Item = usize> {
    let count = whole.div_ceil(PER_PROCESS);
    (0..count).map(move |index| part_of(whole, count, index))
}
