/* The gateway's place in native tests: settings, state and log in memory. Entries of the state do
 * not expire: a unit test does not wait. Tests have one thread. */
#include "portreeve_testing.h"

struct entry {
    struct entry *next;
    pr_str key;
    pr_bytes value;
};

static struct entry *settings, *state;
static pr_service *service;
static size_t logged;
static char last_log[1024];

static void *allocate(size_t size) {
    void *memory = malloc(size == 0 ? 1 : size);
    if (memory == NULL) abort();
    return memory;
}

static void *copy_of(const void *data, size_t len) {
    void *copy = allocate(len);
    if (len != 0) memcpy(copy, data, len);
    return copy;
}

/* The place that points to the entry of a key, or where it would be inserted. */
static struct entry **place_of(struct entry **list, pr_str key) {
    for (; *list != NULL; list = &(*list)->next) {
        pr_str other = (*list)->key;
        size_t len = other.len < key.len ? other.len : key.len;
        int order = len == 0 ? 0 : memcmp(other.data, key.data, len);
        if (order > 0 || (order == 0 && other.len >= key.len)) break;
    }
    return list;
}

static struct entry *find(struct entry **list, pr_str key) {
    struct entry *entry = *place_of(list, key);
    return entry != NULL && pr_equal(entry->key, key) ? entry : NULL;
}

static void drop(struct entry **list, pr_str key) {
    struct entry *entry = find(list, key);
    if (entry == NULL) return;
    *place_of(list, key) = entry->next;
    free((void *)entry->key.data);
    free((void *)entry->value.data);
    free(entry);
}

static void put(struct entry **list, pr_str key, pr_bytes value) {
    drop(list, key);
    struct entry **place = place_of(list, key), *entry = allocate(sizeof *entry);
    entry->next = *place;
    entry->key = (pr_str){copy_of(key.data, key.len), key.len};
    entry->value = (pr_bytes){copy_of(value.data, value.len), value.len};
    *place = entry;
}

void pr_test_setting(const char *key, const char *value) {
    put(&settings, pr_text(key), pr_bytes_of(pr_text(value)));
}

void pr_test_reset(void) {
    while (settings != NULL) drop(&settings, settings->key);
    while (state != NULL) drop(&state, state->key);
    service = NULL;
    logged = 0;
    last_log[0] = '\0';
    pr_end_call();
}

void pr_test_service(pr_service *answers) {
    service = answers;
}

pr_error pr_http_send(const pr_http_request *request, pr_http_response *response) {
    /* As in a gateway whose manifest grants nothing. */
    if (service == NULL) return pr_http_fail(response, PR_HTTP_DENIED, pr_text(""));
    *response = (pr_http_response){.result = PR_HTTP_ANSWERED};
    return service(request, response);
}

pr_opt_str pr_settings_get(pr_str key) {
    struct entry *entry = find(&settings, key);
    if (entry == NULL) return (pr_opt_str){false, {NULL, 0}};
    return pr_some_text(pr_copy(pr_text_of(entry->value)));
}

pr_properties pr_settings_all(void) {
    size_t count = 0;
    for (struct entry *entry = settings; entry != NULL; entry = entry->next) count++;
    pr_property *all = pr_alloc(count * sizeof *all);
    size_t i = 0;
    for (struct entry *entry = settings; entry != NULL; entry = entry->next) {
        all[i++] = (pr_property){pr_copy(entry->key), pr_copy(pr_text_of(entry->value))};
    }
    return (pr_properties){all, count};
}

pr_opt_bytes pr_state_get(pr_str key) {
    struct entry *entry = find(&state, key);
    if (entry == NULL) return (pr_opt_bytes){false, {NULL, 0}};
    return pr_some_bytes(pr_bytes_of(pr_copy(pr_text_of(entry->value))));
}

pr_error pr_state_set(pr_str key, pr_bytes value, uint32_t ttl) {
    (void)ttl;
    if (key.len > 256) return pr_text("state: the key is longer than 256 bytes");
    if (value.len > 65536) return pr_text("state: the value is longer than 65536 bytes");
    put(&state, key, value);
    return pr_text("");
}

void pr_state_remove(pr_str key) {
    drop(&state, key);
}

pr_error pr_state_increment(pr_str key, int64_t by, uint32_t ttl, int64_t *sum) {
    pr_opt_bytes entry = pr_state_get(key);
    uint64_t bits = 0;
    if (entry.some && entry.value.len != 8) return pr_text("state: the entry is no counter");
    for (size_t i = 0; entry.some && i < 8; i++) bits |= (uint64_t)entry.value.data[i] << 8 * i;
    int64_t value = (int64_t)bits;
    if (__builtin_add_overflow(value, by, &value)) value = by < 0 ? INT64_MIN : INT64_MAX;
    uint8_t counter[8];
    for (size_t i = 0; i < 8; i++) counter[i] = (uint8_t)((uint64_t)value >> 8 * i);
    if (sum != NULL) *sum = value;
    return pr_state_set(key, (pr_bytes){counter, sizeof counter}, ttl);
}

bool pr_log_enabled(pr_level level) {
    (void)level;
    return true;
}

void pr_log_with(pr_level level, pr_str message, const pr_property *fields, size_t count) {
    static const char *const names[] = {"trace", "debug", "info", "warn", "error"};
    pr_builder line = {0};
    pr_add(&line, message);
    for (size_t i = 0; i < count; i++) {
        pr_add(&line, pr_text(" "));
        pr_add(&line, fields[i].name);
        pr_add(&line, pr_text("="));
        pr_add(&line, fields[i].value);
    }
    snprintf(last_log, sizeof last_log, "%.*s", (int)line.len, line.data);
    fprintf(stderr, "%s: %s\n", names[level], last_log);
    logged++;
}

size_t pr_test_logged(void) {
    return logged;
}

pr_str pr_test_last_log(void) {
    return pr_text(last_log);
}

pr_connect pr_test_connect(const char *client_id) {
    return (pr_connect){
        .connection = {.id = 1,
                       .gateway = pr_text("test"),
                       .peer_address = pr_text("192.0.2.1:50000"),
                       .protocol = PR_MQTT_5},
        .client_id = pr_text(client_id),
        .clean_start = true,
        .keep_alive = 60,
    };
}

pr_context pr_test_context(pr_direction direction) {
    return (pr_context){
        .direction = direction,
        .device = {.name = pr_text("device-1"),
                   .product = pr_text("test"),
                   .client_id = pr_text("client-1")},
        .gateway = pr_text("test"),
    };
}

pr_message pr_test_message(const char *topic, const void *payload, size_t len) {
    return (pr_message){.topic = pr_text(topic), .payload = {payload, len}};
}
