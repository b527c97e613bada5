//! The response to a request whose handler panicked.

use std::any::Any;

use axum::response::{IntoResponse, Response};

use crate::error::{self, ProblemResponse};

/// Logs the panic and answers 500.
#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
pub(crate) fn respond(payload: Box<dyn Any + Send + 'static>) -> Response {
    let reason = service::panic_message(payload.as_ref());
    ProblemResponse::from(error::internal(reason)).into_response()
}
