//! Write Portreeve plugins in Zig: a verifier and a parser are one function each.
//!
//! ```
//! pub fn verify(allocator: std.mem.Allocator, request: portreeve.Connect) !portreeve.Verdict
//! pub fn parse(allocator: std.mem.Allocator, context: portreeve.Context, message: portreeve.Message) !portreeve.Outcome
//! ```
//!
//! A component has the role of each of them that `src/plugin.zig` declares.
//!
//! What a function is given, what this module returns and what comes from `allocator` lives until
//! the call has ended, and is then freed as a whole. Nothing of it may be kept in a global
//! variable. An answer must not point to the function's own stack: `&.{message}` does where
//! `message` is not known at compile time; `Outcome.one` and `allocator.dupe` do not.
//!
//! Texts are UTF-8 without U+0000; an answer with a text that is none ends the call with a trap.
//!
//! An error that a function returns becomes the contract's error with its name, or with the text
//! of `fail`: the gateway logs it, and the instance lives on. A panic is logged and ends the
//! instance.

const std = @import("std");
const builtin = @import("builtin");

const host = if (builtin.cpu.arch.isWasm()) @import("host.zig") else @import("testing.zig").host;

/// Native unit tests: settings, state and log in memory, in the gateway's place.
pub const testing = if (builtin.cpu.arch.isWasm()) struct {} else @import("testing.zig");

/// Requests over HTTP, to what the manifest grants.
pub const http = @import("http.zig");

/// Not for plugins: what the root of a component needs.
pub const internal = struct {
    pub const abi = @import("abi.zig");
    pub const memory = @import("memory.zig");
};

/// A name and a value. Lists keep their order and may repeat a name.
pub const Property = struct {
    name: []const u8,
    value: []const u8,
};

/// The value of the first property of this name.
pub fn propertyOf(properties: []const Property, name: []const u8) ?[]const u8 {
    for (properties) |property| {
        if (std.mem.eql(u8, property.name, name)) return property.value;
    }
    return null;
}

// What a verifier is told.

/// The version of MQTT that the peer asked for.
pub const Protocol = enum(u8) { mqtt31, mqtt311, mqtt5 };

/// Revocation of a certificate as the gateway knows it.
pub const Revocation = enum(u8) { good, revoked, unknown, not_checked };

/// A verified end-entity certificate.
pub const Certificate = struct {
    /// RFC 4514, such as `CN=device-1,O=Example`.
    subject: []const u8,
    /// The most specific common name of the subject.
    common_name: ?[]const u8 = null,
    /// Of the subject alternative name, as the next two.
    dns_names: []const []const u8 = &.{},
    uris: []const []const u8 = &.{},
    email_addresses: []const []const u8 = &.{},
    /// RFC 4514.
    issuer: []const u8,
    /// Lower-case hex, no leading zero byte.
    serial_number: []const u8,
    /// Seconds since the Unix epoch.
    not_before: i64,
    /// Seconds since the Unix epoch.
    not_after: i64,
    /// SHA-256 of the DER encoding, 64 lower-case hex digits.
    fingerprint: []const u8,
    revocation: Revocation = .not_checked,
    /// The DER encoding.
    der: []const u8 = &.{},
    /// The verified chain above it, DER, trust anchor last.
    chain: []const []const u8 = &.{},
};

/// A TLS session.
pub const Tls = struct {
    /// `1.2` or `1.3`.
    version: []const u8,
    /// IANA name.
    cipher_suite: []const u8,
    /// The server name that the peer asked for, lower case.
    server_name: ?[]const u8 = null,
    /// The peer's certificate, on mutual TLS only.
    certificate: ?Certificate = null,
};

/// Where and how the peer connected.
pub const Connection = struct {
    /// Unique while the gateway runs; the same in every step of one CONNECT.
    id: u64,
    /// Name of the gateway in the configuration.
    gateway: []const u8,
    /// `192.0.2.7:50123` or `[2001:db8::7]:50123`.
    peer_address: []const u8,
    protocol: Protocol,
    tls: ?Tls = null,
};

/// What a peer said of itself in CONNECT. Nothing of it is proven but the certificate.
pub const Connect = struct {
    connection: Connection,
    /// Empty where the gateway is to assign one.
    client_id: []const u8,
    user_name: ?[]const u8 = null,
    /// Binary data, at most 65,535 bytes.
    password: ?[]const u8 = null,
    /// MQTT 3.1.1: clean session.
    clean_start: bool = true,
    /// Seconds; 0 turns it off.
    keep_alive: u16 = 60,
    /// Method of MQTT 5 enhanced authentication.
    authentication_method: ?[]const u8 = null,
    /// Data of the CONNECT, or of the latest AUTH.
    authentication_data: ?[]const u8 = null,
    /// MQTT 5.
    user_properties: []const Property = &.{},
};

// What a verifier answers.

pub const Action = enum(u8) { publish, subscribe, both };

/// `%d`, `%c` and `%u` in the filter stand for device name, client identifier and user name.
pub const Permission = struct {
    action: Action,
    topic_filter: []const u8,
};

