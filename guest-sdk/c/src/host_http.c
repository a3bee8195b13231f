/* `wasi:http/outgoing-handler`, used one request at a time. A module that does not call this does not
 * import it. The structures are what the canonical ABI makes of the types of wit/deps/http.wit. */
#include "http.h"
#include "portreeve_http.h"

#define TYPES "wasi:http/types@0.2.2"
#define STREAMS "wasi:io/streams@0.2.2"
#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))

typedef int32_t handle;

/* As many bytes as one write may take, and as are read at a time. */
enum { WRITE_BYTES = 4096, READ_BYTES = 64 * 1024, HTTPS = 1, HTTP = 0, OTHER_SCHEME = 2 };

typedef struct {
    bool failed;
    handle value;
} handle_result;

/* The longest payload has 24 bytes, and one begins with 8. */
typedef struct {
    uint8_t code;
    uint64_t payload[3];
} error_code;

/* Where the operation failed there is a handle of an error; otherwise the stream is closed. */
typedef struct {
    uint8_t is_closed;
    handle error;
} stream_error;

IMPORT(TYPES, "[constructor]fields") handle wasi_new_fields(void);
IMPORT(TYPES, "[method]fields.append")
void wasi_append(handle, const char *name, size_t, const char *value, size_t, void *result);
IMPORT(TYPES, "[method]fields.entries") void wasi_entries(handle, pr_properties *entries);
IMPORT(TYPES, "[resource-drop]fields") void wasi_drop_fields(handle);

IMPORT(TYPES, "[constructor]outgoing-request") handle wasi_new_request(handle headers);
IMPORT(TYPES, "[method]outgoing-request.body") void wasi_body_of(handle, handle_result *body);
IMPORT(TYPES, "[method]outgoing-request.set-method")
int32_t wasi_set_method(handle, int32_t method, const char *other, size_t);
IMPORT(TYPES, "[method]outgoing-request.set-scheme")
int32_t wasi_set_scheme(handle, int32_t some, int32_t scheme, const char *other, size_t);
IMPORT(TYPES, "[method]outgoing-request.set-authority")
int32_t wasi_set_authority(handle, int32_t some, const char *authority, size_t);
IMPORT(TYPES, "[method]outgoing-request.set-path-with-query")
int32_t wasi_set_path(handle, int32_t some, const char *path, size_t);
IMPORT(TYPES, "[resource-drop]outgoing-request") void wasi_drop_request(handle);

IMPORT(TYPES, "[constructor]request-options") handle wasi_new_options(void);
IMPORT(TYPES, "[method]request-options.set-connect-timeout")
int32_t wasi_set_connect_timeout(handle, int32_t some, uint64_t nanoseconds);
IMPORT(TYPES, "[method]request-options.set-first-byte-timeout")
int32_t wasi_set_first_byte_timeout(handle, int32_t some, uint64_t nanoseconds);
IMPORT(TYPES, "[method]request-options.set-between-bytes-timeout")
int32_t wasi_set_between_bytes_timeout(handle, int32_t some, uint64_t nanoseconds);

IMPORT("wasi:http/outgoing-handler@0.2.2", "handle")
void wasi_handle_request(handle request, int32_t some, handle options, void *result);

IMPORT(TYPES, "[method]outgoing-body.write") void wasi_stream_to(handle, handle_result *stream);
IMPORT(TYPES, "[static]outgoing-body.finish")
void wasi_finish(handle, int32_t some, handle trailers, void *result);
IMPORT(TYPES, "[resource-drop]outgoing-body") void wasi_drop_outgoing_body(handle);
IMPORT(STREAMS, "[method]output-stream.blocking-write-and-flush")
void wasi_write_and_flush(handle, const uint8_t *data, size_t, void *result);
IMPORT(STREAMS, "[resource-drop]output-stream") void wasi_drop_output_stream(handle);

IMPORT(TYPES, "[method]future-incoming-response.subscribe") handle wasi_subscribe(handle);
IMPORT(TYPES, "[method]future-incoming-response.get") void wasi_get(handle, void *result);
IMPORT(TYPES, "[resource-drop]future-incoming-response") void wasi_drop_future(handle);
IMPORT("wasi:io/poll@0.2.2", "[method]pollable.block") void wasi_block(handle);
IMPORT("wasi:io/poll@0.2.2", "[resource-drop]pollable") void wasi_drop_pollable(handle);

