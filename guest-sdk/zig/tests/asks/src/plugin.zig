//! Makes the requests of guest-sdk/tests/asking.py.

const std = @import("std");
const portreeve = @import("portreeve");

pub fn parse(
    allocator: std.mem.Allocator,
    _: portreeve.Context,
    message: portreeve.Message,
) !portreeve.Outcome {
    var told: std.ArrayList(u8) = .empty;
    var lines = std.mem.splitScalar(u8, message.payload, '\n');
    while (lines.next()) |line| {
        if (told.items.len != 0) try told.append(allocator, '\n');
        try told.appendSlice(allocator, try tell(allocator, line));
    }
    return .one(allocator, message.with("told", told.items));
}

fn tell(allocator: std.mem.Allocator, line: []const u8) ![]const u8 {
    var words = std.mem.splitScalar(u8, line, ' ');
    const method, const url = .{ words.next().?, words.next().? };
    const timeout = try std.fmt.parseInt(u32, words.next().?, 10);
    const mark = words.next().?;
    const body = try allocator.alloc(u8, try std.fmt.parseInt(usize, words.next().?, 10));
    @memset(body, 'x');
    const response = portreeve.http.send(.{
        .method = method,
        .url = url,
        .headers = &.{.{ .name = "x-mark", .value = mark }},
        .body = body,
        .timeout_ms = if (timeout == 0) null else timeout,
    }) catch |err| return switch (err) {
        error.HttpDenied => "denied",
        error.HttpInvalid => "invalid",
        error.HttpTimedOut => "timed-out",
        error.HttpUnreachable => "unreachable",
        error.HttpBroken => "broken",
    };
    const served = response.header("X-Served") orelse "no";
    return std.fmt.allocPrint(allocator, "{d} {s} {s}", .{ response.status, served, response.body });
}
