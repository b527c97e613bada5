//! A real `mongod` of one's own: one member of a replica set, or standalone.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    Group, Process, Progress, Silent, TlsFiles, free_port,
    settings::{self, required},
};

/// The name of the private replica set.
pub(crate) const REPLICA_SET: &str = "rs0";
/// Longest boot that is waited for; it takes about a second.
const BOOT_LIMIT: Duration = Duration::from_mins(1);
/// Longest single attempt to reach it.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
/// Longest graceful stop that is waited for.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Options of a private `mongod`.
#[derive(Clone, Debug)]
pub struct MongodOptions {
    /// The program.
    pub program: PathBuf,
    /// Its data; what is there already is used.
    pub dir: PathBuf,
    /// Existing directory for `mongod.log`.
    pub log_dir: PathBuf,
    /// One member of a replica set (false: standalone).
    pub replica_set: bool,
    /// Cache in GB, 0.25 at least.
    pub cache_gb: f32,
    /// The process group it joins.
    pub group: Group,
    /// Certificates for clients that speak TLS.
    pub tls: Option<TlsFiles>,
    /// True to require authentication. Not for a replica set, whose members would need a key.
    pub authorization: bool,
}

/// A running `mongod` on a free loopback port. Killed on drop.
#[derive(Debug)]
pub struct PrivateMongod {
    options: MongodOptions,
    port: u16,
    process: Process,
    /// Tells that it has a replica set with others, which somebody else initiates.
    has_others: bool,
    // After the process, so that the data is removed when it no longer writes.
    scratch: Option<TempDir>,
}

impl PrivateMongod {
    /// Starts a test's own single-member replica set, empty, in a directory that goes with it.
    pub async fn start() -> Result<Self> {
        Self::start_with(true, None).await
    }

    /// Starts a test's own standalone server, as [`PrivateMongod::start`] does.
    pub async fn start_standalone() -> Result<Self> {
        Self::start_with(false, None).await
    }

    /// Does what [`PrivateMongod::start`] does, for clients that speak TLS, too.
    pub async fn start_with_tls(files: &TlsFiles) -> Result<Self> {
        Self::start_with(true, Some(files.clone())).await
    }

    /// Starts a test's own standalone server for clients that speak TLS, too.
    pub async fn start_standalone_with_tls(files: &TlsFiles) -> Result<Self> {
        Self::start_with(false, Some(files.clone())).await
    }

    /// Starts one and does not wait.
    pub fn spawn(options: MongodOptions) -> Result<Self> {
        Self::spawn_alone_or_not(options, false)
    }

    /// Starts one that is going to be a member of a larger replica set, empty, in a directory that goes with it.
    pub(crate) fn spawn_member() -> Result<Self> {
        let (scratch, options) = scratch_options(true, None)?;
        let mut mongod = Self::spawn_alone_or_not(options, true)?;
        mongod.scratch = Some(scratch);
        Ok(mongod)
    }

    fn spawn_alone_or_not(options: MongodOptions, has_others: bool) -> Result<Self> {
        fs::create_dir_all(&options.dir)
            .with_context(|| format!("{} cannot be made", options.dir.display()))?;
        let port = port(&options.dir)?;
        let process = spawn(&options, port, has_others)?;
        Ok(Self { options, port, process, has_others, scratch: None })
    }

    /// The URI for clients.
    #[must_use]
    pub fn url(&self) -> String {
        let query = if self.options.replica_set {
            format!("?replicaSet={REPLICA_SET}")
        } else {
            String::new()
        };
        format!("mongodb://127.0.0.1:{}/{query}", self.port)
    }

    /// The URI for clients that want this server, whether or not it is the primary.
    #[must_use]
    pub fn direct_url(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port)
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The server's process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Kills it (`SIGKILL`).
    pub fn kill(&self) -> Result<()> {
        self.process.kill()
    }

    /// Stops it gracefully.
    pub async fn stop(&self) -> Result<()> {
        self.process.terminate(STOP_LIMIT).await.map(drop)
    }

    /// Freezes it: connections stay open, and it does not answer.
    pub fn freeze(&self) -> Result<()> {
        self.process.freeze()
    }

    /// Makes it a secondary of a replica set that has no primary. Only for one with a replica set.
    pub async fn step_down(&self) -> Result<()> {
        const LONGEST_SECONDS: u32 = 600;
        Ok(store::admin::step_down(self.port, LONGEST_SECONDS).await?)
    }

    /// Ends [`PrivateMongod::step_down`].
    pub async fn end_step_down(&self) -> Result<()> {
        Ok(store::admin::end_step_down(self.port).await?)
    }

