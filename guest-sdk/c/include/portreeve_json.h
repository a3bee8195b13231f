/* Reads a member of a JSON object (RFC 8259) without building a tree. The whole text is checked,
 * to a depth of 64. Nothing is allocated. */
#ifndef PORTREEVE_JSON_H
#define PORTREEVE_JSON_H

#include "portreeve.h"

enum { PR_JSON_DEPTH_MAX = 64 };

typedef enum pr_json_result {
    PR_JSON_FOUND,
    PR_JSON_ABSENT,
    PR_JSON_INVALID /* no JSON object */
} pr_json_result;

static inline char pr_json_at(pr_str json, size_t at) {
    return at < json.len ? json.data[at] : '\0';
}

static inline bool pr_json_is_digit(char c) {
    return c >= '0' && c <= '9';
}

static inline size_t pr_json_space(pr_str json, size_t at) {
    char c;
    while ((c = pr_json_at(json, at)) == ' ' || c == '\t' || c == '\n' || c == '\r') at++;
    return at;
}

/* Each of the following returns where the value that begins at `at` ends, 0 where none does. */
static inline size_t pr_json_string(pr_str json, size_t at) {
    if (pr_json_at(json, at++) != '"') return 0;
    for (; at < json.len; at++) {
        unsigned char c = (unsigned char)json.data[at];
        if (c == '"') return at + 1;
        if (c < 0x20) return 0;
        if (c != '\\') continue;
        char escape = pr_json_at(json, ++at);
        if (escape == '\0' || strchr("\"\\/bfnrtu", escape) == NULL) return 0;
        for (int digits = escape == 'u' ? 4 : 0; digits > 0; digits--) {
            char digit = (char)(pr_json_at(json, ++at) | 0x20);
            if (!pr_json_is_digit(digit) && (digit < 'a' || digit > 'f')) return 0;
        }
    }
    return 0;
}

static inline size_t pr_json_digits(pr_str json, size_t at) {
    if (!pr_json_is_digit(pr_json_at(json, at))) return 0;
    while (pr_json_is_digit(pr_json_at(json, at))) at++;
    return at;
}

static inline size_t pr_json_number(pr_str json, size_t at) {
    if (pr_json_at(json, at) == '-') at++;
    at = pr_json_at(json, at) == '0' ? at + 1 : pr_json_digits(json, at);
    if (at != 0 && pr_json_at(json, at) == '.') at = pr_json_digits(json, at + 1);
    if (at != 0 && (pr_json_at(json, at) | 0x20) == 'e') {
        char sign = pr_json_at(json, ++at);
        at = pr_json_digits(json, sign == '-' || sign == '+' ? at + 1 : at);
    }
    return at;
}

static inline size_t pr_json_word(pr_str json, size_t at, const char *word) {
    size_t len = strlen(word);
    bool same = len <= json.len - at && memcmp(json.data + at, word, len) == 0;
    return same ? at + len : 0;
}

static inline size_t pr_json_value(pr_str json, size_t at, int depth);

/* An array; an object where `name` and `value` may ask for a member. */
static inline size_t pr_json_list(pr_str json, size_t at, int depth, pr_str name, pr_str *value) {
    bool object = pr_json_at(json, at) == '{';
    char end = object ? '}' : ']';
    if (depth >= PR_JSON_DEPTH_MAX) return 0;
    at = pr_json_space(json, at + 1);
    if (pr_json_at(json, at) == end) return at + 1;
    for (;;) {
        pr_str key = {NULL, 0};
        if (object) {
            size_t key_start = at + 1;
            if ((at = pr_json_string(json, at)) == 0) return 0;
            key.data = json.data + key_start;
            key.len = at - 1 - key_start;
            at = pr_json_space(json, at);
            if (pr_json_at(json, at) != ':') return 0;
            at = pr_json_space(json, at + 1);
        }
        size_t start = at;
        if ((at = pr_json_value(json, at, depth + 1)) == 0) return 0;
        if (value != NULL && object && pr_equal(key, name)) {
            /* A name that comes twice is ambiguous. */
            if (value->data != NULL) return 0;
            value->data = json.data + start;
            value->len = at - start;
        }
        at = pr_json_space(json, at);
        if (pr_json_at(json, at) == end) return at + 1;
        if (pr_json_at(json, at) != ',') return 0;
        at = pr_json_space(json, at + 1);
    }
}

static inline size_t pr_json_value(pr_str json, size_t at, int depth) {
    pr_str none = {NULL, 0};
    switch (pr_json_at(json, at)) {
    case '{':
    case '[':
        return pr_json_list(json, at, depth, none, NULL);
    case '"':
        return pr_json_string(json, at);
    case 't':
        return pr_json_word(json, at, "true");
    case 'f':
        return pr_json_word(json, at, "false");
    case 'n':
        return pr_json_word(json, at, "null");
    default:
        return pr_json_number(json, at);
    }
}

/* The text of a member's value, such as `60`, `"a"` or `{"b":1}`. Names are compared as they are
 * written, without resolving escapes. */
static inline pr_json_result pr_json_member(pr_bytes payload, pr_str name, pr_str *value) {
    pr_str json = pr_text_of(payload);
    value->data = NULL;
    value->len = 0;
    size_t at = pr_json_space(json, 0);
    if (pr_json_at(json, at) != '{' || !pr_is_utf8(payload)) return PR_JSON_INVALID;
    at = pr_json_list(json, at, 0, name, value);
    if (at == 0 || pr_json_space(json, at) != json.len) return PR_JSON_INVALID;
    return value->data != NULL ? PR_JSON_FOUND : PR_JSON_ABSENT;
}

/* Whether the text of a value is a whole number from 0 to `max`, and which. */
static inline bool pr_json_uint(pr_str value, uint64_t max, uint64_t *number) {
    uint64_t sum = 0;
    if (value.len == 0) return false;
    for (size_t i = 0; i < value.len; i++) {
        if (!pr_json_is_digit(value.data[i])) return false;
        uint64_t digit = (uint64_t)(value.data[i] - '0');
        if (digit > max || sum > (max - digit) / 10) return false;
        sum = sum * 10 + digit;
    }
    *number = sum;
    return true;
}

#endif
