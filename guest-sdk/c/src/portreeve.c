/* What is the same in a component and in a native test: the memory of a call, texts, and the
 * functions that make answers. */
#include "portreeve.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "memory.h"

/* ---- Memory ---- */

/* A call takes memory from the first chunk and, beyond it, from chunks of the heap. The first one
 * is enough for most calls, so that they touch no allocator; it is never given back. */
enum { FIRST_CHUNK_BYTES = 16 * 1024, CHUNK_BYTES_MIN = 64 * 1024, ALIGNMENT = 16 };

struct chunk {
    struct chunk *next;
    size_t capacity;
    _Alignas(ALIGNMENT) unsigned char bytes[];
};

static _Alignas(ALIGNMENT) unsigned char first_chunk[FIRST_CHUNK_BYTES];
static struct chunk *chunks;
static unsigned char *chunk_start = first_chunk;
static size_t chunk_capacity = FIRST_CHUNK_BYTES;
static size_t chunk_used;

static void out_of_memory(void) {
    __builtin_trap();
}

static void add_chunk(size_t size) {
    size_t capacity = size > CHUNK_BYTES_MIN ? size : (size_t)CHUNK_BYTES_MIN;
    if (capacity > SIZE_MAX - sizeof(struct chunk)) out_of_memory();
    struct chunk *chunk = malloc(sizeof(struct chunk) + capacity);
    if (chunk == NULL) out_of_memory();
    chunk->next = chunks;
    chunk->capacity = capacity;
    chunks = chunk;
    chunk_start = chunk->bytes;
    chunk_capacity = capacity;
    chunk_used = 0;
}

void *pr_alloc(size_t size) {
    if (size > SIZE_MAX - ALIGNMENT) out_of_memory();
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size > chunk_capacity - chunk_used) add_chunk(size);
    void *memory = chunk_start + chunk_used;
    chunk_used += size;
    return memory;
}

void *pr_realloc(void *old, size_t old_size, size_t new_size) {
    if (new_size <= old_size) return old;
    void *memory = pr_alloc(new_size);
    if (old_size != 0) memcpy(memory, old, old_size);
    return memory;
}

void pr_end_call(void) {
    while (chunks != NULL) {
        struct chunk *next = chunks->next;
        free(chunks);
        chunks = next;
    }
    chunk_start = first_chunk;
    chunk_capacity = FIRST_CHUNK_BYTES;
    chunk_used = 0;
}

/* ---- Texts ---- */

bool pr_equal_secret(pr_bytes a, pr_bytes b) {
    if (a.len != b.len) return false;
    /* volatile: or the compiler may leave the loop at the first difference. */
    volatile uint8_t difference = 0;
    for (size_t i = 0; i < a.len; i++) difference |= a.data[i] ^ b.data[i];
    return difference == 0;
}

/* The length of the sequence that begins with this byte, and the bounds of its second byte
 * (Unicode 3.9, table 3-7); 0 where none begins. */
static size_t sequence_of(uint8_t first, uint8_t *low, uint8_t *high) {
    *low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    *high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (first >= 0x01 && first <= 0x7F) return 1;
    if (first >= 0xC2 && first <= 0xDF) return 2;
    if (first >= 0xE0 && first <= 0xEF) return 3;
    if (first >= 0xF0 && first <= 0xF4) return 4;
    return 0;
}

bool pr_is_utf8(pr_bytes bytes) {
    for (size_t i = 0; i < bytes.len;) {
        uint8_t low, high;
        size_t len = sequence_of(bytes.data[i], &low, &high);
        if (len == 0 || len > bytes.len - i) return false;
        for (size_t k = 1; k < len; k++, low = 0x80, high = 0xBF) {
            if (bytes.data[i + k] < low || bytes.data[i + k] > high) return false;
        }
        i += len;
    }
    return true;
}

pr_str pr_copy(pr_str text) {
    return pr_concat(text, pr_text(""));
}

pr_str pr_concat(pr_str a, pr_str b) {
    char *data = pr_alloc(a.len + b.len);
    if (a.len != 0) memcpy(data, a.data, a.len);
    if (b.len != 0) memcpy(data + a.len, b.data, b.len);
    return (pr_str){data, a.len + b.len};
}

