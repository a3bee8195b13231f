//! Answers that are no clear acceptance let nobody in.

use portreeve_guest::http::HttpError;
use portreeve_guest::testing::connect;
use portreeve_guest::{RefusalReason, Verdict};

use crate::testing::{json, service, verify};

fn answered(settings: &[(&str, &str)], status: u16, body: &str) -> Result<Verdict, String> {
    let _asked = service(vec![json(status, body)]);
    let connect = connect("client-1").user_name("device-1").password("demo").build();
    verify(settings, connect).map_err(|error| error.to_string())
}

#[test]
fn what_cannot_be_read_is_an_error_that_says_where() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, said) in [
        ("", "no JSON"),
        ("<html>welcome</html>", "no JSON"),
        ("accept", "no JSON"),
        (r#""accept""#, "has no /result"),
        ("null", "has no /result"),
        ("[]", "has no /result"),
        ("{}", "has no /result"),
        (r#"{"result":null}"#, "has no /result"),
        (r#"{"result":["accept"]}"#, "/result is a list"),
        (r#"{"result":"ACCEPT"}"#, "/result is \"ACCEPT\""),
        (r#"{"result":true}"#, "/result is \"true\""),
        (r#"{"result":"reject","result":"accept"}"#, "stands twice"),
        (r#"{"result":"accept","deviceName":7}"#, "/deviceName is a number"),
        (r#"{"result":"accept","deviceName":"a b c d"}"#, "/deviceName is \"a b c d\""),
        (r#"{"result":"accept","product":""}"#, "/product is not 1 to 64"),
        (r#"{"result":"accept","attributes":"x"}"#, "/attributes is a text"),
        (r#"{"result":"accept","attributes":{"a/b":{}}}"#, "/attributes/a~1b is an object"),
        (r#"{"result":"accept","attributes":{"a":[[]]}}"#, "/attributes/a/0 is a list"),
        (r#"{"result":"accept","permissions":{}}"#, "/permissions is an object"),
        (r#"{"result":"accept","expiresIn":-1}"#, "/expiresIn is no whole number"),
        (r#"{"result":"accept","expiresIn":1.5}"#, "/expiresIn is no whole number"),
        (r#"{"result":"accept","cacheFor":"soon"}"#, "/cacheFor is no whole number"),
        (r#"{"result":"reject","message":1}"#, "/message is a number"),
        (r#"{"result":"reject","reason":1}"#, "/reason is a number"),
        (deep.as_str(), "recursion"),
    ] {
        let error = answered(&[], 200, body).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn too_much_is_an_error() {
    let many: Vec<String> = (0..65).map(|index| format!("\"a{index}\":1")).collect();
    let many = format!(r#"{{"result":"accept","attributes":{{{}}}}}"#, many.join(","));
    assert!(answered(&[], 200, &many).unwrap_err().contains("more than 64"));
    let long = format!(r#"{{"result":"accept","attributes":{{"a":"{}"}}}}"#, "x".repeat(1024));
    assert!(answered(&[], 200, &long).unwrap_err().contains("/attributes/a is above 1024"));
}

#[test]
fn other_statuses_are_errors() {
    for status in [201, 204, 301, 302, 404, 418, 500, 501] {
        let error = answered(&[], status, r#"{"result":"accept"}"#).unwrap_err();
        assert!(error.contains(&format!("HTTP {status}")), "{error}");
    }
}

#[test]
fn a_service_that_is_away_is_an_error() {
    for error in [
        HttpError::TimedOut,
        HttpError::Unreachable("ErrorCode::ConnectionRefused".to_owned()),
        HttpError::Broken("ErrorCode::HttpResponseIncomplete".to_owned()),
        HttpError::Denied,
    ] {
        let _asked = service(vec![Err(error)]);
        let connect = connect("client-1").user_name("device-1").build();
        let said = verify(&[], connect).unwrap_err().to_string();
        assert!(said.contains("service") || said.contains("does not grant"), "{said}");
    }
}

#[test]
fn expiry_bounds_the_cache_and_ends_what_is_over() {
    let admitted = |body: &str, settings: &[(&str, &str)]| {
        let Ok(Verdict::Admit(admission)) = answered(settings, 200, body) else { panic!("{body}") };
        (admission.expires_in, admission.cache_for)
    };
    let for_a_minute = [("cache_for", "1m")];
    assert_eq!(admitted(r#"{"result":"accept"}"#, &for_a_minute), (None, Some(60)));
    let short = r#"{"result":"accept","expiresIn":10}"#;
    assert_eq!(admitted(short, &for_a_minute), (Some(10), Some(10)));
    let never = r#"{"result":"accept","cacheFor":0}"#;
    assert_eq!(admitted(never, &for_a_minute), (None, None));
    let Ok(Verdict::Refuse(over)) = answered(&[], 200, r#"{"result":"accept","expiresIn":0}"#)
    else {
        panic!("it is over")
    };
    assert_eq!(over.reason, RefusalReason::NotAuthorized);
    let milliseconds = r#"{"result":"accept","until":1700000000000000}"#;
    let settings = [("response", r#"{"expires_at":"/until"}"#)];
    assert!(answered(&settings, 200, milliseconds).unwrap_err().contains("/until"));
}

#[test]
fn a_service_of_ones_own_is_mapped() {
    let settings = [
        ("results", r#"{"1":"accept","2":"banned","*":"not-authorized"}"#),
        (
            "response",
            r#"{"result":"/data/code","device_name":"/data/device/id","attributes":"/data/tags",
                "message":"/error/text"}"#,
        ),
        ("status", r#"{"201":"body","404":"bad-user-name-or-password"}"#),
    ];
    let accepted = r#"{"data":{"code":1,"device":{"id":"dev-1"},"tags":{"a":"b"}}}"#;
    let Ok(Verdict::Admit(admission)) = answered(&settings, 201, accepted) else { panic!() };
    assert_eq!(admission.device_name, "dev-1");
    assert_eq!(admission.attributes, [("a".to_owned(), "b".to_owned())]);
    let reason = |status, body| match answered(&settings, status, body) {
        Ok(Verdict::Refuse(refusal)) => Some((refusal.reason, refusal.message)),
        _ => None,
    };
    let banned = reason(200, r#"{"data":{"code":2},"error":{"text":"stolen"}}"#);
    assert_eq!(banned, Some((RefusalReason::Banned, "stolen".to_owned())));
    let other = reason(200, r#"{"data":{"code":77}}"#).unwrap();
    assert_eq!(other.0, RefusalReason::NotAuthorized);
    assert_eq!(reason(404, "").unwrap().0, RefusalReason::BadUserNameOrPassword);
}