IMPORT(TYPES, "[method]incoming-response.status") int32_t wasi_status_of(handle);
IMPORT(TYPES, "[method]incoming-response.headers") handle wasi_headers_of(handle);
IMPORT(TYPES, "[method]incoming-response.consume") void wasi_consume(handle, handle_result *body);
IMPORT(TYPES, "[resource-drop]incoming-response") void wasi_drop_response(handle);
IMPORT(TYPES, "[method]incoming-body.stream") void wasi_stream_from(handle, handle_result *stream);
IMPORT(TYPES, "[resource-drop]incoming-body") void wasi_drop_incoming_body(handle);
IMPORT(STREAMS, "[method]input-stream.blocking-read")
void wasi_blocking_read(handle, uint64_t len, void *result);
IMPORT(STREAMS, "[resource-drop]input-stream") void wasi_drop_input_stream(handle);

IMPORT(TYPES, "http-error-code") void wasi_code_of(handle error, void *code);
IMPORT("wasi:io/error@0.2.2", "[method]error.to-debug-string")
void wasi_debug_text(handle error, pr_str *text);
IMPORT("wasi:io/error@0.2.2", "[resource-drop]error") void wasi_drop_error(handle);

/* The codes in their order, and what they mean to a plugin. */
static const struct {
    const char *name;
    pr_http_result result;
} codes[] = {
    {"DNS-timeout", PR_HTTP_UNREACHABLE},
    {"DNS-error", PR_HTTP_UNREACHABLE},
    {"destination-not-found", PR_HTTP_UNREACHABLE},
    {"destination-unavailable", PR_HTTP_UNREACHABLE},
    {"destination-IP-prohibited", PR_HTTP_DENIED},
    {"destination-IP-unroutable", PR_HTTP_UNREACHABLE},
    {"connection-refused", PR_HTTP_UNREACHABLE},
    {"connection-terminated", PR_HTTP_UNREACHABLE},
    {"connection-timeout", PR_HTTP_TIMED_OUT},
    {"connection-read-timeout", PR_HTTP_TIMED_OUT},
    {"connection-write-timeout", PR_HTTP_UNREACHABLE},
    {"connection-limit-reached", PR_HTTP_DENIED},
    {"TLS-protocol-error", PR_HTTP_UNREACHABLE},
    {"TLS-certificate-error", PR_HTTP_UNREACHABLE},
    {"TLS-alert-received", PR_HTTP_UNREACHABLE},
    {"HTTP-request-denied", PR_HTTP_DENIED},
    {"HTTP-request-length-required", PR_HTTP_UNREACHABLE},
    {"HTTP-request-body-size", PR_HTTP_INVALID},
    {"HTTP-request-method-invalid", PR_HTTP_INVALID},
    {"HTTP-request-URI-invalid", PR_HTTP_INVALID},
    {"HTTP-request-URI-too-long", PR_HTTP_UNREACHABLE},
    {"HTTP-request-header-section-size", PR_HTTP_UNREACHABLE},
    {"HTTP-request-header-size", PR_HTTP_UNREACHABLE},
    {"HTTP-request-trailer-section-size", PR_HTTP_UNREACHABLE},
    {"HTTP-request-trailer-size", PR_HTTP_UNREACHABLE},
    {"HTTP-response-incomplete", PR_HTTP_BROKEN},
    {"HTTP-response-header-section-size", PR_HTTP_UNREACHABLE},
    {"HTTP-response-header-size", PR_HTTP_UNREACHABLE},
    {"HTTP-response-body-size", PR_HTTP_BROKEN},
    {"HTTP-response-trailer-section-size", PR_HTTP_UNREACHABLE},
    {"HTTP-response-trailer-size", PR_HTTP_UNREACHABLE},
    {"HTTP-response-transfer-coding", PR_HTTP_UNREACHABLE},
    {"HTTP-response-content-coding", PR_HTTP_UNREACHABLE},
    {"HTTP-response-timeout", PR_HTTP_TIMED_OUT},
    {"HTTP-upgrade-failed", PR_HTTP_UNREACHABLE},
    {"HTTP-protocol-error", PR_HTTP_UNREACHABLE},
    {"loop-detected", PR_HTTP_UNREACHABLE},
    {"configuration-error", PR_HTTP_UNREACHABLE},
    {"internal-error", PR_HTTP_UNREACHABLE},
};

static pr_error fail_by(pr_http_response *response, uint8_t code) {
    if (code >= sizeof codes / sizeof *codes) {
        return pr_http_fail(response, PR_HTTP_UNREACHABLE, pr_text("an unknown code"));
    }
    pr_http_result result = codes[code].result;
    bool is_plain = result == PR_HTTP_DENIED || result == PR_HTTP_TIMED_OUT;
    return pr_http_fail(response, result, pr_text(is_plain ? "" : codes[code].name));
}

