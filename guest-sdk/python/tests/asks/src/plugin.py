"""Makes the requests of guest-sdk/tests/asking.py."""

from portreeve_guest import Context, Message, http, parser


@parser
def parse(context: Context, message: Message) -> Message:
    lines = message.payload.decode().split("\n")
    return message.with_topic("told", "\n".join(map(told, lines)))


def told(line: str) -> str:
    method, url, milliseconds, mark, size = line.split(" ")
    timeout = int(milliseconds) / 1000 or None
    try:
        response = http.request(method, url, "x" * int(size), {"x-mark": mark}, timeout)
    except http.HttpError as error:
        return error.code.value
    return f"{response.status} {response.header('X-Served')} {response.text}"
