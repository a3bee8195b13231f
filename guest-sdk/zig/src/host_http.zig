//! `wasi:http/outgoing-handler`, used one request at a time. A module that does not call this does
//! not import it. Offsets are those of the types of wit/deps/http.wit in the canonical ABI.

const std = @import("std");
const abi = @import("abi.zig");
const addressOf = abi.addressOf;
const http = @import("http.zig");
const memory = @import("memory.zig");
const portreeve = @import("portreeve.zig");

const Handle = i32;
const Area = [*]u8;
/// As many bytes as one write may take, and as are read at a time.
const write_bytes = 4096;
const read_bytes = 64 * 1024;
/// An error's code has at most 32 bytes, and stands 24 bytes deep at most.
const area_bytes = 56;

const types = struct {
    extern "wasi:http/types@0.2.2" fn @"[constructor]fields"() Handle;
    extern "wasi:http/types@0.2.2" fn @"[method]fields.append"(Handle, [*]const u8, usize, [*]const u8, usize, Area) void;
    extern "wasi:http/types@0.2.2" fn @"[method]fields.entries"(Handle, Area) void;
    extern "wasi:http/types@0.2.2" fn @"[resource-drop]fields"(Handle) void;
    extern "wasi:http/types@0.2.2" fn @"[constructor]outgoing-request"(Handle) Handle;
    extern "wasi:http/types@0.2.2" fn @"[method]outgoing-request.body"(Handle, Area) void;
    extern "wasi:http/types@0.2.2" fn @"[method]outgoing-request.set-method"(Handle, u32, [*]const u8, usize) i32;
    extern "wasi:http/types@0.2.2" fn @"[method]outgoing-request.set-scheme"(Handle, u32, u32, [*]const u8, usize) i32;
    extern "wasi:http/types@0.2.2" fn @"[method]outgoing-request.set-authority"(Handle, u32, [*]const u8, usize) i32;
    extern "wasi:http/types@0.2.2" fn @"[method]outgoing-request.set-path-with-query"(Handle, u32, [*]const u8, usize) i32;
    extern "wasi:http/types@0.2.2" fn @"[resource-drop]outgoing-request"(Handle) void;
    extern "wasi:http/types@0.2.2" fn @"[constructor]request-options"() Handle;
    extern "wasi:http/types@0.2.2" fn @"[method]request-options.set-connect-timeout"(Handle, u32, u64) i32;
    extern "wasi:http/types@0.2.2" fn @"[method]request-options.set-first-byte-timeout"(Handle, u32, u64) i32;
    extern "wasi:http/types@0.2.2" fn @"[method]request-options.set-between-bytes-timeout"(Handle, u32, u64) i32;
    extern "wasi:http/types@0.2.2" fn @"[method]outgoing-body.write"(Handle, Area) void;
    extern "wasi:http/types@0.2.2" fn @"[static]outgoing-body.finish"(Handle, u32, Handle, Area) void;
    extern "wasi:http/types@0.2.2" fn @"[resource-drop]outgoing-body"(Handle) void;
    extern "wasi:http/types@0.2.2" fn @"[method]future-incoming-response.subscribe"(Handle) Handle;
    extern "wasi:http/types@0.2.2" fn @"[method]future-incoming-response.get"(Handle, Area) void;
    extern "wasi:http/types@0.2.2" fn @"[resource-drop]future-incoming-response"(Handle) void;
    extern "wasi:http/types@0.2.2" fn @"[method]incoming-response.status"(Handle) u32;
    extern "wasi:http/types@0.2.2" fn @"[method]incoming-response.headers"(Handle) Handle;
    extern "wasi:http/types@0.2.2" fn @"[method]incoming-response.consume"(Handle, Area) void;
    extern "wasi:http/types@0.2.2" fn @"[resource-drop]incoming-response"(Handle) void;
    extern "wasi:http/types@0.2.2" fn @"[method]incoming-body.stream"(Handle, Area) void;
    extern "wasi:http/types@0.2.2" fn @"[resource-drop]incoming-body"(Handle) void;
    extern "wasi:http/types@0.2.2" fn @"http-error-code"(Handle, Area) void;
};
const handler = struct {
    extern "wasi:http/outgoing-handler@0.2.2" fn handle(Handle, u32, Handle, Area) void;
};
const io = struct {
    extern "wasi:io/poll@0.2.2" fn @"[method]pollable.block"(Handle) void;
    extern "wasi:io/poll@0.2.2" fn @"[resource-drop]pollable"(Handle) void;
    extern "wasi:io/streams@0.2.2" fn @"[method]output-stream.blocking-write-and-flush"(Handle, [*]const u8, usize, Area) void;
    extern "wasi:io/streams@0.2.2" fn @"[resource-drop]output-stream"(Handle) void;
    extern "wasi:io/streams@0.2.2" fn @"[method]input-stream.blocking-read"(Handle, u64, Area) void;
    extern "wasi:io/streams@0.2.2" fn @"[resource-drop]input-stream"(Handle) void;
    extern "wasi:io/error@0.2.2" fn @"[method]error.to-debug-string"(Handle, Area) void;
    extern "wasi:io/error@0.2.2" fn @"[resource-drop]error"(Handle) void;
};

