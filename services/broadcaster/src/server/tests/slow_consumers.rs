//! Subscribers that take frames slowly or not at all.

use super::*;
use crate::fan_out::frame::MAX_PAYLOAD_BYTES;
use tokio::time::interval;

#[tokio::test]
async fn a_slow_client_gets_the_newest_frame_and_delays_nobody() {
    const COUNT: usize = 300;
    let server = patient();
    let mut slow = server.subscribe().await;
    let mut quick = server.subscribe().await;
    let reading = tokio::spawn(async move {
        let mut received = 0;
        while !next_text(&mut quick).await.ends_with("299") {
            received += 1;
        }
        received
    });
    server.publish_numbers(COUNT).await;
    assert!(reading.await.unwrap() > COUNT / 2, "the slow client delayed the quick one");
    let received = numbers_until(&mut slow, COUNT - 1).await;
    assert!(received.len() < COUNT / 4, "{} frames were kept for it", received.len());
    assert!(received.is_sorted(), "{received:?}");
}

/// A server that closes nobody for being slow, however long the frames take on a busy machine.
fn patient() -> Fixture {
    Fixture::with_timeouts(|timeouts| {
        timeouts.send = Duration::from_mins(5);
        timeouts.ping = Duration::from_mins(5);
    })
}

/// Returns the numbers of the frames that come, up to `last`.
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

/// The smallest buffer that the kernel grants: hardly more than one such frame.
const LEAST_BUFFER_BYTES: u32 = 2048;

#[tokio::test]
async fn small_frames_do_not_pile_up_for_a_slow_client() {
    const COUNT: usize = 100;
    let server = patient();
    let mut slow = server.subscribe_with(&[], LEAST_BUFFER_BYTES).await.unwrap();
    for number in 0..COUNT {
        server.publish_number(number, SMALL_FRAME_BYTES).await;
    }
    let received = numbers_until(&mut slow, COUNT - 1).await;
    let (last, before) = received.split_last().unwrap();
    // Those in its own kernel, one that was being sent, and then the newest.
    assert!(before.iter().is_sorted(), "{received:?}");
    assert!(before.len() < COUNT / 4, "{} frames before {last}", before.len());
}

/// Returns true while a frame, or a part of one, is being sent.
fn is_sending(sink: &SubscriberSink) -> bool {
    sink.send_deadline().is_some()
}

/// A server that soon closes a client that takes nothing, and then lets it read the close frame.
fn impatient() -> Fixture {
    Fixture::with_timeouts(|timeouts| {
        timeouts.send = Duration::from_millis(300);
        timeouts.close = LIMIT;
    })
}

#[tokio::test]
async fn a_client_that_takes_no_small_frames_is_closed() {
    let server = impatient();
    let mut client = server.subscribe_with(&[], LEAST_BUFFER_BYTES).await.unwrap();
    server.publish_until(SMALL_FRAME_BYTES, SubscriberSink::is_closing).await;
    assert_eq!(close_code(&mut client).await, CloseCode::Library(4008));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed() {
    let server = impatient();
    let mut client = server.subscribe().await;
    server.publish_until(LARGE_FRAME_BYTES, SubscriberSink::is_closing).await;
    assert_eq!(close_code(&mut client).await, CloseCode::Library(4008));
}

#[tokio::test]
async fn a_client_that_takes_not_even_the_close_frame_is_cut_off() {
    let server = Fixture::with_timeouts(|timeouts| {
        timeouts.send = Duration::from_millis(200);
        timeouts.close = Duration::from_millis(200);
    });
    let _client = server.subscribe().await;
    server.publish_until(LARGE_FRAME_BYTES, SubscriberSink::is_closing).await;
    left(&server, 0).await;
}

#[tokio::test]
async fn a_client_that_takes_a_little_at_a_time_stays() {
    let server = Fixture::with_timeouts(|timeouts| timeouts.send = Duration::from_millis(500));
    let mut slow = server.subscribe_with(&[], LEAST_BUFFER_BYTES).await.unwrap();
    let frame = "x".repeat(MAX_PAYLOAD_BYTES);
    server.hub.publish(frame.as_bytes());
    // With the frame's header of four bytes. This takes three times as long as the send timeout.
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
async fn a_stall_of_the_process_makes_no_slow_consumer() {
    let server = Fixture::with_timeouts(|timeouts| timeouts.send = Duration::from_millis(600));
    let mut client = server.subscribe().await;
    let count = server.publish_until(LARGE_FRAME_BYTES, is_sending).await;
    stall(Duration::from_millis(800));
    numbers_until(&mut client, count - 1).await;
    is_served(&server, &mut client).await;
}
