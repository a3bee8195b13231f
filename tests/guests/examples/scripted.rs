//! A verifier that does what the password says, line by line: `name NAME`, `product PRODUCT`,
//! `attribute NAME VALUE`, `publish FILTER`, `subscribe FILTER`, `none` (no permission at all),
//! `expires SECONDS`, `refuse REASON`, `fail`. With an authentication method it challenges with
//! `1+1` and wants `2`, or `2!` where it is to prove itself.

use portreeve_guest::{
    Action, Admission, Connect, Error, Refusal, RefusalReason, Verdict, Verifier, export_verifier,
};

struct Guest;

impl Verifier for Guest {
    fn verify(request: Connect) -> Result<Verdict, Error> {
        if request.authentication_method.is_some() {
            return Ok(match request.authentication_data.as_deref() {
                None => Verdict::Challenge(b"1+1".to_vec()),
                Some(b"2") => Verdict::admit("scripted"),
                // The client wants a proof of the server, too.
                Some(b"2!") => Admission::new("scripted").authentication_data(*b"proof").into(),
                Some(_) => Refusal::not_authorized("wrong sum").into(),
            });
        }
        let script = String::from_utf8(request.password.unwrap_or_default())?;
        let mut admission = Admission::new(request.user_name.unwrap_or_default());
        for line in script.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            admission = match word {
                "name" => Admission { device_name: rest.to_owned(), ..admission },
                "product" => admission.product(rest),
                "attribute" => {
                    let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                    admission.attribute(name, value)
                }
                "publish" => admission.permit(Action::Publish, rest),
                "subscribe" => admission.permit(Action::Subscribe, rest),
                "none" => Admission { permissions: Some(Vec::new()), ..admission },
                "expires" => admission.expires_in(rest.parse()?),
                "refuse" => return Ok(refusal(rest).into()),
                _ => return Err(Error::new(line)),
            };
        }
        Ok(admission.into())
    }
}

fn refusal(reason: &str) -> Refusal {
    let mut refusal = Refusal::new(
        match reason {
            "banned" => RefusalReason::Banned,
            "server-busy" => RefusalReason::ServerBusy,
            "quota-exceeded" => RefusalReason::QuotaExceeded,
            "use-another-server" => RefusalReason::UseAnotherServer,
            "not-authorized" => RefusalReason::NotAuthorized,
            _ => RefusalReason::BadUserNameOrPassword,
        },
        "as scripted",
    );
    if reason == "use-another-server" {
        refusal.server_reference = Some("other.example:8883".to_owned());
    }
    refusal
}

export_verifier!(Guest);
