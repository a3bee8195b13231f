//! Signatures of components: detached, Ed25519, in the format of minisign
//! (<https://jedisct1.github.io/minisign/>), so that its tools make and verify them, too.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use base64::Engine;
use minisign::{KeyPair, PublicKey, PublicKeyBox, SecretKey, SecretKeyBox, SignatureBox};

/// The header of the admin API that brings the signature of a component: its file in Base64.
pub const SIGNATURE_HEADER: &str = "portreeve-signature";

/// Why a component is not accepted, or a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// There is none.
    #[error("it is not signed: put NAME.wasm.minisig beside it (`portreeve plugin sign`)")]
    Missing,
    /// The signature cannot be read.
    #[error("its signature cannot be read: {0}")]
    Unreadable(String),
    /// It was made with a key that is not trusted.
    #[error("it is signed with key {0}, which is none of [plugins] signature_keys")]
    UnknownKey(String),
    /// It is of something else.
    #[error("its signature does not fit: the component or the signature is another one ({0})")]
    Wrong(String),
    /// A key is none.
    #[error("{0}")]
    Key(String),
}

/// Public keys of those whose components are accepted; while keys are changed there are two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedKeys(Vec<PublicKey>);

impl TrustedKeys {
    /// Adds a key: its line of base64, as minisign prints it, or all of a `.pub` file.
    ///
    /// # Errors
    /// [`SignatureError::Key`].
    pub fn add(&mut self, text: &str) -> Result<(), SignatureError> {
        let is_file = text.trim().contains('\n');
        let key = match is_file {
            true => PublicKeyBox::from_string(text).and_then(PublicKey::from_box),
            false => PublicKey::from_base64(text.trim()),
        };
        let key = key.map_err(|error| SignatureError::Key(format!("is no public key: {error}")))?;
        self.0.push(key);
        Ok(())
    }

    /// Whether there is none: nothing has to be signed then.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key of this number is among them.
    #[must_use]
    pub fn holds(&self, number: &str) -> bool {
        self.0.iter().any(|key| key_number(key.keynum()) == number)
    }

    /// The number of the key that `component` was signed with.
    ///
    /// # Errors
    /// [`SignatureError`] unless one of the keys made the signature, for just these bytes.
    pub fn verify(
        &self,
        component: &[u8],
        signature: Option<&str>,
    ) -> Result<String, SignatureError> {
        let text = signature.ok_or(SignatureError::Missing)?;
        let signature = SignatureBox::from_string(text)
            .map_err(|error| SignatureError::Unreadable(error.to_string()))?;
        let number = key_number(signature.keynum());
        // Numbers are not secret and need not be unique.
        let mut keys = self.0.iter().filter(|key| key.keynum() == signature.keynum()).peekable();
        if keys.peek().is_none() {
            return Err(SignatureError::UnknownKey(number));
        }
        let mut why = String::new();
        for key in keys {
            match minisign::verify(key, &signature, Cursor::new(component), true, false, true) {
                Ok(()) => return Ok(number),
                Err(error) => why = error.to_string(),
            }
        }
        Err(SignatureError::Wrong(why))
    }
}

