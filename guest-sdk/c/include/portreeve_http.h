/* Requests over HTTP, to what the manifest grants: `http = ["https://auth.example.com/verify"]`.
 *
 *     pr_http_response response;
 *     pr_error error = pr_http_get(pr_text("https://auth.example.com/verify"), &response);
 *     if (error.len != 0) return pr_verify_failed(error);
 *     bool is_known = response.status == 200;
 *
 * A call waits for the whole response; any status is a response. A request ends with the call's
 * deadline, whatever its time-out. A plugin that calls none of this asks the gateway for no HTTP.
 * In native tests, `pr_test_service` of portreeve_testing.h answers. */
#ifndef PORTREEVE_HTTP_H
#define PORTREEVE_HTTP_H

#include "portreeve.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether there is a response, and why not. */
typedef uint8_t pr_http_result;
enum {
    PR_HTTP_ANSWERED,
    PR_HTTP_DENIED,      /* the manifest does not grant the request */
    PR_HTTP_INVALID,     /* the request cannot be sent as it is */
    PR_HTTP_TIMED_OUT,   /* no response in time */
    PR_HTTP_UNREACHABLE, /* no connection, or a certificate that is not to be trusted */
    PR_HTTP_BROKEN       /* it broke off, or is larger than the manifest allows */
};

/* A request in the making: `pr_http_request request = {.url = ...};`. */
typedef struct pr_http_request {
    pr_str method;         /* `GET` where it is empty */
    pr_str url;            /* scheme, host, port, path and query */
    pr_properties headers;
    pr_bytes body;         /* empty for none */
    uint32_t timeout_ms;   /* for the connection, for the first byte, and between the parts of the
                            * response; 0 is the manifest's `http_client.timeout` */
} pr_http_request;

/* What a server answered. */
typedef struct pr_http_response {
    pr_http_result result;
    uint16_t status;       /* such as 200; 0 where there is no response */
    pr_properties headers; /* names in lower case; values are the server's, maybe no UTF-8 */
    pr_bytes body;         /* the gateway bounds it (`http_client.response`) */
} pr_http_response;

/* Makes a request. Where there is no response, the error says why, and so does `result`. */
pr_error pr_http_send(const pr_http_request *request, pr_http_response *response);

/* GET. */
pr_error pr_http_get(pr_str url, pr_http_response *response);

/* POST with a body of this content type, such as `application/json`. */
pr_error pr_http_post(pr_str url, pr_str content_type, pr_bytes body, pr_http_response *response);

/* The value of the first header of this name, in whatever case. */
pr_opt_str pr_http_header(const pr_http_response *response, pr_str name);

/* Sets the result of a failed request and returns its text; for services of tests. */
pr_error pr_http_fail(pr_http_response *response, pr_http_result result, pr_str detail);

#ifdef __cplusplus
}
#endif

#endif