    /// Lets it go on after [`PrivateMongod::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.process.thaw()
    }

    /// Starts it again on the same port with the same data, killing it first where it still runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = spawn(&self.options, self.port, self.has_others)?;
        self.ready(&Silent).await
    }

    /// Starts it again so that only the users that were made may do anything.
    pub async fn require_users(&mut self) -> Result<()> {
        self.options.authorization = true;
        self.stop().await?;
        self.restart().await
    }

    /// Lets it outlive this value and the caller.
    pub fn detach(self) {
        self.process.detach();
    }

    /// Waits until it answers and, in a replica set of its own, is primary.
    pub async fn ready(&self, progress: &dyn Progress) -> Result<()> {
        let begun = Instant::now();
        let mut told = begun;
        loop {
            if let Some(status) = self.process.try_exit()? {
                bail!("mongod has ended ({status})\n{}", self.process.log_tail());
            }
            let initiate = self.options.replica_set && !self.has_others;
            let attempt = timeout(ATTEMPT_LIMIT, prepare(self.port, initiate)).await;
            let error = match attempt {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => anyhow::anyhow!("no answer within {ATTEMPT_LIMIT:?}"),
            };
            if begun.elapsed() > BOOT_LIMIT {
                return Err(error).with_context(|| {
                    format!("mongod is not ready after {BOOT_LIMIT:?}\n{}", self.process.log_tail())
                });
            }
            if told.elapsed() > Duration::from_secs(5) {
                progress.say(&format!("MongoDB: booting, {} s so far", begun.elapsed().as_secs()));
                told = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn start_with(replica_set: bool, tls: Option<TlsFiles>) -> Result<Self> {
        let (scratch, options) = scratch_options(replica_set, tls)?;
        let mut mongod = Self::spawn(options)?;
        mongod.ready(&Silent).await?;
        mongod.scratch = Some(scratch);
        Ok(mongod)
    }
}

/// Options of a server in a new directory.
fn scratch_options(replica_set: bool, tls: Option<TlsFiles>) -> Result<(TempDir, MongodOptions)> {
    let scratch = settings::scratch_dir("mongod-")?;
    let options = MongodOptions {
        program: required(settings::MONGOD)?.into(),
        dir: scratch.path().join("data"),
        log_dir: scratch.path().to_owned(),
        replica_set,
        cache_gb: 0.25,
        group: Group::Callers,
        tls,
        authorization: false,
    };
    Ok((scratch, options))
}

/// A replica set's configuration names its member's port, so data stays with the port it began with.
fn port(dir: &Path) -> Result<u16> {
    let file = dir.join("port");
    let Some(port) = fs::read_to_string(&file).ok().and_then(|port| port.trim().parse().ok())
    else {
        let port = free_port()?;
        fs::write(&file, port.to_string())?;
        return Ok(port);
    };
    if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
        let dir = dir.display();
        bail!(
            "port {port} is taken, which the MongoDB data in {dir} is bound to: free it, or remove the data"
        );
    }
    Ok(port)
}

async fn prepare(port: u16, initiate: bool) -> Result<()> {
    // The driver would wait half a second after a first look at a port without a listener.
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    store::admin::ping(port).await?;
    if initiate {
        store::admin::initiate_replica_set(&[port], REPLICA_SET).await?;
    }
    Ok(())
}

fn spawn(options: &MongodOptions, port: u16, has_others: bool) -> Result<Process> {
    let mut command = Command::new(&options.program);
    command
        .arg("--dbpath")
        .arg(&options.dir)
        .args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--port", &port.to_string()])
        .args(["--wiredTigerCacheSizeGB", &options.cache_gb.to_string()])
        .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
        // Nothing reads the past. Five minutes of it, the default, cost edits a fifth of their rate.
        .args(["--setParameter", "minSnapshotHistoryWindowInSeconds=5"])
        // A single member has no other to hand over to before it stops.
        .args(["--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"]);
    if options.replica_set {
        command.args(["--replSet", REPLICA_SET]);
    }
    if has_others {
        // Fail points: what a slow network or disk does, at will.
        command.args(["--setParameter", "enableTestCommands=1"]);
    }
    if options.authorization {
        command.arg("--auth");
    }
    if let Some(files) = &options.tls {
        command
            .args(["--tlsMode", "preferTLS", "--tlsAllowConnectionsWithoutCertificates"])
            .arg("--tlsCertificateKeyFile")
            .arg(&files.certificate_and_key)
            .arg("--tlsCAFile")
            .arg(&files.authority);
    }
    Process::spawn("mongod", command, &options.log_dir.join("mongod.log"), options.group)
}
