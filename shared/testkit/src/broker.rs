//! A real RabbitMQ node of one's own, with the management plugin and an own epmd.

use std::{
    env, fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    Group, Management, Process, Progress, Silent, TlsFiles, free_port,
    provision::find_epmd,
    settings::{self, required},
};

/// Longest boot that is waited for; on two busy cores it takes 10 to 30 s.
const BOOT_LIMIT: Duration = Duration::from_mins(2);
/// Longest graceful stop that is waited for.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Interval at which each queue reports its length.
const REPORT_INTERVAL_MS: u64 = 100;
/// The oldest that such a report can be, with something to spare.
pub(crate) const REPORT_LAG: Duration = Duration::from_millis(250);
/// The node's name. Nodes of several brokers don't meet: each has its own epmd.
const NODE: &str = "messages@localhost";

/// Options of a private broker.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// The `rabbitmq-server` script.
    pub server: PathBuf,
    /// Its data and configuration; data that is there already is used.
    pub dir: PathBuf,
    /// Existing directory for `rabbitmq.log` and `epmd.log`.
    pub log_dir: PathBuf,
    /// The process group it joins.
    pub group: Group,
    /// Certificates for TLS, on a port beside the plain one.
    pub tls: Option<TlsFiles>,
    /// True to export metrics for Prometheus.
    pub prometheus: bool,
}

/// A running RabbitMQ node on free loopback ports. Killed on drop.
#[derive(Debug)]
pub struct PrivateBroker {
    options: BrokerOptions,
    ports: Ports,
    beam: Process,
    epmd: Process,
    management: Management,
    // After the processes, so that the data is removed when they no longer write it.
    scratch: Option<TempDir>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    amqp: u16,
    amqps: u16,
    management: u16,
    prometheus: u16,
    distribution: u16,
    epmd: u16,
}

impl PrivateBroker {
    /// Starts a test's own broker, empty, in a directory that goes with it. Takes 10 s and a core.
    pub async fn start() -> Result<Self> {
        Self::start_with(None, false).await
    }

    /// The same with a TLS listener beside the plain one.
    pub async fn start_with_tls(files: &TlsFiles) -> Result<Self> {
        Self::start_with(Some(files.clone()), false).await
    }

    /// The same with metrics for Prometheus, at [`PrivateBroker::prometheus_url`].
    pub async fn start_with_prometheus() -> Result<Self> {
        Self::start_with(None, true).await
    }

    async fn start_with(tls: Option<TlsFiles>, prometheus: bool) -> Result<Self> {
        let scratch = settings::scratch_dir("rabbitmq-")?;
        let options = BrokerOptions {
            server: required(settings::RABBITMQ_SERVER)?.into(),
            dir: scratch.path().join("node"),
            log_dir: scratch.path().to_owned(),
            group: Group::Callers,
            tls,
            prometheus,
        };
        let mut broker = Self::spawn(options)?;
        broker.ready(&Silent).await?;
        broker.scratch = Some(scratch);
        Ok(broker)
    }

    /// Starts one and does not wait.
    pub fn spawn(options: BrokerOptions) -> Result<Self> {
        let ports = Ports {
            amqp: free_port()?,
            amqps: free_port()?,
            management: free_port()?,
            prometheus: free_port()?,
            distribution: free_port()?,
            epmd: free_port()?,
        };
        write_configuration(&options, ports)?;
        let management =
            Management::new(&format!("http://127.0.0.1:{}", ports.management), REPORT_LAG)?;
        let epmd = spawn_epmd(&options, ports)?;
        let beam = spawn_beam(&options, ports)?;
        Ok(Self { options, ports, beam, epmd, management, scratch: None })
    }

