//! Interoperation with rumqttc, its clients of MQTT 3.1.1 and 5.0.
//!
//! usage: rumqttc-interop HOST PORT WEBSOCKET_PORT     (WEBSOCKET_PORT 0: skip WebSocket)

use std::error::Error;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::timeout;

/// Of each wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// A time without a message that counts as none.
const SILENCE: Duration = Duration::from_millis(500);

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

struct Server {
    host: String,
    port: u16,
    websocket_port: u16,
    /// Prefix of all topics and client ids.
    run: String,
}

impl Server {
    fn topic(&self, name: &str) -> String {
        format!("{}/{name}", self.run)
    }
}

#[derive(Default)]
struct Report {
    version: &'static str,
    passed: usize,
    failed: usize,
}

impl Report {
    async fn check(&mut self, name: &str, body: impl Future<Output = Outcome>) {
        match body.await {
            Ok(()) => {
                self.passed += 1;
                println!("ok {} {name}", self.version);
            }
            Err(why) => {
                self.failed += 1;
                println!("FAIL {} {name}: {why}", self.version);
            }
        }
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Outcome {
    if got == wanted { Ok(()) } else { Err(format!("expected {wanted:?}, got {got:?}").into()) }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> Outcome<T> {
    timeout(PATIENCE, future).await.map_err(|_| format!("timed out: {what}").into())
}

/// The two clients of rumqttc have the same shape but no type in common, hence a macro: the peer
/// and the checks of both versions, for the module that uses it.
macro_rules! common {
    () => {
        /// A client whose calls return once the broker has answered.
        struct Peer {
            client: AsyncClient,
            connack: ConnAck,
            messages: mpsc::UnboundedReceiver<Publish>,
            /// What else comes in.
            answers: mpsc::UnboundedReceiver<Incoming>,
            /// The task of the event loop, which ends with the peer.
            driver: JoinSet<()>,
        }

        impl Peer {
            async fn connect(options: MqttOptions) -> Outcome<Peer> {
                let (client, mut events) = AsyncClient::new(options, 64);
                let (message, messages) = mpsc::unbounded_channel();
                let (answer, mut answers) = mpsc::unbounded_channel();
                let mut driver = JoinSet::new();
                driver.spawn(async move {
                    loop {
                        match events.poll().await {
                            Ok(Event::Incoming(Incoming::Publish(got))) => drop(message.send(got)),
                            Ok(Event::Incoming(got)) => drop(answer.send(got)),
                            Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_) => break,
                            Ok(Event::Outgoing(_)) => {}
                        }
                    }
                });
                match within("CONNACK", answers.recv()).await? {
                    Some(Incoming::ConnAck(connack)) => {
                        Ok(Peer { client, connack, messages, answers, driver })
                    }
                    other => Err(format!("expected CONNACK, got {other:?}").into()),
                }
            }

            /// The next answer that `pick` takes; those before it are dropped.
            async fn answer<T>(
                &mut self,
                what: &str,
                pick: impl Fn(Incoming) -> Option<T>,
            ) -> Outcome<T> {
                loop {
                    let answer = within(what, self.answers.recv()).await?;
                    if let Some(picked) = pick(answer.ok_or("the connection has ended")?) {
                        return Ok(picked);
                    }
                }
            }

            async fn receive(&mut self) -> Outcome<Publish> {
                let message = within("a message", self.messages.recv()).await?;
                Ok(message.ok_or("the connection has ended")?)
            }

            async fn receive_text(&mut self) -> Outcome<String> {
                Ok(String::from_utf8_lossy(&self.receive().await?.payload).into_owned())
            }

            async fn receive_nothing(&mut self) -> Outcome {
                match timeout(SILENCE, self.receive()).await {
                    Err(_) => Ok(()),
                    Ok(got) => Err(format!("expected nothing, got {got:?}").into()),
                }
            }

            async fn suback(&mut self) -> Outcome {
                let code = self.answer("SUBACK", |packet| match packet {
                    Incoming::SubAck(suback) => suback.return_codes.first().cloned(),
                    _ => None,
                });
                match code.await? {
                    SubscribeReasonCode::Success(_) => Ok(()),
                    other => Err(format!("subscribe refused: {other:?}").into()),
                }
            }

            async fn subscribe(&mut self, topic: &str, qos: QoS) -> Outcome {
                self.client.subscribe(topic, qos).await?;
                self.suback().await
            }

            /// Waits for the last acknowledgement of a message of this quality of service.
            async fn acknowledged(&mut self, qos: QoS) -> Outcome {
                self.answer("PUBACK or PUBCOMP", |packet| match (packet, qos) {
                    (Incoming::PubAck(_), QoS::AtLeastOnce) => Some(()),
                    (Incoming::PubComp(_), QoS::ExactlyOnce) => Some(()),
                    _ => None,
                })
                .await
            }

            async fn publish(
                &mut self,
                topic: &str,
                qos: QoS,
                retain: bool,
                payload: impl Into<Vec<u8>>,
            ) -> Outcome {
                self.client.publish(topic, qos, retain, payload.into()).await?;
                if qos == QoS::AtMostOnce {
                    return Ok(());
                }
                self.acknowledged(qos).await
            }

            async fn disconnect(mut self) -> Outcome {
                self.client.disconnect().await?;
                within("the end of the connection", self.driver.join_next()).await?;
                Ok(())
            }

            /// Closes the socket without a DISCONNECT.
            async fn kill(mut self) {
                self.driver.shutdown().await;
            }
        }

        fn options(server: &Server, name: &str) -> MqttOptions {
            MqttOptions::new(format!("{}-{name}", server.run), &server.host, server.port)
        }

        async fn peer(server: &Server, name: &str) -> Outcome<Peer> {
            Peer::connect(options(server, name)).await
        }

        async fn connect(server: &Server) -> Outcome {
            equal(peer(server, "a").await?.connack.session_present, false)
        }

        async fn quality(server: &Server) -> Outcome {
            let (mut subscriber, mut publisher) =
                (peer(server, "a").await?, peer(server, "b").await?);
            let topic = server.topic("quality");
            subscriber.subscribe(&topic, QoS::ExactlyOnce).await?;
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let payload: Vec<u8> = (0..=255).cycle().take(8_000).collect();
                publisher.publish(&topic, qos, false, payload.clone()).await?;
                let got = subscriber.receive().await?;
                equal((got.qos, got.retain), (qos, false))?;
                equal(got.payload.to_vec(), payload)?;
            }
            Ok(())
        }

        async fn retained(server: &Server) -> Outcome {
            let (mut publisher, topic) = (peer(server, "a").await?, server.topic("retained"));
            publisher.publish(&topic, QoS::AtLeastOnce, true, "kept").await?;
            let mut subscriber = peer(server, "b").await?;
            subscriber.subscribe(&topic, QoS::AtLeastOnce).await?;
            let got = subscriber.receive().await?;
            equal((&got.payload[..], got.retain), (&b"kept"[..], true))?;
            publisher.publish(&topic, QoS::AtLeastOnce, true, "").await?;
            let mut later = peer(server, "c").await?;
            later.subscribe(&topic, QoS::AtLeastOnce).await?;
            later.receive_nothing().await
        }

        async fn will(server: &Server) -> Outcome {
            let (mut subscriber, topic) = (peer(server, "a").await?, server.topic("will"));
            subscriber.subscribe(&topic, QoS::AtLeastOnce).await?;
            let mut options = options(server, "b");
            options.set_last_will(last_will(&topic));
            Peer::connect(options.clone()).await?.kill().await;
            equal(subscriber.receive_text().await?.as_str(), "died")?;
            Peer::connect(options).await?.disconnect().await?;
            subscriber.receive_nothing().await
        }

        async fn session(server: &Server) -> Outcome {
            let topic = server.topic("session");
            let mut subscriber = Peer::connect(lasting(server, "session", 60)).await?;
            equal(subscriber.connack.session_present, false)?;
            subscriber.subscribe(&topic, QoS::ExactlyOnce).await?;
            subscriber.disconnect().await?;
            let mut publisher = peer(server, "b").await?;
            publisher.publish(&topic, QoS::AtLeastOnce, false, "one").await?;
            publisher.publish(&topic, QoS::ExactlyOnce, false, "two").await?;
            let mut subscriber = Peer::connect(lasting(server, "session", 60)).await?;
            equal(subscriber.connack.session_present, true)?;
            equal(subscriber.receive_text().await?.as_str(), "one")?;
            equal(subscriber.receive_text().await?.as_str(), "two")?;
            subscriber.disconnect().await?;
            // A clean start removes the session.
            equal(peer(server, "session").await?.connack.session_present, false)
        }

        async fn websocket(server: &Server) -> Outcome {
            // rumqttc takes the address of a WebSocket as a URL, and ignores the port beside it.
            let url = format!("ws://{}:{}/mqtt", server.host, server.websocket_port);
            let mut options = MqttOptions::new(format!("{}-ws", server.run), url, 0);
            options.set_transport(rumqttc::Transport::Ws);
            let (mut peer, topic) = (Peer::connect(options).await?, server.topic("websocket"));
            peer.subscribe(&topic, QoS::AtLeastOnce).await?;
            peer.publish(&topic, QoS::AtLeastOnce, false, "round trip").await?;
            equal(peer.receive_text().await?.as_str(), "round trip")
        }

        async fn common_checks(server: &Server, report: &mut Report) {
            report.check("connect", connect(server)).await;
            report.check("publish and subscribe, QoS 0, 1, 2", quality(server)).await;
            report.check("retained message and its removal", retained(server)).await;
            report.check("will after an abnormal end only", will(server)).await;
            report.check("persistent session", session(server)).await;
            if server.websocket_port != 0 {
                report.check("WebSocket, QoS 1", websocket(server)).await;
            }
        }
    };
}

mod v4 {
    use super::{Outcome, Report, SILENCE, Server, equal, within};
    use rumqttc::{
        AsyncClient, ConnAck, Event, Incoming, LastWill, MqttOptions, Outgoing, Publish, QoS,
        SubscribeReasonCode,
    };
    use tokio::{sync::mpsc, task::JoinSet, time::timeout};

