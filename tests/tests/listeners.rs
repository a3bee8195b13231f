//! WebSocket (chapter 6 of the standard) and the PROXY protocol.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::{TestGateway, V5, V311};

/// A WebSocket client of bytes.
struct WebSocket {
    stream: TcpStream,
}

/// CONNECT of 3.1.1 with the client identifier `ws`.
const CONNECT: &str = "100e 0004 4d515454 04 02 0000 0002 7773";

impl WebSocket {
    /// Asks for sub-protocols; the answer's head.
    fn ask(address: SocketAddr, path: &str, protocols: &str) -> (Self, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let protocols = match protocols {
            "" => String::new(),
            some => format!("Sec-WebSocket-Protocol: {some}\r\n"),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{protocols}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
            head.push(byte[0]);
        }
        (Self { stream }, String::from_utf8(head).unwrap())
    }

    fn open(address: SocketAddr) -> Self {
        let (socket, head) = Self::ask(address, "/mqtt", "mqtt");
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "RFC 6455 §1.3: {head}");
        assert!(head.to_lowercase().contains("sec-websocket-protocol: mqtt\r\n"), "{head}");
        socket
    }

    fn frame(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match u8::try_from(payload.len()) {
            Ok(length) if length < 126 => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        let mask = [0x12, 0x34, 0x56, 0x78];
        frame.extend(mask);
        frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
        self.stream.write_all(&frame).unwrap();
    }

    fn binary(&mut self, hex_bytes: &str) {
        self.frame(2, &hex::decode(hex_bytes.replace(' ', "")).unwrap());
    }

    /// The next frame: opcode and payload as hex.
    fn next(&mut self) -> (u8, String) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).unwrap();
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let mut length = usize::from(head[1]);
        if length == 126 {
            let mut more = [0; 2];
            self.stream.read_exact(&mut more).unwrap();
            length = usize::from(u16::from_be_bytes(more));
        }
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).unwrap();
        (head[0] & 0x0f, hex::encode(payload))
    }
}

fn with_web_socket() -> (RunningGateway, SocketAddr) {
    let gateway = TestGateway::open()
        .with("[[gateway.listener]]\naddress = \"127.0.0.1:0\"\nkind = \"ws\"")
        .start();
    let address = gateway.server().addresses()[1].1;
    (gateway, address)
}

#[test]
fn mqtt_is_carried_in_binary_frames_and_packets_cross_them_mqtt_6_0_0_2() {
    let (gateway, address) = with_web_socket();
    let mut socket = WebSocket::open(address);
    socket.binary(CONNECT);
    assert_eq!(socket.next(), (2, "20020000".to_owned()));
    // SUBSCRIBE in three frames, then PINGREQ and the beginning of a PUBLISH in one.
    for part in ["8206", "0001 0001", "74 00"] {
        socket.binary(part);
    }
    assert_eq!(socket.next(), (2, "9003000100".to_owned()));
    socket.binary("c000 3004 0001");
    assert_eq!(socket.next(), (2, "d000".to_owned()));
    socket.binary("74 78");
    assert_eq!(socket.next(), (2, "3004000174 78".replace(' ', "")));
    // The two kinds of listeners share topics.
    let mut client = gateway.client(V5, "over-tcp");
    client.publish("t", vec![b'y'; 300]);
    let (opcode, payload) = socket.next();
    assert!(opcode == 2 && payload.ends_with(&"79".repeat(300)));
}

#[test]
fn a_large_message_goes_both_ways_over_a_web_socket() {
    let (gateway, address) = with_web_socket();
    let mut socket = WebSocket::open(address);
    socket.binary(CONNECT);
    socket.next();
    let mut client = gateway.client(V311, "over-tcp");
    client.subscribe("t", 0);
    // PUBLISH with 50,000 bytes, remaining length 50,003.
    let mut packet = hex::decode("30d38603000174").unwrap();
    packet.extend(vec![b'z'; 50_000]);
    socket.frame(2, &packet);
    assert_eq!(client.next_publish().payload, vec![b'z'; 50_000]);
}

#[test]
fn a_ping_is_answered_and_a_text_frame_closes_mqtt_6_0_0_1() {
    let (_gateway, address) = with_web_socket();
    let mut socket = WebSocket::open(address);
    socket.binary(CONNECT);
    socket.next();
    socket.frame(9, b"are you there");
    assert_eq!(socket.next(), (10, hex::encode("are you there")));
    socket.frame(1, b"text");
    let (opcode, payload) = socket.next();
    assert!(opcode == 8 && payload.starts_with("03eb"), "close 1003: {opcode} {payload}");
}

#[test]
fn a_client_that_does_not_offer_mqtt_is_refused_mqtt_6_0_0_3() {
    let (_gateway, address) = with_web_socket();
    for protocols in ["", "chat", "mqttx"] {
        let (_, head) = WebSocket::ask(address, "/mqtt", protocols);
        assert!(head.starts_with("HTTP/1.1 400"), "{protocols:?}: {head}");
    }
    for protocols in ["chat, mqtt", "mqttv3.1"] {
        let (_, head) = WebSocket::ask(address, "/", protocols);
        assert!(head.starts_with("HTTP/1.1 101"), "{protocols:?}: {head}");
    }
}

