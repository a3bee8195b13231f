//! Up, a frame of six bytes becomes JSON: temperature (i16, 0.01 °C), humidity (u16, 0.01 %),
//! battery (u16, mV), big-endian, published to `…/telemetry`. Down, `{"report_interval": 60}`
//! becomes two bytes (u16, seconds), published to `…/down`.

const std = @import("std");
const portreeve = @import("portreeve");

pub fn parse(
    allocator: std.mem.Allocator,
    context: portreeve.Context,
    message: portreeve.Message,
) !portreeve.Outcome {
    return switch (context.direction) {
        .up => up(allocator, message),
        .down => down(allocator, message),
    };
}

fn up(allocator: std.mem.Allocator, message: portreeve.Message) !portreeve.Outcome {
    if (message.payload.len != 6) {
        const format = "a frame has 6 bytes, this has {d}";
        return .{ .reject = try std.fmt.allocPrint(allocator, format, .{message.payload.len}) };
    }
    const temperature: f64 = @floatFromInt(std.mem.readInt(i16, message.payload[0..2], .big));
    const humidity: f64 = @floatFromInt(std.mem.readInt(u16, message.payload[2..4], .big));
    const battery: f64 = @floatFromInt(std.mem.readInt(u16, message.payload[4..6], .big));
    const json = try std.fmt.allocPrint(
        allocator,
        \\{{"temperature":{d},"humidity":{d},"battery":{d}}}
    ,
        .{ temperature / 100, humidity / 100, battery / 1000 },
    );
    const topic = try message.siblingTopic(allocator, "telemetry");
    return .one(allocator, message.with(topic, json).json());
}

fn down(allocator: std.mem.Allocator, message: portreeve.Message) !portreeve.Outcome {
    const json = std.json.parseFromSliceLeaky(std.json.Value, allocator, message.payload, .{}) catch
        return .{ .reject = "the payload is no JSON object" };
    if (json != .object) return .{ .reject = "the payload is no JSON object" };
    const interval = json.object.get("report_interval") orelse
        return .{ .reject = "missing field `report_interval`" };
    const wrong: portreeve.Outcome = .{
        .reject = "`report_interval` is no whole number from 0 to 65535",
    };
    if (interval != .integer) return wrong;
    const seconds = std.math.cast(u16, interval.integer) orelse return wrong;

    const bytes = try allocator.alloc(u8, 2);
    std.mem.writeInt(u16, bytes[0..2], seconds, .big);
    const topic = try message.siblingTopic(allocator, "down");
    return .one(allocator, message.with(topic, bytes));
}

const testing = portreeve.testing;

fn parsed(direction: portreeve.Direction, topic: []const u8, payload: []const u8) !portreeve.Outcome {
    return parse(testing.allocator(), testing.context(direction), testing.message(topic, payload));
}

test "a frame becomes JSON" {
    const outcome = try parsed(.up, "devices/d/raw", "\x08\x66\x11\xc6\x0c\xe4");
    try std.testing.expectEqualStrings("devices/d/telemetry", outcome.replace[0].topic);
    const json = \\{"temperature":21.5,"humidity":45.5,"battery":3.3}
    ;
    try std.testing.expectEqualStrings(json, outcome.replace[0].payload);
    const frost = try parsed(.up, "raw", "\xff\x38\x00\x00\x00\x00");
    try std.testing.expect(std.mem.startsWith(u8, frost.replace[0].payload, "{\"temperature\":-2,"));
}

test "a frame of another length is rejected" {
    const outcome = try parsed(.up, "t", "\x08\x66");
    try std.testing.expectEqualStrings("a frame has 6 bytes, this has 2", outcome.reject);
}

test "a command becomes two bytes" {
    const outcome = try parsed(.down, "devices/d/set", "{\"report_interval\":60}");
    try std.testing.expectEqualStrings("devices/d/down", outcome.replace[0].topic);
    try std.testing.expectEqualStrings("\x00\x3c", outcome.replace[0].payload);
    try std.testing.expect(try parsed(.down, "t", "{\"report_interval\":65536}") == .reject);
    try std.testing.expect(try parsed(.down, "t", "[60]") == .reject);
}
