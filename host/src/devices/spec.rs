//! What an operator says of a device: for adding, importing and changing it.

use std::collections::BTreeMap;

use portreeve_mqtt::TopicFilter;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::password::{HashCost, PasswordHash};
use super::{CertificateMatch, DeviceName};
use crate::permissions::{Action, Grant};

/// Bytes of a product's name.
pub(crate) const PRODUCT_BYTES_MAX: usize = 64;
/// Bytes of a serial number.
const SERIAL_NUMBER_BYTES_MAX: usize = 64;
/// Bytes of a user name.
const USER_NAME_BYTES_MAX: usize = 256;
/// Bytes of a password.
const PASSWORD_BYTES_MAX: usize = 256;
/// Bytes of a certificate's common name.
const COMMON_NAME_BYTES_MAX: usize = 256;
/// Attributes of one device.
pub(crate) const ATTRIBUTES_MAX: usize = 64;
/// Name and value of one attribute.
pub(crate) const ATTRIBUTE_BYTES_MAX: usize = 1024;
/// Permissions of one device.
pub(crate) const PERMISSIONS_MAX: usize = 1024;

/// What is said of a device; what is absent stays as it is, an empty text takes it away.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// Its product, 1 to 64 bytes.
    #[schema(min_length = 1, max_length = 64)]
    pub product: Option<String>,
    /// Its name; where it is absent, the serial number or the user name is it.
    #[schema(pattern = r"^([A-Za-z0-9\-_@.:]{4,64})?$")]
    pub name: Option<String>,
    /// Its serial number, 1 to 64 of `A-Z a-z 0-9 _ - . :`.
    #[schema(pattern = r"^[A-Za-z0-9_\-.:]{0,64}$")]
    pub serial_number: Option<String>,
    /// Its MQTT user name, 1 to 256 bytes.
    #[schema(max_length = 256)]
    pub user_name: Option<String>,
    /// Its MQTT password, 1 to 256 bytes.
    #[schema(max_length = 256)]
    pub password: Option<String>,
    /// The hash of its password, in place of it.
    pub password_hash: Option<String>,
    /// SHA-256 of the certificate that it has to have, in hex.
    #[schema(pattern = r"^([0-9a-fA-F]{2}:?){0,32}$")]
    pub certificate_fingerprint: Option<String>,
    /// The common name of the certificate that it has to have.
    pub certificate_common_name: Option<String>,
    /// Attributes, given to parsers.
    pub attributes: Option<BTreeMap<String, String>>,
    /// What it may do with topics; an empty list is nothing at all.
    pub permissions: Option<Vec<GrantSpec>>,
    /// Whether the gateway's rules hold for topics, in place of permissions of its own.
    pub default_permissions: Option<bool>,
    /// Whether it may connect.
    pub enabled: Option<bool>,
}

impl std::fmt::Debug for DeviceSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A topic filter with what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantSpec {
    /// `publish`, `subscribe` or `both`.
    #[schema(pattern = "^(publish|subscribe|both)$")]
    pub action: String,
    /// May hold `%d`, `%c`, `%u`.
    #[schema(min_length = 1)]
    pub topic_filter: String,
}

/// Something that cannot be said of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSpec(pub String);

/// A password as it was given.
#[derive(Clone, PartialEq, Eq)]
pub enum NewPassword {
    /// The password itself.
    Plain(Zeroizing<Vec<u8>>),
    /// Its hash.
    Hash(PasswordHash),
}

impl std::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewPassword")
    }
}

impl NewPassword {
    /// The hash of it. `known` is the one that the device has: it stays, where it is of this
    /// password.
    pub(crate) fn hashed(
        &self,
        known: Option<&PasswordHash>,
        cost: HashCost,
    ) -> Result<PasswordHash, InvalidSpec> {
        match self {
            Self::Hash(hash) => Ok(hash.clone()),
            Self::Plain(password) => match known.filter(|known| known.is_of(password)) {
                Some(known) => Ok(known.clone()),
                None => PasswordHash::new(password, cost)
                    .map_err(|error| InvalidSpec(format!("password: {error}"))),
            },
        }
    }
}

/// What is said of a device, each part as it has to be. `Some(None)` takes something away.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckedSpec {
    pub(crate) product: Option<String>,
    pub(crate) name: Option<DeviceName>,
    pub(crate) serial_number: Option<Option<Box<str>>>,
    pub(crate) user_name: Option<Option<Box<str>>>,
    pub(crate) password: Option<Option<NewPassword>>,
    pub(crate) certificate: Option<Option<CertificateMatch>>,
    pub(crate) attributes: Option<Vec<(String, String)>>,
    pub(crate) permissions: Option<Option<Box<[Grant]>>>,
    pub(crate) enabled: Option<bool>,
}

