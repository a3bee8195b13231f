/* Compiled for wasm32 only, never run: the types of portreeve.h lie in memory as the contract's
 * do, which contract/plugin.h says. */
#include "contract/plugin.h"
#include "portreeve.h"

#define SAME_SIZE(ours, theirs)                                              \
    _Static_assert(sizeof(ours) == sizeof(theirs), "size of " #ours);        \
    _Static_assert(_Alignof(ours) == _Alignof(theirs), "alignment of " #ours)
#define SAME_PLACE(ours, field, theirs, their_field)                                    \
    _Static_assert(offsetof(ours, field) == offsetof(theirs, their_field), #ours "." #field); \
    _Static_assert(sizeof(((ours *)0)->field) == sizeof(((theirs *)0)->their_field),    \
                   "size of " #ours "." #field)

#define CERTIFICATE(field) \
    SAME_PLACE(pr_certificate, field, portreeve_plugin_types_certificate_t, field)
SAME_SIZE(pr_certificate, portreeve_plugin_types_certificate_t);
CERTIFICATE(subject);
CERTIFICATE(common_name);
CERTIFICATE(dns_names);
CERTIFICATE(uris);
CERTIFICATE(email_addresses);
CERTIFICATE(issuer);
CERTIFICATE(serial_number);
CERTIFICATE(not_before);
CERTIFICATE(not_after);
CERTIFICATE(fingerprint);
CERTIFICATE(revocation);
CERTIFICATE(der);
CERTIFICATE(chain);

#define TLS(field) SAME_PLACE(pr_tls, field, portreeve_plugin_types_tls_t, field)
SAME_SIZE(pr_tls, portreeve_plugin_types_tls_t);
TLS(version);
TLS(cipher_suite);
TLS(server_name);
TLS(certificate);

#define CONNECTION(field) \
    SAME_PLACE(pr_connection, field, portreeve_plugin_types_connection_t, field)
SAME_SIZE(pr_connection, portreeve_plugin_types_connection_t);
CONNECTION(id);
CONNECTION(gateway);
CONNECTION(peer_address);
CONNECTION(protocol);
CONNECTION(tls);

#define CONNECT(field) \
    SAME_PLACE(pr_connect, field, exports_portreeve_plugin_on_connect_connect_t, field)
SAME_SIZE(pr_connect, exports_portreeve_plugin_on_connect_connect_t);
CONNECT(connection);
CONNECT(client_id);
CONNECT(user_name);
CONNECT(password);
CONNECT(clean_start);
CONNECT(keep_alive);
CONNECT(authentication_method);
CONNECT(authentication_data);
CONNECT(user_properties);

#define ADMISSION(field) \
    SAME_PLACE(pr_admission, field, exports_portreeve_plugin_on_connect_admission_t, field)
SAME_SIZE(pr_admission, exports_portreeve_plugin_on_connect_admission_t);
ADMISSION(device_name);
ADMISSION(product);
ADMISSION(attributes);
ADMISSION(permissions);
ADMISSION(expires_in);
ADMISSION(cache_for);
ADMISSION(authentication_data);

SAME_SIZE(pr_permission, exports_portreeve_plugin_on_connect_permission_t);
SAME_PLACE(pr_permission, topic_filter, exports_portreeve_plugin_on_connect_permission_t,
           topic_filter);

#define REFUSAL(field) \
    SAME_PLACE(pr_refusal, field, exports_portreeve_plugin_on_connect_refusal_t, field)
SAME_SIZE(pr_refusal, exports_portreeve_plugin_on_connect_refusal_t);
REFUSAL(reason);
REFUSAL(message);
REFUSAL(server_reference);

#define VERDICT exports_portreeve_plugin_on_connect_result_verdict_string_t
SAME_SIZE(pr_verdict, VERDICT);
SAME_PLACE(pr_verdict, is.answer.kind, VERDICT, val.ok.tag);
SAME_PLACE(pr_verdict, is.answer.as.admission, VERDICT, val.ok.val.admit);
SAME_PLACE(pr_verdict, is.answer.as.refusal, VERDICT, val.ok.val.refuse);
SAME_PLACE(pr_verdict, is.answer.as.challenge, VERDICT, val.ok.val.challenge);
SAME_PLACE(pr_verdict, is.error, VERDICT, val.err);

#define DEVICE(field) SAME_PLACE(pr_device, field, portreeve_plugin_types_device_t, field)
SAME_SIZE(pr_device, portreeve_plugin_types_device_t);
DEVICE(name);
DEVICE(product);
DEVICE(client_id);
DEVICE(attributes);

#define CONTEXT(field) \
    SAME_PLACE(pr_context, field, exports_portreeve_plugin_on_publish_context_t, field)
SAME_SIZE(pr_context, exports_portreeve_plugin_on_publish_context_t);
CONTEXT(direction);
CONTEXT(device);
CONTEXT(gateway);
CONTEXT(received_at);

#define MESSAGE(field) SAME_PLACE(pr_message, field, portreeve_plugin_types_message_t, field)
SAME_SIZE(pr_message, portreeve_plugin_types_message_t);
MESSAGE(topic);
MESSAGE(payload);
MESSAGE(payload_format);
MESSAGE(qos);
MESSAGE(retain);
MESSAGE(content_type);
MESSAGE(response_topic);
MESSAGE(correlation_data);
MESSAGE(message_expiry_interval);
MESSAGE(user_properties);

#define OUTCOME exports_portreeve_plugin_on_publish_result_outcome_string_t
SAME_SIZE(pr_outcome, OUTCOME);
SAME_PLACE(pr_outcome, is.answer.kind, OUTCOME, val.ok.tag);
SAME_PLACE(pr_outcome, is.answer.as.messages, OUTCOME, val.ok.val.replace);
SAME_PLACE(pr_outcome, is.answer.as.reason, OUTCOME, val.ok.val.reject);
SAME_PLACE(pr_outcome, is.error, OUTCOME, val.err);

/* The numbers of the contract's enumerations. */
#define ON_CONNECT(name) EXPORTS_PORTREEVE_PLUGIN_ON_CONNECT_##name
#define ON_PUBLISH(name) EXPORTS_PORTREEVE_PLUGIN_ON_PUBLISH_##name
#define SAME(ours, theirs) _Static_assert((ours) == (theirs), #ours)
SAME(PR_MQTT_31, PORTREEVE_PLUGIN_TYPES_PROTOCOL_MQTT31);
SAME(PR_MQTT_5, PORTREEVE_PLUGIN_TYPES_PROTOCOL_MQTT5);
SAME(PR_GOOD, PORTREEVE_PLUGIN_TYPES_REVOCATION_GOOD);
SAME(PR_REVOKED, PORTREEVE_PLUGIN_TYPES_REVOCATION_REVOKED);
SAME(PR_UNKNOWN, PORTREEVE_PLUGIN_TYPES_REVOCATION_UNKNOWN);
SAME(PR_NOT_CHECKED, PORTREEVE_PLUGIN_TYPES_REVOCATION_NOT_CHECKED);
SAME(PR_PUBLISH, ON_CONNECT(ACTION_PUBLISH));
SAME(PR_SUBSCRIBE, ON_CONNECT(ACTION_SUBSCRIBE));
SAME(PR_PUBLISH_AND_SUBSCRIBE, ON_CONNECT(ACTION_BOTH));
SAME(PR_BAD_USER_NAME_OR_PASSWORD, ON_CONNECT(REFUSAL_REASON_BAD_USER_NAME_OR_PASSWORD));
SAME(PR_NOT_AUTHORIZED, ON_CONNECT(REFUSAL_REASON_NOT_AUTHORIZED));
SAME(PR_BANNED, ON_CONNECT(REFUSAL_REASON_BANNED));
SAME(PR_SERVER_BUSY, ON_CONNECT(REFUSAL_REASON_SERVER_BUSY));
SAME(PR_QUOTA_EXCEEDED, ON_CONNECT(REFUSAL_REASON_QUOTA_EXCEEDED));
SAME(PR_USE_ANOTHER_SERVER, ON_CONNECT(REFUSAL_REASON_USE_ANOTHER_SERVER));
SAME(PR_ADMIT, ON_CONNECT(VERDICT_ADMIT));
SAME(PR_REFUSE, ON_CONNECT(VERDICT_REFUSE));
SAME(PR_CHALLENGE, ON_CONNECT(VERDICT_CHALLENGE));
SAME(PR_UNSPECIFIED, PORTREEVE_PLUGIN_TYPES_PAYLOAD_FORMAT_UNSPECIFIED);
SAME(PR_UTF8, PORTREEVE_PLUGIN_TYPES_PAYLOAD_FORMAT_UTF8);
SAME(PR_UP, ON_PUBLISH(DIRECTION_UP));
SAME(PR_DOWN, ON_PUBLISH(DIRECTION_DOWN));
SAME(PR_PASS, ON_PUBLISH(OUTCOME_PASS));
SAME(PR_REPLACE, ON_PUBLISH(OUTCOME_REPLACE));
SAME(PR_DROP, ON_PUBLISH(OUTCOME_DROP));
SAME(PR_REJECT, ON_PUBLISH(OUTCOME_REJECT));
SAME(PR_LOG_TRACE, PORTREEVE_PLUGIN_LOG_LEVEL_TRACE);
SAME(PR_LOG_ERROR, PORTREEVE_PLUGIN_LOG_LEVEL_ERROR);
