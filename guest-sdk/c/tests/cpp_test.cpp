// The same header in C++: a plugin that is both roles.
#include "portreeve_json.h"
#include "portreeve_testing.h"

#include <string>

namespace {

pr_verdict verify(const pr_connect *request) {
    std::string_view name = request->user_name.some ? pr_view(request->user_name.value) : "";
    if (!name.starts_with("device-")) return pr_refuse(PR_NOT_AUTHORIZED, pr_text("no device"));
    pr_admission admission = pr_admission_of(pr_text(name));
    admission.expires_in = pr_some_u32(3600);
    pr_permit(&admission, PR_PUBLISH, pr_text("devices/%d/#"));
    return pr_admit_with(admission);
}

pr_outcome parse(const pr_context *context, const pr_message *message) {
    if (context->direction == PR_DOWN) return pr_pass();
    // A std::string ends before the answer is read: the text of an answer is copied.
    std::string text = "got " + std::to_string(message->payload.len) + " bytes";
    return pr_reject(pr_copy(pr_text(std::string_view(text))));
}

}  // namespace

PR_EXPORT_VERIFIER(verify)
PR_EXPORT_PARSER(parse)

#ifndef __wasm__
int main() {
    pr_connect request = pr_test_connect("c");
    request.user_name = pr_some_text(pr_text("device-7"));
    pr_verdict verdict = pr_call_verifier(&request);
    PR_CHECK(pr_admitted(&verdict) && pr_view(pr_admitted(&verdict)->device_name) == "device-7");
    request.user_name = pr_some_text(pr_text("x"));
    verdict = pr_call_verifier(&request);
    PR_CHECK(pr_refused(&verdict) && pr_refused(&verdict)->reason == PR_NOT_AUTHORIZED);

    pr_context context = pr_test_context(PR_UP);
    pr_message message = pr_test_message("t", "abc", 3);
    pr_outcome outcome = pr_call_parser(&context, &message);
    PR_CHECK(pr_rejected(&outcome) && pr_test_is(*pr_rejected(&outcome), "got 3 bytes"));
    pr_builder builder = {};
    pr_add_int(&builder, -3);
    PR_CHECK(pr_test_is(pr_built(&builder), "-3"));
    pr_test_reset();
}
#endif