impl DeviceSpec {
    /// Checks every part.
    ///
    /// # Errors
    /// [`InvalidSpec`] with what is wrong and what is expected.
    pub(crate) fn check(self) -> Result<CheckedSpec, InvalidSpec> {
        let product = self.product.map(|product| checked_product(&product).map(|()| product));
        let serial_number = optional(self.serial_number, |text| {
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
            if text.len() <= SERIAL_NUMBER_BYTES_MAX && text.bytes().all(is_allowed) {
                return Ok(text.into());
            }
            invalid(format!(
                "{text:?} is no serial number: 1 to {SERIAL_NUMBER_BYTES_MAX} of A-Z a-z 0-9 _ - . :"
            ))
        })?;
        let user_name = optional(self.user_name, |text| {
            bounded("user name", &text, USER_NAME_BYTES_MAX).map(|()| text.into())
        })?;
        let name = self.name.filter(|name| !name.is_empty());
        let name = name
            .map(|name| DeviceName::parse(&name).map_err(|error| InvalidSpec(error.to_string())));
        let permissions = match (self.permissions, self.default_permissions) {
            (Some(_), Some(true)) => {
                return invalid("permissions go without default_permissions = true".to_owned());
            }
            (Some(list), _) => Some(Some(grants(list)?)),
            (None, Some(true)) => Some(None),
            (None, _) => None,
        };
        Ok(CheckedSpec {
            product: product.transpose()?,
            name: name.transpose()?,
            serial_number,
            user_name,
            password: password(self.password, self.password_hash)?,
            certificate: certificate(self.certificate_fingerprint, self.certificate_common_name)?,
            attributes: self.attributes.map(attributes).transpose()?,
            permissions,
            enabled: self.enabled,
        })
    }
}

impl CheckedSpec {
    /// What is said, by name.
    pub(crate) fn fields(&self) -> Vec<&'static str> {
        let said = [
            ("serial_number", self.serial_number.is_some()),
            ("user_name", self.user_name.is_some()),
            ("password", self.password.is_some()),
            ("certificate", self.certificate.is_some()),
            ("attributes", self.attributes.is_some()),
            ("permissions", self.permissions.is_some()),
            ("enabled", self.enabled.is_some()),
        ];
        said.iter().filter(|(_, is_said)| *is_said).map(|(name, _)| *name).collect()
    }

    /// The name of the device that it is about.
    pub(crate) fn device_name(&self) -> Result<DeviceName, InvalidSpec> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let given = [&self.serial_number, &self.user_name];
        let mut given = given.into_iter().filter_map(|text| text.as_ref()?.as_deref());
        let Some(text) = given.next() else {
            return invalid("there is no name, no serial number and no user name".to_owned());
        };
        DeviceName::parse(text).map_err(|error| InvalidSpec(format!("{error}; give it a name")))
    }
}

fn invalid<T>(why: String) -> Result<T, InvalidSpec> {
    Err(InvalidSpec(why))
}

/// A text that is taken away where it is empty.
fn optional<T>(
    text: Option<String>,
    check: impl FnOnce(String) -> Result<T, InvalidSpec>,
) -> Result<Option<Option<T>>, InvalidSpec> {
    let Some(text) = text else { return Ok(None) };
    if text.is_empty() { Ok(Some(None)) } else { check(text).map(|value| Some(Some(value))) }
}

fn bounded(what: &str, text: &str, bytes_max: usize) -> Result<(), InvalidSpec> {
    if text.len() > bytes_max {
        return invalid(format!("the {what} has {} bytes, at most {bytes_max}", text.len()));
    }
    if text.contains('\0') {
        return invalid(format!("the {what} holds U+0000, which MQTT cannot carry"));
    }
    Ok(())
}

fn checked_product(product: &str) -> Result<(), InvalidSpec> {
    if product.is_empty() {
        return invalid("the product is empty".to_owned());
    }
    bounded("product", product, PRODUCT_BYTES_MAX)
}

fn password(
    plain: Option<String>,
    hash: Option<String>,
) -> Result<Option<Option<NewPassword>>, InvalidSpec> {
    match (plain, hash) {
        (Some(plain), Some(hash)) if !plain.is_empty() && !hash.is_empty() => {
            invalid("a password goes without a hash of it".to_owned())
        }
        (_, Some(hash)) if !hash.is_empty() => match PasswordHash::parse(&hash) {
            Ok(hash) => Ok(Some(Some(NewPassword::Hash(hash)))),
            Err(error) => invalid(error.to_string()),
        },
        (Some(plain), _) if !plain.is_empty() => {
            if plain.len() > PASSWORD_BYTES_MAX {
                return invalid(format!("the password has more than {PASSWORD_BYTES_MAX} bytes"));
            }
            Ok(Some(Some(NewPassword::Plain(Zeroizing::new(plain.into_bytes())))))
        }
        (None, None) => Ok(None),
        _ => Ok(Some(None)),
    }
}

fn certificate(
    fingerprint: Option<String>,
    common_name: Option<String>,
) -> Result<Option<Option<CertificateMatch>>, InvalidSpec> {
    let is_given = fingerprint.is_some() || common_name.is_some();
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    match (given(fingerprint), given(common_name)) {
        (Some(_), Some(_)) => {
            invalid("a certificate is told by its fingerprint or by its common name".to_owned())
        }
        (Some(text), None) => match CertificateMatch::fingerprint(&text) {
            Some(fingerprint) => Ok(Some(Some(fingerprint))),
            None => invalid(format!(
                "{text:?} is no fingerprint: 64 hex digits, as openssl x509 -fingerprint -sha256 prints them"
            )),
        },
        (None, Some(name)) => {
            bounded("certificate's common name", &name, COMMON_NAME_BYTES_MAX)?;
            Ok(Some(Some(CertificateMatch::CommonName(name))))
        }
        (None, None) => Ok(is_given.then_some(None)),
    }
}

