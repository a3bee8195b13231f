"""Custom authorizers of AWS IoT Core: the event, the answer, and policies as permissions."""

import base64
import fnmatch
import json
import re
from typing import Any, Dict, List, Optional

from portreeve_guest import Action, Admission, Connect, Permission, Refusal, Verdict, log

from failure import Failure

DOCUMENTS_MAX = 10
DOCUMENT_CHARACTERS_MAX = 2048
KINDS = {"connect": "client/", "publish": "topic/", "subscribe": "topicfilter/", "receive": "topic/"}
WILDCARDS = re.compile(r"[*?+#]")


def event(request: Connect) -> Dict[str, Any]:
    tls = request.connection.tls
    mqtt: Dict[str, Any] = {"clientId": request.client_id}
    if request.user_name is not None:
        mqtt["username"] = request.user_name
    if request.password is not None:
        mqtt["password"] = base64.b64encode(request.password).decode()
    data: Dict[str, Any] = {"mqtt": mqtt}
    if tls is not None:
        data["tls"] = {"serverName": tls.server_name}
    return {
        "signatureVerified": False,
        "protocols": ["mqtt"] if tls is None else ["tls", "mqtt"],
        "protocolData": data,
        "connectionMetadata": {"id": str(request.connection.id)},
    }


def verdict(answer: Dict[str, Any], request: Connect) -> Verdict:
    is_authenticated = answer.get("isAuthenticated")
    if not isinstance(is_authenticated, bool):
        raise Failure("isAuthenticated of its answer is not true or false")
    if not is_authenticated:
        return Refusal.bad_user_name_or_password("not authenticated")
    principal_id = answer.get("principalId")
    if not isinstance(principal_id, str) or not re.fullmatch("[a-zA-Z0-9]{1,128}", principal_id):
        raise Failure("principalId of its answer is not 1 to 128 letters and digits")
    times = [seconds(answer, key) for key in ("disconnectAfterInSeconds", "refreshAfterInSeconds")]
    policy = Policy(documents(answer), request.client_id)
    if not policy.may_connect(request.client_id):
        return Refusal.not_authorized("the policy does not allow iot:Connect")
    try:
        permissions = policy.permissions()
    except Failure as error:
        log.warn(str(error))
        return Refusal.not_authorized("the policy cannot be kept here")
    ends = min((time for time in times if time is not None), default=None)
    admission = Admission(request.client_id, permissions=permissions, expires_in=ends)
    return admission.attribute("principal_id", principal_id)


def seconds(answer: Dict[str, Any], key: str) -> Optional[int]:
    value = answer.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 300 <= value <= 86_400:
        raise Failure(f"{key} of its answer is not 300 to 86400")
    return value


def documents(answer: Dict[str, Any]) -> List[Any]:
    given = answer.get("policyDocuments")
    if not isinstance(given, list) or len(given) > DOCUMENTS_MAX:
        raise Failure(f"policyDocuments of its answer is no list of at most {DOCUMENTS_MAX}")
    for document in given:
        text = document if isinstance(document, str) else json.dumps(document)
        if len(text) > DOCUMENT_CHARACTERS_MAX:
            raise Failure(f"a policy document has more than {DOCUMENT_CHARACTERS_MAX} characters")
    return [json.loads(one) if isinstance(one, str) else one for one in given]


