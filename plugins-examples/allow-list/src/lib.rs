//! Admits the users of its settings: `user.NAME` holds a user's password, and `device.NAME` the
//! device name that it gets, which is its own name otherwise.

use portreeve_guest::{Connect, Error, Refusal, Verdict, Verifier, export_verifier, settings};

struct AllowList;

impl Verifier for AllowList {
    fn verify(request: Connect) -> Result<Verdict, Error> {
        let refused =
            || Ok(Refusal::bad_user_name_or_password("unknown user or wrong password").into());
        let (Some(name), Some(given)) = (request.user_name, request.password) else {
            return refused();
        };
        match settings::get(&format!("user.{name}")).filter(|password| !password.is_empty()) {
            Some(password) if same(password.as_bytes(), &given) => {
                Ok(Verdict::admit(settings::get(&format!("device.{name}")).unwrap_or(name)))
            }
            _ => refused(),
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

    fn admitted_as(user_name: &str, password: &str) -> Option<String> {
        settings([
            ("user.device-1", "demo"),
            ("user.app", "x"),
            ("device.app", "platform"),
            ("user.none", ""),
        ]);
        let request = connect("c").user_name(user_name).password(password).build();
        match AllowList::verify(request).unwrap() {
            Verdict::Admit(admission) => Some(admission.device_name),
            _ => None,
        }
    }

    #[test]
    fn only_a_listed_user_with_its_password_is_admitted() {
        assert_eq!(admitted_as("device-1", "demo").as_deref(), Some("device-1"));
        assert_eq!(admitted_as("app", "x").as_deref(), Some("platform"));
        for (user_name, password) in
            [("device-1", "demO"), ("device-1", ""), ("device-2", "demo"), ("none", ""), ("", "")]
        {
            assert_eq!(admitted_as(user_name, password), None);
        }
    }
}