fn attributes(given: BTreeMap<String, String>) -> Result<Vec<(String, String)>, InvalidSpec> {
    if given.len() > ATTRIBUTES_MAX {
        return invalid(format!("there are more than {ATTRIBUTES_MAX} attributes"));
    }
    for (name, value) in &given {
        if name.len() + value.len() > ATTRIBUTE_BYTES_MAX {
            let shown: String = name.chars().take(40).collect();
            return invalid(format!(
                "attribute {shown:?} has more than {ATTRIBUTE_BYTES_MAX} bytes"
            ));
        }
        if name.is_empty() || name.contains('\0') || value.contains('\0') {
            return invalid(format!("attribute {name:?} is empty or holds U+0000"));
        }
    }
    Ok(given.into_iter().collect())
}

fn grants(given: Vec<GrantSpec>) -> Result<Box<[Grant]>, InvalidSpec> {
    if given.len() > PERMISSIONS_MAX {
        return invalid(format!("there are more than {PERMISSIONS_MAX} permissions"));
    }
    let grant = |GrantSpec { action, topic_filter }: GrantSpec| {
        let Some(action) = Action::of_name(&action) else {
            return invalid(format!("{action:?} is no action: publish, subscribe or both"));
        };
        // With names put in for the placeholders it has to be a filter.
        match TopicFilter::parse(&topic_filter.replace('%', "")) {
            Ok(_) => Ok(Grant { action, filter: topic_filter.into() }),
            Err(error) => invalid(format!("permission {topic_filter:?}: {error}")),
        }
    };
    given.into_iter().map(grant).collect()
}

#[cfg(test)]
mod tests {
    use super::{DeviceSpec, GrantSpec, NewPassword};

    fn spec(json: &str) -> DeviceSpec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_device_is_named_by_its_name_serial_number_or_user_name() {
        for (json, name) in [
            (r#"{"name":"dev-1","serial_number":"SN1","user_name":"u"}"#, "dev-1"),
            (r#"{"serial_number":"SN_0001","user_name":"u"}"#, "SN_0001"),
            (r#"{"user_name":"user-1","name":""}"#, "user-1"),
        ] {
            let named = spec(json).check().unwrap().device_name().unwrap();
            assert_eq!(named.as_str(), name);
        }
        for json in [r#"{"serial_number":"SN1"}"#, "{}", r#"{"name":"a/b/c"}"#] {
            assert!(spec(json).check().and_then(|spec| spec.device_name()).is_err(), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_refused_with_what_is_expected() {
        let long = "x".repeat(300);
        for (json, why) in [
            (r#"{"serial_number":"a b"}"#.to_owned(), "no serial number"),
            (format!(r#"{{"user_name":"{long}"}}"#), "at most 256"),
            (format!(r#"{{"password":"{long}"}}"#), "more than 256"),
            (r#"{"password":"x","password_hash":"$7$x"}"#.to_owned(), "without a hash"),
            (r#"{"password_hash":"md5:x"}"#.to_owned(), "none of the known formats"),
            (r#"{"certificate_fingerprint":"ab"}"#.to_owned(), "64 hex digits"),
            (r#"{"product":""}"#.to_owned(), "product is empty"),
            (
                r#"{"permissions":[{"action":"read","topic_filter":"a"}]}"#.to_owned(),
                "publish, sub",
            ),
            (r#"{"permissions":[{"action":"both","topic_filter":"a/#/b"}]}"#.to_owned(), "a/#/b"),
            (r#"{"attributes":{"":"x"}}"#.to_owned(), "empty"),
        ] {
            let refused = spec(&json).check().unwrap_err().to_string();
            assert!(refused.contains(why), "{json}: {refused}");
        }
        assert!(serde_json::from_str::<DeviceSpec>(r#"{"pasword":"x"}"#).is_err());
    }

    #[test]
    fn an_empty_text_takes_away_and_an_absent_one_leaves() {
        let checked = spec(r#"{"user_name":"","password":"","certificate_common_name":""}"#);
        let checked = checked.check().unwrap();
        assert_eq!(checked.user_name, Some(None));
        assert!(matches!(checked.password, Some(None)) && checked.certificate == Some(None));
        assert!(checked.serial_number.is_none() && checked.permissions.is_none());
        let plain = spec(r#"{"password":"x","password_hash":""}"#).check().unwrap();
        assert!(matches!(plain.password, Some(Some(NewPassword::Plain(_)))));
        let none = DeviceSpec { permissions: Some(Vec::<GrantSpec>::new()), ..Default::default() };
        assert_eq!(none.check().unwrap().permissions, Some(Some(Box::default())));
    }
}
