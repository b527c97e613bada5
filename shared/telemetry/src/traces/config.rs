//! Settings of traces, with the variables of OpenTelemetry's specification. An empty variable counts
//! as unset, as the specification requires.

use std::str::FromStr;

use clap::Args;
use opentelemetry_sdk::trace::Sampler;
use url::Url;

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
        value_parser = unless_empty::<CollectorUrl>
    )]
    endpoint: Setting<CollectorUrl>,
    /// Traces to record: `always_on`, `always_off`, `traceidratio`, or one of these with the prefix
    /// `parentbased_`, which follows the caller if there is one
    #[arg(
        long = "traces-sampler",
        env = "OTEL_TRACES_SAMPLER",
        value_name = "OTEL_TRACES_SAMPLER",
        default_value = "parentbased_always_on",
        value_parser = unless_empty::<SamplerName>
    )]
    sampler: Setting<SamplerName>,
    /// Share of traces that traceidratio records, from 0 to 1
    #[arg(
        long = "traces-sampler-arg",
        env = "OTEL_TRACES_SAMPLER_ARG",
        value_name = "OTEL_TRACES_SAMPLER_ARG",
        default_value = "1",
        value_parser = unless_empty::<Ratio>
    )]
    ratio: Setting<Ratio>,
    /// Name of this service in its spans, instead of its own
    #[arg(
        long = "service-name",
        env = "OTEL_SERVICE_NAME",
        value_name = "OTEL_SERVICE_NAME",
        default_value = "",
        hide_default_value = true
    )]
    service_name: String,
}

/// A value that may be empty.
#[derive(Clone, Debug)]
struct Setting<T>(Option<T>);

/// Base URL of an OTLP receiver.
#[derive(Clone, Debug)]
pub(super) struct CollectorUrl(Url);

#[derive(Clone, Copy, Debug)]
enum Root {
    AlwaysOn,
    AlwaysOff,
    Ratio,
}

/// A sampler of the specification.
#[derive(Clone, Copy, Debug)]
struct SamplerName {
    root: Root,
    parent_based: bool,
}

#[derive(Clone, Copy, Debug)]
struct Ratio(f64);

/// Errors of settings.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidSetting {
    #[error(
        "must be always_on, always_off, traceidratio, parentbased_always_on, \
         parentbased_always_off or parentbased_traceidratio"
    )]
    Sampler,
    #[error("must be a number from 0 to 1")]
    Ratio,
    #[error("must be an http or https URL without a password, such as http://localhost:4318")]
    Collector,
}

impl TracesConfig {
    pub(super) fn collector(&self) -> Option<&CollectorUrl> {
        self.endpoint.0.as_ref()
    }

    pub(super) fn service_name(&self) -> Option<&str> {
        Some(self.service_name.as_str()).filter(|name| !name.is_empty())
    }

    pub(super) fn sampler(&self) -> Sampler {
        const DEFAULT: SamplerName = SamplerName { root: Root::AlwaysOn, parent_based: true };
        let SamplerName { root, parent_based } = self.sampler.0.unwrap_or(DEFAULT);
        let root = match root {
            Root::AlwaysOn => Sampler::AlwaysOn,
            Root::AlwaysOff => Sampler::AlwaysOff,
            Root::Ratio => Sampler::TraceIdRatioBased(self.ratio.0.map_or(1.0, |Ratio(it)| it)),
        };
        if parent_based { Sampler::ParentBased(Box::new(root)) } else { root }
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

impl FromStr for CollectorUrl {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: Url = text.parse().map_err(|_| InvalidSetting::Collector)?;
        let is_base = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if is_base { Ok(Self(url)) } else { Err(InvalidSetting::Collector) }
    }
}

impl FromStr for SamplerName {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let root_name = text.strip_prefix("parentbased_");
        let root = match root_name.unwrap_or(text) {
            "always_on" => Root::AlwaysOn,
            "always_off" => Root::AlwaysOff,
            "traceidratio" => Root::Ratio,
            _ => return Err(InvalidSetting::Sampler),
        };
        Ok(Self { root, parent_based: root_name.is_some() })
    }
}

impl FromStr for Ratio {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ratio: f64 = text.parse().map_err(|_| InvalidSetting::Ratio)?;
        if (0.0..=1.0).contains(&ratio) { Ok(Self(ratio)) } else { Err(InvalidSetting::Ratio) }
    }
}

fn unless_empty<T: FromStr>(text: &str) -> Result<Setting<T>, T::Err> {
    if text.is_empty() { Ok(Setting(None)) } else { text.parse().map(|value| Setting(Some(value))) }
}