    /// The AMQP URL of the vhost `/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports.amqp)
    }

    /// Host and port where it speaks TLS.
    #[must_use]
    pub fn tls_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.amqps)
    }

    /// Returns the URL of its metrics, without a path.
    #[must_use]
    pub fn prometheus_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.prometheus)
    }

    /// A client of its management API, for the vhost `/`.
    #[must_use]
    pub fn management(&self) -> &Management {
        &self.management
    }

    /// The node's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.beam.pid()
    }

    /// The node's process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.beam
    }

    /// The process of the node's own port mapper, which ends after it.
    #[must_use]
    pub fn epmd(&self) -> &Process {
        &self.epmd
    }

    /// Kills the node (`SIGKILL`).
    pub fn kill(&self) -> Result<()> {
        self.beam.kill()
    }

    /// Stops the node gracefully. [`PrivateBroker::restart`] brings it back.
    pub async fn stop(&self) -> Result<()> {
        self.beam.terminate(STOP_LIMIT).await.map(drop)
    }

    /// Freezes the node: connections stay open, and it does not answer.
    pub fn freeze(&self) -> Result<()> {
        self.beam.freeze()
    }

    /// Lets it go on after [`PrivateBroker::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.beam.thaw()
    }

    /// Starts it again on the same ports with the same data, killing it first where it still runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.start_again()?;
        self.ready(&Silent).await
    }

    /// Does what [`PrivateBroker::restart`] does, without waiting until it takes connections.
    pub fn start_again(&mut self) -> Result<()> {
        self.beam.kill()?;
        self.beam = spawn_beam(&self.options, self.ports)?;
        Ok(())
    }

    /// Waits until the node takes connections.
    pub async fn ready(&self, progress: &dyn Progress) -> Result<()> {
        let begun = Instant::now();
        let mut told = begun;
        loop {
            for process in [&self.beam, &self.epmd] {
                if let Some(status) = process.try_exit()? {
                    bail!("{} has ended ({status})\n{}", process.name(), process.log_tail());
                }
            }
            // The AMQP listener opens last.
            if tokio::net::TcpStream::connect(("127.0.0.1", self.ports.amqp)).await.is_ok()
                && self.management.ping().await.is_ok()
            {
                return Ok(());
            }
            if begun.elapsed() > BOOT_LIMIT {
                bail!("RabbitMQ is not ready after {BOOT_LIMIT:?}\n{}", self.beam.log_tail());
            }
            if told.elapsed() > Duration::from_secs(5) {
                progress.say(&format!("RabbitMQ: booting, {} s so far", begun.elapsed().as_secs()));
                told = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Makes the node believe that its memory is used up: it blocks every connection that publishes.
    pub async fn raise_alarm(&self) -> Result<()> {
        self.rabbitmqctl(&["set_vm_memory_high_watermark", "absolute", "1"]).await.map(drop)
    }

    /// Ends [`PrivateBroker::raise_alarm`].
    pub async fn clear_alarm(&self) -> Result<()> {
        self.rabbitmqctl(&["set_vm_memory_high_watermark", "0.6"]).await.map(drop)
    }

    /// Runs `rabbitmqctl` against the node (about a second) and returns its output.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.options.server.with_file_name("rabbitmqctl"));
        set_environment(&mut command, &self.options, self.ports);
        command.args(["--node", NODE]).args(arguments);
        let output = tokio::process::Command::from(command).kill_on_drop(true).output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("rabbitmqctl {}: {}\n{text}{error}", arguments.join(" "), output.status);
        }
        Ok(text)
    }

    /// Lets it outlive this value and the caller.
    pub fn detach(self) {
        self.beam.detach();
        self.epmd.detach();
    }
}

