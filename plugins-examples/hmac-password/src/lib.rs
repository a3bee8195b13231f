//! Device clouds give each device a secret; it connects with the password
//! `hex(HMAC-SHA256(secret, client_id + "&" + user_name))`. `[settings]` maps `secret.NAME` to
//! the secret of the device NAME, which is also its user name.

use hmac::{Hmac, KeyInit, Mac};
use portreeve_guest::{Connect, Error, Refusal, Verdict, Verifier, export_verifier, settings};
use sha2::Sha256;

struct HmacPassword;

impl Verifier for HmacPassword {
    fn verify(request: Connect) -> Result<Verdict, Error> {
        let refused =
            || Ok(Refusal::bad_user_name_or_password("unknown device or bad HMAC").into());
        let (Some(name), Some(password)) = (request.user_name, request.password) else {
            return refused();
        };
        let Some(secret) = settings::get(&format!("secret.{name}")) else { return refused() };
        let Ok(given) = hex::decode(password) else { return refused() };
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
        mac.update(format!("{}&{name}", request.client_id).as_bytes());
        match mac.verify_slice(&given) {
            Ok(()) => Ok(Verdict::admit(name)),
            Err(_) => refused(),
        }
    }
}

export_verifier!(HmacPassword);

#[cfg(test)]
mod tests {
    use portreeve_guest::testing::{connect, settings};
    use portreeve_guest::{Verdict, Verifier};

    use super::HmacPassword;

    /// printf 'client-1&device-1' | openssl dgst -sha256 -hmac s3cret
    const PASSWORD: &str = "54fed5f90d3c2596e57bb8444ba35dab27021d3fb36f9ece2cd8eb742801cae9";

    fn is_admitted(client_id: &str, password: &str) -> bool {
        settings([("secret.device-1", "s3cret")]);
        let request = connect(client_id).user_name("device-1").password(password).build();
        matches!(HmacPassword::verify(request), Ok(Verdict::Admit(_)))
    }

    #[test]
    fn the_hmac_binds_the_password_to_the_client_identifier() {
        assert!(is_admitted("client-1", PASSWORD));
        assert!(is_admitted("client-1", &PASSWORD.to_uppercase()));
        assert!(!is_admitted("client-2", PASSWORD));
        assert!(!is_admitted("client-1", &PASSWORD.replace('0', "1")));
        assert!(!is_admitted("client-1", "s3cret"));
    }
}
