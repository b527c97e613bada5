//! `cargo xtask bench`: load on the HTTP surface, a FastAPI peer, and the limits of what both
//! stand on.

use std::path::{Path, PathBuf};

use anyhow::Result;
use testkit::{Progress, provision::provide_wrk};

use super::{Measurer, asks_for_help, build, servers};
use crate::{cargo, console::Steps, python, tool};

const PROGRAM: &str = "bench-load";

/// The load generator for constant rates.
const OHA_VERSION: &str = "1.16.0";

const PEER_REQUIREMENTS: &str = include_str!("../../../bench/peers/fastapi/requirements.txt");

/// Fills databases.
const SEEDER: (&str, &str) = ("store", "bench-store");

/// The programs that measure limits, and the packages whose examples they are.
const LIMITS: [(&str, &str); 2] = [("broker", "bench-broker"), ("runtime", "bench-constant")];

pub(super) async fn prepare(
    options: &[String],
    target_dir: &Path,
    steps: Steps,
) -> Result<Measurer> {
    // It makes no load itself, so it needs no release build.
    build(&["--package", PROGRAM]).await?;
    let environment = if needs_servers(options) {
        provide(options, target_dir, steps).await?
    } else {
        Vec::new()
    };
    Ok(Measurer {
        program: PROGRAM,
        path: target_dir.join("debug").join(PROGRAM),
        arguments: options.to_vec(),
        environment,
    })
}

/// Not where two runs are compared, or help is asked for.
fn needs_servers(options: &[String]) -> bool {
    let compares = options.first().is_some_and(|first| first == "compare");
    !compares && !asks_for_help(options)
}

/// Builds for release, installs what is missing and asked for, and returns the variables that say
/// where it is.
async fn provide(
    options: &[String],
    target_dir: &Path,
    steps: Steps,
) -> Result<Vec<(&'static str, PathBuf)>> {
    let without = |option: &str| options.iter().any(|given| given == option);
    steps.say("building the services and the probes for release");
    let bin_dir = cargo::build_services(true).await?;
    let probes = if without("--no-limits") { &[][..] } else { &LIMITS };
    // One by one: built together with the services, these would get the features that only tests want.
    for (package, name) in [&[SEEDER], probes].concat() {
        build(&["--release", "--package", package, "--example", name]).await?;
    }
    let mut places = servers(bin_dir, target_dir, steps).await?;
    places.push(("MESSAGES_BENCH_WRK", provide_wrk(target_dir, &steps).await?));
    if !without("--no-rates") {
        places.push((
            "MESSAGES_BENCH_OHA",
            tool::provide(target_dir, "oha", OHA_VERSION, steps).await?,
        ));
    }
    if !without("--no-peer") {
        let programs =
            python::provide(target_dir, "fastapi-peer", PEER_REQUIREMENTS, &steps).await?;
        places.push(("MESSAGES_BENCH_PEER_PYTHON", programs.join("python")));
    }
    Ok(places)
}
