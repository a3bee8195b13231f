/* The SDK itself, natively. */
#include "portreeve_json.h"
#include "portreeve_testing.h"

static size_t blocks;

/* The linker sends malloc and free of the memory of a call here, to count what is not freed. */
void *counted_malloc(size_t size);
void counted_free(void *memory);

void *counted_malloc(size_t size) {
    blocks++;
    return malloc(size);
}

void counted_free(void *memory) {
    blocks--;
    free(memory);
}

static void a_call_leaves_no_memory_behind(void) {
    for (int call = 0; call < 1000000; call++) {
        for (int i = 0; i < 4; i++) memset(pr_alloc(1000), 'x', 1000);
        if (call % 1000 == 0) {
            memset(pr_alloc(1 << 20), 'x', 1 << 20);
            memset(pr_alloc(60000), 'x', 60000);
            PR_CHECK(blocks > 0);
        }
        pr_end_call();
        PR_CHECK(blocks == 0);
    }
}

static void memory_is_aligned_and_apart(void) {
    char *a = pr_alloc(1), *b = pr_alloc(0), *c = pr_alloc(17), *d = pr_alloc(40000);
    PR_CHECK((uintptr_t)a % 16 == 0 && (uintptr_t)c % 16 == 0 && (uintptr_t)d % 16 == 0);
    PR_CHECK(b != NULL && a != c);
    memset(a, 1, 1);
    memset(c, 2, 17);
    memset(d, 3, 40000);
    PR_CHECK(a[0] == 1 && c[0] == 2 && c[16] == 2 && d[0] == 3);
}

static pr_str decimal(int64_t value, unsigned places) {
    pr_builder builder = {0};
    pr_add_decimal(&builder, value, places);
    return pr_built(&builder);
}

static void decimals_are_written_without_trailing_zeros(void) {
    PR_CHECK(pr_test_is(decimal(2150, 2), "21.5"));
    PR_CHECK(pr_test_is(decimal(-200, 2), "-2"));
    PR_CHECK(pr_test_is(decimal(-5, 2), "-0.05"));
    PR_CHECK(pr_test_is(decimal(0, 3), "0"));
    PR_CHECK(pr_test_is(decimal(1, 3), "0.001"));
    PR_CHECK(pr_test_is(decimal(INT64_MIN, 0), "-9223372036854775808"));
    PR_CHECK(pr_test_is(decimal(INT64_MIN, 18), "-9.223372036854775808"));
}

static void texts_are_built(void) {
    pr_builder builder = {0};
    for (int i = 0; i < 1000; i++) pr_add(&builder, pr_text("abc"));
    PR_CHECK(pr_built(&builder).len == 3000);
    PR_CHECK(pr_test_is(pr_format("%d-%s", 7, "x"), "7-x"));
    PR_CHECK(pr_test_is(pr_concat(pr_text(""), pr_text("b")), "b"));
    PR_CHECK(pr_test_is(pr_sibling_topic(pr_text("a/b/c"), pr_text("d")), "a/b/d"));
    PR_CHECK(pr_test_is(pr_sibling_topic(pr_text("a"), pr_text("d")), "d"));
    PR_CHECK(pr_test_is(pr_sibling_topic(pr_text("/"), pr_text("d")), "/d"));
}

static bool is_utf8(const char *text, size_t len) {
    return pr_is_utf8((pr_bytes){(const uint8_t *)text, len});
}

