"""Up, a frame of six bytes becomes JSON: temperature (i16, 0.01 °C), humidity (u16, 0.01 %),
battery (u16, mV), big-endian, published to `…/telemetry`. Down, `{"report_interval": 60}` becomes
two bytes (u16, seconds), published to `…/down`."""

import json
import struct

from portreeve_guest import Answer, Context, Direction, Message, Reject, parser


@parser
def parse(context: Context, message: Message) -> Answer:
    return up(message) if context.direction is Direction.UP else down(message)


def up(message: Message) -> Answer:
    if len(message.payload) != 6:
        return Reject(f"a frame has 6 bytes, this has {len(message.payload)}")
    temperature, humidity, battery = struct.unpack(">hHH", message.payload)
    telemetry = (
        f'{{"temperature":{temperature / 100:g},"humidity":{humidity / 100:g},'
        f'"battery":{battery / 1000:g}}}'
    )
    return message.with_topic(message.sibling_topic("telemetry"), telemetry).json()


def down(message: Message) -> Answer:
    try:
        report_interval = json.loads(message.payload)["report_interval"]
    except (ValueError, TypeError, KeyError) as error:
        return Reject(f"this is no command: {error}")
    if type(report_interval) is not int or not 0 <= report_interval <= 65535:
        return Reject(f"report_interval is {report_interval!r}, not 0 to 65535")
    return message.with_topic(message.sibling_topic("down"), report_interval.to_bytes(2, "big"))
