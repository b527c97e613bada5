//! Subscribers that flood, send garbage, half-close or vanish: none of them delays another.

use super::*;

/// Sends these bytes again and again, as fast as they are taken, without reading.
fn flood(mut client: Client, bytes: &'static [u8]) -> AbortOnDropHandle<()> {
    let bytes = bytes.repeat(1000);
    AbortOnDropHandle::new(tokio::spawn(async move {
        while client.get_mut().write_all(&bytes).await.is_ok() {}
    }))
}

#[tokio::test]
async fn clients_that_send_without_end_delay_nobody() {
    let server = Fixture::start(Settings::default());
    let mut other = server.subscribe().await;
    let small_text: &[u8] = &[0x81, 0x81, 0, 0, 0, 0, b'x'];
    let ping: &[u8] = &[0x89, 0x80, 0, 0, 0, 0];
    let _text = flood(server.subscribe().await, small_text);
    let _pings = flood(server.subscribe().await, ping);
    is_served(&server, &mut other).await;
}

#[tokio::test]
async fn a_client_that_floods_with_pings_and_takes_no_pongs_is_cut_off() {
    let server = Fixture::with_timeouts(|timeouts| {
        // So that the pongs soon fill all buffers between the two.
        timeouts.read_pause = Duration::ZERO;
        timeouts.send = Duration::from_millis(300);
        timeouts.close = Duration::from_millis(300);
    });
    let mut other = server.subscribe().await;
    let _pings = flood(server.subscribe().await, &[0x89, 0x80, 0, 0, 0, 0]);
    let flooded = async {
        while server.hub.subscribers() > 1 {
            is_served(&server, &mut other).await;
        }
    };
    timeout(LIMIT, flooded).await.expect("it is cut off");
    is_served(&server, &mut other).await;
}

#[tokio::test]
async fn garbage_is_closed_and_delays_nobody() {
    let server = Fixture::start(Settings::default());
    let mut other = server.subscribe().await;
    let mut client = server.subscribe().await;
    client.get_mut().write_all(&[0x5a; 3000]).await.unwrap();
    assert_eq!(close_code(&mut client).await, CloseCode::Protocol);
    drop(client);
    left(&server, 1).await;
    is_served(&server, &mut other).await;
}

#[tokio::test]
async fn a_client_that_floods_after_a_violation_is_cut_off() {
    // The closing handshake does not time out.
    let server = Fixture::with_timeouts(|timeouts| timeouts.close = Duration::from_mins(5));
    let mut client = server.subscribe().await;
    client.get_mut().write_all(&[0x5a; 3000]).await.unwrap();
    let flooding = async { while client.get_mut().write_all(&[0x5a; 4096]).await.is_ok() {} };
    timeout(LIMIT, flooding).await.expect("an end in time");
}

#[tokio::test]
async fn a_client_that_closes_only_its_sending_side_is_closed() {
    let server = Fixture::start(Settings::default());
    let mut other = server.subscribe().await;
    let mut client = server.subscribe().await;
    client.get_mut().shutdown().await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(LIMIT, client.get_mut().read_to_end(&mut rest)).await;
    ended.expect("an end in time").unwrap();
    left(&server, 1).await;
    is_served(&server, &mut other).await;
}

#[tokio::test]
async fn a_client_that_vanishes_frees_its_permit() {
    let server = Fixture::start(Settings { max_subscribers: 2, ..Settings::default() });
    let mut other = server.subscribe().await;
    let vanishing = server.subscribe().await;
    vanishing.get_ref().set_zero_linger().unwrap();
    drop(vanishing);
    left(&server, 1).await;
    is_served(&server, &mut other).await;
    server.subscribe().await;
}
