#include <portreeve_testing.h>

static pr_outcome parse(pr_direction direction, const char *topic, const void *payload,
                        size_t len) {
    pr_context context = pr_test_context(direction);
    pr_message message = pr_test_message(topic, payload, len);
    pr_outcome outcome = pr_call_parser(&context, &message);
    PR_CHECK(!outcome.failed);
    return outcome;
}

static void a_frame_becomes_json(void) {
    pr_outcome outcome = parse(PR_UP, "devices/d/raw", "\x08\x66\x11\xc6\x0c\xe4", 6);
    const pr_messages *messages = pr_replaced(&outcome);
    PR_CHECK(messages != NULL && messages->count == 1);
    PR_CHECK(pr_test_is(messages->items[0].topic, "devices/d/telemetry"));
    PR_CHECK(pr_test_is(pr_text_of(messages->items[0].payload),
                        "{\"temperature\":21.5,\"humidity\":45.5,\"battery\":3.3}"));

    pr_outcome frost = parse(PR_UP, "raw", "\xff\x38\x00\x00\x00\x00", 6);
    PR_CHECK(pr_test_is(pr_text_of(pr_replaced(&frost)->items[0].payload),
                        "{\"temperature\":-2,\"humidity\":0,\"battery\":0}"));
}

static void a_frame_of_another_length_is_rejected(void) {
    pr_outcome outcome = parse(PR_UP, "t", "\x08\x66", 2);
    PR_CHECK(pr_rejected(&outcome) != NULL);
    PR_CHECK(pr_test_is(*pr_rejected(&outcome), "a frame has 6 bytes, this has 2"));
}

static void a_command_becomes_two_bytes(void) {
    const char command[] = "{\"report_interval\":60}", too_much[] = "{\"report_interval\":65536}";
    pr_outcome outcome = parse(PR_DOWN, "devices/d/set", command, strlen(command));
    const pr_messages *messages = pr_replaced(&outcome);
    PR_CHECK(messages != NULL && pr_test_is(messages->items[0].topic, "devices/d/down"));
    PR_CHECK(messages->items[0].payload.len == 2 && messages->items[0].payload.data[1] == 60);

    outcome = parse(PR_DOWN, "t", too_much, strlen(too_much));
    PR_CHECK(pr_rejected(&outcome) != NULL);
}

int main(void) {
    a_frame_becomes_json();
    a_frame_of_another_length_is_rejected();
    a_command_becomes_two_bytes();
    pr_test_reset();
    return 0;
}
