/* Requests over HTTP: what is the same in a component and in a native test. */
#include "portreeve_http.h"

#include "http.h"

pr_error pr_http_get(pr_str url, pr_http_response *response) {
    pr_http_request request = {.url = url};
    return pr_http_send(&request, response);
}

pr_error pr_http_post(pr_str url, pr_str content_type, pr_bytes body, pr_http_response *response) {
    pr_property header = {pr_text("content-type"), content_type};
    pr_http_request request = {
        .method = pr_text("POST"), .url = url, .headers = {&header, 1}, .body = body};
    return pr_http_send(&request, response);
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool pr_http_is_name(pr_str a, pr_str b) {
    if (a.len != b.len) return false;
    for (size_t i = 0; i < a.len; i++) {
        if (lower(a.data[i]) != lower(b.data[i])) return false;
    }
    return true;
}

pr_opt_str pr_http_header(const pr_http_response *response, pr_str name) {
    for (size_t i = 0; i < response->headers.count; i++) {
        const pr_property *header = &response->headers.items[i];
        if (pr_http_is_name(header->name, name)) return pr_some_text(header->value);
    }
    return (pr_opt_str){false, {NULL, 0}};
}

pr_error pr_http_fail(pr_http_response *response, pr_http_result result, pr_str detail) {
    static const char *const texts[] = {
        "",
        "the manifest does not grant this request",
        "the request cannot be sent",
        "no response in time",
        "the server cannot be reached",
        "the response cannot be read",
    };
    *response = (pr_http_response){.result = result};
    pr_str text = pr_text(texts[result]);
    if (detail.len == 0) return text;
    return pr_concat(pr_concat(text, pr_text(": ")), detail);
}
