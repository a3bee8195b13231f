//! How a value of the contract lies in memory: the canonical ABI of the component model, for the
//! types of this SDK. A `[]const T` is a list or a text, a `?T` an option, an enum or a union is
//! told by one byte.

const std = @import("std");

const List = struct { items: u32, len: u32 };

fn alignmentOf(comptime T: type) comptime_int {
    return switch (@typeInfo(T)) {
        .void => 1,
        .bool, .@"enum" => 1,
        .int => @sizeOf(T),
        .pointer => 4,
        .optional => |optional| alignmentOf(optional.child),
        .@"struct", .@"union" => blk: {
            var largest = 1;
            for (payloadsOf(T)) |payload| largest = @max(largest, alignmentOf(payload));
            break :blk largest;
        },
        else => @compileError("the contract has no " ++ @typeName(T)),
    };
}

pub fn sizeOf(comptime T: type) comptime_int {
    return switch (@typeInfo(T)) {
        .void => 0,
        .bool, .@"enum" => 1,
        .int => @sizeOf(T),
        .pointer => @sizeOf(List),
        .optional => |optional| afterTag(T) + roundUp(sizeOf(optional.child), alignmentOf(T)),
        .@"struct" => roundUp(offsetOf(T, payloadsOf(T).len), alignmentOf(T)),
        .@"union" => blk: {
            var largest = 0;
            for (payloadsOf(T)) |payload| largest = @max(largest, sizeOf(payload));
            break :blk roundUp(afterTag(T) + largest, alignmentOf(T));
        },
        else => @compileError("the contract has no " ++ @typeName(T)),
    };
}

/// Where the payload of an option or a union begins.
fn afterTag(comptime T: type) comptime_int {
    return alignmentOf(T);
}

/// Where field number `index` of a struct begins; where the last one ends for the number after it.
fn offsetOf(comptime T: type, comptime index: usize) comptime_int {
    var offset = 0;
    for (payloadsOf(T), 0..) |payload, number| {
        if (number == index) return roundUp(offset, alignmentOf(payload));
        offset = roundUp(offset, alignmentOf(payload)) + sizeOf(payload);
    }
    return offset;
}

fn payloadsOf(comptime T: type) []const type {
    @setEvalBranchQuota(1_000_000);
    const names = std.meta.fieldNames(T);
    comptime var types: [names.len]type = undefined;
    inline for (names, 0..) |name, number| types[number] = @FieldType(T, name);
    const payloads = types;
    return &payloads;
}

fn roundUp(comptime offset: comptime_int, comptime alignment: comptime_int) comptime_int {
    return (offset + alignment - 1) / alignment * alignment;
}

/// Where bytes begin. An empty slice may point beyond the memory, which the gateway would not take.
pub fn addressOf(bytes: []const u8) [*]const u8 {
    return if (bytes.len == 0) @ptrFromInt(8) else bytes.ptr;
}

/// Reads a value. Texts and bytes stay where they are; other lists are made with the allocator.
pub fn load(comptime T: type, allocator: std.mem.Allocator, from: [*]const u8) error{OutOfMemory}!T {
    switch (@typeInfo(T)) {
        .void => return {},
        .bool => return from[0] != 0,
        .@"enum" => return @enumFromInt(from[0]),
        .int => return std.mem.readInt(T, from[0..@sizeOf(T)], .little),
        .pointer => |pointer| {
            const items: [*]const u8 = @ptrFromInt(std.mem.readInt(u32, from[0..4], .little));
            const len = std.mem.readInt(u32, from[4..8], .little);
            if (pointer.child == u8) return items[0..len];
            const list = try allocator.alloc(pointer.child, len);
            for (list, 0..) |*item, number| {
                item.* = try load(pointer.child, allocator, items + number * sizeOf(pointer.child));
            }
            return list;
        },
        .optional => |optional| {
            if (from[0] == 0) return null;
            return try load(optional.child, allocator, from + afterTag(T));
        },
        .@"struct" => {
            var value: T = undefined;
            inline for (comptime std.meta.fieldNames(T), 0..) |name, number| {
                @field(value, name) =
                    try load(@FieldType(T, name), allocator, from + offsetOf(T, number));
            }
            return value;
        },
        else => comptime unreachable,
    }
}

/// Writes a value. Texts and bytes stay where they are; other lists are made with the allocator.
pub fn store(value: anytype, allocator: std.mem.Allocator, to: [*]u8) error{OutOfMemory}!void {
    const T = @TypeOf(value);
    switch (@typeInfo(T)) {
        .void => {},
        .bool => to[0] = @intFromBool(value),
        .@"enum" => to[0] = @intFromEnum(value),
        .int => std.mem.writeInt(T, to[0..@sizeOf(T)], value, .little),
        .pointer => |pointer| {
            const items = if (pointer.child == u8) addressOf(value) else items: {
                const size = sizeOf(pointer.child);
                const list = try allocator.alignedAlloc(u8, .@"8", value.len * size);
                for (value, 0..) |item, number| try store(item, allocator, list.ptr + number * size);
                break :items addressOf(list);
            };
            std.mem.writeInt(u32, to[0..4], @intCast(@intFromPtr(items)), .little);
            std.mem.writeInt(u32, to[4..8], @intCast(value.len), .little);
        },
        .optional => {
            to[0] = @intFromBool(value != null);
            if (value) |some| try store(some, allocator, to + afterTag(T));
        },
        .@"struct" => inline for (comptime std.meta.fieldNames(T), 0..) |name, number| {
            try store(@field(value, name), allocator, to + offsetOf(T, number));
        },
        .@"union" => {
            to[0] = @intFromEnum(std.meta.activeTag(value));
            switch (value) {
                inline else => |payload| try store(payload, allocator, to + afterTag(T)),
            }
        },
        else => comptime unreachable,
    }
}