/// The number of a key as minisign writes it.
fn key_number(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

/// Where the signature of a component stands.
#[must_use]
pub fn signature_path(component: &Path) -> PathBuf {
    let mut path = component.as_os_str().to_owned();
    path.push(".minisig");
    path.into()
}

/// Signs. `password` is that of the key, if it has one; it is asked for at the terminal where it is
/// needed and left out. `comment` becomes part of what is signed.
///
/// # Errors
/// [`SignatureError::Key`] when the key cannot be used.
pub fn sign(
    component: &[u8],
    secret_key: &str,
    password: Option<String>,
    comment: &str,
) -> Result<String, SignatureError> {
    let failed = |error: minisign::PError| SignatureError::Key(error.to_string());
    let key = match without_password(secret_key) {
        Some(key) => key,
        None => SecretKeyBox::from_string(secret_key)
            .and_then(|key| key.into_secret_key(password))
            .map_err(failed)?,
    };
    // What was signed is verified again: a damaged key would sign what nobody accepts.
    let public = PublicKey::from_secret_key(&key).map_err(failed)?;
    let data = Cursor::new(component);
    let signature =
        minisign::sign(Some(&public), &key, data, Some(comment), None).map_err(failed)?;
    Ok(signature.into_string())
}

/// A key that has no password. minisign 0.11 writes those without the checksum that the library
/// wants to see.
fn without_password(secret_key: &str) -> Option<SecretKey> {
    let encoded = secret_key.lines().nth(1)?.trim();
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    // After two bytes that name the algorithm of the signature, those of the key's derivation.
    let has_password = bytes.get(2..4) != Some(&[0, 0]);
    SecretKey::from_bytes(&bytes).ok().filter(|_| !has_password)
}

/// A new pair of keys, secret and public, as texts for two files. Without a password the secret key
/// is protected by the mode of its file only.
///
/// # Errors
/// [`SignatureError::Key`] when none can be made.
pub fn new_keys(password: Option<String>) -> Result<(String, String), SignatureError> {
    let failed = |error: minisign::PError| SignatureError::Key(error.to_string());
    let pair = match password {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password)),
        None => KeyPair::generate_unencrypted_keypair(),
    };
    let KeyPair { pk, sk } = pair.map_err(failed)?;
    let secret = sk.to_box(None).map_err(failed)?.into_string();
    let public = pk.to_box().map_err(failed)?.into_string();
    Ok((secret, public))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (String, TrustedKeys) {
        let (secret, public) = new_keys(None).unwrap();
        let mut trusted = TrustedKeys::default();
        trusted.add(&public).unwrap();
        (secret, trusted)
    }

    #[test]
    fn only_a_signature_of_a_trusted_key_for_these_bytes_is_accepted() {
        let (secret, trusted) = keys();
        let signature = sign(b"component", &secret, None, "file:a.wasm").unwrap();
        let number = trusted.verify(b"component", Some(&signature)).unwrap();
        assert!(trusted.holds(&number));
        assert_eq!(trusted.verify(b"component", None), Err(SignatureError::Missing));
        assert!(matches!(
            trusted.verify(b"Component", Some(&signature)),
            Err(SignatureError::Wrong(_))
        ));
        let forged = signature.replace("file:a.wasm", "file:b.wasm");
        assert!(matches!(
            trusted.verify(b"component", Some(&forged)),
            Err(SignatureError::Wrong(_))
        ));
        assert!(matches!(
            trusted.verify(b"component", Some("untrusted comment: x\nRU")),
            Err(SignatureError::Unreadable(_))
        ));
        let (_, others) = keys();
        assert_eq!(
            others.verify(b"component", Some(&signature)),
            Err(SignatureError::UnknownKey(number))
        );
    }

    #[test]
    fn keys_rotate() {
        let (old, mut trusted) = keys();
        let (new, public) = new_keys(None).unwrap();
        let line = public.lines().nth(1).unwrap();
        trusted.add(line).unwrap();
        for secret in [&old, &new] {
            let signature = sign(b"x", secret, None, "").unwrap();
            assert!(trusted.verify(b"x", Some(&signature)).is_ok());
        }
    }

    #[test]
    fn a_key_with_a_password_wants_it() {
        let (secret, public) = new_keys(Some("secret".to_owned())).unwrap();
        assert!(sign(b"x", &secret, Some("wrong".to_owned()), "").is_err());
        let signature = sign(b"x", &secret, Some("secret".to_owned()), "").unwrap();
        let mut trusted = TrustedKeys::default();
        trusted.add(&public).unwrap();
        assert!(trusted.verify(b"x", Some(&signature)).is_ok());
        assert!(trusted.add("RWno").unwrap_err().to_string().contains("public key"));
    }
}
