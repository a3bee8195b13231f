//! The SDK itself, natively. tests/probe is what asks a component.

const std = @import("std");
const portreeve = @import("portreeve");
const abi = portreeve.internal.abi;
const testing = portreeve.testing;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const expectEqualStrings = std.testing.expectEqualStrings;

// guest-sdk/c/tests/layout.c compares the same types with what `wit-bindgen` makes of the contract.
test "types have the contract's sizes" {
    try expectEqual(112, abi.sizeOf(portreeve.Certificate));
    try expectEqual(152, abi.sizeOf(portreeve.Tls));
    try expectEqual(192, abi.sizeOf(portreeve.Connection));
    try expectEqual(264, abi.sizeOf(portreeve.Connect));
    try expectEqual(68, abi.sizeOf(portreeve.Admission));
    try expectEqual(72, abi.sizeOf(portreeve.Verdict));
    try expectEqual(32, abi.sizeOf(portreeve.Device));
    try expectEqual(56, abi.sizeOf(portreeve.Context));
    try expectEqual(72, abi.sizeOf(portreeve.Message));
    try expectEqual(12, abi.sizeOf(portreeve.Outcome));
}

test "settings are read" {
    testing.reset();
    testing.setting("b", "2");
    testing.setting("a", "x");
    try expectEqualStrings("2", try portreeve.settings.require("b"));
    try expectEqual(2, try portreeve.settings.intOr(u8, "b", 5));
    try expectEqual(5, try portreeve.settings.intOr(u8, "c", 5));
    try std.testing.expectError(error.Failed, portreeve.settings.intOr(u8, "a", 5));
    try expectEqualStrings("the setting `a` is no u8: x", portreeve.textOf(error.Failed));
    try std.testing.expectError(error.Failed, portreeve.settings.require("c"));
    try expectEqualStrings("the manifest's [settings] has no `c`", portreeve.textOf(error.Failed));
    const all = portreeve.settings.all();
    try expectEqual(2, all.len);
    try expectEqualStrings("a", all[0].name);
}

test "the state keeps entries and counts" {
    testing.reset();
    try portreeve.state.set("k", "v", 60);
    try expectEqualStrings("v", portreeve.state.get("k").?);
    try std.testing.expectError(error.NotACounter, portreeve.state.increment("k", 1, null));
    portreeve.state.remove("k");
    try expectEqual(null, portreeve.state.get("k"));
    try expectEqual(5, try portreeve.state.increment("k", 5, null));
    try expectEqual(std.math.maxInt(i64), try portreeve.state.increment("k", std.math.maxInt(i64), null));
    const long: [257]u8 = @splat('k');
    try std.testing.expectError(error.KeyTooLong, portreeve.state.set(&long, "", null));
}

test "the log is kept" {
    testing.reset();
    portreeve.log.write(.info, "hello", &.{.{ .name = "user", .value = "a" }});
    try expectEqual(1, testing.logged);
    try expectEqualStrings("hello user=a", testing.last_log);
}

test "a changed message loses what described the payload" {
    testing.reset();
    var message = testing.message("a/b", "x");
    message.qos = .at_least_once;
    message.content_type = "text/plain";
    const changed = message.with("c", "y");
    try expectEqual(null, changed.content_type);
    try expectEqual(.at_least_once, changed.qos);
    try expectEqualStrings("application/json", changed.json().content_type.?);
    try expectEqualStrings("a/c", try message.siblingTopic(testing.allocator(), "c"));
    try expectEqualStrings("c", try testing.message("a", "").siblingTopic(testing.allocator(), "c"));
    const outcome: portreeve.Outcome = try .one(testing.allocator(), changed);
    try expectEqual(1, outcome.replace.len);
}

test "texts and secrets" {
    try expect(portreeve.isText("a\u{e4}"));
    try expect(!portreeve.isText("a\x00"));
    try expect(!portreeve.isText("\xff"));
    try expect(portreeve.equalSecret("ab", "ab"));
    try expect(!portreeve.equalSecret("ab", "ac"));
    try expect(!portreeve.equalSecret("ab", "abc"));
}

test "the text of an error is cut at a character" {
    const long: [2000]u8 = @splat('x');
    const err = portreeve.fail("{s}", .{&long});
    try expectEqual(1024, portreeve.textOf(err).len);
    const accents: [1000][2]u8 = @splat("\u{e4}".*);
    try expectEqual(error.Failed, portreeve.fail("x{s}", .{std.mem.asBytes(&accents)}));
    try expectEqual(1023, portreeve.textOf(error.Failed).len);
    try expectEqualStrings("OutOfMemory", portreeve.textOf(error.OutOfMemory));
}

fn serve(request: portreeve.http.Request) portreeve.http.Error!portreeve.http.Response {
    if (!std.mem.eql(u8, request.method, "POST")) return error.HttpTimedOut;
    return .{ .status = 202, .headers = request.headers, .body = request.body };
}

test "requests reach the service" {
    portreeve.testing.reset();
    try expectEqual(error.HttpDenied, portreeve.http.get("https://a.example/"));
    portreeve.testing.service = serve;
    try expectEqual(error.HttpTimedOut, portreeve.http.get("https://a.example/"));
    const response = try portreeve.http.post("https://a.example/", "text/plain", "x");
    try expectEqual(202, response.status);
    try expectEqualStrings("text/plain", response.header("Content-Type").?);
    try expectEqualStrings("x", response.body);
}
