//! The standard run: the system, its peer and their limits, one after the other on the same servers.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use testkit::settings::{SCRATCH_DIR, required};

use crate::{
    console::{print, say},
    generator::{Measured, closed_loop, constant_rate},
    limits,
    operation::Operation,
    options::RunOptions,
    peer::{self, Peer},
    plot, report,
    results::{Cell, Idle, Results, cores, machine},
    servers::Servers,
    settings::RESULTS_DIR,
    subject::{Stored, Subject},
    system::{self, System},
    usage::{Meter, resident_mib},
};

/// Shares of saturation at which latency is measured, in percent.
const SHARES: [u8; 2] = [50, 80];
/// Connections of a constant rate, so many that it hardly ever waits for one.
const RATE_CONNECTIONS: u16 = 256;
/// Stored messages for each deletion, so many that one in twenty is chosen twice.
const MESSAGES_PER_DELETE: f64 = 10.0;
const WARM_UP_SECONDS: u64 = 2;
/// MongoDB's cache. The standard run's 100,000 messages take a hundredth of it.
pub(crate) const CACHE_GB: f32 = 4.0;

/// A run under way.
pub(crate) struct Bench {
    pub(crate) servers: Servers,
    pub(crate) results: Results,
    /// Directory of the results.
    pub(crate) dir: PathBuf,
    /// Directory of logs and requests.
    pub(crate) scratch: PathBuf,
    pub(crate) script: PathBuf,
    seconds: u64,
}

/// Measures what the options ask for, and writes the results.
pub(crate) async fn run(options: &RunOptions) -> Result<()> {
    let mut bench =
        Bench::start(options.common.name.as_deref(), options.seconds(), options.messages, CACHE_GB)
            .await?;
    let stored = bench.fill(system::DATABASE, false, options.messages).await?;
    bench.measure_system(options, &stored).await?;
    if !options.no_peer {
        let stored = bench.fill(peer::DATABASE, true, options.messages).await?;
        for workers in peer::WORKERS {
            bench.measure_peer(options, &stored, workers).await?;
        }
    }
    if !options.no_limits {
        let limits = limits::measure(&bench.servers, bench.seconds.min(5), &bench.script).await?;
        bench.results.limits = limits;
    }
    bench.finish()
}

impl Bench {
    /// Starts the servers.
    pub(crate) async fn start(
        name: Option<&str>,
        seconds: u64,
        messages: u64,
        cache_gb: f32,
    ) -> Result<Self> {
        let name = name.map_or_else(
            || chrono::Local::now().format("%Y-%m-%d-%H%M%S").to_string(),
            str::to_owned,
        );
        let dir = Path::new(&required(RESULTS_DIR)?).join(&name);
        fs::create_dir_all(&dir)?;
        let scratch = PathBuf::from(required(SCRATCH_DIR)?);
        let script = scratch.join("load.lua");
        fs::write(&script, include_str!("load.lua"))?;
        say("starting RabbitMQ and MongoDB");
        let servers = Servers::start(&scratch.join("servers"), cache_gb).await?;
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let results = Results {
            name,
            command: format!("cargo xtask bench {}", arguments.join(" ")).trim().to_owned(),
            machine: machine(),
            cores: cores(),
            seconds_per_cell: seconds,
            messages,
            cells: Vec::new(),
            limits: Vec::new(),
            idle: Vec::new(),
        };
        Ok(Self { servers, results, dir, scratch, script, seconds })
    }

    /// Fills a database with messages.
    pub(crate) async fn fill(&self, database: &str, plain: bool, messages: u64) -> Result<Stored> {
        say(&format!(
            "storing {messages} messages for {}",
            if plain { "the peer" } else { "this system" }
        ));
        let stored = Stored::new(&self.servers.mongod.url(), database, plain, messages);
        stored.fill().await?;
        Ok(stored)
    }

    async fn measure_system(&mut self, options: &RunOptions, stored: &Stored) -> Result<()> {
        let system = System::start(&self.servers, &self.scratch, &options.common.settings).await?;
        let subject = system.subject(&self.servers);
        if !options.no_idle {
            self.idle(&subject, "before the load").await?;
        }
        self.warm_up(&subject, stored).await?;
        for operation in options.operations() {
            for connections in options.connections(operation) {
                self.closed_loop(&subject, stored, operation, connections).await?;
            }
        }
        if !options.no_rates {
            self.constant_rates(options, &subject, stored).await?;
        }
        if !options.no_idle {
            self.idle(&subject, "after the load").await?;
        }
        Ok(())
    }

