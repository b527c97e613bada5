//! Subscribers that stall, flood, send garbage, half-close or vanish: none of them delays another.

use super::*;
use crate::hub::MAX_FRAME_BYTES;
use tokio::time::interval;

#[tokio::test]
async fn a_slow_client_gets_the_newest_frame_and_delays_nobody() {
    const COUNT: usize = 300;
    let server = bearing_with_slow_ones();
    let mut slow = server.subscribe().await;
    let mut quick = server.subscribe().await;
    let reading = tokio::spawn(async move {
        let mut received = 0;
        while !next_text(&mut quick).await.ends_with("299") {
            received += 1;
        }
        received
    });
    server.flood(COUNT).await;
    assert!(reading.await.unwrap() > COUNT / 2, "the slow client delayed the quick one");
    let received = numbers_until(&mut slow, COUNT - 1).await;
    assert!(received.len() < COUNT / 4, "{} frames were kept for it", received.len());
    assert!(received.is_sorted(), "{received:?}");
}

/// A server that closes nobody for being slow, however long the frames take on a busy machine.
fn bearing_with_slow_ones() -> Fixture {
    Fixture::with_timing(|timing| {
        timing.send = Duration::from_mins(5);
        timing.ping = Duration::from_mins(5);
    })
}

/// The numbers of the frames that still come, up to this one.
async fn numbers_until(client: &mut Client, last: usize) -> Vec<usize> {
    let mut received = Vec::new();
    while received.last() != Some(&last) {
        let text = next_text(client).await;
        received.push(text.trim_start_matches('0').parse().unwrap_or(0));
    }
    received
}

/// A few of these fill all buffers between a server and its client.
const LARGE_FRAME_BYTES: usize = 16 * 1024;

/// As large as an ordinary message.
const SMALL_FRAME_BYTES: usize = 300;

/// The least that the kernel grants: hardly more than one such frame.
const LEAST_BUFFER_BYTES: u32 = 2048;

#[tokio::test]
async fn small_frames_do_not_pile_up_for_a_slow_client() {
    const COUNT: usize = 100;
    let server = bearing_with_slow_ones();
    let mut slow = server.subscribe_with(&[], LEAST_BUFFER_BYTES).await.unwrap();
    for number in 0..COUNT {
        server.publish_number(number, SMALL_FRAME_BYTES).await;
    }
    let received = numbers_until(&mut slow, COUNT - 1).await;
    let (last, before) = received.split_last().unwrap();
    // What its own kernel had taken, one frame that was on its way, and then the newest.
    assert!(before.iter().is_sorted(), "{received:?}");
    assert!(before.len() < COUNT / 4, "{} frames before {last}", before.len());
}

/// Whether a frame is on its way to this subscriber, or a part of one.
fn is_under_way(outlet: &SubscriberSink) -> bool {
    outlet.sent_due().is_some()
}

/// A server that soon closes who takes nothing, and gives it time to hear of that.
fn taking_soon() -> Fixture {
    Fixture::with_timing(|timing| {
        timing.send = Duration::from_millis(300);
        timing.close = LIMIT;
    })
}

