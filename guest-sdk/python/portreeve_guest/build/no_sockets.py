"""Takes the sockets out of a component.

CPython's C library imports `wasi:sockets`, which the gateway gives to no plugin. This module wraps
a component in another one that gives it the sockets of `no_sockets.wasm`, where nothing can be
opened, and passes every other import and export on. Clocks and random numbers stay the gateway's.

The imports of a component stand at its beginning, so that the wrapper takes this beginning over as
it is, with the imported sockets replaced, and nothing else has to be understood. Section and field
numbers are those of the component model's binary format.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

_PREAMBLE = b"\0asm\x0d\0\x01\0"
_COMPONENT, _INSTANCE, _ALIAS, _TYPE, _IMPORT, _EXPORT = 4, 5, 6, 7, 10, 11
_INSTANCE_SORT = 0x05
_TYPE_SORT = 0x03
# What componentize-py exports for its own use while it builds.
_INITIALIZER = "exports"


class Unknown(Exception):
    """The component is not laid out as componentize-py's are."""


def remove(component: bytes, sockets: bytes | None = None) -> bytes:
    """The same component without imports of `wasi:sockets`."""
    if sockets is None:
        sockets = Path(__file__).with_name("no_sockets.wasm").read_bytes()
    wrapper = bytearray(_PREAMBLE)
    # By the interface's name without its version: the index of the instance in the wrapper.
    instances: dict[str, int] = {}
    arguments: list[bytes] = []
    shift_from: int | None = None
    for section, content in _beginning(component):
        if section == _ALIAS and shift_from is not None:
            content = _shifted(content, shift_from)
        if section != _IMPORT:
            wrapper += _section(section, content)
            continue
        for imported in _imports(content):
            interface = imported.name.partition("@")[0]
            if interface.startswith("wasi:sockets/"):
                if shift_from is None:
                    shift_from = len(instances)
                    wrapper += _instance_of_sockets(sockets, instances)
                    instances["sockets"] = shift_from
                name = _exported_by(sockets, interface)
                wrapper += _alias_of_instance(shift_from, name)
            else:
                wrapper += _section(_IMPORT, b"\x01" + imported.encoded)
            index = instances[interface] = len(instances)
            arguments.append(_argument(imported.name, index))
    wrapper += _section(_COMPONENT, component)
    inner_component = 0 if shift_from is None else 1
    wrapper += _section(_INSTANCE, b"\x01\0" + _number(inner_component) + _list(arguments))
    inner, next_instance = len(instances), len(instances) + 1
    for name in _exports(component):
        if name != _INITIALIZER:
            wrapper += _alias_of_instance(inner, name)
            export = b"\0" + _text(name) + bytes([_INSTANCE_SORT]) + _number(next_instance) + b"\0"
            wrapper += _section(_EXPORT, b"\x01" + export)
            # An export has an index of its own, beside that of what it exports.
            next_instance += 2
    return bytes(wrapper)


@dataclass
class _Import:
    name: str
    encoded: bytes


def _beginning(component: bytes) -> Iterator[tuple[int, bytes]]:
    for section, content in _sections(component):
        if section not in (_TYPE, _IMPORT, _ALIAS):
            return
        yield section, content


def _imports(content: bytes) -> Iterator[_Import]:
    reader = _Reader(content)
    for _ in range(reader.number()):
        start = reader.at
        reader.expect(0x00)
        name = reader.text()
        reader.expect(_INSTANCE_SORT)
        reader.number()
        yield _Import(name, content[start : reader.at])


def _exports(component: bytes) -> Iterator[str]:
    for section, content in _sections(component):
        if section == _EXPORT:
            reader = _Reader(content)
            for _ in range(reader.number()):
                reader.expect(0x00)
                yield reader.text()
                reader.expect(_INSTANCE_SORT)
                reader.number()
                reader.expect(0x00)


def _exported_by(component: bytes, interface: str) -> str:
    for name in _exports(component):
        if name.partition("@")[0] == interface:
            return name
    raise Unknown(f"there is no stand-in for {interface}")


def _instance_of_sockets(sockets: bytes, instances: dict[str, int]) -> bytes:
    arguments = []
    for section, content in _beginning(sockets):
        for imported in _imports(content) if section == _IMPORT else ():
            index = instances.get(imported.name.partition("@")[0])
            if index is None:
                raise Unknown(f"{imported.name} is not imported before the sockets")
            arguments.append(_argument(imported.name, index))
    return _section(_COMPONENT, sockets) + _section(_INSTANCE, b"\x01\0\0" + _list(arguments))


def _shifted(content: bytes, shift_from: int) -> bytes:
    """Aliases of types of imported instances, whose indices are one higher in the wrapper."""
    reader = _Reader(content)
    aliases = []
    for _ in range(reader.number()):
        reader.expect(_TYPE_SORT)
        reader.expect(0x00)
        index = reader.number()
        index += index >= shift_from
        aliases.append(b"\x03\0" + _number(index) + _text(reader.text()))
    return _list(aliases)


def _alias_of_instance(instance: int, name: str) -> bytes:
    alias = bytes([_INSTANCE_SORT, 0]) + _number(instance) + _text(name)
    return _section(_ALIAS, b"\x01" + alias)


def _argument(name: str, instance: int) -> bytes:
    return _text(name) + bytes([_INSTANCE_SORT]) + _number(instance)


def _sections(component: bytes) -> Iterator[tuple[int, bytes]]:
    if component[: len(_PREAMBLE)] != _PREAMBLE:
        raise Unknown("this is no component")
    reader = _Reader(component, len(_PREAMBLE))
    while reader.at < len(component):
        section = reader.byte()
        length = reader.number()
        yield section, component[reader.at : reader.at + length]
        reader.at += length


class _Reader:
    def __init__(self, content: bytes, at: int = 0) -> None:
        self.content = content
        self.at = at

    def byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def expect(self, value: int) -> None:
        if self.byte() != value:
            raise Unknown(f"byte {self.content[self.at - 1]:#x} where {value:#x} was expected")

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def text(self) -> str:
        length = self.number()
        self.at += length
        return self.content[self.at - length : self.at].decode()


def _section(section: int, content: bytes) -> bytes:
    return bytes([section]) + _number(len(content)) + content


def _list(items: list[bytes]) -> bytes:
    return _number(len(items)) + b"".join(items)


def _text(text: str) -> bytes:
    return _number(len(text.encode())) + text.encode()


def _number(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
