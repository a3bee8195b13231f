//! Native unit tests: settings, state and log in memory, in the gateway's place.
//!
//! ```
//! test "a listed user is admitted" {
//!     portreeve.testing.reset();
//!     portreeve.testing.setting("user.device-1", "demo");
//!     var request = portreeve.testing.connect("client-1");
//!     request.user_name = "device-1";
//!     const verdict = try verify(portreeve.testing.allocator(), request);
//! ```

const std = @import("std");
const portreeve = @import("portreeve.zig");

/// What `portreeve.now` returns.
pub var clock: u64 = 1_700_000_000_000;

/// How many lines the plugin logged, and the latest one with its fields (` name=value`).
pub var logged: usize = 0;
pub var last_log: []const u8 = "";

/// Answers the requests that the plugin makes; without it each is denied.
pub var service: ?*const fn (portreeve.http.Request) portreeve.http.Error!portreeve.http.Response = null;

var memory: std.heap.ArenaAllocator = .init(std.heap.page_allocator);
var settings: std.StringArrayHashMapUnmanaged([]const u8) = .empty;
var entries: std.StringArrayHashMapUnmanaged([]const u8) = .empty;
var generator: std.Random.DefaultPrng = .init(0);

/// What a call is given; `reset` frees it.
pub fn allocator() std.mem.Allocator {
    return memory.allocator();
}

/// Removes settings, state, log and service, and frees the memory of the calls so far.
pub fn reset() void {
    settings = .empty;
    entries = .empty;
    service = null;
    logged = 0;
    last_log = "";
    _ = memory.reset(.free_all);
}

/// Adds or replaces a setting.
pub fn setting(key: []const u8, value: []const u8) void {
    put(&settings, key, value);
}

/// A CONNECT of this client identifier over a plain MQTT 5 connection, to be completed.
pub fn connect(client_id: []const u8) portreeve.Connect {
    return .{
        .connection = .{
            .id = 1,
            .gateway = "test",
            .peer_address = "192.0.2.1:50000",
            .protocol = .mqtt5,
        },
        .client_id = client_id,
    };
}

/// A context with the device `device-1`.
pub fn context(direction: portreeve.Direction) portreeve.Context {
    return .{
        .direction = direction,
        .device = .{ .name = "device-1", .product = "test", .client_id = "client-1" },
        .gateway = "test",
        .received_at = 0,
    };
}

/// A message with QoS 0.
pub fn message(topic: []const u8, payload: []const u8) portreeve.Message {
    return .{ .topic = topic, .payload = payload };
}

fn copy(bytes: []const u8) []const u8 {
    return allocator().dupe(u8, bytes) catch @panic("out of memory");
}

fn put(map: *std.StringArrayHashMapUnmanaged([]const u8), key: []const u8, value: []const u8) void {
    map.put(allocator(), copy(key), copy(value)) catch @panic("out of memory");
}

/// The gateway's functions. Entries of the state do not expire: a unit test does not wait.
pub const host = struct {
    pub fn httpSend(request: portreeve.http.Request) portreeve.http.Error!portreeve.http.Response {
        // As in a gateway whose manifest grants nothing.
        const answer = service orelse return error.HttpDenied;
        return answer(request);
    }

    pub fn settingsGet(key: []const u8) ?[]const u8 {
        return settings.get(key);
    }

    pub fn settingsAll() []const portreeve.Property {
        const all = allocator().alloc(portreeve.Property, settings.count()) catch @panic("out of memory");
        for (all, settings.keys(), settings.values()) |*one, key, value| {
            one.* = .{ .name = key, .value = value };
        }
        std.mem.sort(portreeve.Property, all, {}, isBefore);
        return all;
    }

    fn isBefore(_: void, a: portreeve.Property, b: portreeve.Property) bool {
        return std.mem.lessThan(u8, a.name, b.name);
    }

    pub fn stateGet(key: []const u8) ?[]const u8 {
        return entries.get(key);
    }

    pub fn stateSet(key: []const u8, value: []const u8, _: ?u32) portreeve.state.Error!void {
        if (key.len > 256) return error.KeyTooLong;
        if (value.len > 65536) return error.ValueTooLong;
        put(&entries, key, value);
    }

    pub fn stateRemove(key: []const u8) void {
        _ = entries.swapRemove(key);
    }

    pub fn stateIncrement(key: []const u8, by: i64, ttl: ?u32) portreeve.state.Error!i64 {
        var counter: [8]u8 = @splat(0);
        if (entries.get(key)) |entry| {
            if (entry.len != counter.len) return error.NotACounter;
            @memcpy(&counter, entry);
        }
        const sum = std.mem.readInt(i64, &counter, .little) +| by;
        std.mem.writeInt(i64, &counter, sum, .little);
        try stateSet(key, &counter, ttl);
        return sum;
    }

    pub fn logWrite(_: portreeve.log.Level, text: []const u8, fields: []const portreeve.Property) void {
        var line: std.ArrayList(u8) = .empty;
        line.print(allocator(), "{s}", .{text}) catch @panic("out of memory");
        for (fields) |field| {
            line.print(allocator(), " {s}={s}", .{ field.name, field.value }) catch @panic("out of memory");
        }
        last_log = line.items;
        logged += 1;
    }

    pub fn logEnabled(_: portreeve.log.Level) bool {
        return true;
    }

    pub fn now() u64 {
        return clock;
    }

    pub fn random(buffer: []u8) void {
        generator.random().bytes(buffer);
    }
};
