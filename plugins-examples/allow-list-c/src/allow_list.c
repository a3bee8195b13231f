/* Admits the users of its settings: `user.NAME` holds a user's password, and `device.NAME` the
 * device name that it gets, which is its own name otherwise. */
#include <portreeve.h>

static pr_verdict verify(const pr_connect *request) {
    pr_verdict refused =
        pr_refuse(PR_BAD_USER_NAME_OR_PASSWORD, pr_text("unknown user or wrong password"));
    if (!request->user_name.some || !request->password.some) return refused;

    pr_str name = request->user_name.value;
    pr_opt_str password = pr_settings_get(pr_concat(pr_text("user."), name));
    if (!password.some || password.value.len == 0) return refused;
    if (!pr_equal_secret(pr_bytes_of(password.value), request->password.value)) return refused;

    pr_opt_str device = pr_settings_get(pr_concat(pr_text("device."), name));
    return pr_admit(device.some ? device.value : name);
}

PR_EXPORT_VERIFIER(verify)