static void only_utf8_without_zero_is_text(void) {
    PR_CHECK(is_utf8("", 0) && is_utf8("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 10));
    PR_CHECK(!is_utf8("a\0b", 3));
    PR_CHECK(!is_utf8("\x80", 1) && !is_utf8("\xc3", 1) && !is_utf8("\xc0\x80", 2));
    PR_CHECK(!is_utf8("\xe0\x80\x80", 3) && !is_utf8("\xed\xa0\x80", 3));
    PR_CHECK(!is_utf8("\xf4\x90\x80\x80", 4) && !is_utf8("\xf5\x80\x80\x80", 4));
    PR_CHECK(!is_utf8("\xe2\x82", 2) && !is_utf8("\xe2\x82z", 3));
}

static void secrets_are_compared(void) {
    PR_CHECK(pr_equal_secret(pr_bytes_of(pr_text("ab")), pr_bytes_of(pr_text("ab"))));
    PR_CHECK(!pr_equal_secret(pr_bytes_of(pr_text("ab")), pr_bytes_of(pr_text("ac"))));
    PR_CHECK(!pr_equal_secret(pr_bytes_of(pr_text("ab")), pr_bytes_of(pr_text("abc"))));
    PR_CHECK(pr_equal_secret((pr_bytes){NULL, 0}, (pr_bytes){NULL, 0}));
}

static void an_admission_is_completed(void) {
    pr_admission admission = pr_admission_of(pr_text("device-1"));
    PR_CHECK(!admission.permissions.some);
    pr_add_attribute(&admission, pr_text("model"), pr_text("x1"));
    pr_add_attribute(&admission, pr_text("site"), pr_text("berlin"));
    pr_permit(&admission, PR_PUBLISH, pr_text("devices/%d/#"));
    pr_permit(&admission, PR_SUBSCRIBE, pr_text("news"));
    pr_verdict verdict = pr_admit_with(admission);
    const pr_admission *admitted = pr_admitted(&verdict);
    PR_CHECK(admitted != NULL && pr_refused(&verdict) == NULL);
    PR_CHECK(admitted->attributes.count == 2 && admitted->permissions.value.count == 2);
    pr_opt_str site = pr_property_of(admitted->attributes, pr_text("site"));
    PR_CHECK(site.some && pr_test_is(site.value, "berlin"));
    PR_CHECK(!pr_property_of(admitted->attributes, pr_text("none")).some);
    PR_CHECK(pr_test_is(admitted->permissions.value.items[1].topic_filter, "news"));
    verdict = pr_verify_failed(pr_text("no"));
    PR_CHECK(verdict.failed && pr_admitted(&verdict) == NULL && pr_refused(&verdict) == NULL);
}

static void a_changed_message_loses_what_described_the_payload(void) {
    pr_message message = pr_test_message("a/b", "x", 1);
    message.qos = 1;
    message.content_type = pr_some_text(pr_text("text/plain"));
    message.payload_format = (pr_opt_payload_format){true, PR_UTF8};
    pr_message changed = pr_message_with(&message, pr_text("c"), pr_bytes_of(pr_text("y")));
    PR_CHECK(!changed.content_type.some && !changed.payload_format.some && changed.qos == 1);
    changed = pr_message_with_json(&message, pr_text("c"), pr_text("{}"));
    PR_CHECK(pr_test_is(changed.content_type.value, "application/json"));
    pr_outcome outcome = pr_replace(changed);
    PR_CHECK(pr_replaced(&outcome)->count == 1 && pr_rejected(&outcome) == NULL);
    outcome = pr_drop();
    PR_CHECK(pr_replaced(&outcome) == NULL);
}

static void settings_are_read(void) {
    pr_test_setting("b", "2");
    pr_test_setting("a", "x");
    pr_str value;
    int64_t number;
    PR_CHECK(pr_settings_require(pr_text("b"), &value).len == 0 && pr_test_is(value, "2"));
    PR_CHECK(pr_test_is(pr_settings_require(pr_text("c"), &value),
                        "the manifest's [settings] has no `c`"));
    PR_CHECK(pr_settings_int_or(pr_text("b"), 5, &number).len == 0 && number == 2);
    PR_CHECK(pr_settings_int_or(pr_text("c"), 5, &number).len == 0 && number == 5);
    PR_CHECK(pr_settings_int_or(pr_text("a"), 5, &number).len > 0 && number == 5);
    pr_test_setting("b", "-9223372036854775808");
    PR_CHECK(pr_settings_int_or(pr_text("b"), 5, &number).len == 0 && number == INT64_MIN);
    pr_test_setting("b", "9223372036854775808");
    PR_CHECK(pr_settings_int_or(pr_text("b"), 5, &number).len > 0);
    pr_properties all = pr_settings_all();
    PR_CHECK(all.count == 2 && pr_test_is(all.items[0].name, "a"));
}

static void the_state_keeps_entries_and_counts(void) {
    int64_t sum;
    PR_CHECK(!pr_state_get(pr_text("k")).some);
    PR_CHECK(pr_state_set(pr_text("k"), pr_bytes_of(pr_text("v")), 0).len == 0);
    PR_CHECK(pr_test_is(pr_text_of(pr_state_get(pr_text("k")).value), "v"));
    PR_CHECK(pr_test_is(pr_state_increment(pr_text("k"), 1, 0, NULL),
                        "state: the entry is no counter"));
    pr_state_remove(pr_text("k"));
    PR_CHECK(pr_state_increment(pr_text("k"), 5, 60, &sum).len == 0 && sum == 5);
    PR_CHECK(pr_state_increment(pr_text("k"), INT64_MAX, 0, &sum).len == 0 && sum == INT64_MAX);
    char key[300] = "";
    memset(key, 'k', sizeof key - 1);
    PR_CHECK(pr_state_set(pr_text(key), pr_bytes_of(pr_text("")), 0).len > 0);
}

static void the_log_is_kept(void) {
    pr_property field = {pr_text("user"), pr_text("a")};
    pr_log_with(PR_LOG_INFO, pr_text("hello"), &field, 1);
    PR_CHECK(pr_test_logged() == 1 && pr_test_is(pr_test_last_log(), "hello user=a"));
}

static pr_json_result member(const char *json, pr_str *value) {
    return pr_json_member(pr_bytes_of(pr_text(json)), pr_text("n"), value);
}

static void json_members_are_found(void) {
    pr_str value;
    uint64_t number;
    PR_CHECK(member("{\"n\":60}", &value) == PR_JSON_FOUND && pr_test_is(value, "60"));
    PR_CHECK(member(" {\"a\":{\"n\":[1,{}]},\t\"n\" : \"\\u00e4}\" }\n", &value) == PR_JSON_FOUND);
    PR_CHECK(pr_test_is(value, "\"\\u00e4}\""));
    PR_CHECK(member("{\"n\":-1.5e+3,\"m\":[true,false,null,0]}", &value) == PR_JSON_FOUND);
    PR_CHECK(member("{}", &value) == PR_JSON_ABSENT);
    static const char *const invalid[] = {
        "", " ", "[]", "6", "{", "{\"n\"", "{\"n\":", "{\"n\":6", "{\"n\":6,}", "{\"n\":6}x",
        "{n:6}", "{\"n\":06}", "{\"n\":+6}", "{\"n\":6.}", "{\"n\":1e}", "{\"n\":nul}",
        "{\"n\":\"\\x\"}", "{\"n\":\"\\u12g4\"}", "{\"n\":\"\n\"}", "{\"n\":1,\"n\":2}",
        "{\"n\":[1,]}", "{\"n\":[1 2]}", "{\"n\":\"\xff\"}",
    };
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) {
        PR_CHECK(member(invalid[i], &value) == PR_JSON_INVALID);
    }
    pr_builder deep = {0};
    for (int i = 0; i < 1000; i++) pr_add(&deep, pr_text("{\"n\":"));
    PR_CHECK(pr_json_member(pr_bytes_of(pr_built(&deep)), pr_text("n"), &value) == PR_JSON_INVALID);

    PR_CHECK(pr_json_uint(pr_text("65535"), 65535, &number) && number == 65535);
    PR_CHECK(!pr_json_uint(pr_text("65536"), 65535, &number));
    PR_CHECK(!pr_json_uint(pr_text("60.0"), 65535, &number));
    PR_CHECK(!pr_json_uint(pr_text("-1"), 65535, &number));
    PR_CHECK(!pr_json_uint(pr_text("\"6\""), 65535, &number));
    PR_CHECK(pr_json_uint(pr_text("18446744073709551615"), UINT64_MAX, &number));
    PR_CHECK(!pr_json_uint(pr_text("18446744073709551616"), UINT64_MAX, &number));
    PR_CHECK(!pr_json_uint(pr_text("9"), 3, &number) && pr_json_uint(pr_text("3"), 3, &number));
}

static pr_http_request asked;

static pr_error serve(const pr_http_request *request, pr_http_response *response) {
    static const pr_property headers[] = {{{"x-served", 8}, {"yes", 3}}};
    asked = *request;
    if (pr_equal(request->url, pr_text("https://late.example/"))) {
        return pr_http_fail(response, PR_HTTP_TIMED_OUT, pr_text(""));
    }
    response->status = 202;
    response->headers = (pr_properties){headers, 1};
    response->body = pr_bytes_of(pr_text("taken"));
    return pr_text("");
}

static void requests_reach_the_service(void) {
    pr_http_response response;
    pr_error error = pr_http_get(pr_text("https://a.example/"), &response);
    PR_CHECK(pr_test_is(error, "the manifest does not grant this request"));
    PR_CHECK(response.result == PR_HTTP_DENIED && response.status == 0);
    pr_test_service(serve);
    error = pr_http_post(pr_text("https://a.example/"), pr_text("text/plain"),
                         pr_bytes_of(pr_text("x")), &response);
    PR_CHECK(error.len == 0 && response.result == PR_HTTP_ANSWERED && response.status == 202);
    PR_CHECK(pr_test_is(asked.method, "POST") && asked.body.len == 1);
    PR_CHECK(pr_test_is(pr_text_of(response.body), "taken"));
    PR_CHECK(pr_test_is(pr_http_header(&response, pr_text("X-Served")).value, "yes"));
    PR_CHECK(!pr_http_header(&response, pr_text("x-serve")).some);
    error = pr_http_get(pr_text("https://late.example/"), &response);
    PR_CHECK(pr_test_is(error, "no response in time") && response.result == PR_HTTP_TIMED_OUT);
    error = pr_http_fail(&response, PR_HTTP_BROKEN, pr_text("why"));
    PR_CHECK(pr_test_is(error, "the response cannot be read: why"));
}

int main(void) {
    void (*const tests[])(void) = {
        a_call_leaves_no_memory_behind,
        memory_is_aligned_and_apart,
        decimals_are_written_without_trailing_zeros,
        texts_are_built,
        only_utf8_without_zero_is_text,
        secrets_are_compared,
        an_admission_is_completed,
        a_changed_message_loses_what_described_the_payload,
        settings_are_read,
        the_state_keeps_entries_and_counts,
        the_log_is_kept,
        json_members_are_found,
        requests_reach_the_service,
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        pr_test_reset();
        tests[i]();
    }
    pr_test_reset();
    return 0;
}
