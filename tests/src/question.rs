//! What a plugin is asked where no gateway asks it.

use portreeve_plugin::contract::{
    Connect, Connection, Context, Device, Direction, MessageParam, Protocol, Qos,
};
use portreeve_plugin::{ConnectLists, ConnectQuestion, Pairs, PublishQuestion};

/// A PUBLISH with this payload, or a CONNECT.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// The payload.
    pub payload: &'static [u8],
}

impl PublishQuestion for Question {
    fn device(&self) -> &str {
        "device-1"
    }

    fn attributes(&self) -> Pairs<'_> {
        vec![("site", "7")]
    }

    fn user_properties(&self) -> Pairs<'_> {
        vec![("a", "b")]
    }

    fn context<'a>(&'a self, attributes: &'a [(&'a str, &'a str)]) -> Context<'a> {
        let device = Device { name: "device-1", product: "p", client_id: "c", attributes };
        Context { direction: Direction::Up, device, gateway: "test", received_at: 1 }
    }

    fn message<'a>(&'a self, user_properties: &'a [(&'a str, &'a str)]) -> MessageParam<'a> {
        MessageParam {
            topic: "devices/device-1/in",
            payload: self.payload,
            payload_format: None,
            qos: Qos::AtLeastOnce,
            retain: false,
            content_type: Some("text"),
            response_topic: None,
            correlation_data: None,
            message_expiry_interval: Some(7),
            user_properties,
        }
    }
}

impl ConnectQuestion for Question {
    fn device(&self) -> &str {
        "device-1"
    }

    fn lists(&self) -> ConnectLists<'_> {
        ConnectLists { user_properties: vec![("a", "b")], ..ConnectLists::default() }
    }

    fn connect<'a>(&'a self, lists: &'a ConnectLists<'a>) -> Connect<'a> {
        Connect {
            connection: Connection {
                id: 1,
                gateway: "test",
                peer_address: "127.0.0.1:50000",
                protocol: Protocol::Mqtt5,
                tls: None,
            },
            client_id: "client-1",
            user_name: Some("device-1"),
            password: Some(b"demo"),
            clean_start: true,
            keep_alive: 60,
            authentication_method: None,
            authentication_data: None,
            user_properties: &lists.user_properties,
        }
    }
}
