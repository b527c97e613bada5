//! The headers that pass through a tunnel's handshake, both ways.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header},
};
use service::http::{Peer, has_token};

/// Headers of a handshake that the broadcaster gets, besides `Sec-WebSocket-*`. An allow list, so that
/// cookies and credentials stay here as long as the broadcaster does not check any.
const FORWARDED: [HeaderName; 7] = [
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
pub(super) fn is_websocket_handshake(request: &Request) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(request.headers(), &header::CONNECTION, "upgrade")
        && has_token(request.headers(), &header::UPGRADE, "websocket")
}

/// Returns the headers of the handshake with the broadcaster at `authority`. Those for one
/// connection only (RFC 9110, section 7.6.1) are made anew.
pub(super) fn handshake(request: &Request, authority: &str) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers() {
        if is_websocket(name) || FORWARDED.contains(name) {
            headers.append(name, value.clone());
        }
    }
    if let Some(Peer(peer)) = request.extensions().get::<Peer>() {
        headers.append(X_FORWARDED_FOR, HeaderValue::try_from(peer.ip().to_string())?);
    }
    headers.insert(header::HOST, HeaderValue::try_from(authority)?);
    upgrade_to_websocket(&mut headers);
    Ok(headers)
}

/// Returns the headers of the client's 101, from those of the broadcaster's.
pub(super) fn switching_protocols(from_broadcaster: &HeaderMap) -> HeaderMap {
    let websocket = from_broadcaster.iter().filter(|(name, _)| is_websocket(name));
    let mut headers: HeaderMap =
        websocket.map(|(name, value)| (name.clone(), value.clone())).collect();
    upgrade_to_websocket(&mut headers);
    headers
}

/// Returns the headers of a refusal that concern the response, and neither its connection nor the servers within.
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