class Policy:
    """Permissions allow and nothing else: what denies a part of what is allowed admits nobody."""

    def __init__(self, given: List[Any], client_id: str) -> None:
        self.allowed: Dict[str, List[str]] = {kind: [] for kind in KINDS}
        self.denied: Dict[str, List[str]] = {kind: [] for kind in KINDS}
        for document in given:
            if not isinstance(document, dict) or "Statement" not in document:
                raise Failure("a policy document has no Statement")
            for statement in several(document["Statement"]):
                self.add(statement, client_id)

    def add(self, statement: Any, client_id: str) -> None:
        if not isinstance(statement, dict) or statement.get("Effect") not in ("Allow", "Deny"):
            raise Failure("Effect of a statement is not Allow or Deny")
        for key in ("NotAction", "NotResource", "Condition", "Principal"):
            if key in statement:
                raise Failure(f"a statement has {key}, which cannot be kept here")
        actions, resources = texts(statement, "Action"), texts(statement, "Resource")
        patterns = self.allowed if statement["Effect"] == "Allow" else self.denied
        for kind, prefix in KINDS.items():
            if not any(matches(action.lower(), f"iot:{kind}") for action in actions):
                continue
            for resource in resources:
                pattern = resource_of(resource, prefix)
                if pattern is not None:
                    patterns[kind].append(filled(pattern, client_id))

    def may_connect(self, client_id: str) -> bool:
        def any_of(patterns: List[str]) -> bool:
            return any(matches(pattern, client_id) for pattern in patterns)

        return any_of(self.allowed["connect"]) and not any_of(self.denied["connect"])

    def permissions(self) -> List[Permission]:
        pairs = [(kind, kind) for kind in ("publish", "subscribe", "receive")]
        # A denied topic keeps away every filter that may reach it.
        for allowed, denied in [*pairs, ("subscribe", "receive")]:
            for pattern in self.denied[denied]:
                if any(may_overlap(other, pattern) for other in self.allowed[allowed]):
                    raise Failure(f"the policy denies {pattern!r}, a part of what it allows")
        found = [Permission(Action.PUBLISH, one) for one in filters(self.allowed["publish"], "publish")]
        subscribed = filters(self.allowed["subscribe"], "subscribe")
        received = filters(self.allowed["receive"], "receive")
        read: List[str] = []
        for one in subscribed:
            for other in received:
                narrower = one if covers(other, one) else other if covers(one, other) else None
                if narrower is not None and narrower not in read:
                    read.append(narrower)
        return found + [Permission(Action.SUBSCRIBE, one) for one in read]


def several(value: Any) -> List[Any]:
    return value if isinstance(value, list) else [value]


def texts(statement: Dict[str, Any], key: str) -> List[str]:
    values = several(statement.get(key))
    if not all(isinstance(value, str) for value in values):
        raise Failure(f"{key} of a statement is no text")
    return values


def matches(pattern: str, text: str) -> bool:
    """`*` stands for any characters, `?` for one; brackets are plain here."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def resource_of(resource: str, prefix: str) -> Optional[str]:
    if resource == "*":
        return "*"
    parts = resource.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or parts[2] not in ("iot", "*"):
        return None
    if parts[5] == "*":
        return "*"
    return parts[5][len(prefix) :] if parts[5].startswith(prefix) else None


def filled(pattern: str, client_id: str) -> str:
    if "${" not in pattern:
        return pattern
    # One with a wildcard would widen the pattern.
    if not client_id or re.search(r"[*?+#/$]", client_id):
        raise Failure("the client identifier cannot stand in a policy")
    for variable in ("${iot:ClientId}", "${iot:Connection.Thing.ThingName}"):
        pattern = pattern.replace(variable, client_id)
    if "${" in pattern:
        raise Failure(f"the policy's variable in {pattern!r} is not known here")
    return pattern


def may_overlap(one: str, other: str) -> bool:
    """Rather too often: what stands before the first wildcards does not tell them apart."""
    heads = [WILDCARDS.split(pattern)[0] for pattern in (one, other)]
    short = [head.rstrip("/") for head in heads]
    plain = [head == pattern for head, pattern in zip(heads, (one, other))]
    if all(plain):
        return one == other
    if plain[0]:
        return one.startswith(short[1])
    if plain[1]:
        return other.startswith(short[0])
    return short[0].startswith(short[1]) or short[1].startswith(short[0])


def filters(patterns: List[str], kind: str) -> List[str]:
    found = []
    for pattern in patterns:
        # No topic has such a character, and so nothing is allowed.
        if kind != "subscribe" and re.search("[+#]", pattern):
            continue
        # `a/*` does not match `a`; devices subscribe with `a/#` for it all the same.
        found.append(filter_of(pattern, "+/#" if kind == "publish" else "#"))
    return found


def filter_of(pattern: str, end: str) -> str:
    if pattern == "*":
        return "#"
    levels = pattern.split("/")
    last = len(levels) - 1
    for index, level in enumerate(levels):
        if level == "*":
            levels[index] = end if index == last else "+"
        elif level == "+" or (level == "#" and index == last):
            pass
        elif re.search("[*?+#%]", level):
            raise Failure(f"{pattern!r} of the policy is no topic filter: wildcards stand for whole levels")
    return "/".join(levels)


def covers(wide: str, narrow: str) -> bool:
    """Whether every topic that `narrow` matches is matched by `wide` too."""
    levels = narrow.split("/")
    for index, level in enumerate(wide.split("/")):
        if level == "#":
            return True
        if index >= len(levels) or levels[index] == "#" or level not in ("+", levels[index]):
            return False
    return len(levels) == len(wide.split("/"))
