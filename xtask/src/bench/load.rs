//! `cargo xtask bench`: load on the HTTP API, on a FastAPI peer, and on the broker, the database and axum alone.

use std::path::PathBuf;

use anyhow::Result;
use testkit::{Progress, provision::provide_wrk};

use super::{Bench, asks_for_help};
use crate::{cargo, python, scratch_run::ScratchRun, tool};

const PROGRAM: &str = "bench-load";

/// The load generator for constant rates.
const OHA_VERSION: &str = "1.16.0";

const PEER_REQUIREMENTS: &str = include_str!("../../../bench/peers/fastapi/requirements.txt");

/// The example that fills databases, and its package.
const SEEDER: (&str, &str) = ("store", "bench-store");

/// The examples that measure limits, and their packages.
const LIMITS: [(&str, &str); 2] = [("broker", "bench-broker"), ("service", "bench-constant")];

pub(super) async fn prepare(options: &[String], run: &ScratchRun) -> Result<Bench> {
    // It makes no load itself, so it needs no release build.
    cargo::build(&["--package", PROGRAM]).await?;
    let compares = options.first().is_some_and(|first| first == "compare");
    let environment =
        if compares || asks_for_help(options) { Vec::new() } else { provide(options, run).await? };
    Ok(Bench {
        program: PROGRAM,
        path: run.target_dir.join("debug").join(PROGRAM),
        arguments: options.to_vec(),
        environment,
    })
}

/// Builds for release, installs what the options need, and returns the variables that say where everything is.
async fn provide(options: &[String], run: &ScratchRun) -> Result<Vec<(&'static str, PathBuf)>> {
    let given = |option: &str| options.iter().any(|it| it == option);
    let (target_dir, steps) = (&run.target_dir, run.steps);
    steps.say("building the services and the measuring programs for release");
    let bin_dir = cargo::build_services(true).await?;
    let limits = if given("--no-limits") { &[][..] } else { &LIMITS };
    // One by one: built together with the services, these would get the features that only tests want.
    for (package, name) in [&[SEEDER], limits].concat() {
        cargo::build(&["--release", "--package", package, "--example", name]).await?;
    }
    let mut environment = run.programs(&bin_dir).await?;
    environment.push(("MESSAGES_BENCH_WRK", provide_wrk(target_dir, &steps).await?));
    if !given("--no-rates") {
        let oha = tool::provide(target_dir, "oha", OHA_VERSION, steps).await?;
        environment.push(("MESSAGES_BENCH_OHA", oha));
    }
    if !given("--no-peer") {
        let programs =
            python::provide(target_dir, "fastapi-peer", PEER_REQUIREMENTS, &steps).await?;
        environment.push(("MESSAGES_BENCH_PEER_PYTHON", programs.join("python")));
    }
    Ok(environment)
}