fn handleAt(from: [*]const u8) Handle {
    return std.mem.readInt(i32, from[0..4], .little);
}

fn load(comptime T: type, from: [*]const u8) T {
    return abi.load(T, memory.call, from) catch @panic("out of memory");
}

pub fn httpSend(request: http.Request) http.Error!http.Response {
    var area: [area_bytes]u8 align(8) = undefined;
    const outgoing = try outgoingOf(request);
    types.@"[method]outgoing-request.body"(outgoing, &area);
    const body = handleAt(area[4..]);
    const options = if (request.timeout_ms) |milliseconds| optionsOf(milliseconds) else 0;
    handler.handle(outgoing, @intFromBool(request.timeout_ms != null), options, &area);
    if (area[0] != 0) {
        types.@"[resource-drop]outgoing-body"(body);
        return sorted(area[8]);
    }
    const future = handleAt(area[8..]);
    defer types.@"[resource-drop]future-incoming-response"(future);
    try sendBody(body, request.body);
    const pollable = types.@"[method]future-incoming-response.subscribe"(future);
    io.@"[method]pollable.block"(pollable);
    io.@"[resource-drop]pollable"(pollable);
    types.@"[method]future-incoming-response.get"(future, &area);
    // An option of a result (whether it was taken already) of a result.
    if (area[0] == 0 or area[8] != 0) return error.HttpBroken;
    if (area[16] != 0) return sorted(area[24]);
    return read(handleAt(area[24..]));
}

fn outgoingOf(request: http.Request) http.Error!Handle {
    const colon = std.mem.find(u8, request.url, "://") orelse return error.HttpInvalid;
    const scheme, const rest = .{ request.url[0..colon], request.url[colon + 3 ..] };
    const end = std.mem.findAny(u8, rest, "/?#") orelse rest.len;
    const fragment = std.mem.findScalar(u8, rest, '#') orelse rest.len;
    var path = rest[end..@max(end, fragment)];
    if (path.len == 0 or path[0] != '/') {
        path = std.mem.concat(memory.call, u8, &.{ "/", path }) catch @panic("out of memory");
    }
    const fields = types.@"[constructor]fields"();
    putHeaders(fields, request) catch |err| {
        types.@"[resource-drop]fields"(fields);
        return err;
    };
    const outgoing = types.@"[constructor]outgoing-request"(fields);
    errdefer types.@"[resource-drop]outgoing-request"(outgoing);
    const kind: u32 = if (std.mem.eql(u8, scheme, "http")) 0 else if (std.mem.eql(u8, scheme, "https")) 1 else 2;
    try accepted(types.@"[method]outgoing-request.set-scheme"(outgoing, 1, kind, addressOf(scheme), scheme.len));
    try accepted(types.@"[method]outgoing-request.set-authority"(outgoing, 1, addressOf(rest), end));
    try accepted(types.@"[method]outgoing-request.set-path-with-query"(outgoing, 1, addressOf(path), path.len));
    const method = request.method;
    try accepted(types.@"[method]outgoing-request.set-method"(outgoing, numberOf(method), addressOf(method), method.len));
    return outgoing;
}

fn accepted(result: i32) http.Error!void {
    if (result != 0) return error.HttpInvalid;
}

/// In the order of the contract; what is none of them has the number after the last.
const methods = [_][]const u8{ "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH" };

fn numberOf(method: []const u8) u32 {
    for (methods, 0..) |name, number| {
        if (std.mem.eql(u8, name, method)) return number;
    }
    return methods.len;
}

fn putHeaders(fields: Handle, request: http.Request) http.Error!void {
    var has_length = request.body.len == 0;
    for (request.headers) |header| {
        try putHeader(fields, header.name, header.value);
        has_length = has_length or std.ascii.eqlIgnoreCase(header.name, "content-length");
    }
    if (has_length) return;
    var digits: [20]u8 = undefined;
    const length = std.fmt.bufPrint(&digits, "{d}", .{request.body.len}) catch unreachable;
    try putHeader(fields, "content-length", length);
}

