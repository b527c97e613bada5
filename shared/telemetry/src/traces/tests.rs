//! Tests of tracers and spans.

use clap::Parser;
use http::{HeaderMap, HeaderValue};

use super::*;

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    traces: TracesConfig,
}

/// Returns a tracer for a collector that does not exist.
fn tracer(arguments: &[&str]) -> Tracer {
    let endpoint = ["service", "--otlp-endpoint", "http://127.0.0.1:1"];
    let settings = Settings::parse_from([&endpoint, arguments].concat());
    Tracer::start(&settings.traces, "service").unwrap()
}

fn headers(traceparents: &[&'static str]) -> HeaderMap {
    let values = traceparents.iter().map(|value| HeaderValue::from_static(value));
    values.map(|value| (TRACEPARENT, value)).collect()
}

/// Returns if a request with these headers is recorded, and if it is in its caller's trace.
fn recorded(tracer: &Tracer, traceparents: &[&'static str]) -> (bool, bool) {
    let span = tracer.request(|| "request".to_owned(), &headers(traceparents)).unwrap();
    let callers = span.trace_id().to_string() == SAMPLED[3..35];
    (span.trace().is_some(), callers)
}

#[tokio::test]
async fn a_request_is_recorded_as_its_caller_does_or_as_configured() {
    let default = tracer(&[]);
    assert_eq!(recorded(&default, &[SAMPLED]), (true, true));
    assert_eq!(recorded(&default, &[UNSAMPLED]), (false, true));
    assert_eq!(recorded(&default, &[]), (true, false));
    assert_eq!(recorded(&default, &["garbage"]), (true, false));
    assert_eq!(recorded(&default, &[SAMPLED, SAMPLED]), (true, false));
    let only_callers = tracer(&["--traces-sampler", "parentbased_always_off"]);
    assert_eq!(recorded(&only_callers, &[SAMPLED]), (true, true));
    assert_eq!(recorded(&only_callers, &[]), (false, false));
    let none = tracer(&["--traces-sampler", "traceidratio", "--traces-sampler-arg", "0"]);
    assert_eq!(recorded(&none, &[SAMPLED]), (false, true));
    for tracer in [default, only_callers, none] {
        tracer.close().await;
    }
}

#[tokio::test]
async fn a_recorded_span_has_children_until_the_tracer_is_closed() {
    let tracer = tracer(&[]);
    let parent = SAMPLED.parse().unwrap();
    let span = tracer.message("process", Some(parent)).unwrap();
    let context = span.trace().unwrap().clone();
    let child = context.span(SpanKind::Client, "insert").unwrap();
    assert_eq!(child.trace_id(), parent.trace_id());
    assert_ne!(child.traceparent(), span.traceparent());
    assert!(tracer.message("process", None).is_none());
    assert!(tracer.message("process", UNSAMPLED.parse().ok()).unwrap().trace().is_none());
    tracer.clone().close().await;
    assert!(context.span(SpanKind::Client, "too late").is_none());
}

#[tokio::test]
async fn without_a_collector_there_are_no_spans() {
    let settings = Settings::parse_from(["service"]);
    let tracer = Tracer::start(&settings.traces, "service").unwrap();
    assert!(tracer.request(|| unreachable!(), &headers(&[SAMPLED])).is_none());
    assert!(tracer.message("process", SAMPLED.parse().ok()).is_none());
    tracer.close().await;
}
