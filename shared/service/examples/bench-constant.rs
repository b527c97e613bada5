//! The limit of HTTP, for `cargo xtask bench`: axum behind the services' listener, with the same message as the response
//! to every request.

use std::time::Duration;

use axum::{Router, http::header, routing::any};
use service::{Shutdown, http};
use telemetry::logging;

const MESSAGE: &str = concat!(
    r#"{"id":"01a20449-2db5-76d7-8409-4d16d0eccbf6","from_user_id":"user-1","to_user_id":"reader-1","#,
    r#""content":"the same each time: about as long as what people write to each other","#,
    r#""publish_timestamp":"2026-11-22T17:23:54.421Z","edit_timestamp":null}"#
);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    logging::start_for_tool();
    let message = any(|| async { ([(header::CONTENT_TYPE, "application/json")], MESSAGE) });
    let settings = http::ListenerSettings { max_connections: 10_000, ..Default::default() };
    let listener = http::Listener::bind(([127, 0, 0, 1], 0).into(), settings)?;
    println!("{}", listener.local_addr()?);
    let phases = Shutdown::on_signals()?.phases(Duration::ZERO, Duration::from_secs(1));
    listener.serve(Router::new().fallback(message), &phases).await;
    Ok(())
}
