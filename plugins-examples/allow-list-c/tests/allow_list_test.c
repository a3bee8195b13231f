#include <portreeve_testing.h>

/* The device name under which a user is admitted; empty where it is not. */
static pr_str admitted_as(const char *user_name, const char *password) {
    pr_connect request = pr_test_connect("c");
    request.user_name = pr_some_text(pr_text(user_name));
    request.password = pr_some_bytes(pr_bytes_of(pr_text(password)));
    pr_verdict verdict = pr_call_verifier(&request);
    PR_CHECK(!verdict.failed);
    const pr_admission *admission = pr_admitted(&verdict);
    return admission != NULL ? admission->device_name : pr_text("");
}

static void only_a_listed_user_with_its_password_is_admitted(void) {
    pr_test_setting("user.device-1", "demo");
    pr_test_setting("user.app", "x");
    pr_test_setting("device.app", "platform");
    pr_test_setting("user.none", "");
    PR_CHECK(pr_test_is(admitted_as("device-1", "demo"), "device-1"));
    PR_CHECK(pr_test_is(admitted_as("app", "x"), "platform"));
    PR_CHECK(pr_test_is(admitted_as("device-1", "demO"), ""));
    PR_CHECK(pr_test_is(admitted_as("device-1", ""), ""));
    PR_CHECK(pr_test_is(admitted_as("device-2", "demo"), ""));
    PR_CHECK(pr_test_is(admitted_as("none", ""), ""));
    PR_CHECK(pr_test_is(admitted_as("", ""), ""));
}

static void without_a_password_nobody_is_admitted(void) {
    pr_connect request = pr_test_connect("c");
    pr_verdict verdict = pr_call_verifier(&request);
    const pr_refusal *refusal = pr_refused(&verdict);
    PR_CHECK(refusal != NULL && refusal->reason == PR_BAD_USER_NAME_OR_PASSWORD);
}

int main(void) {
    only_a_listed_user_with_its_password_is_admitted();
    without_a_password_nobody_is_admitted();
    pr_test_reset();
    return 0;
}
