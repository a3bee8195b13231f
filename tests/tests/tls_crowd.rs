//! Many devices at once, by a client that fits into one process often: those who wait for a responder, those
//! who leave meanwhile, those who send on, and those who have to go.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise, and end with their tasks"
)]

use std::time::{Duration, Instant};

use portreeve_mqtt::{Connect, Packet};
use portreeve_tests::client::{connect, will};
use portreeve_tests::load::resident_bytes;
use portreeve_tests::load::tls::client::{Identity, Offered, TlsClient};
use portreeve_tests::load::tls::devices::Devices;
use portreeve_tests::load::tls::percentile;
use portreeve_tests::pki::named;
use portreeve_tests::responder::{Blackhole, Responder, silent};
use portreeve_tests::tls_gateway::{CLIENT, OWN, RunningTls, TlsGateway, wait_until};
use portreeve_tests::{Client, V5, V311};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn device() -> Identity {
    Identity::device(named("dev_ec"))
}

fn bytes(connect: Connect<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Packet::Connect(connect).encode(connect.protocol_version, &mut bytes).unwrap();
    bytes
}

/// N15: 50 devices that nobody has to be asked about, beside devices whose responders are silent in every way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_responder_that_is_silent_keeps_nobody_else_waiting() {
    let responder = Responder::start();
    let blackhole = tokio::task::block_in_place(Blackhole::new);
    let silent = silent();
    let ways = [
        ("hang", responder.url("hang")),
        ("drip", responder.url("drip")),
        ("silent", format!("http://{silent}/")),
        ("blackhole", format!("http://{}/", blackhole.address)),
    ];
    let mut gateway = TlsGateway::new().mutual("others", "");
    for (name, url) in &ways {
        gateway = gateway.ocsp(name, "hard", url, "");
    }
    let gateway = gateway.start();
    let devices = Devices::default();
    let mut waiting = Vec::new();
    for (name, _) in &ways {
        for number in 0..5 {
            let client = TlsClient::new(gateway.at(name), Some(&devices.next()));
            let id = format!("{name}-{number}");
            waiting.push(tokio::spawn(async move {
                let begin = Instant::now();
                (client.once(&id).await.is_err(), begin.elapsed())
            }));
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let client = TlsClient::new(gateway.at("others"), Some(&device()));
    let mut took = Vec::new();
    for number in 0..50 {
        took.push(client.once(&format!("other-{number}")).await.expect("N15").all);
    }
    let median = percentile(&took, 50);
    assert!(median < Duration::from_millis(100), "N15: {median:?}");
    for one in waiting {
        let (is_refused, after) = one.await.unwrap();
        assert!(is_refused && after < Duration::from_secs(4), "N15: {is_refused}, {after:?}");
    }
    blackhole.end();
}

/// N29: 500 clients of one certificate, and 500 of as many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_asks_once_for_each_certificate_and_not_all_at_once() {
    const HERD: usize = 500;
    const IN_FLIGHT: usize = 64;
    let responder = Responder::start();
    responder.set("many", "slow1");
    // Five hundred handshakes at once take a busy machine a while.
    let toml = |responder: &str| {
        format!(
            "handshake_timeout = \"30s\"\n{OWN}{CLIENT}[gateway.tls.client.ocsp]\nmode = \"hard\"\n\
             responder = {responder:?}\ntimeout = \"30s\"\nconcurrent = {IN_FLIGHT}\n\
             [gateway.limits]\nconnect_timeout = \"60s\"\n"
        )
    };
    let gateway = TlsGateway::new()
        .section("one", "tls", &toml(&responder.url("slow1")))
        .section("many", "tls", &toml(&responder.url("many")))
        .start();
    let same = TlsClient::new(gateway.at("one"), Some(&device()));
    let herd: Vec<_> = (0..HERD)
        .map(|number| {
            let client = same.clone();
            tokio::spawn(async move { client.once(&format!("one-{number}")).await })
        })
        .collect();
    for one in herd {
        one.await.unwrap().expect("N29");
    }
    assert_eq!(responder.hits("slow1"), 1, "N29: one flight");
    let devices = Devices::default();
    let herd: Vec<_> = (0..HERD)
        .map(|number| {
            let client = TlsClient::new(gateway.at("many"), Some(&devices.next()));
            tokio::spawn(async move { client.once(&format!("many-{number}")).await })
        })
        .collect();
    tokio::task::block_in_place(|| {
        wait_until("N29: some are asked about", Duration::from_secs(20), || {
            responder.hits("many") > IN_FLIGHT
        });
    });
    let cached = same.once("cached").await.expect("N29").connack_after;
    assert!(cached < Duration::from_secs(1), "N29: one that is cached waits {cached:?}");
    for one in herd {
        one.await.unwrap().expect("N29");
    }
    assert_eq!(responder.hits("many"), HERD, "N29");
    let most = responder.in_flight_most();
    assert!((2..=IN_FLIGHT).contains(&most), "N29: {most} at a time");
}

fn descriptors(gateway: &RunningTls) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.process.pid())).unwrap().count()
}

/// N30: 200 times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_during_the_check_leaves_an_answer_and_nothing_else() {
    let responder = Responder::start();
    let url = responder.url("slow1");
    let gateway = TlsGateway::new().ocsp("slow", "hard", &url, "timeout = \"10s\"").start();
    let client = TlsClient::new(gateway.at("slow"), Some(&device()));
    let before = descriptors(&gateway);
    let leaving: Vec<_> = (0..200)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut stream = client.handshake().await.expect("N30");
                stream.write_all(&bytes(connect(V311, &format!("l-{number}")))).await.unwrap();
                stream.flush().await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            })
        })
        .collect();
    for one in leaving {
        one.await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    client.once("stays").await.expect("N30");
    assert_eq!(responder.hits("slow1"), 1, "N30: the flight filled the cache");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(descriptors(&gateway) <= before + 4, "N30: {} of {before}", descriptors(&gateway));
    wait_until("N30", Duration::from_secs(5), || gateway.metric("live_sessions", &[]) == 0.0);
}

