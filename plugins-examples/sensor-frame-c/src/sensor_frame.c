/* Up, a frame of six bytes becomes JSON: temperature (i16, 0.01 °C), humidity (u16, 0.01 %),
 * battery (u16, mV), big-endian, published to `…/telemetry`. Down, `{"report_interval": 60}`
 * becomes two bytes (u16, seconds), published to `…/down`. */
#include <portreeve.h>
#include <portreeve_json.h>

static uint16_t u16_at(pr_bytes bytes, size_t at) {
    return (uint16_t)(bytes.data[at] << 8 | bytes.data[at + 1]);
}

static pr_outcome up(const pr_message *message) {
    pr_bytes frame = message->payload;
    pr_builder text = {0};
    if (frame.len != 6) {
        pr_add(&text, pr_text("a frame has 6 bytes, this has "));
        pr_add_int(&text, (int64_t)frame.len);
        return pr_reject(pr_built(&text));
    }
    pr_add(&text, pr_text("{\"temperature\":"));
    pr_add_decimal(&text, (int16_t)u16_at(frame, 0), 2);
    pr_add(&text, pr_text(",\"humidity\":"));
    pr_add_decimal(&text, u16_at(frame, 2), 2);
    pr_add(&text, pr_text(",\"battery\":"));
    pr_add_decimal(&text, u16_at(frame, 4), 3);
    pr_add(&text, pr_text("}"));
    pr_str topic = pr_sibling_topic(message->topic, pr_text("telemetry"));
    return pr_replace(pr_message_with_json(message, topic, pr_built(&text)));
}

static pr_outcome down(const pr_message *message) {
    pr_str interval;
    switch (pr_json_member(message->payload, pr_text("report_interval"), &interval)) {
    case PR_JSON_INVALID:
        return pr_reject(pr_text("the payload is no JSON object"));
    case PR_JSON_ABSENT:
        return pr_reject(pr_text("missing field `report_interval`"));
    case PR_JSON_FOUND:
        break;
    }
    uint64_t seconds;
    if (!pr_json_uint(interval, UINT16_MAX, &seconds)) {
        return pr_reject(pr_text("`report_interval` is no whole number from 0 to 65535"));
    }
    uint8_t *bytes = pr_alloc(2);
    bytes[0] = (uint8_t)(seconds >> 8);
    bytes[1] = (uint8_t)seconds;
    pr_str topic = pr_sibling_topic(message->topic, pr_text("down"));
    return pr_replace(pr_message_with(message, topic, (pr_bytes){bytes, 2}));
}

static pr_outcome parse(const pr_context *context, const pr_message *message) {
    return context->direction == PR_UP ? up(message) : down(message);
}

PR_EXPORT_PARSER(parse)
