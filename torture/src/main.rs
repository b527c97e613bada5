//! The program that `cargo xtask torture` runs: one run, its report, and its verdict as exit code.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use testkit::Steps;
use torture::{Options, run};

/// Runs the system under faults and checks its promises
#[derive(Parser)]
#[command(
    name = "torture",
    bin_name = "cargo xtask torture",
    after_help = "--release, anywhere among the options, builds everything optimized"
)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    let ended = async {
        let liar = std::env::current_exe()?.with_file_name("lying-worker");
        run(&options, liar, &Steps::begin()).await
    };
    match ended.await {
        Ok(report) => {
            let _ = writeln!(std::io::stdout(), "{report}");
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}