/// Who the device is and what it may do.
pub const Admission = struct {
    /// 4 to 64 of `A-Z a-z 0-9 - _ @ . :`.
    device_name: []const u8,
    /// Null: the gateway's product.
    product: ?[]const u8 = null,
    /// Kept in the registry and given to parsers; at most 64, of 1 KiB each.
    attributes: []const Property = &.{},
    /// Null: the gateway's own rules. An empty list permits nothing.
    permissions: ?[]const Permission = null,
    /// Seconds until the session ends or is verified again; at least 1.
    expires_in: ?u32 = null,
    /// Seconds for which the verdict may be reused; 0 is none.
    cache_for: ?u32 = null,
    /// The last word of an enhanced authentication, sent with CONNACK.
    authentication_data: ?[]const u8 = null,
};

/// Decides the reason code; in brackets the answers on MQTT 5 and MQTT 3.1.1.
pub const RefusalReason = enum(u8) {
    /// (0x86, 5)
    bad_user_name_or_password,
    /// Known, but not allowed here or now (0x87, 5).
    not_authorized,
    /// (0x8A, 5)
    banned,
    /// Try again later (0x89, 3).
    server_busy,
    /// (0x97, 3)
    quota_exceeded,
    /// Go to `server_reference` (0x9C, 3).
    use_another_server,
};

/// Why the peer is turned away.
pub const Refusal = struct {
    reason: RefusalReason,
    /// For the log and, on MQTT 5, the peer. No secrets.
    message: []const u8,
    /// Space-separated `host:port`.
    server_reference: ?[]const u8 = null,

    /// The credentials are wrong.
    pub fn badUserNameOrPassword(message: []const u8) Refusal {
        return .{ .reason = .bad_user_name_or_password, .message = message };
    }

    /// The peer is known, but not allowed here or now.
    pub fn notAuthorized(message: []const u8) Refusal {
        return .{ .reason = .not_authorized, .message = message };
    }
};

/// The answer of a verifier: `return .{ .admit = .{ .device_name = name } };`.
pub const Verdict = union(enum) {
    /// Lets the peer in.
    admit: Admission,
    /// Turns it away.
    refuse: Refusal,
    /// MQTT 5 enhanced authentication only: sends AUTH with this data. The peer's answer comes as
    /// another call, maybe to another instance: keep what is needed in the state, with a `ttl`.
    challenge: []const u8,
};

// What a parser is told, and what it answers.

pub const Qos = enum(u8) { at_most_once, at_least_once, exactly_once };

/// MQTT 5 payload format indicator.
pub const PayloadFormat = enum(u8) { unspecified, utf8 };

/// An application message. On MQTT 3.1.1 the optionals are null and the lists empty.
pub const Message = struct {
    /// A topic name: 1 to 65,535 bytes, no wildcard.
    topic: []const u8,
    /// At most the gateway's packet limit.
    payload: []const u8,
    /// The sender's claim, unchecked.
    payload_format: ?PayloadFormat = null,
    qos: Qos = .at_most_once,
    retain: bool = false,
    content_type: ?[]const u8 = null,
    /// A topic name.
    response_topic: ?[]const u8 = null,
    correlation_data: ?[]const u8 = null,
    /// Seconds that remain.
    message_expiry_interval: ?u32 = null,
    user_properties: []const Property = &.{},

    /// The same message to another topic, with another payload. Payload format and content type
    /// described the old payload and are cleared.
    pub fn with(message: Message, topic: []const u8, payload: []const u8) Message {
        var changed = message;
        changed.topic = topic;
        changed.payload = payload;
        changed.payload_format = null;
        changed.content_type = null;
        return changed;
    }

    /// Marks the payload as JSON: UTF-8, `application/json`.
    pub fn json(message: Message) Message {
        var marked = message;
        marked.payload_format = .utf8;
        marked.content_type = "application/json";
        return marked;
    }

    /// The topic with `level` in place of its last level.
    pub fn siblingTopic(
        message: Message,
        allocator: std.mem.Allocator,
        level: []const u8,
    ) error{OutOfMemory}![]u8 {
        const slash = std.mem.findScalarLast(u8, message.topic, '/');
        const parent = if (slash) |at| message.topic[0 .. at + 1] else "";
        return std.mem.concat(allocator, u8, &.{ parent, level });
    }
};

/// Up: from a device to the platform. Down: from the platform to a device.
pub const Direction = enum(u8) { up, down };

/// A registered device.
pub const Device = struct {
    name: []const u8,
    product: []const u8,
    client_id: []const u8,
    attributes: []const Property = &.{},
};

/// Under which circumstances a message came.
pub const Context = struct {
    /// A property of the binding, whoever publishes.
    direction: Direction,
    /// The publisher.
    device: Device,
    /// Name of the gateway in the configuration.
    gateway: []const u8,
    /// Milliseconds since the Unix epoch.
    received_at: u64,
};

