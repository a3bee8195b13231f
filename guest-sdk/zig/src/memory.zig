//! The memory of a call: taken from one fixed block and, beyond it, from the heap; freed as a
//! whole when the call has ended, so that an instance does not grow.

const std = @import("std");

/// Outlives calls.
pub const lasting = std.heap.wasm_allocator;

var block: [16 * 1024]u8 align(16) = undefined;
var fixed: std.heap.FixedBufferAllocator = .init(&block);
var overflow: std.heap.ArenaAllocator = .init(lasting);

/// Lives until the end of the call.
pub const call: std.mem.Allocator = .{
    .ptr = undefined,
    .vtable = &.{ .alloc = alloc, .resize = resize, .remap = remap, .free = free },
};

pub fn endCall() void {
    fixed.reset();
    _ = overflow.reset(.free_all);
}

fn alloc(_: *anyopaque, len: usize, alignment: std.mem.Alignment, ra: usize) ?[*]u8 {
    return fixed.allocator().rawAlloc(len, alignment, ra) orelse
        overflow.allocator().rawAlloc(len, alignment, ra);
}

fn owner(memory: []u8) std.mem.Allocator {
    return if (fixed.ownsPtr(memory.ptr)) fixed.allocator() else overflow.allocator();
}

fn resize(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, len: usize, ra: usize) bool {
    return owner(memory).rawResize(memory, alignment, len, ra);
}

fn remap(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, len: usize, ra: usize) ?[*]u8 {
    return owner(memory).rawRemap(memory, alignment, len, ra);
}

fn free(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, ra: usize) void {
    owner(memory).rawFree(memory, alignment, ra);
}
