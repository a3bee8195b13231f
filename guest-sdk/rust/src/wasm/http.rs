//! `wasi:http/outgoing-handler`, used one request at a time.

use std::time::Duration;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use crate::http::{HttpError, Request, Response};

/// Bytes that are read at a time.
const CHUNK_BYTES: u64 = 64 << 10;
/// Bytes that are written at a time, as many as the interface takes.
const WRITTEN_BYTES: usize = 4096;

pub fn send(request: Request) -> Result<Response, HttpError> {
    let options = options(request.timeout)?;
    let (outgoing, body) = (outgoing(&request)?, request.body);
    let content = outgoing.body().map_err(|()| invalid("its body was taken"))?;
    let send = || handle(outgoing, options).map_err(|code| sort(&code));
    let response = if body.len() <= WRITTEN_BYTES {
        // The host has room for one part: the request is whole when it is sent, and nobody waits for its rest.
        write(content, &body)?;
        send()?
    } else {
        let response = send()?;
        write(content, &body)?;
        response
    };
    response.subscribe().block();
    match response.get() {
        Some(Ok(Ok(response))) => read(response),
        Some(Ok(Err(code))) => Err(sort(&code)),
        Some(Err(())) | None => Err(HttpError::Broken("no response".to_owned())),
    }
}

fn outgoing(request: &Request) -> Result<OutgoingRequest, HttpError> {
    let (scheme, rest) =
        request.url.split_once("://").ok_or_else(|| invalid("its URL has no scheme"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let outgoing = OutgoingRequest::new(fields(request)?);
    let scheme = match scheme {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        other => Scheme::Other(other.to_owned()),
    };
    outgoing.set_scheme(Some(&scheme)).map_err(|()| invalid("its scheme is none"))?;
    outgoing.set_authority(Some(authority)).map_err(|()| invalid("its host is none"))?;
    outgoing.set_path_with_query(Some(&path)).map_err(|()| invalid("its path is none"))?;
    outgoing.set_method(&method(&request.method)).map_err(|()| invalid("its method is none"))?;
    Ok(outgoing)
}

/// The headers, handed over at once; one by one only where that tells which of them is wrong.
fn fields(request: &Request) -> Result<Fields, HttpError> {
    let mut headers = request.headers.clone();
    let has_length = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if !request.body.is_empty() && !has_length {
        let length = request.body.len().to_string();
        headers.push(("content-length".to_owned(), length.into_bytes()));
    }
    if let Ok(fields) = Fields::from_list(&headers) {
        return Ok(fields);
    }
    let fields = Fields::new();
    for (name, value) in &headers {
        let wrong = |error| HttpError::Invalid(format!("header {name}: {error}"));
        fields.append(name, value).map_err(wrong)?;
    }
    Ok(fields)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        "OPTIONS" => Method::Options,
        other => Method::Other(other.to_owned()),
    }
}

fn options(timeout: Option<Duration>) -> Result<Option<RequestOptions>, HttpError> {
    let Some(timeout) = timeout else { return Ok(None) };
    let options = RequestOptions::new();
    let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
    let unsupported = |()| invalid("its time-out cannot be set");
    options.set_connect_timeout(Some(nanoseconds)).map_err(unsupported)?;
    options.set_first_byte_timeout(Some(nanoseconds)).map_err(unsupported)?;
    options.set_between_bytes_timeout(Some(nanoseconds)).map_err(unsupported)?;
    Ok(Some(options))
}

fn write(content: OutgoingBody, body: &[u8]) -> Result<(), HttpError> {
    let stream = content.write().map_err(|()| invalid("its body was taken"))?;
    // Where the request is refused nobody reads this; the response then says why.
    let is_written = body.chunks(WRITTEN_BYTES).all(|chunk| write_chunk(&stream, chunk));
    drop(stream);
    if is_written {
        OutgoingBody::finish(content, None).map_err(|code| sort(&code))?;
    }
    Ok(())
}

fn write_chunk(stream: &OutputStream, chunk: &[u8]) -> bool {
    stream.blocking_write_and_flush(chunk).is_ok()
}

fn read(response: IncomingResponse) -> Result<Response, HttpError> {
    let (status, headers) = (response.status(), response.headers().entries());
    let body =
        response.consume().map_err(|()| HttpError::Broken("its body was taken".to_owned()))?;
    let stream = body.stream().map_err(|()| HttpError::Broken("its body was taken".to_owned()))?;
    let body = read_stream(&stream)?;
    Ok(Response { status, headers, body })
}

fn read_stream(stream: &InputStream) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(CHUNK_BYTES) {
            Ok(chunk) => body.extend(chunk),
            Err(StreamError::Closed) => return Ok(body),
            Err(StreamError::LastOperationFailed(error)) => {
                let code = wasip2::http::types::http_error_code(&error);
                return Err(match code {
                    Some(ErrorCode::HttpResponseTimeout | ErrorCode::ConnectionReadTimeout) => {
                        HttpError::TimedOut
                    }
                    Some(code) => HttpError::Broken(code.to_string()),
                    // Some hosts have a text only for what goes wrong within a body.
                    None if error.to_debug_string().contains("timeout") => HttpError::TimedOut,
                    None => HttpError::Broken(error.to_debug_string()),
                });
            }
        }
    }
}

fn invalid(why: &str) -> HttpError {
    HttpError::Invalid(why.to_owned())
}

fn sort(code: &ErrorCode) -> HttpError {
    match code {
        ErrorCode::HttpRequestDenied
        | ErrorCode::DestinationIpProhibited
        | ErrorCode::ConnectionLimitReached => HttpError::Denied,
        ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestBodySize(_) => HttpError::Invalid(code.to_string()),
        ErrorCode::HttpResponseTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout => HttpError::TimedOut,
        ErrorCode::HttpResponseIncomplete | ErrorCode::HttpResponseBodySize(_) => {
            HttpError::Broken(code.to_string())
        }
        other => HttpError::Unreachable(other.to_string()),
    }
}
