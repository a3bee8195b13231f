//! What many sessions, subscriptions and retained messages cost: routing, storms of connections,
//! starts.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use portreeve_mqtt::{
    Connect, Packet, Properties, Publish, QoS, Subscribe, SubscribeEntriesBuf, SubscribeEntry,
    SubscriptionOptions, TopicFilter, TopicName,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::cpu_time;
use super::servers::ServerProcess;
use super::traffic::{VERSION, spawn};
use crate::client::connect;

/// Connections that are opened at a time.
const LANES: usize = 64;
/// Filters in one SUBSCRIBE.
const FILTERS: usize = 200;
/// Sessions that hold the subscriptions.
const HOLDERS: usize = 100;

/// A connection whose session outlives it.
async fn lasting(address: SocketAddr, client_id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.set_nodelay(true).unwrap();
    let packet = Connect { clean_start: false, ..connect(VERSION, client_id) };
    let mut bytes = Vec::new();
    Packet::Connect(packet).encode(VERSION, &mut bytes).unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await.unwrap();
    assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNECT is accepted");
    stream
}

/// Waits for the acknowledgement.
pub(super) async fn subscribe(stream: &mut TcpStream, filters: &[String], qos: QoS) {
    let mut entries = SubscribeEntriesBuf::new();
    for filter in filters {
        let filter = TopicFilter::parse(filter).unwrap();
        let options = SubscriptionOptions::with_qos(qos);
        entries.push(SubscribeEntry { filter, options }).unwrap();
    }
    let packet = Subscribe {
        packet_id: NonZeroU16::MIN,
        properties: Properties::NONE,
        entries: entries.as_entries(),
    };
    let mut bytes = Vec::new();
    Packet::Subscribe(packet).encode(VERSION, &mut bytes).unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut head = [0; 1];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[0], 0x90, "SUBACK");
    let mut length = 0_usize;
    for shift in [0, 7, 14] {
        let byte = stream.read_u8().await.unwrap();
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.unwrap();
}

/// Appends a PUBLISH.
pub(super) fn publish(topic: &str, payload: &[u8], qos: QoS, retain: bool, bytes: &mut Vec<u8>) {
    let publish = Publish {
        dup: false,
        qos,
        retain,
        topic: TopicName::parse(topic).ok(),
        packet_id: (qos != QoS::AtMostOnce).then_some(NonZeroU16::MIN),
        properties: Properties::NONE,
        payload,
    };
    Packet::Publish(publish).encode(VERSION, bytes).unwrap();
}

/// Waits until everything that was written was handled.
async fn ping(stream: &mut TcpStream) {
    stream.write_all(&[0xc0, 0]).await.unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await.unwrap();
}

/// CPU-microseconds of the server for each message, of which one subscription of `count` matches,
/// and that goes to another topic each time, so that nothing is remembered. The second number is
/// for messages that nobody subscribes to.
pub async fn routing(server: &ServerProcess, count: usize) -> (f64, f64) {
    let mut holders = Vec::new();
    for holder in 0..HOLDERS {
        let mut stream = lasting(server.address, &format!("holder-{holder}")).await;
        let filters: Vec<String> = (0..count / HOLDERS)
            .map(|number| match number % 10 {
                // One in ten with a wildcard.
                0 => format!("site/{holder}/device/{number}/+"),
                _ => format!("site/{holder}/device/{number}/state"),
            })
            .collect();
        for filters in filters.chunks(FILTERS) {
            subscribe(&mut stream, filters, QoS::AtMostOnce).await;
        }
        let (mut read, write) = stream.into_split();
        let mut chunk = vec![0; 65_536];
        holders.push((
            spawn(async move { while read.read(&mut chunk).await.is_ok_and(|read| read > 0) {} }),
            write,
        ));
    }
    let matched = messages(server, count, "site").await;
    let unmatched = messages(server, count, "elsewhere").await;
    for (task, _) in &holders {
        task.abort();
    }
    (matched, unmatched)
}

