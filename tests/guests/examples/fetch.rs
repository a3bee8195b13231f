//! Makes requests over HTTP and tells what came of them. Each line of the payload is a request:
//! `TIMES METHOD URL BODY-BYTES`, `1 ENV NAME` for a variable of its environment, or
//! `1 LEAVE URL` for a response that it does not read. It answers on the topic `answer`, a line for each of them.

use std::time::Duration;

use portreeve_guest::http::Request;
use portreeve_guest::{Context, Error, Message, Outcome, Parser, export_parser};

struct Guest;

impl Parser for Guest {
    fn parse(_context: Context, message: Message) -> Result<Outcome, Error> {
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        let mut answers: Vec<String> = Vec::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            let mut next = || words.next().unwrap_or_default();
            let (times, method, url, bytes) = (next().parse::<u32>()?, next(), next(), next());
            if method == "ENV" {
                answers.push(format!("{:?}", std::env::var(url).ok()));
                continue;
            }
            if method == "LEAVE" {
                answers.push(leave(url));
                continue;
            }
            let body = vec![b'x'; bytes.parse().unwrap_or(0)];
            for _ in 0..times {
                let request = Request::new(method, url).body(body.clone());
                let answer = request.timeout(Duration::from_secs(30)).send();
                answers.push(match answer {
                    Ok(response) => {
                        let text = String::from_utf8_lossy(&response.body);
                        let short: String = text.chars().take(400).collect();
                        format!("{} {} {short}", response.status, response.body.len())
                    }
                    Err(error) => error.to_string(),
                });
            }
        }
        // The answers differ little: the last ones are told.
        let begin = answers.len().saturating_sub(20);
        let told = answers.get(begin..).unwrap_or_default().join("\n");
        Ok(Outcome::Replace(vec![message.with("answer", told)]))
    }
}

/// Asks, and leaves the response lying about unread.
#[cfg(target_family = "wasm")]
fn leave(url: &str) -> String {
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{Fields, OutgoingRequest, Scheme};

    let request = OutgoingRequest::new(Fields::new());
    let (authority, path) = url.trim_start_matches("http://").split_once('/').unwrap_or_default();
    let set = request
        .set_scheme(Some(&Scheme::Http))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(&format!("/{path}"))));
    let Ok(response) = set.map_err(|()| None).and_then(|()| handle(request, None).map_err(Some))
    else {
        return "not asked".to_owned();
    };
    response.subscribe().block();
    match response.get() {
        Some(Ok(Ok(response))) => {
            let status = response.status();
            std::mem::forget(response.consume());
            std::mem::forget(response);
            format!("{status} left")
        }
        other => format!("{other:?}"),
    }
}

#[cfg(not(target_family = "wasm"))]
fn leave(_url: &str) -> String {
    String::new()
}

export_parser!(Guest);
