//! Makes requests over HTTP and tells what came of them. Each line of the payload is a request:
//! `TIMES METHOD URL BODY-BYTES`, or `1 ENV NAME` for a variable of its environment. It answers on the topic `answer`, a line for each of them.

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
            let body = vec![b'x'; bytes.parse().unwrap_or(0)];
            for _ in 0..times {
                let answer = Request::new(method, url).body(body.clone()).send();
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

export_parser!(Guest);