    common!();

    fn last_will(topic: &str) -> LastWill {
        LastWill::new(topic, "died", QoS::AtLeastOnce, false)
    }

    /// A session of 3.1.1 lasts for good, whatever the seconds.
    fn lasting(server: &Server, name: &str, _seconds: u32) -> MqttOptions {
        let mut options = options(server, name);
        options.set_clean_session(false);
        options
    }

    pub async fn checks(server: &Server, report: &mut Report) {
        common_checks(server, report).await;
    }
}

mod v5 {
    use super::{Outcome, Report, SILENCE, Server, equal, within};
    use rumqttc::Outgoing;
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{
        ConnAck, Filter, LastWill, Publish, PublishProperties, RetainForwardRule,
        SubscribeProperties, SubscribeReasonCode, UnsubAckReason,
    };
    use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};
    use std::time::Duration;
    use tokio::{
        sync::mpsc,
        task::JoinSet,
        time::{sleep, timeout},
    };

    common!();

    fn last_will(topic: &str) -> LastWill {
        LastWill::new(topic, "died", QoS::AtLeastOnce, false, None)
    }

    fn lasting(server: &Server, name: &str, seconds: u32) -> MqttOptions {
        let mut options = options(server, name);
        options.set_clean_start(false).set_session_expiry_interval(Some(seconds));
        options
    }

