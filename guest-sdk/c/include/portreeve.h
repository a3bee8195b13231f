/* Write Portreeve plugins in C or C++: a verifier and a parser are one function each.
 *
 * Who owns memory: the gateway does, for one call. Everything that a function of this header is
 * given or returns lives until the author's function has answered, and is then freed as a whole:
 * nothing is freed by hand, and nothing of it may be kept in a global variable (copy it with
 * `malloc`). An answer may point to that memory, to literals, and to the author's own globals.
 * A function that finds no memory ends the call with a trap; it never returns NULL.
 *
 * Texts are UTF-8 without U+0000 and are not terminated by a zero byte: `pr_str` has a length.
 * An answer with a text that is no UTF-8 ends the call with a trap: see `pr_is_utf8`.
 *
 * The structures are laid out as the contract's types are in memory, so that nothing is copied.
 */
#ifndef PORTREEVE_H
#define PORTREEVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Texts, bytes, options, lists ---- */

/* A text. `data` may be anything where `len` is 0. For printf: `"%.*s", (int)s.len, s.data`. */
typedef struct pr_str {
    const char *data;
    size_t len;
} pr_str;

/* Binary data. */
typedef struct pr_bytes {
    const uint8_t *data;
    size_t len;
} pr_bytes;

/* Why something failed; empty (`len` is 0) where it did not. */
typedef pr_str pr_error;

/* `value` means nothing where `some` is false; so it is with every `pr_opt_...`. */
typedef struct pr_opt_str {
    bool some;
    pr_str value;
} pr_opt_str;

typedef struct pr_opt_bytes {
    bool some;
    pr_bytes value;
} pr_opt_bytes;

typedef struct pr_opt_u32 {
    bool some;
    uint32_t value;
} pr_opt_u32;

typedef struct pr_strs {
    const pr_str *items;
    size_t count;
} pr_strs;

/* A name and a value. Lists keep their order and may repeat a name. */
typedef struct pr_property {
    pr_str name;
    pr_str value;
} pr_property;

typedef struct pr_properties {
    const pr_property *items;
    size_t count;
} pr_properties;

/* A literal, or another text that ends with a zero byte and lives until the answer. */
static inline pr_str pr_text(const char *text) {
    pr_str str = {text, strlen(text)};
    return str;
}

/* The bytes of a text, and the text of bytes: both without a copy, the latter unchecked. */
static inline pr_bytes pr_bytes_of(pr_str text) {
    pr_bytes bytes = {(const uint8_t *)text.data, text.len};
    return bytes;
}

static inline pr_str pr_text_of(pr_bytes bytes) {
    pr_str text = {(const char *)bytes.data, bytes.len};
    return text;
}

static inline pr_opt_str pr_some_text(pr_str value) {
    pr_opt_str option = {true, value};
    return option;
}

static inline pr_opt_bytes pr_some_bytes(pr_bytes value) {
    pr_opt_bytes option = {true, value};
    return option;
}

static inline pr_opt_u32 pr_some_u32(uint32_t value) {
    pr_opt_u32 option = {true, value};
    return option;
}