async fn messages(server: &ServerProcess, count: usize, first: &str) -> f64 {
    const MESSAGES: usize = 200_000;
    const BATCH: usize = 100;
    let mut stream = lasting(server.address, &format!("publisher-{first}")).await;
    let before = cpu_time(server.pid());
    let mut bytes = Vec::new();
    for message in 0..MESSAGES {
        // A batch goes to one session, so that its one write is shared; a step visits its
        // subscriptions in another order than they were made.
        let (holder, number) = (message / BATCH % HOLDERS, message * 7919 % (count / HOLDERS));
        let topic = format!("{first}/{holder}/device/{number}/state");
        publish(&topic, b"x", QoS::AtMostOnce, false, &mut bytes);
        if message % BATCH == BATCH - 1 {
            stream.write_all(&bytes).await.unwrap();
            bytes.clear();
            ping(&mut stream).await;
        }
    }
    let spent = cpu_time(server.pid()).saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
    let messages = MESSAGES as f64;
    spent.as_secs_f64() * 1e6 / messages
}

/// CPU-microseconds of the server for a SUBSCRIBE that one of `count` retained messages matches,
/// with a wildcard in its filter.
pub async fn retained(server: &ServerProcess, count: usize) -> f64 {
    const SUBSCRIBES: usize = 2_000;
    let mut publisher = lasting(server.address, "retainer").await;
    let mut bytes = Vec::new();
    for number in 0..count {
        let topic = format!("site/{}/device/{number}/state", number % 100);
        publish(&topic, b"retained", QoS::AtMostOnce, true, &mut bytes);
        if bytes.len() > 16_384 || number + 1 == count {
            publisher.write_all(&bytes).await.unwrap();
            bytes.clear();
            ping(&mut publisher).await;
        }
    }
    let mut stream = lasting(server.address, "subscriber").await;
    let before = cpu_time(server.pid());
    for number in 0..SUBSCRIBES {
        let number = number * 7919 % count;
        let filter = format!("site/{}/device/{number}/+", number % 100);
        subscribe(&mut stream, &[filter], QoS::AtMostOnce).await;
        // The retained message, and UNSUBSCRIBE is not needed: the next filter is another one.
        let mut head = [0; 2];
        stream.read_exact(&mut head).await.unwrap();
        let mut rest = vec![0; usize::from(head[1])];
        stream.read_exact(&mut rest).await.unwrap();
    }
    let spent = cpu_time(server.pid()).saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "a count of packets")]
    let subscribes = SUBSCRIBES as f64;
    spent.as_secs_f64() * 1e6 / subscribes
}

/// Makes `count` lasting sessions with one subscription each, of QoS 1, and leaves them.
pub async fn make_sessions(address: SocketAddr, count: usize, filter: &'static str) {
    in_lanes(count, move |number| async move {
        let mut stream = lasting(address, &format!("session-{number}")).await;
        subscribe(&mut stream, &[filter.to_owned()], QoS::AtLeastOnce).await;
        stream.write_all(&[0xe0, 0]).await.unwrap();
        let mut end = [0; 1];
        let _closed = stream.read(&mut end).await;
    })
    .await;
}

/// All `count` sessions come back at once and stay; how long until the last of them is served.
pub async fn storm(address: SocketAddr, count: usize) -> Duration {
    let begin = Instant::now();
    let open = in_lanes(count, move |number| async move {
        lasting(address, &format!("session-{number}")).await
    })
    .await;
    let taken = begin.elapsed();
    drop(open);
    taken
}

async fn in_lanes<T, F>(count: usize, one: impl Fn(usize) -> F + Send + Clone + 'static) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let one = one.clone();
            spawn(async move {
                let mut done = Vec::new();
                for number in (lane..count).step_by(LANES) {
                    done.push(one(number).await);
                }
                done
            })
        })
        .collect();
    let mut all = Vec::new();
    for lane in lanes {
        all.append(&mut lane.await.expect("every session is served"));
    }
    all
}

/// Publishes `count` messages of QoS 1 to `topic`, each after the acknowledgement of the one before.
pub async fn publish_all(address: SocketAddr, topic: &str, count: usize) {
    let mut stream = lasting(address, "fills-queues").await;
    for number in 0..count {
        let mut bytes = Vec::new();
        let payload =
            format!("message {number} of some sixty-four bytes, as devices send them ...");
        publish(topic, payload.as_bytes(), QoS::AtLeastOnce, false, &mut bytes);
        stream.write_all(&bytes).await.unwrap();
        let mut puback = [0; 4];
        stream.read_exact(&mut puback).await.unwrap();
    }
}
