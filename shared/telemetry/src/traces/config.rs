//! Settings of traces, with the variables of OpenTelemetry's specification. An empty variable counts
//! as unset, as the specification requires.

use clap::Args;
use opentelemetry_sdk::trace::Sampler;
use url::Url;

const DEFAULT_SAMPLER: &str = "parentbased_always_on";

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
        default_value = "",
        hide_default_value = true,
        // A URL with a password is refused, and must not be printed either.
        hide_env_values = true,
        value_parser = endpoint
    )]
    endpoint: Endpoint,
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
    /// Share of traces that traceidratio records, from 0 to 1
    #[arg(
        long = "traces-sampler-arg",
        env = "OTEL_TRACES_SAMPLER_ARG",
        value_name = "OTEL_TRACES_SAMPLER_ARG",
        default_value = "1",
        value_parser = ratio
    )]
    ratio: f64,
    /// Name of this service in its spans. Unset: that of its program
    #[arg(
        long = "service-name",
        env = "OTEL_SERVICE_NAME",
        value_name = "OTEL_SERVICE_NAME",
        default_value = "",
        hide_default_value = true
    )]
    service_name: String,
}

/// A URL that may be absent. (For clap, an `Option` would be an argument that may be absent.)
type Endpoint = Option<CollectorUrl>;

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
        Some(self.service_name.as_str()).filter(|name| !name.is_empty())
    }

    pub(super) fn sampler(&self) -> Sampler {
        let root = match self.sampler.root {
            Root::AlwaysOn => Sampler::AlwaysOn,
            Root::AlwaysOff => Sampler::AlwaysOff,
            Root::Ratio => Sampler::TraceIdRatioBased(self.ratio),
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

fn endpoint(text: &str) -> Result<Endpoint, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_base = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    let url = Url::parse(text).ok().filter(is_base).map(CollectorUrl);
    url.map(Some)
        .ok_or("must be an http or https URL without a password, such as http://localhost:4318")
}

fn sampler(text: &str) -> Result<SamplerName, &'static str> {
    let text = if text.is_empty() { DEFAULT_SAMPLER } else { text };
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
    let ratio = if text.is_empty() { Some(1.0) } else { text.parse().ok() };
    ratio.filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or("must be a number from 0 to 1")
}
