//! `[admin]`: where the admin API is, and who may use it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::reader::Section;
use crate::access::{NetworkConfig, Scope, Token};

/// `[admin]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminConfig {
    /// `socket`: a Unix socket, for the command line.
    pub socket: Option<PathBuf>,
    /// `listen`, `certificate`, `key`.
    pub network: Option<NetworkConfig>,
    /// `[[admin.token]]`.
    pub tokens: Vec<Token>,
}

impl AdminConfig {
    pub(super) fn from_section(section: &Section<'_>, folder: &Path) -> Self {
        let socket = section.string("socket").map(|path| folder.join(path));
        let network = network(section, folder);
        let tokens: Vec<Token> = section.tables("token").into_iter().filter_map(token).collect();
        for (index, one) in tokens.iter().enumerate() {
            let is_twice = |other: &&Token| other.name == one.name || other.digest == one.digest;
            if tokens.iter().take(index).any(|other| is_twice(&other)) {
                section.problem("token", format!("{:?} is there twice", one.name), "");
            }
        }
        if network.is_some() && tokens.is_empty() {
            section.problem(
                "listen",
                "nobody could use it: there is no token",
                "make one: portreeve admin token --name ops --scope operate",
            );
        }
        section.finish();
        Self { socket, network, tokens }
    }
}

fn network(section: &Section<'_>, folder: &Path) -> Option<NetworkConfig> {
    let text = section.string("listen");
    let certificate = section.string("certificate").map(|path| folder.join(path));
    let key = section.string("key").map(|path| folder.join(path));
    if certificate.is_some() != key.is_some() {
        section.problem("certificate", "goes together with key", "write both, in PEM");
    }
    let identity = certificate.zip(key);
    let Some(text) = text else {
        if identity.is_some() {
            section.problem("certificate", "has no effect", "write listen = \"0.0.0.0:9883\", too");
        }
        return None;
    };
    let Ok(address) = text.parse::<SocketAddr>() else {
        section.problem(
            "listen",
            format!("{text:?} is no address and port"),
            "write \"127.0.0.1:9883\"",
        );
        return None;
    };
    if identity.is_none() && !address.ip().is_loopback() {
        section.problem(
            "listen",
            "is no address of this machine alone, and tokens would go over it unencrypted",
            "write certificate and key, or listen on 127.0.0.1",
        );
    }
    Some(NetworkConfig { address, identity })
}

fn token(section: Section<'_>) -> Option<Token> {
    let name = section.required_string("name", "ops");
    let digest = section.required_string("sha256", "what portreeve admin token prints");
    let digest = digest.and_then(|text| {
        let digest = hex::decode(&text).ok().and_then(|bytes| bytes.try_into().ok());
        if digest.is_none() {
            let hint = "write the 64 hex digits that portreeve admin token prints";
            section.problem("sha256", "is no SHA-256 digest", hint);
        }
        digest
    });
    let scope = section.choice("scope", &Scope::ALL).unwrap_or(Scope::Read);
    section.finish();
    Some(Token { name: name?, scope, digest: digest? })
}
