//! Parts that every service needs to run: configuration, logs, shutdown, health, and the HTTP listener.

pub mod config;
mod dedicated_runtime;
pub mod fd_limit;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
mod healthcheck;
pub mod http;
pub mod origin;
pub mod shutdown;
pub mod websocket;

use std::{any::Any, error::Error, process::ExitCode};

use anyhow::Context;

pub use config::{CommonConfig, ConfigError, ServiceConfig};
use config::{EXIT_CONFIG, Invocation};
pub use dedicated_runtime::DedicatedRuntime;
pub use health::{Dependency, Health};
pub use origin::{InvalidOrigin, OriginPattern};
pub use shutdown::{Phases, Shutdown};
use telemetry::logging;

/// Runs a service from its `main`: reads the configuration, starts logging, calls `run` with a
/// shutdown that follows the process's signals, and returns the exit code, which is 78 for an invalid
/// configuration. With the subcommand `healthcheck`, asks the service that runs here if it is ready.
pub fn run_service<C, F, Fut>(name: &'static str, run: F) -> ExitCode
where
    C: ServiceConfig,
    F: FnOnce(C, Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let config = match config::read::<C>() {
        Ok(Invocation::Run(config)) => config,
        Ok(Invocation::HealthCheck(bind)) => return report(healthcheck::run(bind), name, true),
        Err(exit_code) => return exit_code,
    };
    let is_tool = config.is_tool();
    if is_tool {
        logging::start_for_tool();
    } else {
        logging::start(&config.common().log);
    }
    let ended = block_on(async {
        config::check_authorities()?;
        config.check()?;
        if !is_tool {
            config::check_bind(&config)?;
        }
        let warnings = config.common().log.warnings().into_iter().chain(config.warnings());
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let shutdown = Shutdown::on_signals()?;
        tracing::info!(service = name, version = env!("CARGO_PKG_VERSION"), "starting");
        run(config, shutdown).await
    });
    report(ended, name, is_tool)
}

fn block_on(future: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the tokio runtime")?;
    let ended = runtime.block_on(future);
    // Tasks that outlived the grace period are abandoned.
    runtime.shutdown_background();
    ended
}

/// Reports the end of a service or a tool, and returns its exit code.
fn report(ended: anyhow::Result<()>, name: &'static str, is_tool: bool) -> ExitCode {
    let Err(error) = ended else {
        tracing::info!(service = name, "stopped");
        return ExitCode::SUCCESS;
    };
    let is_config = error.chain().any(<dyn Error>::is::<ConfigError>);
    let chain = telemetry::error_chain(error.as_ref());
    if is_tool || is_config {
        eprintln!("error: {chain}");
    } else {
        tracing::error!(service = name, error = %chain, "failed");
    }
    if is_config { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
}

/// Returns the message of a panic.
#[must_use]
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}
