//! Admits the users of its settings: `user.NAME` holds a user's password, and `device.NAME` the
//! device name that it gets, which is its own name otherwise.

const std = @import("std");
const portreeve = @import("portreeve");
const settings = portreeve.settings;

pub fn verify(allocator: std.mem.Allocator, request: portreeve.Connect) !portreeve.Verdict {
    const refused: portreeve.Verdict = .{
        .refuse = .badUserNameOrPassword("unknown user or wrong password"),
    };
    const name = request.user_name orelse return refused;
    const given = request.password orelse return refused;
    const user = try std.mem.concat(allocator, u8, &.{ "user.", name });
    const device = try std.mem.concat(allocator, u8, &.{ "device.", name });
    const password = settings.get(user) orelse return refused;
    if (password.len == 0 or !portreeve.equalSecret(password, given)) return refused;
    return .{ .admit = .{ .device_name = settings.get(device) orelse name } };
}

const testing = portreeve.testing;

fn admittedAs(user_name: []const u8, password: []const u8) !?[]const u8 {
    var request = testing.connect("c");
    request.user_name = user_name;
    request.password = password;
    return switch (try verify(testing.allocator(), request)) {
        .admit => |admission| admission.device_name,
        else => null,
    };
}

test "only a listed user with its password is admitted" {
    testing.reset();
    testing.setting("user.device-1", "demo");
    testing.setting("user.app", "x");
    testing.setting("device.app", "platform");
    testing.setting("user.none", "");
    try std.testing.expectEqualStrings("device-1", (try admittedAs("device-1", "demo")).?);
    try std.testing.expectEqualStrings("platform", (try admittedAs("app", "x")).?);
    const wrong = [_][2][]const u8{
        .{ "device-1", "demO" }, .{ "device-1", "" }, .{ "device-2", "demo" }, .{ "none", "" }, .{ "", "" },
    };
    for (wrong) |pair| try std.testing.expectEqual(null, try admittedAs(pair[0], pair[1]));
}
