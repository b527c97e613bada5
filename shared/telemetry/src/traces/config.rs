//! Settings of traces, with the variables of OpenTelemetry's specification.

use std::{str::FromStr, time::Duration};

use clap::Args;
use http::{HeaderName, HeaderValue};
use opentelemetry_sdk::trace::{BatchConfig, BatchConfigBuilder, Sampler};
use url::Url;

const DEFAULT_SAMPLER: &str = "parentbased_always_on";

/// Maximum number of spans that wait to be sent; more are dropped.
const MAX_WAITING_SPANS: usize = 8192;

/// Variables of the specification that have an effect.
const READ: [&str; 8] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
];

/// Settings of traces.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Traces")]
pub struct TracesConfig {
    /// OpenTelemetry collector that receives spans (OTLP over HTTP), such as `http://localhost:4318`.
    /// Unset: no spans
    #[arg(
        long = "otlp-endpoint",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "OTEL_EXPORTER_OTLP_ENDPOINT",
        // A URL with a password is refused, and must not be printed either.
        hide_env_values = true,
        value_parser = endpoint
    )]
    endpoint: Option<CollectorUrl>,
    /// Traces to record: `always_on`, `always_off`, `traceidratio`, or one of these with the prefix
    /// `parentbased_`, which follows the caller if there is one
    #[arg(
        long = "traces-sampler",
        env = "OTEL_TRACES_SAMPLER",
        value_name = "OTEL_TRACES_SAMPLER",
        default_value = DEFAULT_SAMPLER,
        value_parser = sampler
    )]
    sampler: SamplerName,
    /// Share of traces that traceidratio records, from 0 to 1. Unset: 1
    #[arg(
        long = "traces-sampler-arg",
        env = "OTEL_TRACES_SAMPLER_ARG",
        value_name = "OTEL_TRACES_SAMPLER_ARG",
        value_parser = ratio
    )]
    ratio: Option<f64>,
    /// Name of this service in its spans. Unset: that of its program
    #[arg(long = "service-name", env = "OTEL_SERVICE_NAME", value_name = "OTEL_SERVICE_NAME")]
    service_name: Option<String>,
    /// Maximum number of milliseconds for which spans wait to be sent (1 to 3600000)
    #[arg(
        long = "span-delay-ms",
        env = "OTEL_BSP_SCHEDULE_DELAY",
        value_name = "OTEL_BSP_SCHEDULE_DELAY",
        default_value = "5000",
        value_parser = delay
    )]
    delay: Duration,
    /// Maximum number of spans that are sent together (1 to 8192)
    #[arg(
        long = "span-batch-size",
        env = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        value_name = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        default_value = "512",
        value_parser = batch_size
    )]
    batch_size: usize,
}

/// Base URL of an OTLP receiver.
#[derive(Clone, Debug)]
pub(super) struct CollectorUrl(Url);

/// A sampler of the specification.
#[derive(Clone, Copy, Debug)]
struct SamplerName {
    root: Root,
    parent_based: bool,
}

#[derive(Clone, Copy, Debug)]
enum Root {
    AlwaysOn,
    AlwaysOff,
    Ratio,
}

impl TracesConfig {
    pub(super) fn collector(&self) -> Option<&CollectorUrl> {
        self.endpoint.as_ref()
    }

    pub(super) fn service_name(&self) -> Option<&str> {
        self.service_name.as_deref()
    }

    /// Fails for a variable that the SDK reads by itself, and would ignore if it is invalid. Returns the
    /// variable and what is expected.
    pub fn check() -> Result<(), (&'static str, &'static str)> {
        let fails = |key, is_valid: fn(&str) -> bool| {
            std::env::var_os(key).is_some_and(|value| !value.to_str().is_some_and(is_valid))
        };
        if fails("OTEL_RESOURCE_ATTRIBUTES", |text| is_pairs(text, |key, _| !key.is_empty())) {
            let expected = "must be pairs such as key=value, separated by commas";
            return Err(("OTEL_RESOURCE_ATTRIBUTES", expected));
        }
        if fails("OTEL_EXPORTER_OTLP_HEADERS", is_headers) {
            let expected = "must be HTTP headers such as name=value, separated by commas";
            return Err(("OTEL_EXPORTER_OTLP_HEADERS", expected));
        }
        Ok(())
    }

