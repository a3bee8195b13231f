/* Does what it is asked to, with all that the contract has; tests/probe/cases.json asks. */
#include <portreeve.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static bool is(pr_str text, const char *word) {
    return pr_equal(text, pr_text(word));
}

static pr_verdict everything(const pr_connect *request) {
    pr_admission admission = pr_admission_of(pr_text("device-1"));
    admission.product = pr_some_text(pr_text("probe"));
    admission.expires_in = pr_some_u32(60);
    admission.cache_for = pr_some_u32(5);
    pr_add_attribute(&admission, pr_text("client_id"), request->client_id);
    pr_add_attribute(&admission, pr_text("peer"), request->connection.peer_address);
    pr_add_attribute(&admission, pr_text("gateway"), request->connection.gateway);
    pr_add_attribute(&admission, pr_text("numbers"),
                     pr_format("%d %d %d", request->keep_alive, request->clean_start,
                               request->connection.protocol));
    pr_opt_str site = pr_property_of(request->user_properties, pr_text("site"));
    pr_add_attribute(&admission, pr_text("site"), site.some ? site.value : pr_text("none"));
    pr_permit(&admission, PR_PUBLISH, pr_text("up/%d"));
    pr_permit(&admission, PR_PUBLISH_AND_SUBSCRIBE, pr_text("both/#"));
    return pr_admit_with(admission);
}

static pr_verdict state(void) {
    int64_t sum = 0;
    char key[301];
    memset(key, 'k', 300);
    key[300] = '\0';
    pr_builder text = {0};
    pr_add(&text, pr_state_set(pr_text("k"), pr_bytes_of(pr_text("value")), 60));
    pr_add(&text, pr_text_of(pr_state_get(pr_text("k")).value));
    pr_add(&text, pr_text("; "));
    pr_add(&text, pr_state_increment(pr_text("k"), 1, 0, &sum));
    pr_add(&text, pr_text("; "));
    pr_state_remove(pr_text("k"));
    pr_add_int(&text, pr_state_get(pr_text("k")).some);
    pr_add(&text, pr_text("; "));
    pr_state_increment(pr_text("n"), 40, 0, NULL);
    pr_add(&text, pr_state_increment(pr_text("n"), 2, 0, &sum));
    pr_add_int(&text, sum);
    pr_add(&text, pr_text("; "));
    pr_add(&text, pr_state_set(pr_text(key), pr_bytes_of(pr_text("")), 0));
    return pr_refuse(PR_SERVER_BUSY, pr_built(&text));
}

static pr_verdict settings(void) {
    pr_str value;
    int64_t number = 0;
    pr_properties all = pr_settings_all();
    pr_error error = pr_settings_require(pr_text("missing"), &value);
    pr_settings_int_or(pr_text("number"), 0, &number);
    return pr_refuse(PR_BANNED, pr_format("%zu %.*s %lld; %.*s", all.count, (int)all.items[0].name.len,
                                          all.items[0].name.data, (long long)number,
                                          (int)error.len, error.data));
}

static pr_verdict system_calls(void) {
    uint8_t a[8], b[8];
    struct timespec now;
    bool random = getentropy(a, sizeof a) == 0 && getentropy(b, sizeof b) == 0;
    bool clock = clock_gettime(CLOCK_REALTIME, &now) == 0 && now.tv_sec > 1700000000;
    printf("printed\n");
    fflush(stdout);
    return pr_refuse(PR_QUOTA_EXCEEDED, pr_format("random %d, clock %d",
                                                  random && memcmp(a, b, sizeof a) != 0, clock));
}

static pr_verdict verify(const pr_connect *request) {
    pr_str wish = request->user_name.value;
    if (is(wish, "everything")) return everything(request);
    if (is(wish, "server")) return pr_refuse_to(pr_text("a:1 b:2"), pr_text("elsewhere"));
    if (is(wish, "challenge")) return pr_challenge(pr_bytes_of(pr_text("nonce")));
    if (is(wish, "fail")) return pr_verify_failed(pr_text("it failed"));
    if (is(wish, "state")) return state();
    if (is(wish, "settings")) return settings();
    if (is(wish, "system")) return system_calls();
    if (is(wish, "trap")) abort();
    return pr_refuse(PR_NOT_AUTHORIZED, pr_text(""));
}

static pr_outcome parse(const pr_context *context, const pr_message *message) {
    pr_str wish = pr_text_of(message->payload);
    pr_property field = {pr_text("device"), context->device.name};
    if (pr_log_enabled(PR_LOG_DEBUG)) pr_log_with(PR_LOG_DEBUG, pr_text("asked"), &field, 1);
    if (is(wish, "pass")) return pr_pass();
    if (is(wish, "drop")) return pr_drop();
    if (is(wish, "fail")) return pr_parse_failed(pr_text("it failed"));
    if (is(wish, "nothing")) return pr_replace_all(NULL, 0);
    if (is(wish, "two")) {
        pr_message empty = pr_message_with(message, pr_text("a"), (pr_bytes){NULL, 0});
        pr_property properties[] = {{pr_text("n"), pr_text("v")}, {pr_text("n"), pr_text("")}};
        pr_properties list = {memcpy(pr_alloc(sizeof properties), properties, sizeof properties), 2};
        pr_message full = pr_message_with_json(message, pr_text("b"), pr_text("{}"));
        full.qos = 2;
        full.retain = true;
        full.user_properties = list;
        pr_message both[] = {empty, full};
        return pr_replace_all(both, 2);
    }
    return pr_reject(pr_format("%.*s %.*s %d", (int)context->device.product.len,
                               context->device.product.data, (int)context->gateway.len,
                               context->gateway.data, context->direction));
}

PR_EXPORT_VERIFIER(verify)
PR_EXPORT_PARSER(parse)
