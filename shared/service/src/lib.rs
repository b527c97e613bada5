//! What every service needs to run and none is about: configuration, telemetry, shutdown, and the
//! HTTP listener with its health answers.

pub mod config;
mod dedicated_runtime;
pub mod fd_limit;
pub mod health;
mod healthcheck;
pub mod http;
pub mod origin;
pub mod shutdown;

use std::{any::Any, process::ExitCode};

use config::Invocation;
pub use config::{CommonConfig, ConfigError, ServiceConfig};
pub use dedicated_runtime::DedicatedRuntime;
pub use health::{Dependency, Health};
pub use origin::{InvalidOrigin, Origin};
pub use shutdown::{Phases, Shutdown};
use telemetry::logging;

/// Runs a service from its `main`: reads the configuration (and ends with code 78 where it is
/// bad), starts telemetry, hands over a shutdown that follows the process's signals, and turns
/// how `run` ended into an exit code. `healthcheck` as the first argument asks the service that
/// already runs here instead.
pub fn run_service<C, F, Fut>(name: &'static str, run: F) -> ExitCode
where
    C: ServiceConfig,
    F: FnOnce(C, Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let config = match config::read::<C>() {
        Ok(Invocation::Run(config)) => config,
        Ok(Invocation::HealthCheck(bind)) => {
            return healthcheck::run(bind).map_or_else(
                |error| {
                    eprintln!("error: {error:#}");
                    ExitCode::FAILURE
                },
                |()| ExitCode::SUCCESS,
            );
        }
        Err(exit_code) => return exit_code,
    };
    let serves = !config.is_tool();
    if serves {
        logging::start(&config.common().log);
    } else {
        logging::start_for_tool();
    }
    let executor = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let ended = executor.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        tracing::info!(service = name, version = env!("CARGO_PKG_VERSION"), "starting");
        run(config, shutdown).await
    });
    // Tasks that outlived the grace are not waited for.
    executor.shutdown_background();
    match ended {
        Ok(()) => {
            tracing::info!(service = name, "stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Some values show to be wrong only when they are used.
            let bad_value = error.chain().any(<dyn std::error::Error>::is::<ConfigError>);
            if serves && !bad_value {
                tracing::error!(service = name, error = format!("{error:#}"), "failed");
            } else {
                eprintln!("error: {error:#}");
            }
            if bad_value { ExitCode::from(config::EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

/// What a panic said, if it said anything.
#[must_use]
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
