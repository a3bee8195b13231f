//! Signatures of requests, by which a service knows that they come from this gateway and are not
//! sent again: the symmetric scheme of Standard Webhooks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use portreeve_guest::Error;
use sha2::Sha256;

use crate::source::wrong;

/// Bytes of a secret, by Standard Webhooks: 192 to 512 bits.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Random bytes of an identifier.
const ID_BYTES: usize = 16;

/// The secrets that requests are signed with: the one that holds, and one that did before.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Signer(Vec<Vec<u8>>);

impl std::fmt::Debug for Signer {
    // Less the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads secrets: `whsec_` and base64, each under the name of its setting.
    ///
    /// # Errors
    /// Names the setting of one that is none, and not its value.
    pub(crate) fn new(secrets: &[(&str, String)]) -> Result<Self, Error> {
        let secret = |(key, text): &(&str, String)| {
            let encoded = text.strip_prefix("whsec_");
            let bytes = encoded.and_then(|encoded| BASE64.decode(encoded).ok());
            bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.len())).ok_or_else(|| {
                let fix = "write \"whsec_\" and base64; \
                           printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\" makes one";
                wrong(key, "is no secret of 24 to 64 bytes", fix)
            })
        };
        Ok(Self(secrets.iter().map(secret).collect::<Result<_, _>>()?))
    }

    /// The value of `webhook-signature`: one for each secret.
    ///
    /// # Errors
    /// None that happens: HMAC takes keys of any length.
    pub(crate) fn signature(&self, id: &str, timestamp: u64, body: &[u8]) -> Result<String, Error> {
        let one = |secret: &Vec<u8>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret)?;
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            Ok(format!("v1,{}", BASE64.encode(mac.finalize().into_bytes())))
        };
        Ok(self.0.iter().map(one).collect::<Result<Vec<_>, Error>>()?.join(" "))
    }
}

/// An identifier that no other question has.
///
/// # Errors
/// Where the gateway gives no random numbers.
pub(crate) fn new_id() -> Result<String, Error> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(format!("there are no random numbers: {error}")))?;
    Ok(format!("msg_{}", hex::encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(secrets: &[&str]) -> Result<Signer, Error> {
        let secrets: Vec<_> =
            secrets.iter().map(|text| ("sign_secret", text.to_string())).collect();
        Signer::new(&secrets)
    }

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        // From the reference implementation's tests.
        let signer = signer(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]).unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signature = signer.signature(id, 1_614_265_330, br#"{"test": 2432232314}"#).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn while_a_secret_is_replaced_both_sign() {
        let both = signer(&[
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
        ]);
        let signature = both.unwrap().signature("msg_1", 1, b"x").unwrap();
        assert_eq!(signature.split(' ').filter(|one| one.starts_with("v1,")).count(), 2);
    }

    #[test]
    fn what_is_no_secret_is_not_shown() {
        for wrong in
            ["", "swordfish", "whsec_c3dvcmRmaXNo", "whsec_!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
        {
            let said = signer(&[wrong]).unwrap_err().to_string();
            assert!(said.contains("`sign_secret`"), "{said}");
            assert!(wrong.is_empty() || !said.contains(wrong), "{said}");
        }
    }

    #[test]
    fn identifiers_differ() {
        let (one, other) = (new_id().unwrap(), new_id().unwrap());
        assert!(one != other && one.len() == 4 + 2 * ID_BYTES, "{one} {other}");
    }
}
