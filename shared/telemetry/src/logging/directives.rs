//! The directives of `RUST_LOG`.

use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, Targets},
};

/// Directives in front of the user's own, which win. Without the first, a filter for one target would
/// hide that the broker refuses the password. The AMQP client logs each error before it returns it;
/// errors are logged where they are handled.
const DEFAULTS: &str = "warn,lapin=off";

/// Targets that log at trace what clients send, which may be a token. They stop at debug.
const DISCLOSING: [&str; 2] = ["tungstenite::protocol", "tungstenite::protocol::frame"];

/// The crates of this system.
const CRATES: [&str; 9] = [
    "auth",
    "broadcaster",
    "broker",
    "contracts",
    "gateway",
    "service",
    "storage_worker",
    "store",
    "telemetry",
];

/// Libraries that may log.
const LIBRARIES: [&str; 22] = [
    "amq_protocol",
    "async_rs",
    "axum",
    "deadpool",
    "deadpool_lapin",
    "h2",
    "hickory_proto",
    "hickory_resolver",
    "hyper",
    "hyper_util",
    "lapin",
    "log",
    "mio",
    "mongodb",
    "opentelemetry",
    "opentelemetry_otlp",
    "opentelemetry_sdk",
    "rustls",
    "tokio",
    "tokio_tungstenite",
    "tower",
    "tungstenite",
];

const LEVELS: &str = "error, warn, info, debug, trace or off";

/// Parses directives. The library would take a word that is no level for a target, and so log nothing.
pub(super) fn parse(text: &str) -> Result<EnvFilter, String> {
    let mut directives = DEFAULTS.to_owned();
    let given = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    if given.clone().next().is_none() {
        return Err(format!("must be a level ({LEVELS}) or directives such as info,gateway=debug"));
    }
    for directive in given {
        directives = format!("{directives},{}", normalized(directive)?);
    }
    for target in DISCLOSING {
        if logs_all(&directives, target) {
            directives = format!("{directives},{target}=debug");
        }
    }
    let parsed = EnvFilter::builder().parse(directives);
    parsed.map_err(|error| format!("must be a level ({LEVELS}) or directives ({error})"))
}

/// Returns true if these directives let a target log at trace.
fn logs_all(directives: &str, target: &str) -> bool {
    let of_targets =
        directives.split(',').filter(|directive| !directive.contains(['[', ']', '{', '}']));
    let of_targets = of_targets.collect::<Vec<_>>().join(",").parse::<Targets>();
    of_targets.is_ok_and(|targets| targets.would_enable(target, &tracing::Level::TRACE))
}

fn normalized(directive: &str) -> Result<String, String> {
    // Filters of spans have a grammar of their own, which the library checks.
    if directive.contains(['[', '{']) {
        return Ok(directive.to_owned());
    }
    match directive.rsplit_once('=') {
        None if is_level(directive) => Ok(directive.to_owned()),
        None => Err(format!(
            "`{directive}` is not a level ({LEVELS}); a directive for one target is written {directive}=debug"
        )),
        Some((target, level)) if is_target(target.trim()) && is_level(level.trim()) => {
            // The services have dashes in their names, and their targets underscores.
            Ok(format!("{}={}", target.trim().replace('-', "_"), level.trim()))
        }
        Some(_) => Err(format!(
            "`{directive}` must be a target and a level ({LEVELS}) such as gateway=debug"
        )),
    }
}

/// Returns the targets of a filter that neither a crate of this system nor a known library has. Filters
/// of spans are left out.
pub(super) fn unknown_targets(filter: &EnvFilter) -> Vec<String> {
    let filter = filter.to_string();
    let directives =
        filter.split(',').filter(|directive| !directive.contains(['[', ']', '{', '}']));
    let targets = directives.filter_map(|directive| Some(directive.rsplit_once('=')?.0.trim()));
    let is_known = |target: &&str| {
        let name = target.split("::").next().unwrap_or_default();
        CRATES.contains(&name) || LIBRARIES.contains(&name)
    };
    targets.filter(|target| !is_known(target)).map(str::to_owned).collect()
}

fn is_level(text: &str) -> bool {
    !text.is_empty() && text.parse::<LevelFilter>().is_ok()
}

fn is_target(text: &str) -> bool {
    let known = |character: char| character.is_alphanumeric() || "_-:.".contains(character);
    !text.is_empty() && text.chars().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_level_is_refused() {
        for text in [
            "inof",
            "warning",
            "gateway",
            "info,inof",
            "gateway=shout",
            "gateway=",
            "=debug",
            "gateway:debug",
            "gateway=debug;broker=info",
            "gateway=debug broker=info",
            "gate way=debug",
            "gateway/commands=debug",
            "7",
            "",
            ",",
            " , ",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let error = parse("info,inof").unwrap_err();
        assert!(error.contains("`inof`") && error.contains("debug"), "{error}");
    }

    #[test]
    fn a_filter_for_one_target_hides_no_warnings_of_others() {
        let has = |text: &str, directive: &str| {
            let filter = parse(text).unwrap().to_string();
            filter.split(',').any(|it| it == directive)
        };
        assert!(has("gateway=debug", "warn") && has("gateway=debug", "lapin=off"));
        assert!(has(" gateway = debug ,storage-worker=trace", "gateway=debug"));
        assert!(has("gateway=debug, storage-worker=trace", "storage_worker=trace"));
        assert!(has("off", "off") && !has("off", "warn"), "this is asked for");
        assert!(has("INFO", "info") && !has("INFO", "warn"));
        assert!(has("gateway[request]=debug", "gateway[request]=debug"));
        assert!(has("lapin=debug", "lapin=debug"));
    }

    #[test]
    fn what_clients_send_is_not_logged() {
        for (text, is_capped) in [
            ("trace", true),
            ("info,tungstenite=trace", true),
            ("tungstenite::protocol=trace,tungstenite::protocol::frame=trace", true),
            ("info,gateway[request]=trace", false),
            ("trace,tungstenite=off", false),
            ("debug", false),
        ] {
            let filter = parse(text).unwrap().to_string();
            // What holds for a target holds for those within, which need no directive of their own.
            let has_cap = filter.split(',').any(|it| it == "tungstenite::protocol=debug");
            assert_eq!(has_cap, is_capped, "{filter}");
            assert!(!DISCLOSING.into_iter().any(|target| logs_all(&filter, target)), "{filter}");
        }
    }

    #[test]
    fn a_target_that_nothing_has_is_noticed() {
        let unknown = |text: &str| unknown_targets(&parse(text).unwrap());
        assert_eq!(unknown("gateways=debug,info"), ["gateways"]);
        assert_eq!(unknown("storage-worker=debug,brokr::url=info,lapin=warn"), ["brokr::url"]);
        for known in ["info", "gateway::commands=trace,mongodb=off", "gateways[request]=debug"] {
            assert!(unknown(known).is_empty(), "{known}");
        }
    }
}