#[test]
fn an_end_is_said_in_both_languages() {
    let (_gateway, address) = with_web_socket();
    let mut socket = WebSocket::open(address);
    // MQTT 5, then a second CONNECT.
    socket.binary("100f 0004 4d515454 05 02 0000 00 0002 7773");
    assert_eq!(socket.next().0, 2);
    socket.binary("100f 0004 4d515454 05 02 0000 00 0002 7773");
    assert_eq!(socket.next(), (2, "e00182".to_owned()));
    let (opcode, payload) = socket.next();
    assert!(opcode == 8 && payload.starts_with("03e8"), "close 1000: {opcode} {payload}");
}

fn behind_proxy(trusted: &str, more: &str) -> TestGateway {
    TestGateway::open().with_listener_line(&format!("trusted_proxies = [{trusted:?}]\n{more}"))
}

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 1883\r\n";

fn v2(source: [u8; 4], command: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, 0x11, 0, 12]);
    header.extend(source);
    header.extend([127, 0, 0, 1, 0x9c, 0x40, 7, 91]);
    header
}

#[test]
fn a_trusted_proxy_tells_whose_connection_it_is() {
    // The address counts: the bound of one connection for each is what shows it.
    let gateway =
        behind_proxy("127.0.0.0/8", "").with_limit("connections_per_address_max", "1").start();
    let connect = hex::decode("100e00044d515454040200000002").unwrap();
    let mut clients = Vec::new();
    for (number, header) in
        [V1.to_vec(), v2([203, 0, 113, 8], 1), v2([203, 0, 113, 9], 1)].into_iter().enumerate()
    {
        let mut client = gateway.dial();
        client.speak(V311);
        // In pieces, with CONNECT behind the last one.
        let (first, rest) = header.split_at(7);
        client.send(first);
        std::thread::sleep(Duration::from_millis(20));
        client.send(&[rest, &connect, format!("c{number}").as_bytes()].concat());
        assert_eq!(client.next_hex(), "20020000");
        clients.push(client);
    }
    let mut second = gateway.dial();
    second.send(&[&v2([203, 0, 113, 9], 1), &connect[..], b"c9"].concat());
    assert_eq!(second.expect_close(), "");
    gateway.wait_until("counted", |gateway| gateway.count("connections_refused_address") == 1);
}

#[test]
fn who_is_not_trusted_or_sends_no_header_is_turned_away() {
    let gateway = behind_proxy("10.0.0.0/8", "").start();
    let mut client = gateway.dial();
    let _reset = client.try_send(V1);
    assert_eq!(client.expect_close(), "");
    let gateway = behind_proxy("127.0.0.1", "").start();
    for bytes in [
        &hex::decode("100e000444d51545404020000000261").unwrap_or_default()[..],
        b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 nonsense 1 2\r\n",
    ] {
        let mut client = gateway.dial();
        let _reset = client.try_send(bytes);
        if !bytes.is_empty() {
            assert_eq!(client.expect_close(), "", "{bytes:?}");
        }
    }
}

#[test]
fn the_proxys_own_health_check_needs_no_address() {
    let gateway = behind_proxy("127.0.0.1", "").start();
    let connect = hex::decode("100e00044d5154540402000000026331").unwrap();
    for header in [v2([0; 4], 0), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut client = gateway.dial();
        client.speak(V311);
        client.send(&[header, connect.clone()].concat());
        assert_eq!(client.next_hex(), "20020000");
    }
}

#[test]
fn a_web_socket_that_pings_without_reading_costs_nothing_much() {
    let (gateway, address) = with_web_socket();
    let mut socket = WebSocket::open(address);
    socket.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut frames = Vec::new();
    for _ in 0..1000 {
        frames.extend([0x89, 0x80 | 100, 0, 0, 0, 0]);
        frames.extend([b'p'; 100]);
    }
    // Until the gateway takes no more, since nobody takes its answers.
    let mut sent = 0_usize;
    while sent < 200 << 20 && socket.stream.write_all(&frames).is_ok() {
        sent += frames.len();
    }
    assert!(sent < 100 << 20, "{sent} bytes of PING were taken, and no answer was read");
    gateway.client(V5, "another-client").ping();
}

/// As many bytes as one poll takes, and no end of the request: refused at once, not read for ever.
#[test]
fn an_opening_without_end_is_refused() {
    let (_gateway, address) = with_web_socket();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut request = b"GET / HTTP/1.1\r\nX: ".to_vec();
    request.resize(64 << 10, b'x');
    socket.write_all(&request).unwrap();
    let begin = std::time::Instant::now();
    let _closed = socket.read(&mut [0; 512]);
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}