fn write_configuration(options: &BrokerOptions, ports: Ports) -> Result<()> {
    let dir = &options.dir;
    for directory in ["data", "home"] {
        fs::create_dir_all(dir.join(directory))
            .with_context(|| format!("{} cannot be made", dir.join(directory).display()))?;
    }
    let mut configuration = vec![
        format!("listeners.tcp.1 = 127.0.0.1:{}", ports.amqp),
        "management.tcp.ip = 127.0.0.1".to_owned(),
        format!("management.tcp.port = {}", ports.management),
        // Never an alarm of its own because of a disk or a memory that others fill.
        "disk_free_limit.absolute = 10MB".to_owned(),
        "vm_memory_high_watermark.relative = 0.6".to_owned(),
        format!("collect_statistics_interval = {REPORT_INTERVAL_MS}"),
        // Lists of connections and consumers one second old instead of five.
        "management.sample_retention_policies.global.minute = 1".to_owned(),
        "management.sample_retention_policies.basic.minute = 1".to_owned(),
        "management.sample_retention_policies.detailed.minute = 1".to_owned(),
        // To standard output, which is the log file.
        "log.console = true".to_owned(),
        "log.file = false".to_owned(),
    ];
    if let Some(files) = &options.tls {
        configuration.extend([
            format!("listeners.ssl.1 = 127.0.0.1:{}", ports.amqps),
            format!("ssl_options.cacertfile = {}", files.authority.display()),
            format!("ssl_options.certfile = {}", files.certificate.display()),
            format!("ssl_options.keyfile = {}", files.key.display()),
            // A client may have a certificate, whose common name is then its user.
            "ssl_options.verify = verify_peer".to_owned(),
            "ssl_options.fail_if_no_peer_cert = false".to_owned(),
            "ssl_cert_login_from = common_name".to_owned(),
            "auth_mechanisms.1 = PLAIN".to_owned(),
            "auth_mechanisms.2 = AMQPLAIN".to_owned(),
            "auth_mechanisms.3 = EXTERNAL".to_owned(),
        ]);
    }
    let mut plugins = vec!["rabbitmq_management"];
    if options.tls.is_some() {
        plugins.push("rabbitmq_auth_mechanism_ssl");
    }
    if options.prometheus {
        plugins.push("rabbitmq_prometheus");
        configuration.extend([
            "prometheus.tcp.ip = 127.0.0.1".to_owned(),
            format!("prometheus.tcp.port = {}", ports.prometheus),
        ]);
    }
    fs::write(dir.join("rabbitmq.conf"), configuration.join("\n") + "\n")?;
    fs::write(dir.join("enabled_plugins"), format!("[{}].\n", plugins.join(",")))?;
    // Instead of the system's, which may set anything.
    fs::write(dir.join("rabbitmq-env.conf"), "")?;
    Ok(())
}

/// In the foreground, so that it is ours to end; a node without one would start a daemon that stays.
fn spawn_epmd(options: &BrokerOptions, ports: Ports) -> Result<Process> {
    let mut command = Command::new(find_epmd()?);
    command.args(["-port", &ports.epmd.to_string(), "-address", "127.0.0.1"]);
    Process::spawn("epmd", command, &options.log_dir.join("epmd.log"), options.group)
}

fn spawn_beam(options: &BrokerOptions, ports: Ports) -> Result<Process> {
    let mut command = Command::new(&options.server);
    set_environment(&mut command, options, ports);
    Process::spawn("rabbitmq", command, &options.log_dir.join("rabbitmq.log"), options.group)
}

fn set_environment(command: &mut Command, options: &BrokerOptions, ports: Ports) {
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("RABBITMQ_") || name.starts_with("ERL_") || name == "NOTIFY_SOCKET" {
            command.env_remove(&*name);
        }
    }
    let dir = &options.dir;
    let erlang_arguments = [
        // Two schedulers that sleep when idle: many brokers may share few cores.
        "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        "-start_epmd false",
        "-kernel inet_dist_use_interface {127,0,0,1}",
        &format!("-rabbit quorum_tick_interval {REPORT_INTERVAL_MS}"),
    ];
    command
        .env("HOME", dir.join("home")) // the Erlang cookie's place
        .env("RABBITMQ_NODENAME", NODE)
        .env("RABBITMQ_DIST_PORT", ports.distribution.to_string())
        .env("RABBITMQ_MNESIA_BASE", dir.join("data"))
        .env("RABBITMQ_LOG_BASE", &options.log_dir)
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"))
        .env("RABBITMQ_CONF_ENV_FILE", dir.join("rabbitmq-env.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang_arguments.join(" "))
        // The script then becomes the node instead of waiting for it.
        .env("RUNNING_UNDER_SYSTEMD", "true")
        .env("ERL_EPMD_PORT", ports.epmd.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_CRASH_DUMP_SECONDS", "0");
}
