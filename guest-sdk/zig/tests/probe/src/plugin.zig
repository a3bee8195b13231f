//! Does what it is asked to, with all that the contract has; tests/probe/cases.json asks.

const std = @import("std");
const portreeve = @import("portreeve");

const Wish = enum { everything, server, challenge, fail, @"error", state, settings, system, trap };

pub fn verify(allocator: std.mem.Allocator, request: portreeve.Connect) !portreeve.Verdict {
    const wish = std.meta.stringToEnum(Wish, request.user_name.?) orelse
        return .{ .refuse = .notAuthorized("") };
    return switch (wish) {
        .everything => everything(allocator, request),
        .server => .{ .refuse = .{
            .reason = .use_another_server,
            .message = "elsewhere",
            .server_reference = "a:1 b:2",
        } },
        .challenge => .{ .challenge = "nonce" },
        .fail => portreeve.fail("it {s}", .{"failed"}),
        .@"error" => error.OutOfMemory,
        .state => state(allocator),
        .settings => settings(allocator),
        .system => system(allocator),
        .trap => @panic("trap asked for"),
    };
}

fn everything(allocator: std.mem.Allocator, request: portreeve.Connect) !portreeve.Verdict {
    const numbers = try std.fmt.allocPrint(allocator, "{d} {} {t}", .{
        request.keep_alive, request.clean_start, request.connection.protocol,
    });
    const attributes = try allocator.dupe(portreeve.Property, &.{
        .{ .name = "client_id", .value = request.client_id },
        .{ .name = "peer", .value = request.connection.peer_address },
        .{ .name = "gateway", .value = request.connection.gateway },
        .{ .name = "numbers", .value = numbers },
        .{ .name = "site", .value = portreeve.propertyOf(request.user_properties, "site") orelse "none" },
    });
    return .{ .admit = .{
        .device_name = "device-1",
        .product = "probe",
        .expires_in = 60,
        .cache_for = 5,
        .attributes = attributes,
        .permissions = &.{
            .{ .action = .publish, .topic_filter = "up/%d" },
            .{ .action = .both, .topic_filter = "both/#" },
        },
    } };
}

fn refusal(allocator: std.mem.Allocator, comptime format: []const u8, arguments: anytype) !portreeve.Verdict {
    const message = try std.fmt.allocPrint(allocator, format, arguments);
    return .{ .refuse = .{ .reason = .server_busy, .message = message } };
}

fn state(allocator: std.mem.Allocator) !portreeve.Verdict {
    try portreeve.state.set("k", "value", 60);
    const value = portreeve.state.get("k").?;
    const no_counter = if (portreeve.state.increment("k", 1, null)) |_| "" else |err| @errorName(err);
    portreeve.state.remove("k");
    _ = try portreeve.state.increment("n", 40, null);
    const sum = try portreeve.state.increment("n", 2, null);
    const long = if (portreeve.state.set(&@as([300]u8, @splat('k')), "", null)) "" else |err| @errorName(err);
    return refusal(allocator, "{s}; {s}; {?s}; {d}; {s}", .{
        value, no_counter, portreeve.state.get("k"), sum, long,
    });
}

fn settings(allocator: std.mem.Allocator) !portreeve.Verdict {
    const all = portreeve.settings.all();
    const number = try portreeve.settings.intOr(u8, "number", 0);
    _ = portreeve.settings.require("missing") catch |err|
        return refusal(allocator, "{d} {s} {d}; {s}", .{ all.len, all[0].name, number, portreeve.textOf(err) });
    unreachable;
}

fn system(allocator: std.mem.Allocator) !portreeve.Verdict {
    var a: [8]u8 = undefined;
    var b: [8]u8 = undefined;
    portreeve.random(&a);
    portreeve.random(&b);
    std.debug.print("printed\n", .{});
    return refusal(allocator, "random {}, clock {}", .{
        !std.mem.eql(u8, &a, &b), portreeve.now() > 1_700_000_000_000,
    });
}

pub fn parse(
    allocator: std.mem.Allocator,
    context: portreeve.Context,
    message: portreeve.Message,
) !portreeve.Outcome {
    portreeve.log.write(.debug, "asked", &.{.{ .name = "device", .value = context.device.name }});
    std.log.scoped(.probe).info("payload of {d} bytes", .{message.payload.len});
    const Asked = enum { pass, drop, fail, nothing, two };
    const wish = std.meta.stringToEnum(Asked, message.payload) orelse {
        const text = "{s} {s} {t}";
        const parts = .{ context.device.product, context.gateway, context.direction };
        return .{ .reject = try std.fmt.allocPrint(allocator, text, parts) };
    };
    switch (wish) {
        .pass => return .pass,
        .drop => return .drop,
        .fail => return portreeve.fail("it failed", .{}),
        .nothing => return .{ .replace = &.{} },
        .two => {
            var full = message.with("b", "{}").json();
            full.qos = .exactly_once;
            full.retain = true;
            full.user_properties = &.{ .{ .name = "n", .value = "v" }, .{ .name = "n", .value = "" } };
            const empty = message.with("a", try allocator.alloc(u8, 0));
            return .{ .replace = try allocator.dupe(portreeve.Message, &.{ empty, full }) };
        },
    }
}