static pr_error invalid(pr_http_response *response, const char *why) {
    return pr_http_fail(response, PR_HTTP_INVALID, pr_text(why));
}

/* The parts of a URL, in it or in memory of the call. */
typedef struct {
    pr_str scheme, authority, path;
} url_parts;

static size_t find_any(pr_str text, size_t from, const char *characters) {
    for (size_t i = from; i < text.len; i++) {
        if (text.data[i] != '\0' && strchr(characters, text.data[i]) != NULL) return i;
    }
    return text.len;
}

static bool split(pr_str url, url_parts *parts) {
    size_t colon = find_any(url, 0, ":/?#");
    if (colon == 0 || url.len < colon + 3 || memcmp(url.data + colon, "://", 3) != 0) return false;
    size_t host = colon + 3, path = find_any(url, host, "/?#"), end = find_any(url, path, "#");
    parts->scheme = (pr_str){url.data, colon};
    parts->authority = (pr_str){url.data + host, path - host};
    parts->path = (pr_str){url.data + path, end - path};
    if (path == end || url.data[path] != '/') parts->path = pr_concat(pr_text("/"), parts->path);
    return true;
}

static int32_t put_method(handle request, pr_str method) {
    static const char *const names[] = {
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
    int32_t known = 0, count = sizeof names / sizeof *names;
    if (method.len == 0) method = pr_text("GET");
    while (known < count && !pr_equal(method, pr_text(names[known]))) known++;
    return wasi_set_method(request, known, method.data, method.len);
}

static int32_t put_scheme(handle request, pr_str scheme) {
    int32_t kind = pr_equal(scheme, pr_text("https"))  ? HTTPS
                   : pr_equal(scheme, pr_text("http")) ? HTTP
                                                       : OTHER_SCHEME;
    return wasi_set_scheme(request, 1, kind, scheme.data, scheme.len);
}

static bool put_header(handle fields, pr_str name, pr_str value) {
    struct {
        bool failed;
        uint8_t error;
    } result;
    wasi_append(fields, name.data, name.len, value.data, value.len, &result);
    return !result.failed;
}

static bool put_headers(handle fields, const pr_http_request *request) {
    bool has_length = request->body.len == 0;
    for (size_t i = 0; i < request->headers.count; i++) {
        pr_property header = request->headers.items[i];
        if (!put_header(fields, header.name, header.value)) return false;
        has_length = has_length || pr_http_is_name(header.name, pr_text("content-length"));
    }
    if (has_length) return true;
    pr_builder length = {0};
    pr_add_int(&length, (int64_t)request->body.len);
    return put_header(fields, pr_text("content-length"), pr_built(&length));
}

static const char *put(handle outgoing, const pr_http_request *request, const url_parts *parts) {
    if (put_scheme(outgoing, parts->scheme) != 0) return "its scheme is none";
    if (wasi_set_authority(outgoing, 1, parts->authority.data, parts->authority.len) != 0) {
        return "its host is none";
    }
    if (wasi_set_path(outgoing, 1, parts->path.data, parts->path.len) != 0) return "its path is none";
    if (put_method(outgoing, request->method) != 0) return "its method is none";
    return NULL;
}

static handle options_of(uint32_t timeout_ms) {
    handle options = wasi_new_options();
    uint64_t nanoseconds = (uint64_t)timeout_ms * 1000000;
    wasi_set_connect_timeout(options, 1, nanoseconds);
    wasi_set_first_byte_timeout(options, 1, nanoseconds);
    wasi_set_between_bytes_timeout(options, 1, nanoseconds);
    return options;
}

/* Where the request is refused nobody reads the body; the response then says why. */
static bool write_body(handle stream, pr_bytes body) {
    for (size_t at = 0; at < body.len; at += WRITE_BYTES) {
        struct {
            bool failed;
            stream_error error;
        } result;
        size_t len = body.len - at < WRITE_BYTES ? body.len - at : (size_t)WRITE_BYTES;
        wasi_write_and_flush(stream, body.data + at, len, &result);
        if (!result.failed) continue;
        if (!result.error.is_closed) wasi_drop_error(result.error.error);
        return false;
    }
    return true;
}

static pr_error send_body(handle content, pr_bytes body, pr_http_response *response) {
    handle_result stream;
    struct {
        bool failed;
        error_code code;
    } result;
    wasi_stream_to(content, &stream);
    bool is_written = !stream.failed && write_body(stream.value, body);
    if (!stream.failed) wasi_drop_output_stream(stream.value);
    if (!is_written) {
        wasi_drop_outgoing_body(content);
        return pr_text("");
    }
    wasi_finish(content, 0, 0, &result);
    return result.failed ? fail_by(response, result.code.code) : pr_text("");
}

static pr_error fail_within(pr_http_response *response, handle error) {
    struct {
        bool some;
        error_code code;
    } option;
    pr_str text;
    wasi_code_of(error, &option);
    wasi_debug_text(error, &text);
    wasi_drop_error(error);
    if (option.some) {
        pr_error because = fail_by(response, option.code.code);
        if (response->result == PR_HTTP_TIMED_OUT) return because;
        if (option.code.code < sizeof codes / sizeof *codes) {
            text = pr_text(codes[option.code.code].name);
        }
        return pr_http_fail(response, PR_HTTP_BROKEN, text);
    }
    /* Some hosts have a text only for what goes wrong within a body. */
    for (size_t i = 0; i + 7 <= text.len; i++) {
        if (memcmp(text.data + i, "timeout", 7) == 0) {
            return pr_http_fail(response, PR_HTTP_TIMED_OUT, pr_text(""));
        }
    }
    return pr_http_fail(response, PR_HTTP_BROKEN, text);
}

static pr_error read_stream(handle stream, pr_http_response *response) {
    pr_builder body = {0};
    for (;;) {
        struct {
            bool failed;
            union {
                pr_str data;
                stream_error error;
            } is;
        } result;
        wasi_blocking_read(stream, READ_BYTES, &result);
        if (!result.failed) {
            pr_add(&body, result.is.data);
            continue;
        }
        if (!result.is.error.is_closed) return fail_within(response, result.is.error.error);
        response->body = pr_bytes_of(pr_built(&body));
        return pr_text("");
    }
}

/* What came from another resource is dropped before it. */
static pr_error read_response(handle incoming, pr_http_response *response) {
    handle_result body, stream;
    *response = (pr_http_response){.status = (uint16_t)wasi_status_of(incoming)};
    handle fields = wasi_headers_of(incoming);
    wasi_entries(fields, &response->headers);
    wasi_drop_fields(fields);
    wasi_consume(incoming, &body);
    if (body.failed) __builtin_trap();
    wasi_stream_from(body.value, &stream);
    if (stream.failed) __builtin_trap();
    pr_error error = read_stream(stream.value, response);
    wasi_drop_input_stream(stream.value);
    wasi_drop_incoming_body(body.value);
    wasi_drop_response(incoming);
    return error;
}

static pr_error await(handle future, pr_http_response *response) {
    struct {
        bool some;
        struct {
            bool was_taken;
            struct {
                bool failed;
                union {
                    handle response;
                    error_code code;
                } is;
            } came;
        } result;
    } outcome;
    handle pollable = wasi_subscribe(future);
    wasi_block(pollable);
    wasi_drop_pollable(pollable);
    wasi_get(future, &outcome);
    if (!outcome.some || outcome.result.was_taken) {
        return pr_http_fail(response, PR_HTTP_BROKEN, pr_text("no response"));
    }
    if (outcome.result.came.failed) return fail_by(response, outcome.result.came.is.code.code);
    return read_response(outcome.result.came.is.response, response);
}

pr_error pr_http_send(const pr_http_request *request, pr_http_response *response) {
    url_parts parts;
    handle_result body;
    struct {
        bool failed;
        union {
            handle future;
            error_code code;
        } is;
    } result;
    if (!split(request->url, &parts)) return invalid(response, "its URL has no scheme");
    handle fields = wasi_new_fields();
    if (!put_headers(fields, request)) {
        wasi_drop_fields(fields);
        return invalid(response, "a header is none");
    }
    handle outgoing = wasi_new_request(fields);
    const char *wrong = put(outgoing, request, &parts);
    if (wrong != NULL) {
        wasi_drop_request(outgoing);
        return invalid(response, wrong);
    }
    wasi_body_of(outgoing, &body);
    if (body.failed) __builtin_trap();
    bool has_timeout = request->timeout_ms != 0;
    wasi_handle_request(outgoing, has_timeout, has_timeout ? options_of(request->timeout_ms) : 0, &result);
    if (result.failed) {
        wasi_drop_outgoing_body(body.value);
        return fail_by(response, result.is.code.code);
    }
    pr_error error = send_body(body.value, request->body, response);
    if (error.len == 0) error = await(result.is.future, response);
    wasi_drop_future(result.is.future);
    return error;
}
