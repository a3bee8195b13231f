/* The gateway's functions as a component imports them. */
#include <stdlib.h>

#include "memory.h"
#include "portreeve.h"

#define IMPORT(interface, name) \
    __attribute__((import_module("portreeve:plugin/" interface "@0.1.0"), import_name(name)))

typedef struct {
    uint8_t kind;
    union {
        uint32_t bytes;
        uint64_t bytes_together;
    } limit;
} state_error;

IMPORT("log", "log")
void host_log(uint32_t level, const char *message, size_t message_len,
              const pr_property *fields, size_t count);
IMPORT("log", "enabled") bool host_log_enabled(uint32_t level);
IMPORT("settings", "get") void host_settings_get(const char *key, size_t len, pr_opt_str *value);
IMPORT("settings", "all") void host_settings_all(pr_properties *all);
IMPORT("state", "get") void host_state_get(const char *key, size_t len, pr_opt_bytes *value);
IMPORT("state", "set")
void host_state_set(const char *key, size_t key_len, const uint8_t *value, size_t value_len,
                    uint32_t has_ttl, uint32_t ttl, void *result);
IMPORT("state", "remove") void host_state_remove(const char *key, size_t len);
IMPORT("state", "increment")
void host_state_increment(const char *key, size_t len, int64_t by, uint32_t has_ttl,
                          uint32_t ttl, void *result);

/* The gateway puts arguments and results here; they end with the call. */
__attribute__((export_name("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t new_size) {
    return new_size == 0 ? (void *)align : pr_realloc(old, old_size, new_size);
}

/* The WASI adapter keeps its own memory for as long as the instance lives. */
__attribute__((export_name("cabi_realloc_adapter")))
void *cabi_realloc_adapter(void *old, size_t old_size, size_t align, size_t new_size) {
    (void)old_size;
    if (new_size == 0) return (void *)align;
    if (old != NULL) return realloc(old, new_size);
    size_t rounded = (new_size + align - 1) / align * align;
    return aligned_alloc(align < sizeof(void *) ? sizeof(void *) : align, rounded);
}

static pr_error text_of(const state_error *error) {
    pr_builder text = {0};
    switch (error->kind) {
    case 0:
        pr_add(&text, pr_text("state: the key is longer than "));
        pr_add_int(&text, error->limit.bytes);
        break;
    case 1:
        pr_add(&text, pr_text("state: the value is longer than "));
        pr_add_int(&text, error->limit.bytes);
        break;
    case 2:
        pr_add(&text, pr_text("state: the entries would exceed "));
        pr_add_int(&text, (int64_t)error->limit.bytes_together);
        break;
    default:
        return pr_text("state: the entry is no counter");
    }
    pr_add(&text, pr_text(" bytes"));
    return pr_built(&text);
}

void pr_log_with(pr_level level, pr_str message, const pr_property *fields, size_t count) {
    host_log(level, message.data, message.len, fields, count);
}

bool pr_log_enabled(pr_level level) {
    return host_log_enabled(level);
}

pr_opt_str pr_settings_get(pr_str key) {
    pr_opt_str value;
    host_settings_get(key.data, key.len, &value);
    return value;
}

pr_properties pr_settings_all(void) {
    pr_properties all;
    host_settings_all(&all);
    return all;
}

pr_opt_bytes pr_state_get(pr_str key) {
    pr_opt_bytes value;
    host_state_get(key.data, key.len, &value);
    return value;
}

pr_error pr_state_set(pr_str key, pr_bytes value, uint32_t ttl) {
    struct {
        bool failed;
        state_error error;
    } result;
    host_state_set(key.data, key.len, value.data, value.len, ttl != 0, ttl, &result);
    return result.failed ? text_of(&result.error) : pr_text("");
}

void pr_state_remove(pr_str key) {
    host_state_remove(key.data, key.len);
}

pr_error pr_state_increment(pr_str key, int64_t by, uint32_t ttl, int64_t *sum) {
    struct {
        bool failed;
        union {
            int64_t sum;
            state_error error;
        } is;
    } result;
    host_state_increment(key.data, key.len, by, ttl != 0, ttl, &result);
    if (result.failed) return text_of(&result.is.error);
    if (sum != NULL) *sum = result.is.sum;
    return pr_text("");
}