#[tokio::test]
async fn a_client_that_takes_no_small_frames_is_closed() {
    let server = taking_soon();
    let mut client = server.subscribe_with(&[], LEAST_BUFFER_BYTES).await.unwrap();
    server.publish_until(SMALL_FRAME_BYTES, SubscriberSink::is_ending).await;
    assert_eq!(close_code(&mut client).await, CloseCode::Library(4008));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed() {
    let server = taking_soon();
    let mut client = server.subscribe().await;
    server.publish_until(LARGE_FRAME_BYTES, SubscriberSink::is_ending).await;
    assert_eq!(close_code(&mut client).await, CloseCode::Library(4008));
}

#[tokio::test]
async fn a_client_that_takes_nothing_at_all_is_cut_off_in_the_end() {
    let server = Fixture::with_timing(|timing| {
        timing.send = Duration::from_millis(200);
        timing.close = Duration::from_millis(200);
    });
    let _client = server.subscribe().await;
    server.publish_until(LARGE_FRAME_BYTES, SubscriberSink::is_ending).await;
    left(&server, 0).await;
}

#[tokio::test]
async fn a_client_that_takes_a_little_at_a_time_stays() {
    let server = Fixture::with_timing(|timing| timing.send = Duration::from_millis(500));
    let mut slow = server.subscribe_with(&[], LEAST_BUFFER_BYTES).await.unwrap();
    let frame = "x".repeat(MAX_FRAME_BYTES);
    server.hub.publish(frame.as_bytes());
    // With the frame's header of four bytes. That takes three times as long as nothing may be taken.
    let mut left = 4 + frame.len();
    let mut pace = interval(Duration::from_millis(50));
    let begun = Instant::now();
    while left > 0 {
        pace.tick().await;
        let mut buffer = vec![0; left.min(1024)];
        left -= timeout(LIMIT, slow.get_mut().read(&mut buffer)).await.unwrap().unwrap();
    }
    assert!(begun.elapsed() > Duration::from_secs(1));
    is_served(&server, &mut slow).await;
}

#[tokio::test]
async fn pings_keep_a_client_that_answers_and_end_one_that_does_not() {
    let server = Fixture::with_timing(|timing| {
        timing.ping = Duration::from_millis(100);
        timing.pong = Duration::from_millis(400);
    });
    let mut alive = server.subscribe().await;
    let mut mute = server.subscribe().await;
    // Reading is what makes this client answer.
    let answering = tokio::spawn(async move {
        for _ in 0..10 {
            assert!(matches!(next(&mut alive).await, Message::Ping(_)));
        }
    });
    answering.await.unwrap();
    assert_eq!(close_code(&mut mute).await, CloseCode::Library(4008));
}

/// Pings often, and reads so many bytes a second at most.
fn pinging_and_reading(bytes_per_second: u32) -> Fixture {
    Fixture::with_timing(|timing| {
        timing.ping = Duration::from_millis(100);
        timing.pong = Duration::from_millis(400);
        timing.pause = Duration::from_secs(2048) / bytes_per_second;
    })
}

#[tokio::test]
async fn who_bursts_and_answers_pings_stays() {
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
async fn who_never_stops_talking_and_answers_pings_stays() {
    let server = pinging_and_reading(20_000);
    let (mut talking, mut listening) = server.subscribe().await.split();
    let _talking = AbortOnDropHandle::new(tokio::spawn(async move {
        while talking.send(Message::text("x".repeat(1000))).await.is_ok() {}
    }));
    for _ in 0..15 {
        let message = timeout(LIMIT, listening.next()).await.expect("a ping in time");
        assert!(matches!(message, Some(Ok(Message::Ping(_)))), "{message:?}");
    }
}

#[tokio::test]
async fn who_talks_and_answers_no_pings_is_closed() {
    let server = Fixture::with_timing(|timing| {
        timing.ping = Duration::from_millis(100);
        timing.pong = Duration::from_millis(400);
        timing.close = LIMIT;
    });
    // Reading is what makes this client answer.
    let mut client = server.subscribe().await;
    let talking = async {
        let mut pace = interval(Duration::from_millis(50));
        while !server.hub.outlets().iter().any(|outlet| outlet.is_ending()) {
            pace.tick().await;
            client.send(Message::text("talking")).await.unwrap();
        }
    };
    timeout(LIMIT, talking).await.expect("its session ends");
    assert_eq!(close_code(&mut client).await, CloseCode::Library(4008));
}

/// Nothing of this process runs for so long, be it a server or a client.
fn stall(time: Duration) {
    std::thread::sleep(time);
}

#[tokio::test]
async fn a_stall_of_the_process_makes_nobody_mute() {
    let server = Fixture::with_timing(|timing| {
        timing.ping = Duration::from_millis(100);
        timing.pong = Duration::from_millis(600);
    });
    let mut client = server.subscribe().await;
    assert!(matches!(next(&mut client).await, Message::Ping(_)));
    // Its pong is in the server's kernel, where nobody looks.
    client.flush().await.unwrap();
    stall(Duration::from_millis(800));
    is_served(&server, &mut client).await;
}

#[tokio::test]
async fn a_stall_of_the_process_makes_nobody_slow() {
    let server = Fixture::with_timing(|timing| timing.send = Duration::from_millis(600));
    let mut client = server.subscribe().await;
    let count = server.publish_until(LARGE_FRAME_BYTES, is_under_way).await;
    stall(Duration::from_millis(800));
    numbers_until(&mut client, count - 1).await;
    is_served(&server, &mut client).await;
}

/// Waits until this many sessions are left.
async fn left(server: &Fixture, count: usize) {
    let left = async {
        while server.hub.subscribers() != count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, left).await.expect("the sessions end");
}

/// This subscriber gets every one of these frames.
async fn is_served(server: &Fixture, client: &mut Client) {
    for number in 0..50 {
        let frame = format!("frame {number}");
        server.hub.publish(frame.as_bytes());
        assert_eq!(next_text(client).await, frame);
    }
}

/// Sends these bytes again and again, as fast as they are taken, without reading.
fn flood(mut client: Client, bytes: &'static [u8]) -> AbortOnDropHandle<()> {
    let bytes = bytes.repeat(1000);
    AbortOnDropHandle::new(tokio::spawn(async move {
        while client.get_mut().write_all(&bytes).await.is_ok() {}
    }))
}

#[tokio::test]
async fn who_sends_without_end_delays_nobody() {
    let server = Fixture::start(Settings::default());
    let mut other = server.subscribe().await;
    let small_text: &[u8] = &[0x81, 0x81, 0, 0, 0, 0, b'x'];
    let ping: &[u8] = &[0x89, 0x80, 0, 0, 0, 0];
    let _text = flood(server.subscribe().await, small_text);
    let _pings = flood(server.subscribe().await, ping);
    is_served(&server, &mut other).await;
}

#[tokio::test]
async fn who_floods_with_pings_and_takes_no_answer_is_cut_off() {
    let server = Fixture::with_timing(|timing| {
        // So that its answers soon fill what there is between the two.
        timing.pause = Duration::ZERO;
        timing.send = Duration::from_millis(300);
        timing.close = Duration::from_millis(300);
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
async fn who_floods_after_a_violation_is_cut_off() {
    // It is not the time that ends it.
    let server = Fixture::with_timing(|timing| timing.close = Duration::from_mins(5));
    let mut client = server.subscribe().await;
    client.get_mut().write_all(&[0x5a; 3000]).await.unwrap();
    let flooding = async { while client.get_mut().write_all(&[0x5a; 4096]).await.is_ok() {} };
    timeout(LIMIT, flooding).await.expect("an end in time");
}

#[tokio::test]
async fn who_closes_only_its_sending_side_is_closed() {
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
async fn who_vanishes_frees_its_seat() {
    let server = Fixture::start(Settings { max_connections: 2, ..Settings::default() });
    let mut other = server.subscribe().await;
    let vanishing = server.subscribe().await;
    vanishing.get_ref().set_zero_linger().unwrap();
    drop(vanishing);
    left(&server, 1).await;
    is_served(&server, &mut other).await;
    server.subscribe().await;
}
