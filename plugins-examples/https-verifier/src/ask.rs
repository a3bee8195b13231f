//! Asking the service: once, and again where that is safe and there is time.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use portreeve_guest::http::{HttpError, Request, Response};
use portreeve_guest::{Error, Refusal, log};

use crate::request::Question;
use crate::settings::Settings;
use crate::stop::Stop;

/// Statuses of proxies whose service is away for the moment: it has not been asked.
const PASSING: [u16; 3] = [502, 503, 504];
/// The delay is doubled each time, up to here.
const DOUBLINGS_MAX: u32 = 6;

/// The answer of the service, whatever its status.
///
/// # Errors
/// Why there is none.
pub(crate) fn ask(settings: &Settings, request: &Request) -> Result<Response, Stop> {
    let begin = Instant::now();
    let question = Question::new(settings, request)?;
    let mut attempt = 0;
    loop {
        // Its time is that of the manifest's [http_client], and the deadline of the call is over
        // all of it.
        let answer = question.request()?.send();
        let is_passing = match &answer {
            Ok(response) => PASSING.contains(&response.status),
            Err(error) => may_pass(error),
        };
        let answer = answer.map_err(|error| stop(&error, attempt + 1));
        if !is_passing || attempt == settings.retries {
            return answer;
        }
        let delay = delay(settings.retry_delay, attempt)?;
        if begin.elapsed().saturating_add(delay) >= settings.retry_within {
            return answer;
        }
        thread::sleep(delay);
        attempt += 1;
    }
}

/// Whether another attempt may do better. A response that breaks off was begun by a service that
/// has been asked, and a certificate that is not trusted stays so.
fn may_pass(error: &HttpError) -> bool {
    match error {
        HttpError::TimedOut => true,
        HttpError::Unreachable(code) => !code.contains("Tls"),
        _ => false,
    }
}

/// Between half of the delay and all of it, so that those who wait do not come back together.
fn delay(base: Duration, attempt: u32) -> Result<Duration, Error> {
    let most = base.saturating_mul(1 << attempt.min(DOUBLINGS_MAX));
    let mut random = [0; 1];
    getrandom::fill(&mut random)
        .map_err(|error| Error::new(format!("there are no random numbers: {error}")))?;
    let part = random.first().map_or(0, |byte| u32::from(*byte));
    Ok(most / 2 + (most / 2) / u32::from(u8::MAX) * part)
}

fn stop(error: &HttpError, attempts: u32) -> Stop {
    match error {
        HttpError::Denied => Stop::Failed(Error::new(
            "the gateway did not make the request: the manifest's `http` does not grant the \
             setting `url`, or a bound of [http_client] is reached; its own line in the log says \
             which",
        )),
        // The settings are checked; what is left is what the device says, such as its length.
        HttpError::Invalid(why) => {
            log::warn(&format!("the service is not asked, the request cannot be sent: {why}"));
            let why = "the service cannot be asked about what the device says";
            Stop::Refused(Refusal::not_authorized(why))
        }
        error => {
            let times = if attempts == 1 { "once" } else { "several times" };
            Stop::Failed(Error::new(format!("the service was asked {times}: {error}")))
        }
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_are_spread() {
        let base = Duration::from_millis(100);
        for _ in 0..100 {
            let (first, third) = (delay(base, 0).unwrap(), delay(base, 2).unwrap());
            assert!(first >= base / 2 && first <= base, "{first:?}");
            assert!(third >= base * 2 && third <= base * 4, "{third:?}");
            assert!(delay(base, 60).unwrap() <= base * 64);
        }
        assert_eq!(delay(Duration::ZERO, 3).unwrap(), Duration::ZERO);
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        assert!(may_pass(&HttpError::TimedOut));
        assert!(may_pass(&HttpError::Unreachable("ErrorCode::ConnectionRefused".into())));
        assert!(!may_pass(&HttpError::Unreachable("ErrorCode::TlsCertificateError".into())));
        assert!(!may_pass(&HttpError::Broken("x".into())) && !may_pass(&HttpError::Denied));
    }
}