    impl Peer {
        async fn subscribe_filter(&mut self, filter: Filter) -> Outcome {
            self.client.subscribe_many([filter]).await?;
            self.suback().await
        }

        async fn send(
            &mut self,
            topic: &str,
            payload: &str,
            properties: PublishProperties,
        ) -> Outcome {
            let (qos, payload) = (QoS::AtLeastOnce, payload.to_owned());
            self.client.publish_with_properties(topic, qos, false, payload, properties).await?;
            self.acknowledged(qos).await
        }

        async fn unsubscribe(&mut self, topic: &str) -> Outcome<UnsubAckReason> {
            self.client.unsubscribe(topic).await?;
            self.answer("UNSUBACK", |packet| match packet {
                Incoming::UnsubAck(unsuback) => unsuback.reasons.first().cloned(),
                _ => None,
            })
            .await
        }
    }

    async fn properties(server: &Server) -> Outcome {
        let (mut subscriber, mut publisher) = (peer(server, "a").await?, peer(server, "b").await?);
        let topic = server.topic("properties");
        subscriber.subscribe(&topic, QoS::AtLeastOnce).await?;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let sent = PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(60),
            response_topic: Some(server.topic("answer")),
            correlation_data: Some(vec![0, 255].into()),
            user_properties: vec![pair("b", "1"), pair("a", "2"), pair("b", "3")],
            content_type: Some("application/json".to_owned()),
            ..Default::default()
        };
        publisher.send(&topic, "{}", sent.clone()).await?;
        equal(subscriber.receive().await?.properties, Some(sent))
    }

    async fn message_expiry(server: &Server) -> Outcome {
        let topic = server.topic("expiry");
        let mut subscriber = Peer::connect(lasting(server, "expiry", 60)).await?;
        subscriber.subscribe(&topic, QoS::AtLeastOnce).await?;
        subscriber.disconnect().await?;
        let mut publisher = peer(server, "b").await?;
        for (payload, seconds) in [("short", 1), ("long", 60)] {
            let message_expiry_interval = Some(seconds);
            let properties = PublishProperties { message_expiry_interval, ..Default::default() };
            publisher.send(&topic, payload, properties).await?;
        }
        sleep(Duration::from_millis(2100)).await;
        let mut subscriber = Peer::connect(lasting(server, "expiry", 0)).await?;
        let got = subscriber.receive().await?;
        equal(&got.payload[..], b"long")?;
        match got.properties.and_then(|properties| properties.message_expiry_interval) {
            Some(51..=58) => Ok(()),
            left => Err(format!("{left:?} s left of 60 after two").into()),
        }
    }

    async fn topic_alias(server: &Server) -> Outcome {
        let (mut subscriber, mut publisher) = (peer(server, "a").await?, peer(server, "b").await?);
        let topic = server.topic("alias");
        subscriber.subscribe(&topic, QoS::AtLeastOnce).await?;
        for (sent_topic, payload) in [(topic.as_str(), "with topic"), ("", "alias only")] {
            let properties = PublishProperties { topic_alias: Some(1), ..Default::default() };
            publisher.send(sent_topic, payload, properties).await?;
            let got = subscriber.receive().await?;
            equal((&got.topic[..], &got.payload[..]), (topic.as_bytes(), payload.as_bytes()))?;
        }
        Ok(())
    }

    async fn subscription_identifier(server: &Server) -> Outcome {
        let (mut subscriber, mut publisher) = (peer(server, "a").await?, peer(server, "b").await?);
        let topic = server.topic("identifier");
        let properties = SubscribeProperties { id: Some(268_435_455), user_properties: Vec::new() };
        let qos = QoS::AtLeastOnce;
        subscriber.client.subscribe_with_properties(&topic, qos, properties).await?;
        subscriber.suback().await?;
        publisher.publish(&topic, qos, false, "").await?;
        let got = subscriber.receive().await?.properties.unwrap_or_default();
        equal(got.subscription_identifiers, vec![268_435_455])
    }

    async fn no_local(server: &Server) -> Outcome {
        let (mut peer, mut other) = (peer(server, "a").await?, peer(server, "b").await?);
        let topic = server.topic("no-local");
        let filter = Filter { nolocal: true, ..Filter::new(&topic, QoS::AtLeastOnce) };
        peer.subscribe_filter(filter).await?;
        peer.publish(&topic, QoS::AtLeastOnce, false, "own").await?;
        other.publish(&topic, QoS::AtLeastOnce, false, "other's").await?;
        equal(peer.receive_text().await?.as_str(), "other's")?;
        peer.receive_nothing().await
    }

    async fn retain_handling(server: &Server) -> Outcome {
        let (mut publisher, mut subscriber) = (peer(server, "a").await?, peer(server, "b").await?);
        let topic = server.topic("handling");
        let filter = |retain_forward_rule| Filter {
            retain_forward_rule,
            ..Filter::new(&topic, QoS::AtLeastOnce)
        };
        publisher.publish(&topic, QoS::AtLeastOnce, true, "kept").await?;
        subscriber.subscribe_filter(filter(RetainForwardRule::Never)).await?;
        subscriber.receive_nothing().await?;
        subscriber.subscribe_filter(filter(RetainForwardRule::OnNewSubscribe)).await?;
        subscriber.receive_nothing().await?;
        subscriber.unsubscribe(&topic).await?;
        for rule in [RetainForwardRule::OnNewSubscribe, RetainForwardRule::OnEverySubscribe] {
            subscriber.subscribe_filter(filter(rule)).await?;
            equal(subscriber.receive_text().await?.as_str(), "kept")?;
        }
        publisher.publish(&topic, QoS::AtLeastOnce, true, "").await
    }

    async fn retain_as_published(server: &Server) -> Outcome {
        let (mut publisher, mut subscriber) = (peer(server, "a").await?, peer(server, "b").await?);
        let topic = server.topic("as-published");
        let filter = Filter { preserve_retain: true, ..Filter::new(&topic, QoS::AtLeastOnce) };
        subscriber.subscribe_filter(filter).await?;
        for retain in [true, false] {
            publisher.publish(&topic, QoS::AtLeastOnce, retain, "").await?;
            equal(subscriber.receive().await?.retain, retain)?;
        }
        Ok(())
    }

    async fn shared(server: &Server) -> Outcome {
        let mut members = [peer(server, "a").await?, peer(server, "b").await?];
        let mut publisher = peer(server, "c").await?;
        let topic = server.topic("shared");
        for member in &mut members {
            member.subscribe(&format!("$share/group/{topic}"), QoS::AtLeastOnce).await?;
        }
        let sent: Vec<String> = (10..30).map(|number| number.to_string()).collect();
        for payload in &sent {
            publisher.publish(&topic, QoS::AtLeastOnce, false, payload.as_str()).await?;
        }
        sleep(SILENCE).await;
        let mut got = Vec::new();
        for member in &mut members {
            let before = got.len();
            while let Ok(message) = member.messages.try_recv() {
                got.push(String::from_utf8_lossy(&message.payload).into_owned());
            }
            if got.len() == before {
                return Err("one member got nothing".into());
            }
        }
        got.sort();
        equal(got, sent)
    }

    async fn assigned_client_id(server: &Server) -> Outcome {
        let mut ids = Vec::new();
        for _ in 0..2 {
            let peer = Peer::connect(MqttOptions::new("", &server.host, server.port)).await?;
            ids.push(
                peer.connack
                    .properties
                    .and_then(|properties| properties.assigned_client_identifier),
            );
        }
        if ids.contains(&None) || ids[0] == ids[1] {
            return Err(format!("assigned {ids:?}").into());
        }
        Ok(())
    }

    async fn unsubscribe_from_nothing(server: &Server) -> Outcome {
        let (mut peer, topic) = (peer(server, "a").await?, server.topic("nothing"));
        equal(peer.unsubscribe(&topic).await?, UnsubAckReason::NoSubscriptionExisted)?;
        peer.subscribe(&topic, QoS::AtLeastOnce).await?;
        equal(peer.unsubscribe(&topic).await?, UnsubAckReason::Success)
    }

    async fn receive_maximum(server: &Server) -> Outcome {
        let mut options = options(server, "a");
        options.set_receive_maximum(Some(2)).set_manual_acks(true);
        let (mut subscriber, mut publisher) =
            (Peer::connect(options).await?, peer(server, "b").await?);
        let topic = server.topic("receive-maximum");
        subscriber.subscribe(&topic, QoS::AtLeastOnce).await?;
        for payload in ["0", "1", "2", "3"] {
            publisher.publish(&topic, QoS::AtLeastOnce, false, payload).await?;
        }
        let first = subscriber.receive().await?;
        subscriber.receive().await?;
        subscriber.receive_nothing().await?;
        subscriber.client.ack(&first).await?;
        equal(subscriber.receive_text().await?.as_str(), "2")?;
        subscriber.receive_nothing().await
    }

    async fn session_expiry(server: &Server) -> Outcome {
        for (pause, present) in [(0, true), (2100, false)] {
            let mut peer = Peer::connect(lasting(server, "short", 1)).await?;
            peer.subscribe(&server.topic("short"), QoS::AtLeastOnce).await?;
            peer.disconnect().await?;
            sleep(Duration::from_millis(pause)).await;
            let peer = Peer::connect(lasting(server, "short", 0)).await?;
            equal(peer.connack.session_present, present)?;
            peer.disconnect().await?;
        }
        Ok(())
    }

    pub async fn checks(server: &Server, report: &mut Report) {
        common_checks(server, report).await;
        report.check("properties of a message", properties(server)).await;
        report.check("message expiry", message_expiry(server)).await;
        report.check("topic alias from the client", topic_alias(server)).await;
        report.check("subscription identifier", subscription_identifier(server)).await;
        report.check("no-local", no_local(server)).await;
        report.check("retain handling", retain_handling(server)).await;
        report.check("retain as published", retain_as_published(server)).await;
        report.check("shared subscription", shared(server)).await;
        report.check("assigned client id", assigned_client_id(server)).await;
        report.check("unsubscribe from nothing", unsubscribe_from_nothing(server)).await;
        report.check("receive maximum", receive_maximum(server)).await;
        report.check("session expiry", session_expiry(server)).await;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, websocket_port] = &arguments[..] else {
        eprintln!("usage: rumqttc-interop HOST PORT WEBSOCKET_PORT");
        return ExitCode::from(2);
    };
    let server = |version| Server {
        host: host.clone(),
        port: port.parse().expect("PORT is a number"),
        websocket_port: websocket_port.parse().expect("WEBSOCKET_PORT is a number"),
        run: format!("interop-rumqttc-{}-{version}", std::process::id()),
    };
    let mut report = Report { version: "v311", ..Report::default() };
    v4::checks(&server(report.version), &mut report).await;
    report.version = "v5";
    v5::checks(&server(report.version), &mut report).await;
    println!("{} passed, {} failed", report.passed, report.failed);
    if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
