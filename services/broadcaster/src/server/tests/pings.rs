//! Pings, and subscribers that do not answer them in time.

use tokio::time::interval;

use super::*;

#[tokio::test]
async fn pings_keep_a_client_that_answers_and_end_one_that_does_not() {
    let server = Fixture::with_timeouts(|timeouts| {
        timeouts.ping = Duration::from_millis(100);
        timeouts.pong = Duration::from_millis(400);
    });
    let mut alive = server.subscribe().await;
    let mut silent = server.subscribe().await;
    // Reading is what makes this client answer.
    let answering = tokio::spawn(async move {
        for _ in 0..10 {
            assert!(matches!(next(&mut alive).await, Message::Ping(_)));
        }
    });
    answering.await.unwrap();
    assert_eq!(close_code(&mut silent).await, CloseCode::Library(4008));
}

/// Pings often, and reads so many bytes a second at most.
fn pinging_and_reading(bytes_per_second: u32) -> Fixture {
    Fixture::with_timeouts(|timeouts| {
        timeouts.ping = Duration::from_millis(100);
        timeouts.pong = Duration::from_millis(400);
        timeouts.read_pause = Duration::from_secs(2048) / bytes_per_second;
    })
}

#[tokio::test]
async fn a_client_that_sends_a_burst_and_answers_pings_stays() {
    let server = pinging_and_reading(100_000);
    let mut client = server.subscribe().await;
    // Two seconds of reading. Its pongs come behind that.
    for _ in 0..50 {
        client.feed(Message::text("x".repeat(4096))).await.unwrap();
    }
    client.send(Message::Ping("behind".into())).await.unwrap();
    while next(&mut client).await != Message::Pong("behind".into()) {}
    is_served(&server, &mut client).await;
}

#[tokio::test]
async fn a_client_that_never_stops_sending_and_answers_pings_stays() {
    let server = pinging_and_reading(20_000);
    let (mut sending, mut listening) = server.subscribe().await.split();
    let _sending = AbortOnDropHandle::new(tokio::spawn(async move {
        while sending.send(Message::text("x".repeat(1000))).await.is_ok() {}
    }));
    for _ in 0..15 {
        let message = timeout(LIMIT, listening.next()).await.expect("a ping in time");
        assert!(matches!(message, Some(Ok(Message::Ping(_)))), "{message:?}");
    }
}

#[tokio::test]
async fn a_client_that_sends_and_answers_no_pings_is_closed() {
    let server = Fixture::with_timeouts(|timeouts| {
        timeouts.ping = Duration::from_millis(100);
        timeouts.pong = Duration::from_millis(400);
        timeouts.close = LIMIT;
    });
    // Reading is what makes this client answer.
    let mut client = server.subscribe().await;
    let sending = async {
        let mut pace = interval(Duration::from_millis(50));
        while !server.hub.sinks().iter().any(|sink| sink.is_closing()) {
            pace.tick().await;
            client.send(Message::text("sending")).await.unwrap();
        }
    };
    timeout(LIMIT, sending).await.expect("its session ends");
    assert_eq!(close_code(&mut client).await, CloseCode::Library(4008));
}

#[tokio::test]
async fn a_stall_of_the_process_is_not_a_missed_pong() {
    let server = Fixture::with_timeouts(|timeouts| {
        timeouts.ping = Duration::from_millis(100);
        timeouts.pong = Duration::from_millis(600);
    });
    let mut client = server.subscribe().await;
    assert!(matches!(next(&mut client).await, Message::Ping(_)));
    // Its pong is in the server's kernel, where nobody looks.
    client.flush().await.unwrap();
    stall(Duration::from_millis(800));
    is_served(&server, &mut client).await;
}