pr_str pr_format(const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (len < 0) len = 0;
    char *data = pr_alloc((size_t)len + 1);
    vsnprintf(data, (size_t)len + 1, format, again);
    va_end(again);
    return (pr_str){data, (size_t)len};
}

void pr_add(pr_builder *builder, pr_str text) {
    if (text.len == 0) return;
    if (text.len > builder->capacity - builder->len) {
        size_t capacity = 2 * builder->capacity + text.len + 48;
        builder->data = pr_realloc(builder->data, builder->len, capacity);
        builder->capacity = capacity;
    }
    memcpy(builder->data + builder->len, text.data, text.len);
    builder->len += text.len;
}

void pr_add_int(pr_builder *builder, int64_t value) {
    pr_add_decimal(builder, value, 0);
}

void pr_add_decimal(pr_builder *builder, int64_t value, unsigned places) {
    /* Written from the end: 20 digits, the point, the sign. */
    char text[22];
    size_t at = sizeof text;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    bool has_fraction = false;
    for (; places > 0; places--, rest /= 10) {
        if (rest % 10 != 0 || has_fraction) {
            text[--at] = (char)('0' + rest % 10);
            has_fraction = true;
        }
    }
    if (has_fraction) text[--at] = '.';
    do {
        text[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (value < 0) text[--at] = '-';
    pr_add(builder, (pr_str){text + at, sizeof text - at});
}

/* ---- Verdicts ---- */

pr_admission pr_admission_of(pr_str device_name) {
    return (pr_admission){.device_name = device_name};
}

void pr_add_attribute(pr_admission *admission, pr_str name, pr_str value) {
    size_t count = admission->attributes.count;
    pr_property *items = pr_alloc((count + 1) * sizeof *items);
    if (count != 0) memcpy(items, admission->attributes.items, count * sizeof *items);
    items[count] = (pr_property){name, value};
    admission->attributes = (pr_properties){items, count + 1};
}

void pr_permit(pr_admission *admission, pr_action action, pr_str topic_filter) {
    size_t count = admission->permissions.some ? admission->permissions.value.count : 0;
    pr_permission *items = pr_alloc((count + 1) * sizeof *items);
    if (count != 0) memcpy(items, admission->permissions.value.items, count * sizeof *items);
    items[count] = (pr_permission){action, topic_filter};
    admission->permissions = (pr_opt_permissions){true, {items, count + 1}};
}

pr_verdict pr_admit(pr_str device_name) {
    return pr_admit_with(pr_admission_of(device_name));
}

pr_verdict pr_admit_with(pr_admission admission) {
    return (pr_verdict){.is.answer = {.kind = PR_ADMIT, .as.admission = admission}};
}

pr_verdict pr_refuse(pr_refusal_reason reason, pr_str message) {
    pr_refusal refusal = {.reason = reason, .message = message};
    return (pr_verdict){.is.answer = {.kind = PR_REFUSE, .as.refusal = refusal}};
}

pr_verdict pr_refuse_to(pr_str server_reference, pr_str message) {
    pr_verdict verdict = pr_refuse(PR_USE_ANOTHER_SERVER, message);
    verdict.is.answer.as.refusal.server_reference = pr_some_text(server_reference);
    return verdict;
}

pr_verdict pr_challenge(pr_bytes data) {
    return (pr_verdict){.is.answer = {.kind = PR_CHALLENGE, .as.challenge = data}};
}

pr_verdict pr_verify_failed(pr_error error) {
    return (pr_verdict){.failed = true, .is.error = error};
}

const pr_admission *pr_admitted(const pr_verdict *verdict) {
    bool admits = !verdict->failed && verdict->is.answer.kind == PR_ADMIT;
    return admits ? &verdict->is.answer.as.admission : NULL;
}

const pr_refusal *pr_refused(const pr_verdict *verdict) {
    bool refuses = !verdict->failed && verdict->is.answer.kind == PR_REFUSE;
    return refuses ? &verdict->is.answer.as.refusal : NULL;
}

/* ---- Outcomes ---- */

pr_outcome pr_pass(void) {
    return (pr_outcome){.is.answer.kind = PR_PASS};
}

pr_outcome pr_replace(pr_message message) {
    return pr_replace_all(&message, 1);
}

pr_outcome pr_replace_all(const pr_message *messages, size_t count) {
    if (count > SIZE_MAX / sizeof *messages) out_of_memory();
    pr_message *items = pr_alloc(count * sizeof *items);
    if (count != 0) memcpy(items, messages, count * sizeof *items);
    return (pr_outcome){.is.answer = {.kind = PR_REPLACE, .as.messages = {items, count}}};
}

pr_outcome pr_drop(void) {
    return (pr_outcome){.is.answer.kind = PR_DROP};
}

pr_outcome pr_reject(pr_str reason) {
    return (pr_outcome){.is.answer = {.kind = PR_REJECT, .as.reason = reason}};
}

pr_outcome pr_parse_failed(pr_error error) {
    return (pr_outcome){.failed = true, .is.error = error};
}

const pr_messages *pr_replaced(const pr_outcome *outcome) {
    bool replaces = !outcome->failed && outcome->is.answer.kind == PR_REPLACE;
    return replaces ? &outcome->is.answer.as.messages : NULL;
}

const pr_str *pr_rejected(const pr_outcome *outcome) {
    bool rejects = !outcome->failed && outcome->is.answer.kind == PR_REJECT;
    return rejects ? &outcome->is.answer.as.reason : NULL;
}

pr_message pr_message_with(const pr_message *message, pr_str topic, pr_bytes payload) {
    pr_message changed = *message;
    changed.topic = topic;
    changed.payload = payload;
    changed.payload_format = (pr_opt_payload_format){false, PR_UNSPECIFIED};
    changed.content_type = (pr_opt_str){false, {NULL, 0}};
    return changed;
}

pr_message pr_message_with_json(const pr_message *message, pr_str topic, pr_str json) {
    pr_message changed = pr_message_with(message, topic, pr_bytes_of(json));
    changed.payload_format = (pr_opt_payload_format){true, PR_UTF8};
    changed.content_type = pr_some_text(pr_text("application/json"));
    return changed;
}

pr_str pr_sibling_topic(pr_str topic, pr_str level) {
    size_t len = topic.len;
    while (len > 0 && topic.data[len - 1] != '/') len--;
    return pr_concat((pr_str){topic.data, len}, level);
}

pr_opt_str pr_property_of(pr_properties properties, pr_str name) {
    for (size_t i = 0; i < properties.count; i++) {
        if (pr_equal(properties.items[i].name, name)) {
            return pr_some_text(properties.items[i].value);
        }
    }
    return (pr_opt_str){false, {NULL, 0}};
}

/* ---- Settings and log, on top of the gateway's functions ---- */

pr_error pr_settings_require(pr_str key, pr_str *value) {
    pr_opt_str setting = pr_settings_get(key);
    *value = setting.some ? setting.value : pr_text("");
    if (setting.some) return pr_text("");
    pr_str start = pr_concat(pr_text("the manifest's [settings] has no `"), key);
    return pr_concat(start, pr_text("`"));
}

/* Whether a text is a whole number: a sign, then digits. */
static bool parse_int(pr_str text, int64_t *value) {
    bool negative = text.len > 0 && text.data[0] == '-';
    size_t at = negative || (text.len > 0 && text.data[0] == '+') ? 1 : 0;
    if (at == text.len) return false;
    int64_t number = 0;
    for (; at < text.len; at++) {
        int digit = text.data[at] - '0';
        if (digit < 0 || digit > 9) return false;
        if (__builtin_mul_overflow(number, 10, &number)) return false;
        if (__builtin_add_overflow(number, negative ? -digit : digit, &number)) return false;
    }
    *value = number;
    return true;
}

pr_error pr_settings_int_or(pr_str key, int64_t otherwise, int64_t *value) {
    *value = otherwise;
    pr_opt_str setting = pr_settings_get(key);
    if (!setting.some || parse_int(setting.value, value)) return pr_text("");
    pr_builder error = {0};
    pr_add(&error, pr_text("the setting `"));
    pr_add(&error, key);
    pr_add(&error, pr_text("` is no whole number: "));
    pr_add(&error, setting.value);
    return pr_built(&error);
}

void pr_log(pr_level level, pr_str message) {
    pr_log_with(level, message, NULL, 0);
}