static inline bool pr_equal(pr_str a, pr_str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Compares in a time that does not tell how much is right. */
bool pr_equal_secret(pr_bytes a, pr_bytes b);

/* Whether bytes are a text that the contract allows: UTF-8 without U+0000. */
bool pr_is_utf8(pr_bytes bytes);

/* Memory until the end of the call, aligned for every type, not cleared. */
void *pr_alloc(size_t size);

/* A copy that lives until the end of the call. */
pr_str pr_copy(pr_str text);

/* `a` followed by `b`. */
pr_str pr_concat(pr_str a, pr_str b);

/* As printf does. Makes the component some 18 KiB larger; `pr_builder` does not. */
pr_str pr_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Builds a text piece by piece, or bytes: `pr_builder b = {0};`, in C++ `pr_builder b = {};`. */
typedef struct pr_builder {
    char *data;
    size_t len;
    size_t capacity;
} pr_builder;

void pr_add(pr_builder *builder, pr_str text);
void pr_add_int(pr_builder *builder, int64_t value);

/* A decimal number: 2150 with 2 places is `21.5`. At most 18 places. */
void pr_add_decimal(pr_builder *builder, int64_t value, unsigned places);

static inline pr_str pr_built(const pr_builder *builder) {
    pr_str text = {builder->data, builder->len};
    return text;
}

/* ---- What a verifier is told ---- */

/* The version of MQTT that the peer asked for. */
typedef uint8_t pr_protocol;
enum { PR_MQTT_31, PR_MQTT_311, PR_MQTT_5 };

/* Revocation of a certificate as the gateway knows it. */
typedef uint8_t pr_revocation;
enum { PR_GOOD, PR_REVOKED, PR_UNKNOWN, PR_NOT_CHECKED };

typedef struct pr_chain {
    const pr_bytes *items;
    size_t count;
} pr_chain;

/* A verified end-entity certificate. */
typedef struct pr_certificate {
    pr_str subject;            /* RFC 4514, such as `CN=device-1,O=Example` */
    pr_opt_str common_name;    /* the most specific one of the subject */
    pr_strs dns_names;         /* of the subject alternative name, as the next two */
    pr_strs uris;
    pr_strs email_addresses;
    pr_str issuer;             /* RFC 4514 */
    pr_str serial_number;      /* lower-case hex, no leading zero byte */
    int64_t not_before;        /* seconds since the Unix epoch */
    int64_t not_after;         /* seconds since the Unix epoch */
    pr_str fingerprint;        /* SHA-256 of the DER encoding, 64 lower-case hex digits */
    pr_revocation revocation;
    pr_bytes der;              /* the DER encoding */
    pr_chain chain;            /* the verified chain above it, DER, trust anchor last */
} pr_certificate;

typedef struct pr_opt_certificate {
    bool some;
    pr_certificate value;
} pr_opt_certificate;

/* A TLS session. */
typedef struct pr_tls {
    pr_str version;            /* `1.2` or `1.3` */
    pr_str cipher_suite;       /* IANA name */
    pr_opt_str server_name;    /* the one that the peer asked for, lower case */
    pr_opt_certificate certificate; /* on mutual TLS only */
} pr_tls;

typedef struct pr_opt_tls {
    bool some;
    pr_tls value;
} pr_opt_tls;

/* Where and how the peer connected. */
typedef struct pr_connection {
    uint64_t id;               /* the same in every step of one CONNECT */
    pr_str gateway;            /* name of the gateway in the configuration */
    pr_str peer_address;       /* `192.0.2.7:50123` or `[2001:db8::7]:50123` */
    pr_protocol protocol;
    pr_opt_tls tls;
} pr_connection;

/* What a peer said of itself in CONNECT. Nothing of it is proven but the certificate. */
typedef struct pr_connect {
    pr_connection connection;
    pr_str client_id;          /* empty where the gateway is to assign one */
    pr_opt_str user_name;
    pr_opt_bytes password;     /* at most 65,535 bytes */
    bool clean_start;          /* MQTT 3.1.1: clean session */
    uint16_t keep_alive;       /* seconds; 0 turns it off */
    pr_opt_str authentication_method; /* MQTT 5 enhanced authentication */
    pr_opt_bytes authentication_data; /* of the CONNECT, or of the latest AUTH */
    pr_properties user_properties;    /* MQTT 5 */
} pr_connect;

/* ---- What a verifier answers ---- */

typedef uint8_t pr_action;
enum { PR_PUBLISH, PR_SUBSCRIBE, PR_PUBLISH_AND_SUBSCRIBE };

/* `%d`, `%c` and `%u` in the filter stand for device name, client identifier and user name. */
typedef struct pr_permission {
    pr_action action;
    pr_str topic_filter;
} pr_permission;

typedef struct pr_permissions {
    const pr_permission *items;
    size_t count;
} pr_permissions;

typedef struct pr_opt_permissions {
    bool some;
    pr_permissions value;
} pr_opt_permissions;

/* Who the device is and what it may do. Start with `pr_admission_of`. */
typedef struct pr_admission {
    pr_str device_name;        /* 4 to 64 of `A-Z a-z 0-9 - _ @ . :` */
    pr_opt_str product;        /* none: the gateway's product */
    pr_properties attributes;  /* kept in the registry; at most 64, of 1 KiB each */
    pr_opt_permissions permissions; /* none: the gateway's own rules; empty: nothing is permitted */
    pr_opt_u32 expires_in;     /* seconds until the session ends or is verified again, at least 1 */
    pr_opt_u32 cache_for;      /* seconds for which the verdict may be reused; 0 is none */
    pr_opt_bytes authentication_data; /* last word of an enhanced authentication, in CONNACK */
} pr_admission;

/* Decides the reason code; in brackets the answers on MQTT 5 and MQTT 3.1.1. */
typedef uint8_t pr_refusal_reason;
enum {
    PR_BAD_USER_NAME_OR_PASSWORD, /* (0x86, 5) */
    PR_NOT_AUTHORIZED,            /* known, but not allowed here or now (0x87, 5) */
    PR_BANNED,                    /* (0x8A, 5) */
    PR_SERVER_BUSY,               /* try again later (0x89, 3) */
    PR_QUOTA_EXCEEDED,            /* (0x97, 3) */
    PR_USE_ANOTHER_SERVER         /* go to `server_reference` (0x9C, 3) */
};

typedef struct pr_refusal {
    pr_refusal_reason reason;
    pr_str message;              /* for the log and, on MQTT 5, the peer; no secrets */
    pr_opt_str server_reference; /* space-separated `host:port` */
} pr_refusal;

/* What `pr_verdict` holds where it did not fail. */
enum { PR_ADMIT, PR_REFUSE, PR_CHALLENGE };

/* The answer of a verifier. Made by the functions below; read by `pr_admitted` and its like. */
typedef struct pr_verdict {
    bool failed;
    union {
        struct {
            uint8_t kind;
            union {
                pr_admission admission;
                pr_refusal refusal;
                pr_bytes challenge;
            } as;
        } answer;
        pr_str error;
    } is;
} pr_verdict;

/* An admission of this device with the gateway's own rules, to be completed. */
pr_admission pr_admission_of(pr_str device_name);
void pr_add_attribute(pr_admission *admission, pr_str name, pr_str value);

/* With the first permission, the gateway's own rules no longer count. */
void pr_permit(pr_admission *admission, pr_action action, pr_str topic_filter);

/* Lets the peer in, as the device of this name or as the admission says. */
pr_verdict pr_admit(pr_str device_name);
pr_verdict pr_admit_with(pr_admission admission);

/* Turns the peer away. */
pr_verdict pr_refuse(pr_refusal_reason reason, pr_str message);
pr_verdict pr_refuse_to(pr_str server_reference, pr_str message);

/* MQTT 5 enhanced authentication only: sends AUTH with this data; the peer's answer comes as
 * another call, maybe to another instance. Keep what is needed in the state, with a `ttl`. */
pr_verdict pr_challenge(pr_bytes data);

/* No decision was possible: the peer is refused as "server unavailable", the text is logged. */
pr_verdict pr_verify_failed(pr_error error);

/* The admission or the refusal of a verdict, NULL where it is something else. */
const pr_admission *pr_admitted(const pr_verdict *verdict);
const pr_refusal *pr_refused(const pr_verdict *verdict);

/* ---- What a parser is told, and what it answers ---- */

typedef uint8_t pr_qos; /* 0, 1, 2 */

typedef uint8_t pr_payload_format;
enum { PR_UNSPECIFIED, PR_UTF8 };

typedef struct pr_opt_payload_format {
    bool some;
    pr_payload_format value;
} pr_opt_payload_format;

/* An application message. On MQTT 3.1.1 the options are none and the lists empty. */
typedef struct pr_message {
    pr_str topic;              /* a topic name: 1 to 65,535 bytes, no wildcard */
    pr_bytes payload;          /* at most the gateway's packet limit */
    pr_opt_payload_format payload_format; /* the sender's claim, unchecked */
    pr_qos qos;
    bool retain;
    pr_opt_str content_type;
    pr_opt_str response_topic; /* a topic name */
    pr_opt_bytes correlation_data;
    pr_opt_u32 message_expiry_interval; /* seconds that remain */
    pr_properties user_properties;
} pr_message;

typedef struct pr_messages {
    const pr_message *items;
    size_t count;
} pr_messages;

/* Up: from a device to the platform. Down: from the platform to a device. */
typedef uint8_t pr_direction;
enum { PR_UP, PR_DOWN };

/* A registered device. */
typedef struct pr_device {
    pr_str name;
    pr_str product;
    pr_str client_id;
    pr_properties attributes;
} pr_device;

/* Under which circumstances a message came. */
typedef struct pr_context {
    pr_direction direction;    /* a property of the binding, whoever publishes */
    pr_device device;          /* the publisher */
    pr_str gateway;            /* name of the gateway in the configuration */
    uint64_t received_at;      /* milliseconds since the Unix epoch */
} pr_context;

/* What `pr_outcome` holds where it did not fail. */
enum { PR_PASS, PR_REPLACE, PR_DROP, PR_REJECT };

/* The answer of a parser. Made by the functions below; read by `pr_replaced` and its like. */
typedef struct pr_outcome {
    bool failed;
    union {
        struct {
            uint8_t kind;
            union {
                pr_messages messages;
                pr_str reason;
            } as;
        } answer;
        pr_str error;
    } is;
} pr_outcome;

/* Delivers the message as it came. */
pr_outcome pr_pass(void);

/* Delivers this message instead, or these in their order, at most 64; they are copied here, what
 * they point to is not. Topics lie under the binding's `may_publish`. */
pr_outcome pr_replace(pr_message message);
pr_outcome pr_replace_all(const pr_message *messages, size_t count);

/* Acknowledges the message and delivers nothing. */
pr_outcome pr_drop(void);

/* The payload is not what it should be. The reason goes to the log and, on MQTT 5, to the peer. */
pr_outcome pr_reject(pr_str reason);

/* The translation failed: the binding's `on_error` decides, the text is logged. */
pr_outcome pr_parse_failed(pr_error error);

/* The messages of an outcome, or the reason of a rejection; NULL where it is something else. */
const pr_messages *pr_replaced(const pr_outcome *outcome);
const pr_str *pr_rejected(const pr_outcome *outcome);

/* The same message to another topic, with another payload. Payload format and content type
 * described the old payload and are cleared. */
pr_message pr_message_with(const pr_message *message, pr_str topic, pr_bytes payload);

/* As above, with the new payload marked as JSON: UTF-8, `application/json`. */
pr_message pr_message_with_json(const pr_message *message, pr_str topic, pr_str json);

/* The topic with `level` in place of its last level. */
pr_str pr_sibling_topic(pr_str topic, pr_str level);

/* The value of the first property of this name. */
pr_opt_str pr_property_of(pr_properties properties, pr_str name);

/* ---- The gateway's functions ---- */

/* The value of a setting of the manifest. What is not text there arrives as JSON. */
pr_opt_str pr_settings_get(pr_str key);

/* The value of a setting that the plugin cannot do without; the error names it. */
pr_error pr_settings_require(pr_str key, pr_str *value);

/* A setting as a whole number, or `otherwise` where the manifest does not have it. */
pr_error pr_settings_int_or(pr_str key, int64_t otherwise, int64_t *value);

/* Every setting, in the order of the keys. */
pr_properties pr_settings_all(void);

/* A small key-value space of the plugin's own, in memory, shared by its instances; it ends with
 * the gateway. Keys have at most 256 bytes, values 64 KiB, all together the manifest's
 * `limits.state_bytes`. `ttl` is in seconds; 0 keeps an entry until it is removed. Where a
 * function fails, the state is as it was. */
pr_opt_bytes pr_state_get(pr_str key);
pr_error pr_state_set(pr_str key, pr_bytes value, uint32_t ttl);
void pr_state_remove(pr_str key);

/* Adds to a counter, which is 0 where it is absent; the sum saturates. `ttl` counts from the
 * entry's creation. A counter is 8 bytes, little-endian, to `pr_state_get`. `sum` may be NULL. */
pr_error pr_state_increment(pr_str key, int64_t by, uint32_t ttl, int64_t *sum);

typedef uint8_t pr_level;
enum { PR_LOG_TRACE, PR_LOG_DEBUG, PR_LOG_INFO, PR_LOG_WARN, PR_LOG_ERROR };

/* Writes a line to the gateway's log, under the plugin's name. Never fails and never blocks; by
 * default 100 lines a second of 8 KiB each are kept. */
void pr_log(pr_level level, pr_str message);
void pr_log_with(pr_level level, pr_str message, const pr_property *fields, size_t count);

/* Whether a line of this level would be written. Ask before building an expensive one. */
bool pr_log_enabled(pr_level level);

/* ---- What makes a function the plugin's verifier or parser ---- */

/* Ends a call: all memory of the call is freed. The exported functions do it. */
void pr_end_call(void);

#ifdef __cplusplus
#define PR_C_LINKAGE extern "C"
#else
#define PR_C_LINKAGE
#endif

#ifdef __wasm__
#define PR_EXPORT(name) PR_C_LINKAGE __attribute__((export_name(name)))
#define PR_EXPORT_VERIFIER(function)                                                      \
    PR_EXPORT("portreeve:plugin/on-connect@0.1.0#verify")                                 \
    const pr_verdict *pr_exported_verify(const pr_connect *request) {                     \
        static pr_verdict verdict;                                                        \
        verdict = function(request);                                                      \
        return &verdict;                                                                  \
    }                                                                                     \
    PR_EXPORT("cabi_post_portreeve:plugin/on-connect@0.1.0#verify")                       \
    void pr_exported_verify_end(const pr_verdict *verdict) {                              \
        (void)verdict;                                                                    \
        pr_end_call();                                                                    \
    }
#define PR_EXPORT_PARSER(function)                                                        \
    struct pr_exported_parse_arguments {                                                  \
        pr_context context;                                                               \
        pr_message message;                                                               \
    };                                                                                    \
    PR_EXPORT("portreeve:plugin/on-publish@0.1.0#parse")                                  \
    const pr_outcome *pr_exported_parse(struct pr_exported_parse_arguments *arguments) {  \
        static pr_outcome outcome;                                                        \
        outcome = function(&arguments->context, &arguments->message);                     \
        return &outcome;                                                                  \
    }                                                                                     \
    PR_EXPORT("cabi_post_portreeve:plugin/on-publish@0.1.0#parse")                        \
    void pr_exported_parse_end(const pr_outcome *outcome) {                               \
        (void)outcome;                                                                    \
        pr_end_call();                                                                    \
    }
#else
/* In a native test, `portreeve_testing.h` calls these. */
#define PR_EXPORT_VERIFIER(function)                                                      \
    PR_C_LINKAGE pr_verdict pr_call_verifier(const pr_connect *request) {                 \
        return function(request);                                                         \
    }
#define PR_EXPORT_PARSER(function)                                                        \
    PR_C_LINKAGE pr_outcome pr_call_parser(const pr_context *context,                     \
                                           const pr_message *message) {                   \
        return function(context, message);                                                \
    }
#endif

#ifdef __cplusplus
} /* extern "C" */

#include <string_view>

/* For C++: a view of a text, and a text from a view. */
inline std::string_view pr_view(pr_str text) { return {text.data, text.len}; }
inline pr_str pr_text(std::string_view view) { return {view.data(), view.size()}; }
#endif

#endif
