//! The headers that pass between the client and the broadcaster, both ways.

use std::net::IpAddr;

use auth::bearer::AUTH_OF_GATEWAY;
use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header},
};
use service::http::{Peer, has_token, prefer::PREFER};

/// Headers of a request that the broadcaster gets, besides `Sec-WebSocket-*` and, with `AUTH=jwt`, the token. An allow list,
/// so that cookies stay here.
const PASSED_ON: [HeaderName; 11] = [
    header::ACCEPT,
    header::CACHE_CONTROL,
    HeaderName::from_static("last-event-id"),
    PREFER,
    header::ORIGIN,
    header::USER_AGENT,
    header::FORWARDED,
    X_FORWARDED_FOR,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-request-id"),
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns true for a WebSocket handshake (RFC 6455, section 4.1). HTTP/2 has no upgrade.
pub(crate) fn is_websocket_handshake(request: &Request) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(request.headers(), &header::CONNECTION, "upgrade")
        && has_token(request.headers(), &header::UPGRADE, "websocket")
}

/// Returns the headers of the request to the broadcaster at `authority`. Those for one
/// connection only (RFC 9110, section 7.6.1) are made anew. With `AUTH=jwt` the broadcaster has to verify the token.
pub(super) fn request(
    request: &Request,
    authority: &str,
    is_auth_on: bool,
) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers() {
        let is_token = is_auth_on && name == header::AUTHORIZATION;
        if is_token || is_websocket(name) || PASSED_ON.contains(name) {
            headers.append(name, value.clone());
        }
    }
    if is_auth_on {
        headers.insert(AUTH_OF_GATEWAY, HeaderValue::from_static("jwt"));
    }
    if let Some(Peer(peer)) = request.extensions().get::<Peer>() {
        append_hop(&mut headers, peer.ip().to_canonical())?;
    }
    headers.insert(header::HOST, HeaderValue::try_from(authority)?);
    if is_websocket_handshake(request) {
        upgrade_to_websocket(&mut headers);
    }
    Ok(headers)
}

/// Appends the client of this hop to each header that says who the earlier ones were, so that whichever
/// the broadcaster reads is whole. Without any, it is `X-Forwarded-For`.
fn append_hop(headers: &mut HeaderMap, client: IpAddr) -> anyhow::Result<()> {
    if headers.contains_key(header::FORWARDED) {
        // An IPv6 address needs quotes (RFC 7239, section 6).
        let node = match client {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        headers.append(header::FORWARDED, HeaderValue::try_from(format!("for={node}"))?);
    }
    if headers.contains_key(X_FORWARDED_FOR) || !headers.contains_key(header::FORWARDED) {
        headers.append(X_FORWARDED_FOR, HeaderValue::try_from(client.to_string())?);
    }
    Ok(())
}

/// Returns the headers of the client's 101, from those of the broadcaster's.
pub(super) fn switching_protocols(from_broadcaster: &HeaderMap) -> HeaderMap {
    let websocket = from_broadcaster.iter().filter(|(name, _)| is_websocket(name));
    let mut headers: HeaderMap =
        websocket.map(|(name, value)| (name.clone(), value.clone())).collect();
    upgrade_to_websocket(&mut headers);
    headers
}

/// Returns the headers that concern the response, and neither its connection nor the servers within.
pub(super) fn end_to_end(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    const HOP_BY_HOP: [&str; 9] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    const WITHIN: [&str; 4] = ["content-location", "location", "server", "via"];
    headers.iter().filter(|(name, _)| {
        let name = name.as_str();
        !HOP_BY_HOP.contains(&name)
            && !WITHIN.contains(&name)
            && !has_token(headers, &header::CONNECTION, name)
    })
}

/// Sets the headers that name the upgrade.
pub(super) fn upgrade_to_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

fn is_websocket(name: &HeaderName) -> bool {
    name.as_str().starts_with("sec-websocket-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broadcaster_gets_a_token_only_where_it_must_verify_it() {
        let request = Request::get("/api/events")
            .header(header::AUTHORIZATION, "Bearer a")
            .header(header::COOKIE, "a=b")
            .header(AUTH_OF_GATEWAY, "off")
            .body(axum::body::Body::empty())
            .unwrap();
        let passed_on = |is_auth_on| super::request(&request, "broadcaster", is_auth_on).unwrap();
        let (off, on) = (passed_on(false), passed_on(true));
        assert_eq!((off.get(header::AUTHORIZATION), off.get(AUTH_OF_GATEWAY)), (None, None));
        assert_eq!(on[header::AUTHORIZATION], "Bearer a");
        assert_eq!(on.get_all(AUTH_OF_GATEWAY).iter().collect::<Vec<_>>(), ["jwt"]);
        assert!([off, on].iter().all(|headers| !headers.contains_key(header::COOKIE)));
    }

    #[test]
    fn the_header_that_names_earlier_hops_is_extended() {
        let lines = |sent: &[(&HeaderName, &'static str)], peer: &str| {
            let mut request = Request::get("/api/chat");
            for (name, value) in sent {
                request = request.header(*name, *value);
            }
            let mut request = request.body(axum::body::Body::empty()).unwrap();
            request.extensions_mut().insert(Peer((peer.parse::<IpAddr>().unwrap(), 80).into()));
            let headers = super::request(&request, "broadcaster", false).unwrap();
            [header::FORWARDED, X_FORWARDED_FOR].map(|name| {
                let lines = headers.get_all(name).into_iter();
                lines.map(|line| line.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(", ")
            })
        };
        let forwarded = (&header::FORWARDED, "for=192.0.2.1");
        let listed = (&X_FORWARDED_FOR, "192.0.2.1");
        assert_eq!(lines(&[], "10.0.0.1"), ["", "10.0.0.1"]);
        assert_eq!(lines(&[], "::ffff:10.0.0.1"), ["", "10.0.0.1"]);
        assert_eq!(lines(&[listed], "10.0.0.1"), ["", "192.0.2.1, 10.0.0.1"]);
        assert_eq!(lines(&[forwarded], "10.0.0.1"), ["for=192.0.2.1, for=10.0.0.1", ""]);
        assert_eq!(lines(&[forwarded], "2001:db8::1")[0], r#"for=192.0.2.1, for="[2001:db8::1]""#);
        let both = ["for=192.0.2.1, for=10.0.0.1", "192.0.2.1, 10.0.0.1"];
        assert_eq!(lines(&[forwarded, listed], "10.0.0.1"), both);
    }
}
