//! The `verifier` world.

pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "verifier",
        pub_export_macro: true,
        default_bindings_module: "portreeve_guest::wasm::verifier::bindings",
    });
}

pub use bindings::exports::portreeve::plugin::on_connect::{Connect, Guest, Verdict};

use bindings::exports::portreeve::plugin::on_connect;
use bindings::portreeve::plugin::types;

use crate::Verifier;

pub fn call<V: Verifier>(request: Connect) -> Result<Verdict, String> {
    V::verify(request.into()).map(Into::into).map_err(|error| error.to_string())
}

impl From<Connect> for crate::Connect {
    fn from(connect: Connect) -> Self {
        Self {
            connection: connect.connection.into(),
            client_id: connect.client_id,
            user_name: connect.user_name,
            password: connect.password,
            clean_start: connect.clean_start,
            keep_alive: connect.keep_alive,
            authentication_method: connect.authentication_method,
            authentication_data: connect.authentication_data,
            user_properties: connect.user_properties,
        }
    }
}

impl From<types::Connection> for crate::Connection {
    fn from(connection: types::Connection) -> Self {
        Self {
            id: connection.id,
            gateway: connection.gateway,
            peer_address: connection.peer_address,
            protocol: match connection.protocol {
                types::Protocol::Mqtt31 => crate::Protocol::Mqtt31,
                types::Protocol::Mqtt311 => crate::Protocol::Mqtt311,
                types::Protocol::Mqtt5 => crate::Protocol::Mqtt5,
            },
            tls: connection.tls.map(Into::into),
        }
    }
}

impl From<types::Tls> for crate::Tls {
    fn from(tls: types::Tls) -> Self {
        Self {
            version: tls.version,
            cipher_suite: tls.cipher_suite,
            server_name: tls.server_name,
            certificate: tls.certificate.map(Into::into),
        }
    }
}

impl From<types::Certificate> for crate::Certificate {
    fn from(certificate: types::Certificate) -> Self {
        Self {
            subject: certificate.subject,
            common_name: certificate.common_name,
            dns_names: certificate.dns_names,
            uris: certificate.uris,
            email_addresses: certificate.email_addresses,
            issuer: certificate.issuer,
            serial_number: certificate.serial_number,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            fingerprint: certificate.fingerprint,
            revocation: match certificate.revocation {
                types::Revocation::Good => crate::Revocation::Good,
                types::Revocation::Revoked => crate::Revocation::Revoked,
                types::Revocation::Unknown => crate::Revocation::Unknown,
                types::Revocation::NotChecked => crate::Revocation::NotChecked,
            },
            der: certificate.der,
            chain: certificate.chain,
        }
    }
}

impl From<crate::Verdict> for Verdict {
    fn from(verdict: crate::Verdict) -> Self {
        match verdict {
            crate::Verdict::Admit(admission) => Self::Admit(admission.into()),
            crate::Verdict::Refuse(refusal) => Self::Refuse(refusal.into()),
            crate::Verdict::Challenge(data) => Self::Challenge(data),
        }
    }
}

impl From<crate::Admission> for on_connect::Admission {
    fn from(admission: crate::Admission) -> Self {
        let permissions = |list: Vec<crate::Permission>| list.into_iter().map(Into::into).collect();
        Self {
            device_name: admission.device_name,
            product: admission.product,
            attributes: admission.attributes,
            permissions: admission.permissions.map(permissions),
            expires_in: admission.expires_in,
            cache_for: admission.cache_for,
            authentication_data: admission.authentication_data,
        }
    }
}

impl From<crate::Permission> for on_connect::Permission {
    fn from(permission: crate::Permission) -> Self {
        Self {
            action: match permission.action {
                crate::Action::Publish => on_connect::Action::Publish,
                crate::Action::Subscribe => on_connect::Action::Subscribe,
                crate::Action::Both => on_connect::Action::Both,
            },
            topic_filter: permission.topic_filter,
        }
    }
}

impl From<crate::Refusal> for on_connect::Refusal {
    fn from(refusal: crate::Refusal) -> Self {
        use crate::RefusalReason as Ours;
        use on_connect::RefusalReason as Theirs;
        Self {
            reason: match refusal.reason {
                Ours::BadUserNameOrPassword => Theirs::BadUserNameOrPassword,
                Ours::NotAuthorized => Theirs::NotAuthorized,
                Ours::Banned => Theirs::Banned,
                Ours::ServerBusy => Theirs::ServerBusy,
                Ours::QuotaExceeded => Theirs::QuotaExceeded,
                Ours::UseAnotherServer => Theirs::UseAnotherServer,
            },
            message: refusal.message,
            server_reference: refusal.server_reference,
        }
    }
}
