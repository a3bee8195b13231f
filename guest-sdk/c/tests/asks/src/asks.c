/* Makes the requests of guest-sdk/tests/asking.py. */
#include <portreeve_http.h>

/* What stands before the next separator, which is taken off too. */
static pr_str take(pr_str *text, char separator) {
    size_t len = 0;
    while (len < text->len && text->data[len] != separator) len++;
    pr_str taken = {text->data, len};
    if (len < text->len) len++;
    *text = (pr_str){text->data + len, text->len - len};
    return taken;
}

static uint32_t number(pr_str text) {
    uint32_t sum = 0;
    for (size_t i = 0; i < text.len; i++) sum = sum * 10 + (uint32_t)(text.data[i] - '0');
    return sum;
}

static void tell(pr_builder *told, pr_str line) {
    static const char *const names[] = {
        "answered", "denied", "invalid", "timed-out", "unreachable", "broken"};
    pr_http_request request = {.method = take(&line, ' '), .url = take(&line, ' ')};
    request.timeout_ms = number(take(&line, ' '));
    pr_property header = {pr_text("x-mark"), take(&line, ' ')};
    request.headers = (pr_properties){&header, 1};
    size_t len = number(line);
    uint8_t *body = pr_alloc(len);
    memset(body, 'x', len);
    request.body = (pr_bytes){body, len};
    pr_http_response response;
    pr_error error = pr_http_send(&request, &response);
    if (error.len != 0) {
        pr_add(told, pr_text(names[response.result]));
        return;
    }
    pr_add_int(told, response.status);
    pr_add(told, pr_text(" "));
    pr_add(told, pr_http_header(&response, pr_text("X-Served")).value);
    pr_add(told, pr_text(" "));
    pr_add(told, pr_text_of(response.body));
}

static pr_outcome parse(const pr_context *context, const pr_message *message) {
    (void)context;
    pr_builder told = {0};
    pr_str lines = pr_text_of(message->payload);
    while (lines.len != 0) {
        if (told.len != 0) pr_add(&told, pr_text("\n"));
        tell(&told, take(&lines, '\n'));
    }
    pr_bytes payload = pr_bytes_of(pr_built(&told));
    return pr_replace(pr_message_with(message, pr_text("told"), payload));
}

PR_EXPORT_PARSER(parse)
