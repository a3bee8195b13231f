//! The root of a component: exports the functions that the author's `plugin` declares, as the
//! contract names them.

const std = @import("std");
const plugin = @import("plugin");
const portreeve = @import("portreeve");
const abi = portreeve.internal.abi;
const memory = portreeve.internal.memory;

const on_connect = "portreeve:plugin/on-connect@0.1.0#verify";
const on_publish = "portreeve:plugin/on-publish@0.1.0#parse";

comptime {
    const verifies = @hasDecl(plugin, "verify");
    const parses = @hasDecl(plugin, "parse");
    if (!verifies and !parses) @compileError("src/plugin.zig has no `pub fn verify` or `pub fn parse`");
    if (verifies) {
        @export(&verify, .{ .name = on_connect });
        @export(&end, .{ .name = "cabi_post_" ++ on_connect });
    }
    if (parses) {
        @export(&parse, .{ .name = on_publish });
        @export(&end, .{ .name = "cabi_post_" ++ on_publish });
    }
}

fn Result(comptime Answer: type) type {
    return union(enum) { ok: Answer, err: []const u8 };
}

fn verify(arguments: [*]const u8) callconv(.c) [*]const u8 {
    const request = abi.load(portreeve.Connect, memory.call, arguments) catch @panic("out of memory");
    const verdict: anyerror!portreeve.Verdict = plugin.verify(memory.call, request);
    return answer(portreeve.Verdict, verdict);
}

const ParseArguments = struct { context: portreeve.Context, message: portreeve.Message };

fn parse(arguments: [*]const u8) callconv(.c) [*]const u8 {
    const given = abi.load(ParseArguments, memory.call, arguments) catch @panic("out of memory");
    const outcome: anyerror!portreeve.Outcome = plugin.parse(memory.call, given.context, given.message);
    return answer(portreeve.Outcome, outcome);
}

/// Where an answer lies until the gateway has read it.
fn answer(comptime Answer: type, given: anyerror!Answer) [*]const u8 {
    const Area = struct {
        var bytes: [abi.sizeOf(Result(Answer))]u8 align(8) = undefined;
    };
    const result: Result(Answer) = if (given) |ok| .{ .ok = ok } else |err| .{ .err = portreeve.textOf(err) };
    abi.store(result, memory.call, &Area.bytes) catch @panic("out of memory");
    return &Area.bytes;
}

fn end(_: [*]const u8) callconv(.c) void {
    memory.endCall();
}

/// The gateway puts arguments and results here; they end with the call.
export fn cabi_realloc(old: ?[*]u8, old_size: usize, alignment: usize, new_size: usize) ?[*]u8 {
    return realloc(memory.call, old, old_size, alignment, new_size);
}

/// The WASI adapter keeps its own memory for as long as the instance lives.
export fn cabi_realloc_adapter(old: ?[*]u8, old_size: usize, alignment: usize, new_size: usize) ?[*]u8 {
    return realloc(memory.lasting, old, old_size, alignment, new_size);
}

fn realloc(allocator: std.mem.Allocator, old: ?[*]u8, old_size: usize, alignment: usize, new_size: usize) ?[*]u8 {
    if (new_size == 0) return @ptrFromInt(alignment);
    const memory_of = allocator.rawAlloc(new_size, .fromByteUnits(alignment), 0) orelse @panic("out of memory");
    if (old) |from| @memcpy(memory_of[0..@min(old_size, new_size)], from[0..@min(old_size, new_size)]);
    return memory_of;
}

/// `std.log` goes to the gateway's log; a line is cut after 4 KiB.
pub const std_options: std.Options = .{ .log_level = .debug, .logFn = logLine };

fn logLine(
    comptime level: std.log.Level,
    comptime scope: @EnumLiteral(),
    comptime format: []const u8,
    arguments: anytype,
) void {
    const ours: portreeve.log.Level = switch (level) {
        .debug => .debug,
        .info => .info,
        .warn => .warn,
        .err => .err,
    };
    if (!portreeve.log.enabled(ours)) return;
    const prefix = if (scope == .default) "" else @tagName(scope) ++ ": ";
    var line: [4096]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&line);
    writer.print(prefix ++ format, arguments) catch {};
    var len = writer.end;
    while (len > 0 and !portreeve.isText(line[0..len])) len -= 1;
    portreeve.log.write(ours, line[0..len], &.{});
}

/// The text of a panic goes to the gateway's log; the instance ends.
pub const panic = std.debug.FullPanic(logAndTrap);

fn logAndTrap(message: []const u8, _: ?usize) noreturn {
    portreeve.log.write(.err, message, &.{});
    @trap();
}