/// N31: what follows a CONNECT stays with the device until the answer is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_connect_is_not_kept_while_it_waits() {
    const DEVICES: u64 = 100;
    /// Of each: what one read takes, and TLS around it.
    const KEPT_BYTES_MAX: u64 = 160 << 10;
    let responder = Responder::start();
    let url = responder.url("hang");
    let gateway = TlsGateway::new()
        .ocsp("hang", "hard", &url, "timeout = \"3s\"")
        .section("plain", "tcp", "")
        .start();
    let mut watcher = Client::dial(gateway.at("plain"));
    watcher.connect(V5, "watcher");
    watcher.subscribe("t", 0);
    let client = TlsClient::new(gateway.at("hang"), Some(&device()));
    let mut sent = bytes(connect(V311, "sends-on"));
    sent.extend([0x31, 0x80, 0x80, 0x40, 0, 1, b't', 0]);
    sent.resize(sent.len() + (1 << 20) - 4, b'x');
    let before = resident_bytes(gateway.process.pid());
    let sending: Vec<_> = (0..DEVICES)
        .map(|_| {
            let (client, sent) = (client.clone(), sent.clone());
            tokio::spawn(async move {
                let mut stream = client.handshake().await.expect("N31");
                // Refused in the middle of it.
                let _refused = stream.write_all(&sent).await;
                let mut answer = Vec::new();
                let _closed = stream.read_to_end(&mut answer).await;
                answer
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(2000)).await;
    let growth = resident_bytes(gateway.process.pid()).saturating_sub(before);
    assert!(growth < DEVICES * KEPT_BYTES_MAX, "N31: {growth} bytes for {DEVICES} MiB");
    for one in sending {
        let answer = one.await.unwrap();
        assert!(
            answer.is_empty() || answer == [0x20, 2, 0, 5] || answer == [0x20, 2, 0, 3],
            "{answer:?}"
        );
    }
    watcher.expect_silence();
}

/// N28: the will of a device that is thrown out is published, since it did not leave by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_will_of_a_device_that_is_thrown_out_is_published() {
    let recheck = "[gateway.tls.client.revocation]\nrecheck_interval = \"1s\"\n";
    let gateway = TlsGateway::new().mutual("deny", recheck).section("plain", "tcp", "").start();
    let mut watcher = Client::dial(gateway.at("plain"));
    watcher.connect(V5, "watcher");
    watcher.subscribe("wills/#", 0);
    let client = TlsClient::new(gateway.at("deny"), Some(&device()));
    let mut stream = client.handshake().await.unwrap();
    let with_will = Connect { will: Some(will("wills/dev", "gone")), ..connect(V5, "dev") };
    stream.write_all(&bytes(with_will)).await.unwrap();
    stream.flush().await.unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await.unwrap();
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    let crt = named("dev_ec").crt.to_str().unwrap();
    let config = gateway.lab().file("gateway.toml");
    let revoke = std::process::Command::new(portreeve_tests::binary::binary())
        .args(["cert", "revoke", "--certificate", crt, "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(revoke.status.success(), "{}", String::from_utf8_lossy(&revoke.stderr));
    let message = watcher.next_publish();
    assert_eq!((message.topic.as_str(), message.payload.as_slice()), ("wills/dev", &b"gone"[..]));
    let mut rest = Vec::new();
    let _closed = stream.read_to_end(&mut rest).await;
    assert!(rest.windows(3).any(|three| three[0] == 0xe0 && three[2] == 0x87), "{rest:02x?}");
}

/// Once keys are there: other keys are taken over, and what does not decrypt ends the connection alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_do_not_decrypt_end_one_connection() {
    let gateway = TlsGateway::new().mutual("one", "").start();
    let stays = TlsClient::new(gateway.at("one"), Some(&device()));
    let mut stays = stays.open("stays").await.unwrap();
    for (offered, record) in [
        (Offered::Tls13, "1703030015000102030405060708090a0b0c0d0e0f1011121314"),
        (Offered::Tls13, "1703030001ff"),
        (Offered::Tls13, "16030300040b000000"),
        (Offered::Tls12, "1703030018000102030405060708090a0b0c0d0e0f1011121314151617"),
        (Offered::Tls12, "140303000101"),
        (Offered::Tls12, "1703034800"),
    ] {
        let client = TlsClient::resuming(gateway.at("one"), &device(), offered);
        let mut stream = client.handshake().await.unwrap();
        stream.write_all(&bytes(connect(V311, "breaks"))).await.unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).await.unwrap();
        if offered == Offered::Tls13 {
            stream.get_mut().1.refresh_traffic_keys().unwrap();
            stream.write_all(&[0xc0, 0]).await.unwrap();
            let mut pong = [0; 2];
            stream.read_exact(&mut pong).await.unwrap();
            assert_eq!(pong, [0xd0, 0], "with other keys");
        }
        let (mut socket, _) = stream.into_inner();
        socket.write_all(&hex::decode(record).unwrap()).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest));
        // Closed, reset or with an alert: it ends.
        let _how = ended.await.unwrap_or_else(|_| panic!("{record} does not end it"));
    }
    stays.ping().await.unwrap();
    wait_until("the others are gone", Duration::from_secs(5), || {
        gateway.metric("live_sessions", &[]) == 1.0
    });
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}
