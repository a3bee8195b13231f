/* Native unit tests of plugins: settings, state and log are kept in memory in the gateway's place.
 *
 *     pr_test_setting("user.device-1", "demo");
 *     pr_connect request = pr_test_connect("client-1");
 *     request.user_name = pr_some_text(pr_text("device-1"));
 *     pr_verdict verdict = pr_call_verifier(&request);
 *     PR_CHECK(pr_admitted(&verdict));
 */
#ifndef PORTREEVE_TESTING_H
#define PORTREEVE_TESTING_H

#include "portreeve.h"
#include "portreeve_http.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Calls the function that PR_EXPORT_VERIFIER or PR_EXPORT_PARSER was given. */
pr_verdict pr_call_verifier(const pr_connect *request);
pr_outcome pr_call_parser(const pr_context *context, const pr_message *message);

/* Adds or replaces a setting. */
void pr_test_setting(const char *key, const char *value);

/* Answers the requests that the plugin makes; without it, or with NULL, each is denied. It fills the
 * response, or returns `pr_http_fail(response, PR_HTTP_TIMED_OUT, pr_text(""))` or the like. */
typedef pr_error pr_service(const pr_http_request *request, pr_http_response *response);
void pr_test_service(pr_service *service);

/* Removes settings, state, log and service, and frees the memory of the calls so far. */
void pr_test_reset(void);

/* A CONNECT of this client identifier over a plain MQTT 5 connection, to be completed. */
pr_connect pr_test_connect(const char *client_id);

/* A context with the device `device-1`, and a message with QoS 0. */
pr_context pr_test_context(pr_direction direction);
pr_message pr_test_message(const char *topic, const void *payload, size_t len);

/* How many lines the plugin logged, and the latest one with its fields (` name=value`). */
size_t pr_test_logged(void);
pr_str pr_test_last_log(void);

/* Whether a text equals a C string. */
static inline bool pr_test_is(pr_str text, const char *expected) {
    return pr_equal(text, pr_text(expected));
}

/* Ends the test program with the place of a condition that is not met. */
#define PR_CHECK(condition)                                                       \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

#ifdef __cplusplus
}
#endif

#endif
