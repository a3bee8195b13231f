//! The `parser` world.

pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "parser",
        pub_export_macro: true,
        default_bindings_module: "portreeve_guest::wasm::parser::bindings",
        with: {
            "portreeve:plugin/types@0.1.0": crate::wasm::verifier::bindings::portreeve::plugin::types,
            "portreeve:plugin/log@0.1.0": crate::wasm::verifier::bindings::portreeve::plugin::log,
            "portreeve:plugin/settings@0.1.0": crate::wasm::verifier::bindings::portreeve::plugin::settings,
            "portreeve:plugin/state@0.1.0": crate::wasm::verifier::bindings::portreeve::plugin::state,
        },
    });
}

pub use crate::wasm::verifier::bindings::portreeve::plugin::types::Message;
pub use bindings::exports::portreeve::plugin::on_publish::{Context, Guest, Outcome};

use bindings::exports::portreeve::plugin::on_publish;

use crate::Parser;
use crate::wasm::verifier::bindings::portreeve::plugin::types;

pub fn call<P: Parser>(context: Context, message: Message) -> Result<Outcome, String> {
    P::parse(context.into(), message.into()).map(Into::into).map_err(|error| error.to_string())
}

impl From<Context> for crate::Context {
    fn from(context: Context) -> Self {
        Self {
            direction: match context.direction {
                on_publish::Direction::Up => crate::Direction::Up,
                on_publish::Direction::Down => crate::Direction::Down,
            },
            device: crate::Device {
                name: context.device.name,
                product: context.device.product,
                client_id: context.device.client_id,
                attributes: context.device.attributes,
            },
            gateway: context.gateway,
            received_at: context.received_at,
        }
    }
}

impl From<Message> for crate::Message {
    fn from(message: Message) -> Self {
        Self {
            topic: message.topic,
            payload: message.payload,
            payload_format: message.payload_format.map(|format| match format {
                types::PayloadFormat::Unspecified => crate::PayloadFormat::Unspecified,
                types::PayloadFormat::Utf8 => crate::PayloadFormat::Utf8,
            }),
            qos: match message.qos {
                types::Qos::AtMostOnce => crate::QoS::AtMostOnce,
                types::Qos::AtLeastOnce => crate::QoS::AtLeastOnce,
                types::Qos::ExactlyOnce => crate::QoS::ExactlyOnce,
            },
            retain: message.retain,
            content_type: message.content_type,
            response_topic: message.response_topic,
            correlation_data: message.correlation_data,
            message_expiry_interval: message.message_expiry_interval,
            user_properties: message.user_properties,
        }
    }
}

impl From<crate::Message> for Message {
    fn from(message: crate::Message) -> Self {
        Self {
            topic: message.topic,
            payload: message.payload,
            payload_format: message.payload_format.map(|format| match format {
                crate::PayloadFormat::Unspecified => types::PayloadFormat::Unspecified,
                crate::PayloadFormat::Utf8 => types::PayloadFormat::Utf8,
            }),
            qos: match message.qos {
                crate::QoS::AtMostOnce => types::Qos::AtMostOnce,
                crate::QoS::AtLeastOnce => types::Qos::AtLeastOnce,
                crate::QoS::ExactlyOnce => types::Qos::ExactlyOnce,
            },
            retain: message.retain,
            content_type: message.content_type,
            response_topic: message.response_topic,
            correlation_data: message.correlation_data,
            message_expiry_interval: message.message_expiry_interval,
            user_properties: message.user_properties,
        }
    }
}

impl From<crate::Outcome> for Outcome {
    fn from(outcome: crate::Outcome) -> Self {
        match outcome {
            crate::Outcome::Pass => Self::Pass,
            crate::Outcome::Replace(messages) => {
                Self::Replace(messages.into_iter().map(Into::into).collect())
            }
            crate::Outcome::Drop => Self::Drop,
            crate::Outcome::Reject(reason) => Self::Reject(reason),
        }
    }
}