    /// Returns what has no effect, each with the name of its setting.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.endpoint.is_none() {
            let given = [
                ("OTEL_TRACES_SAMPLER_ARG", self.ratio.is_some()),
                ("OTEL_SERVICE_NAME", self.service_name.is_some()),
            ];
            let without = |key| format!("{key} has no effect without OTEL_EXPORTER_OTLP_ENDPOINT");
            warnings.extend(given.iter().filter(|(_, given)| *given).map(|(key, _)| without(key)));
        } else if self.ratio.is_some() && !matches!(self.sampler.root, Root::Ratio) {
            warnings.push(
                "OTEL_TRACES_SAMPLER_ARG has no effect: OTEL_TRACES_SAMPLER is not a traceidratio"
                    .to_owned(),
            );
        }
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let ignored =
            names.filter(|name| name.starts_with("OTEL_") && !READ.contains(&name.as_str()));
        warnings.extend(ignored.map(|name| format!("{name} has no effect in this service")));
        warnings
    }

    pub(super) fn batches(&self) -> BatchConfig {
        BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING_SPANS)
            .with_scheduled_delay(self.delay)
            .with_max_export_batch_size(self.batch_size)
            .build()
    }

    pub(super) fn sampler(&self) -> Sampler {
        let root = match self.sampler.root {
            Root::AlwaysOn => Sampler::AlwaysOn,
            Root::AlwaysOff => Sampler::AlwaysOff,
            Root::Ratio => Sampler::TraceIdRatioBased(self.ratio.unwrap_or(1.0)),
        };
        if self.sampler.parent_based { Sampler::ParentBased(Box::new(root)) } else { root }
    }
}

impl CollectorUrl {
    pub(super) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Returns the URL for traces, which the specification derives from the base.
    pub(super) fn traces_url(&self) -> String {
        format!("{}/v1/traces", self.0.as_str().trim_end_matches('/'))
    }
}

/// Returns true for pairs, separated by commas, whose name and value are valid.
fn is_pairs(text: &str, is_valid: impl Fn(&str, &str) -> bool) -> bool {
    let mut pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    pairs.all(|pair| {
        pair.split_once('=').is_some_and(|(key, value)| is_valid(key.trim(), value.trim()))
    })
}

/// Returns true for pairs that are HTTP headers. The SDK drops others without a word.
fn is_headers(text: &str) -> bool {
    is_pairs(text, |name, value| {
        HeaderName::from_str(name).is_ok() && HeaderValue::from_str(value).is_ok()
    })
}

fn endpoint(text: &str) -> Result<CollectorUrl, &'static str> {
    let is_base = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    let url = Url::parse(text).ok().filter(is_base).map(CollectorUrl);
    url.ok_or("must be an http or https URL without a password, such as http://localhost:4318")
}

fn sampler(text: &str) -> Result<SamplerName, &'static str> {
    let root_name = text.strip_prefix("parentbased_");
    let root = match root_name.unwrap_or(text) {
        "always_on" => Root::AlwaysOn,
        "always_off" => Root::AlwaysOff,
        "traceidratio" => Root::Ratio,
        _ => {
            return Err("must be always_on, always_off, traceidratio, parentbased_always_on, \
                        parentbased_always_off or parentbased_traceidratio");
        }
    };
    Ok(SamplerName { root, parent_based: root_name.is_some() })
}

fn ratio(text: &str) -> Result<f64, &'static str> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or("must be a number from 0 to 1, such as 0.01")
}

fn delay(text: &str) -> Result<Duration, &'static str> {
    let millis = text.parse().ok().filter(|millis| (1..=3_600_000).contains(millis));
    let expected = "must be whole milliseconds from 1 to 3600000, such as 5000";
    millis.map(Duration::from_millis).ok_or(expected)
}

fn batch_size(text: &str) -> Result<usize, &'static str> {
    let size = text.parse().ok().filter(|size| (1..=MAX_WAITING_SPANS).contains(size));
    size.ok_or("must be a whole number from 1 to 8192, such as 512")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_http() {
        for valid in ["", "api-key=sekret", " a = b , x-tenant=c%20d,", "a="] {
            assert!(is_headers(valid), "{valid}");
        }
        for invalid in ["sekret", "a b=sekret", "=sekret", "a:b=sekret", "a=b\nc", "a=b,\u{e4}=c"] {
            assert!(!is_headers(invalid), "{invalid}");
        }
    }
}
