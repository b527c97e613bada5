//! scratch
#![allow(clippy::all, clippy::pedantic, clippy::unwrap_used, missing_docs)]
use futures_util::StreamExt;
use std::{sync::{Arc, Mutex, atomic::{AtomicUsize, Ordering}}, time::{Duration, Instant}, collections::HashMap};
use tokio_tungstenite::{client_async_with_config, tungstenite::{client::IntoClientRequest, Message, protocol::WebSocketConfig}};
#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let url = args[1].clone();
    let n: usize = args[2].parse().unwrap();
    let secs: u64 = args[3].parse().unwrap();
    let hostport = url.trim_start_matches("ws://").split('/').next().unwrap().to_owned();
    let seen: Arc<Mutex<HashMap<String, (Instant, Instant, usize)>>> = Default::default();
    let closes = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let opened = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let sem = Arc::new(tokio::sync::Semaphore::new(200));
    let mut tasks = Vec::new();
    for i in 0..n {
        let (url, hostport, seen, closes, opened, sem) = (url.clone(), hostport.clone(), seen.clone(), closes.clone(), opened.clone(), sem.clone());
        tasks.push(tokio::spawn(async move {
            let permit = sem.acquire_owned().await.unwrap();
            let sock = tokio::net::TcpSocket::new_v4().unwrap();
            sock.bind(format!("127.0.0.{}:0", 1 + i / 15000).parse().unwrap()).unwrap();
            let tcp = sock.connect(hostport.parse().unwrap()).await.unwrap();
            let cfg = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0).max_write_buffer_size(65536);
            let (mut ws, _) = match client_async_with_config(url.into_client_request().unwrap(), tcp, Some(cfg)).await {
                Ok(x) => x, Err(e) => { *closes.lock().unwrap().entry(format!("open: {e}")).or_default() += 1; return; }
            };
            drop(permit);
            if opened.fetch_add(1, Ordering::SeqCst) + 1 == n { println!("{n} open after {:?}", start.elapsed()); }
            let end = tokio::time::sleep_until((start + Duration::from_secs(secs)).into());
            tokio::pin!(end);
            loop {
                tokio::select! {
                    m = ws.next() => match m {
                        Some(Ok(Message::Text(t))) => {
                            let now = Instant::now();
                            let mut s = seen.lock().unwrap();
                            let e = s.entry(t.to_string()).or_insert((now, now, 0));
                            if now - e.1 > Duration::from_millis(700) { drop(s); continue; }
                            e.1 = now; e.2 += 1;
                        }
                        Some(Ok(Message::Close(f))) => { *closes.lock().unwrap().entry(format!("{f:?}")).or_default() += 1; }
                        Some(Ok(_)) => {}
                        Some(Err(e)) => { *closes.lock().unwrap().entry(format!("err {e}")).or_default() += 1; break }
                        None => break,
                    },
                    _ = &mut end => { let _ = ws.close(None).await; break }
                }
            }
        }));
    }
    for t in tasks { t.await.unwrap(); }
    let seen = seen.lock().unwrap();
    let mut v: Vec<_> = seen.values().cloned().collect(); v.sort_by_key(|x| x.0);
    for (a, b, c) in v { println!("at {:?}: {c} copies in {:?}", a - start, b - a); }
    println!("closes: {:?}", closes.lock().unwrap());
}
