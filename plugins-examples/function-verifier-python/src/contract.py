"""Portreeve's own contract: the event, and what an answer means."""

from typing import Any, Dict, List, Optional, Tuple

from portreeve_guest import Action, Admission, Connect, Permission, Protocol, Refusal, RefusalReason, Verdict

from failure import Failure

ATTRIBUTES_MAX = 64
PERMISSIONS_MAX = 1024
PROTOCOLS = {Protocol.MQTT31: "3.1", Protocol.MQTT311: "3.1.1", Protocol.MQTT5: "5.0"}
ACTIONS = {"publish": Action.PUBLISH, "subscribe": Action.SUBSCRIBE, "both": Action.BOTH}
REASONS = {reason.name.lower().replace("_", "-"): reason for reason in RefusalReason}


def event(request: Connect) -> Dict[str, Any]:
    """What the function is told. A password that is no UTF-8 is a `UnicodeDecodeError`."""
    connection = request.connection
    certificate = connection.tls.certificate if connection.tls else None
    return {
        "clientId": request.client_id,
        "userName": request.user_name,
        "password": None if request.password is None else request.password.decode(),
        "certificate": certificate
        and {
            "commonName": certificate.common_name,
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "serialNumber": certificate.serial_number,
            "fingerprint": certificate.fingerprint,
            "notBefore": certificate.not_before,
            "notAfter": certificate.not_after,
            "dnsNames": certificate.dns_names,
            "uris": certificate.uris,
            "emailAddresses": certificate.email_addresses,
        },
        "peerAddress": connection.peer_address,
        "gateway": connection.gateway,
        "protocol": PROTOCOLS[connection.protocol],
        "serverName": connection.tls.server_name if connection.tls else None,
        "userProperties": request.user_properties,
    }


def verdict(answer: Dict[str, Any], request: Connect) -> Verdict:
    """Nothing but the text `accept` admits."""
    result = answer.get("result")
    if result == "reject":
        reason = REASONS.get(answer.get("reason") or "not-authorized")
        if reason is None:
            raise Failure("`reason` of its answer is no reason")
        message = text(answer, "message") or "refused by the function"
        return Refusal(reason, message, text(answer, "serverReference"))
    if result != "accept":
        raise Failure("`result` of its answer is none of accept, reject")
    name = text(answer, "deviceName") or request.user_name
    if name is None:
        raise Failure("neither its answer nor the CONNECT names the device")
    return Admission(
        name,
        product=text(answer, "product"),
        attributes=attributes(answer.get("attributes")),
        permissions=permissions(answer.get("permissions")),
        expires_in=seconds(answer, "expiresIn", 1),
        cache_for=seconds(answer, "cacheFor", 0),
    )


def text(answer: Dict[str, Any], key: str) -> Optional[str]:
    value = answer.get(key)
    if value is None or isinstance(value, str):
        return value
    raise Failure(f"`{key}` of its answer is no text")


def seconds(answer: Dict[str, Any], key: str, least: int) -> Optional[int]:
    value = answer.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise Failure(f"`{key}` of its answer is no number of seconds")
    return max(value, least)


def attributes(given: Any) -> List[Tuple[str, str]]:
    if given is None:
        return []
    if not isinstance(given, dict):
        raise Failure("`attributes` of its answer is no dict")
    pairs: List[Tuple[str, str]] = []
    for name, values in given.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, bool):
                value = str(value).lower()
            if not isinstance(name, str) or not isinstance(value, (str, int, float)):
                raise Failure(f"the attribute {name!r} of its answer is no text or number")
            pairs.append((name, str(value)))
    if len(pairs) > ATTRIBUTES_MAX:
        raise Failure(f"`attributes` of its answer has more than {ATTRIBUTES_MAX} entries")
    return pairs


def permissions(given: Any) -> Optional[List[Permission]]:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) > PERMISSIONS_MAX:
        raise Failure(f"`permissions` of its answer is no list of at most {PERMISSIONS_MAX}")
    found = []
    for one in given:
        action = ACTIONS.get(one.get("action")) if isinstance(one, dict) else None
        if action is None or not isinstance(one.get("topicFilter"), str):
            raise Failure("a permission of its answer lacks `action` or `topicFilter`")
        found.append(Permission(action, one["topicFilter"]))
    return found
