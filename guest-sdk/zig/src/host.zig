//! The gateway's functions as a component imports them.

const std = @import("std");
const abi = @import("abi.zig");
const addressOf = abi.addressOf;
const memory = @import("memory.zig");
const portreeve = @import("portreeve.zig");

const log = struct {
    extern "portreeve:plugin/log@0.1.0" fn log(u32, [*]const u8, usize, [*]const u8, usize) void;
    extern "portreeve:plugin/log@0.1.0" fn enabled(u32) bool;
};
const settings = struct {
    extern "portreeve:plugin/settings@0.1.0" fn get([*]const u8, usize, [*]u8) void;
    extern "portreeve:plugin/settings@0.1.0" fn all([*]u8) void;
};
const state = struct {
    extern "portreeve:plugin/state@0.1.0" fn get([*]const u8, usize, [*]u8) void;
    extern "portreeve:plugin/state@0.1.0" fn set([*]const u8, usize, [*]const u8, usize, u32, u32, [*]u8) void;
    extern "portreeve:plugin/state@0.1.0" fn remove([*]const u8, usize) void;
    extern "portreeve:plugin/state@0.1.0" fn increment([*]const u8, usize, i64, u32, u32, [*]u8) void;
};
const wasi = struct {
    extern "wasi_snapshot_preview1" fn clock_time_get(u32, u64, *u64) u16;
    extern "wasi_snapshot_preview1" fn random_get([*]u8, usize) u16;
};

fn load(comptime T: type, from: [*]const u8) T {
    return abi.load(T, memory.call, from) catch @panic("out of memory");
}

pub fn settingsGet(key: []const u8) ?[]const u8 {
    var result: [abi.sizeOf(?[]const u8)]u8 align(8) = undefined;
    settings.get(addressOf(key), key.len, &result);
    return load(?[]const u8, &result);
}

pub fn settingsAll() []const portreeve.Property {
    var result: [abi.sizeOf([]const portreeve.Property)]u8 align(8) = undefined;
    settings.all(&result);
    return load([]const portreeve.Property, &result);
}

pub fn stateGet(key: []const u8) ?[]const u8 {
    var result: [abi.sizeOf(?[]const u8)]u8 align(8) = undefined;
    state.get(addressOf(key), key.len, &result);
    return load(?[]const u8, &result);
}

/// In the order of the contract.
const state_errors = [_]portreeve.state.Error{
    error.KeyTooLong,
    error.ValueTooLong,
    error.StateFull,
    error.NotACounter,
};

/// A result is told by its first byte; the payload, like an error's, is aligned to 8 bytes.
const StateResult = [24]u8;

pub fn stateSet(key: []const u8, value: []const u8, ttl: ?u32) portreeve.state.Error!void {
    var result: StateResult align(8) = undefined;
    state.set(addressOf(key), key.len, addressOf(value), value.len, @intFromBool(ttl != null), ttl orelse 0, &result);
    if (result[0] != 0) return state_errors[result[8]];
}

pub fn stateRemove(key: []const u8) void {
    state.remove(addressOf(key), key.len);
}

pub fn stateIncrement(key: []const u8, by: i64, ttl: ?u32) portreeve.state.Error!i64 {
    var result: StateResult align(8) = undefined;
    state.increment(addressOf(key), key.len, by, @intFromBool(ttl != null), ttl orelse 0, &result);
    if (result[0] != 0) return state_errors[result[8]];
    return load(i64, result[8..]);
}

pub fn logWrite(level: portreeve.log.Level, message: []const u8, fields: []const portreeve.Property) void {
    var list: [8]u8 = undefined;
    abi.store(fields, memory.call, &list) catch @panic("out of memory");
    const items: [*]const u8 = @ptrFromInt(std.mem.readInt(u32, list[0..4], .little));
    log.log(@intFromEnum(level), addressOf(message), message.len, items, fields.len);
}

pub fn logEnabled(level: portreeve.log.Level) bool {
    return log.enabled(@intFromEnum(level));
}

pub fn now() u64 {
    var nanoseconds: u64 = 0;
    // Clock 0 is the time of day.
    if (wasi.clock_time_get(0, 1_000_000, &nanoseconds) != 0) @panic("no clock");
    return nanoseconds / std.time.ns_per_ms;
}

pub fn random(buffer: []u8) void {
    if (wasi.random_get(buffer.ptr, buffer.len) != 0) @panic("no random numbers");
}
