//! Headers of responses. Routes only name them; each is described here once.

use utoipa::openapi::{Header, HeaderBuilder, ObjectBuilder, SchemaFormat, Type};

/// The header of this name in a response with this status; `None` for an unknown one.
pub(super) fn describe(name: &str, status: &str) -> Option<Header> {
    let (description, schema) = match name {
        "X-Request-Id" => ("Id of the request", text()),
        "ETag" => {
            let version = text().pattern(Some("^\"[1-9][0-9]*\"$")).examples(["\"1\""]);
            ("Version of the message", version)
        }
        "Location" => {
            let example = match status {
                "201" => "/api/messages/0199f0c1-6a3e-7c55-9d0e-2f4b8a6c1e11",
                _ => {
                    "/api/operations/0199f0c16a3e7c559d0e2f4b8a6c1e120199f0c16a3e7c559d0e2f4b8a6c1e11"
                }
            };
            let format = SchemaFormat::Custom("uri-reference".to_owned());
            ("URL of the resource", text().format(Some(format)).examples([example]))
        }
        "Link" => {
            let next = "</api/messages?from_user_id=alice&to_user_id=bob&limit=50&cursor=…>; \
                        rel=\"next\"";
            let monitor = "</api/events?user_id=alice&with=bob&after=…>; rel=\"monitor\"";
            let description = "`next`: the next page, if there is one. `monitor`, of the first page: the events behind \
                               what the list shows (RFC 8288, RFC 5989). Each has a line of its own";
            (description, text().examples([next, monitor]))
        }
        "Retry-After" => {
            let seconds = ObjectBuilder::new().schema_type(Type::Integer);
            ("Seconds to wait before the next request", seconds.minimum(Some(0)))
        }
        "WWW-Authenticate" => {
            let example = r#"Bearer error="insufficient_scope", scope="messages:read-all""#;
            let description = "Challenge (RFC 6750): present on a 401, and on a 403 for a scope that the token lacks. \
                               `resource_metadata` says where to get a token (RFC 9728)";
            (description, text().examples([example]))
        }
        "RateLimit" => (
            "What is left of the rate limit, if there is one, and seconds until it is as ever or, on a 429, until a \
             request is allowed (draft-ietf-httpapi-ratelimit-headers)",
            text().examples([r#""reads";r=599;t=1"#]),
        ),
        "RateLimit-Policy" => (
            "Requests and seconds of the rate limit, if there is one",
            text().examples([r#""reads";q=600;w=60"#]),
        ),
        "Preference-Applied" => (
            "The preference that was applied, if any (RFC 7240)",
            text().pattern(Some("^(respond-async|wait=[0-9]+)$")),
        ),
        "Idempotency-Replayed" => (
            "Present if an earlier request with this key created the message; the body is the \
             message as it is now",
            one_of("true"),
        ),
        "Cache-Control" => (
            "How long the response may be stored",
            text().enum_values(Some(["no-store", "max-age=3600", "no-cache, no-transform"])),
        ),
        "Accept-Encoding" => (
            "Present if a `Content-Encoding` was refused: the one that is accepted",
            one_of("identity"),
        ),
        "Vary" => ("Request header that the response depends on", one_of("accept")),
        "Connection" => ("RFC 6455", one_of("Upgrade")),
        "Upgrade" => ("RFC 6455", one_of("websocket")),
        "Sec-WebSocket-Accept" => ("RFC 6455", text()),
        _ => return None,
    };
    Some(HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build())
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn one_of(value: &str) -> ObjectBuilder {
    text().enum_values(Some([value]))
}