/// The answer of a parser.
pub const Outcome = union(enum) {
    /// Delivers the message as it came.
    pass,
    /// Delivers these instead, in their order; at most 64. Topics lie under `may_publish`.
    replace: []const Message,
    /// Acknowledges the message and delivers nothing.
    drop,
    /// The payload is not what it should be; the reason goes to the log and, on MQTT 5, to the
    /// peer.
    reject: []const u8,

    /// Delivers this message instead.
    pub fn one(allocator: std.mem.Allocator, message: Message) error{OutOfMemory}!Outcome {
        return .{ .replace = try allocator.dupe(Message, &.{message}) };
    }
};

// The gateway's functions.

/// The settings of the plugin's manifest.
pub const settings = struct {
    /// The value of one setting. What is not text in the manifest arrives as JSON.
    pub fn get(key: []const u8) ?[]const u8 {
        return host.settingsGet(key);
    }

    /// The value of a setting that the plugin cannot do without; the error names it.
    pub fn require(key: []const u8) error{Failed}![]const u8 {
        return get(key) orelse fail("the manifest's [settings] has no `{s}`", .{key});
    }

    /// A setting as a whole number, or `otherwise` where the manifest does not have it.
    pub fn intOr(comptime T: type, key: []const u8, otherwise: T) error{Failed}!T {
        const text = get(key) orelse return otherwise;
        return std.fmt.parseInt(T, text, 10) catch
            fail("the setting `{s}` is no " ++ @typeName(T) ++ ": {s}", .{ key, text });
    }

    /// Every setting, in the order of the keys.
    pub fn all() []const Property {
        return host.settingsAll();
    }
};

/// A small key-value space of the plugin's own, in memory, shared by its instances. It ends with
/// the gateway. Where a function fails, the state is as it was.
pub const state = struct {
    /// Keys have at most 256 bytes, values 64 KiB, all entries together the manifest's
    /// `limits.state_bytes`; `NotACounter` comes from `increment`.
    pub const Error = error{ KeyTooLong, ValueTooLong, StateFull, NotACounter };

    pub fn get(key: []const u8) ?[]const u8 {
        return host.stateGet(key);
    }

    /// Stores an entry for `ttl` seconds, or until it is removed.
    pub fn set(key: []const u8, value: []const u8, ttl: ?u32) Error!void {
        return host.stateSet(key, value, ttl);
    }

    pub fn remove(key: []const u8) void {
        host.stateRemove(key);
    }

    /// Adds to a counter, which is 0 where it is absent, and returns the new value; it saturates.
    /// `ttl` counts from the entry's creation. A counter is 8 bytes, little-endian, to `get`.
    pub fn increment(key: []const u8, by: i64, ttl: ?u32) Error!i64 {
        return host.stateIncrement(key, by, ttl);
    }
};

/// Lines in the gateway's log, under the plugin's name. `std.log` writes there, too.
pub const log = struct {
    pub const Level = enum(u8) { trace, debug, info, warn, err };

    /// Writes a line with fields. Never fails and never blocks; by default 100 lines a second of
    /// 8 KiB each are kept.
    pub fn write(level: Level, message: []const u8, fields: []const Property) void {
        host.logWrite(level, message, fields);
    }

    /// Whether a line of this level would be written. Ask before building an expensive one.
    pub fn enabled(level: Level) bool {
        return host.logEnabled(level);
    }
};

/// Milliseconds since the Unix epoch; in a native test `testing.clock`.
pub fn now() u64 {
    return host.now();
}

/// Fills a buffer with random bytes that are good enough for keys; in a native test they are the
/// same in each run.
pub fn random(buffer: []u8) void {
    host.random(buffer);
}

/// Whether bytes are a text that the contract allows: UTF-8 without U+0000.
pub fn isText(bytes: []const u8) bool {
    return std.unicode.utf8ValidateSlice(bytes) and std.mem.findScalar(u8, bytes, 0) == null;
}

/// Compares in a time that does not tell how much is right.
pub fn equalSecret(a: []const u8, b: []const u8) bool {
    if (a.len != b.len) return false;
    var difference: u8 = 0;
    for (a, b) |x, y| {
        difference |= x ^ y;
        // Or the compiler may leave the loop at the first difference.
        std.mem.doNotOptimizeAway(difference);
    }
    return difference == 0;
}

var failure: [1024]u8 = undefined;
var failure_len: usize = 0;

/// Makes the error with this text, cut after 1 KiB: `return portreeve.fail("no {s}", .{key});`.
pub fn fail(comptime format: []const u8, arguments: anytype) error{Failed} {
    var writer: std.Io.Writer = .fixed(&failure);
    writer.print(format, arguments) catch {};
    failure_len = writer.end;
    // A text that was cut within a character is no text any more.
    while (failure_len > 0 and !isText(failure[0..failure_len])) failure_len -= 1;
    return error.Failed;
}

/// The text that goes to the gateway's log for an error.
pub fn textOf(err: anyerror) []const u8 {
    return if (err == error.Failed) failure[0..failure_len] else @errorName(err);
}