    async fn measure_peer(
        &mut self,
        options: &RunOptions,
        stored: &Stored,
        workers: u16,
    ) -> Result<()> {
        let peer = Peer::start(&self.servers, &self.scratch, workers).await?;
        let subject = peer.subject(&self.servers);
        self.warm_up(&subject, stored).await?;
        for operation in options.operations() {
            for connections in options.peer_connections(operation) {
                self.closed_loop(&subject, stored, operation, connections).await?;
            }
        }
        if !options.no_rates && !options.quick {
            self.constant_rates(options, &subject, stored).await?;
        }
        peer.stop().await
    }

    pub(crate) async fn warm_up(&self, subject: &Subject, stored: &Stored) -> Result<()> {
        say(&format!("warming up {}", subject.name));
        let arguments = stored.closed_loop(Operation::Post, WARM_UP_SECONDS).await?;
        closed_loop(&subject.url, 64, WARM_UP_SECONDS, &arguments, &self.script).await?;
        let arguments = stored.closed_loop(Operation::Get, 1).await?;
        let read = closed_loop(&subject.url, 64, 1, &arguments, &self.script).await?;
        ensure!(read.refused == 0, "{} does not find what is stored", subject.name);
        Ok(())
    }

    pub(crate) async fn closed_loop(
        &mut self,
        subject: &Subject,
        stored: &Stored,
        operation: Operation,
        connections: u16,
    ) -> Result<f64> {
        let arguments = stored.closed_loop(operation, self.seconds).await?;
        let meter = Meter::start(&subject.watched)?;
        let measured =
            closed_loop(&subject.url, connections, self.seconds, &arguments, &self.script).await?;
        let rate = measured.rate;
        self.record(subject, operation, connections, None, measured, meter)?;
        Ok(rate)
    }

    /// Measures every operation at shares of its best rate in a closed loop.
    async fn constant_rates(
        &mut self,
        options: &RunOptions,
        subject: &Subject,
        stored: &Stored,
    ) -> Result<()> {
        let mut best: HashMap<Operation, f64> = HashMap::new();
        for cell in self.results.cells.iter().filter(|cell| cell.subject == subject.name) {
            let best = best.entry(cell.operation).or_default();
            *best = best.max(cell.measured.rate);
        }
        for operation in options.operations() {
            let Some(best) = best.get(&operation) else { continue };
            for share in SHARES {
                let rate = best * f64::from(share) / 100.0;
                self.constant_rate(subject, stored, operation, rate, share).await?;
            }
        }
        Ok(())
    }

    async fn constant_rate(
        &mut self,
        subject: &Subject,
        stored: &Stored,
        operation: Operation,
        rate: f64,
        share: u8,
    ) -> Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
        let deletes = rate * self.seconds as f64 * MESSAGES_PER_DELETE;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let deletes = deletes as u64;
        let requests = stored.requests(operation, &subject.url, deletes, &self.scratch).await?;
        let meter = Meter::start(&subject.watched)?;
        let measured =
            constant_rate(operation, &requests, RATE_CONNECTIONS, rate, self.seconds).await?;
        self.record(subject, operation, RATE_CONNECTIONS, Some(share), measured, meter)
    }

    fn record(
        &mut self,
        subject: &Subject,
        operation: Operation,
        connections: u16,
        share: Option<u8>,
        measured: Measured,
        meter: Meter,
    ) -> Result<()> {
        let (usage, busy) = meter.stop()?;
        let busy_cores = busy / measured.seconds;
        let subject = subject.name.clone();
        let cell = Cell { subject, operation, connections, share, measured, usage, busy_cores };
        say(&report::line(&cell));
        self.results.cells.push(cell);
        self.results.save(&self.dir)
    }

    async fn idle(&mut self, subject: &Subject, when: &str) -> Result<()> {
        let seconds = self.seconds.min(10);
        say(&format!("idle for {seconds} s"));
        let meter = Meter::start(&subject.watched)?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let (used, _) = meter.stop()?;
        for (used, watched) in used.iter().zip(&subject.watched) {
            self.results.idle.push(Idle {
                when: when.to_owned(),
                process: used.name.clone(),
                resident_mib: resident_mib(watched.pid)?,
                #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
                percent_of_a_core: used.cpu_seconds * 100.0 / seconds as f64,
            });
        }
        self.results.save(&self.dir)
    }

    /// Writes the report, and says where it is.
    pub(crate) fn finish(self) -> Result<()> {
        self.results.save(&self.dir)?;
        let text = report::markdown(&self.results);
        fs::write(self.dir.join("report.md"), &text)?;
        for (file, svg) in plot::plots(&self.results) {
            fs::write(self.dir.join(file), svg)?;
        }
        print(&text);
        say(&format!("written to {}", self.dir.display()));
        Ok(())
    }
}
