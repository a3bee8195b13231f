//! Admits the users of its settings: `[settings]` maps `user.NAME` to the user's password.

use portreeve_guest::{Connect, Error, Refusal, Verdict, Verifier, export_verifier, settings};

struct AllowList;

impl Verifier for AllowList {
    fn verify(request: Connect) -> Result<Verdict, Error> {
        let name = request.user_name.unwrap_or_default();
        let given = request.password.unwrap_or_default();
        match settings::get(&format!("user.{name}")) {
            Some(password) if same(password.as_bytes(), &given) => Ok(Verdict::admit(name)),
            _ => Ok(Refusal::bad_user_name_or_password("unknown user or wrong password").into()),
        }
    }
}

/// Compares in a time that does not tell how much is right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

export_verifier!(AllowList);

#[cfg(test)]
mod tests {
    use portreeve_guest::testing::{connect, settings};
    use portreeve_guest::{Verdict, Verifier};

    use super::AllowList;

    fn is_admitted(user_name: &str, password: &str) -> bool {
        settings([("user.device-1", "demo")]);
        let request = connect("c").user_name(user_name).password(password).build();
        match AllowList::verify(request).unwrap() {
            Verdict::Admit(admission) => admission.device_name == user_name,
            _ => false,
        }
    }

    #[test]
    fn only_a_listed_user_with_its_password_is_admitted() {
        assert!(is_admitted("device-1", "demo"));
        assert!(!is_admitted("device-1", "demO"));
        assert!(!is_admitted("device-1", ""));
        assert!(!is_admitted("device-2", "demo"));
        assert!(!is_admitted("", ""));
    }
}
