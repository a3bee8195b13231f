//! Requests over HTTP, to what the manifest grants: `http = ["https://auth.example.com/verify"]`.
//!
//! ```
//! const response = try portreeve.http.get("https://auth.example.com/verify");
//! const is_known = response.status == 200;
//! ```
//!
//! A call waits for the whole response; any status is a response. A request ends with the call's
//! deadline, whatever its time-out. A plugin that calls none of this asks the gateway for no HTTP.
//! In native tests `testing.service` answers.

const std = @import("std");
const builtin = @import("builtin");
const portreeve = @import("portreeve.zig");

const host = if (builtin.cpu.arch.isWasm()) @import("host_http.zig") else @import("testing.zig").host;

/// Why there is no response; the gateway's log says more.
pub const Error = error{
    /// The manifest does not grant the request.
    HttpDenied,
    /// The request cannot be sent as it is.
    HttpInvalid,
    /// No response in time.
    HttpTimedOut,
    /// No connection, or a certificate that is not to be trusted.
    HttpUnreachable,
    /// The response broke off, or is larger than the manifest allows.
    HttpBroken,
};

pub const Request = struct {
    method: []const u8 = "GET",
    /// Scheme, host, port, path and query.
    url: []const u8,
    headers: []const portreeve.Property = &.{},
    /// Empty for none.
    body: []const u8 = "",
    /// For the connection, for the first byte, and between the parts of the response; null is the
    /// manifest's `http_client.timeout`.
    timeout_ms: ?u32 = null,
};

pub const Response = struct {
    /// Such as 200.
    status: u16,
    /// Names in lower case; values are the server's, maybe no UTF-8.
    headers: []const portreeve.Property = &.{},
    /// The gateway bounds it (`http_client.response`).
    body: []const u8 = "",

    /// The value of the first header of this name, in whatever case.
    pub fn header(response: Response, name: []const u8) ?[]const u8 {
        for (response.headers) |property| {
            if (std.ascii.eqlIgnoreCase(property.name, name)) return property.value;
        }
        return null;
    }
};

/// Makes a request.
pub fn send(request: Request) Error!Response {
    return host.httpSend(request);
}

/// GET.
pub fn get(url: []const u8) Error!Response {
    return send(.{ .url = url });
}

/// POST with a body of this content type, such as `application/json`.
pub fn post(url: []const u8, content_type: []const u8, body: []const u8) Error!Response {
    const headers = [_]portreeve.Property{.{ .name = "content-type", .value = content_type }};
    return send(.{ .method = "POST", .url = url, .headers = &headers, .body = body });
}