fn putHeader(fields: Handle, name: []const u8, value: []const u8) http.Error!void {
    var area: [2]u8 = undefined;
    types.@"[method]fields.append"(fields, addressOf(name), name.len, addressOf(value), value.len, &area);
    try accepted(area[0]);
}

fn optionsOf(milliseconds: u32) Handle {
    const options = types.@"[constructor]request-options"();
    const nanoseconds = @as(u64, milliseconds) * std.time.ns_per_ms;
    _ = types.@"[method]request-options.set-connect-timeout"(options, 1, nanoseconds);
    _ = types.@"[method]request-options.set-first-byte-timeout"(options, 1, nanoseconds);
    _ = types.@"[method]request-options.set-between-bytes-timeout"(options, 1, nanoseconds);
    return options;
}

fn sendBody(content: Handle, body: []const u8) http.Error!void {
    var area: [area_bytes]u8 align(8) = undefined;
    types.@"[method]outgoing-body.write"(content, &area);
    const stream = handleAt(area[4..]);
    const is_written = write(stream, body);
    io.@"[resource-drop]output-stream"(stream);
    // Where the request is refused nobody reads the body; the response then says why.
    if (!is_written) return types.@"[resource-drop]outgoing-body"(content);
    types.@"[static]outgoing-body.finish"(content, 0, 0, &area);
    if (area[0] != 0) return sorted(area[8]);
}

fn write(stream: Handle, body: []const u8) bool {
    var area: [12]u8 align(8) = undefined;
    var rest = body;
    while (rest.len > 0) {
        const len = @min(rest.len, write_bytes);
        io.@"[method]output-stream.blocking-write-and-flush"(stream, rest.ptr, len, &area);
        if (area[0] != 0) {
            if (area[4] == 0) io.@"[resource-drop]error"(handleAt(area[8..]));
            return false;
        }
        rest = rest[len..];
    }
    return true;
}

/// What came from another resource is dropped before it.
fn read(incoming: Handle) http.Error!http.Response {
    var area: [8]u8 align(8) = undefined;
    defer types.@"[resource-drop]incoming-response"(incoming);
    const fields = types.@"[method]incoming-response.headers"(incoming);
    types.@"[method]fields.entries"(fields, &area);
    types.@"[resource-drop]fields"(fields);
    const headers = load([]const portreeve.Property, &area);
    types.@"[method]incoming-response.consume"(incoming, &area);
    const body = handleAt(area[4..]);
    defer types.@"[resource-drop]incoming-body"(body);
    types.@"[method]incoming-body.stream"(body, &area);
    const stream = handleAt(area[4..]);
    defer io.@"[resource-drop]input-stream"(stream);
    const status: u16 = @truncate(types.@"[method]incoming-response.status"(incoming));
    return .{ .status = status, .headers = headers, .body = try readStream(stream) };
}

fn readStream(stream: Handle) http.Error![]const u8 {
    var area: [12]u8 align(8) = undefined;
    var body: std.ArrayList(u8) = .empty;
    while (true) {
        io.@"[method]input-stream.blocking-read"(stream, read_bytes, &area);
        if (area[0] == 0) {
            body.appendSlice(memory.call, load([]const u8, area[4..])) catch @panic("out of memory");
        } else if (area[4] != 0) {
            return body.items;
        } else {
            return brokenOff(handleAt(area[8..]));
        }
    }
}

fn brokenOff(failure: Handle) http.Error {
    var area: [area_bytes]u8 align(8) = undefined;
    defer io.@"[resource-drop]error"(failure);
    types.@"http-error-code"(failure, &area);
    if (area[0] != 0) return if (sorted(area[8]) == error.HttpTimedOut) error.HttpTimedOut else error.HttpBroken;
    // Some hosts have a text only for what goes wrong within a body.
    io.@"[method]error.to-debug-string"(failure, &area);
    const text = load([]const u8, &area);
    return if (std.mem.find(u8, text, "timeout") != null) error.HttpTimedOut else error.HttpBroken;
}

/// What a code of wasi:http, by its number there, means to a plugin.
fn sorted(code: u8) http.Error {
    return switch (code) {
        // destination-IP-prohibited, connection-limit-reached, HTTP-request-denied
        4, 11, 15 => error.HttpDenied,
        // HTTP-request-body-size, HTTP-request-method-invalid, HTTP-request-URI-invalid
        17, 18, 19 => error.HttpInvalid,
        // connection-timeout, connection-read-timeout, HTTP-response-timeout
        8, 9, 33 => error.HttpTimedOut,
        // HTTP-response-incomplete, HTTP-response-body-size
        25, 28 => error.HttpBroken,
        else => error.HttpUnreachable,
    };
}
