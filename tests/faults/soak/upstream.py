"""An upstream resolver: the A of a name is made of the name. Over UDP, those that begin with ``big`` are truncated."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

TTL = 5  # seconds; short, so that the forwarder's cache has something to do
_TRUNCATED, _PLAIN = bytes.fromhex("8380"), bytes.fromhex("8180")
_HEADER = 12  # octets


def address_of(name: str) -> str:
    """What the upstream answers for ``name``, which ends with a dot."""
    return ".".join(map(str, zlib.crc32(name.lower().encode()).to_bytes(4, "big")))


class Upstream(asyncio.DatagramProtocol):
    """The server, over UDP and TCP."""

    @classmethod
    async def start(cls, port: int) -> tuple[asyncio.DatagramTransport, asyncio.Server]:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(cls, local_addr=("127.0.0.1", port))
        return transport, await asyncio.start_server(_serve, "127.0.0.1", port)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._transport.sendto(reply_to(data, tcp=False), address)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        reply = reply_to(query, tcp=True)
        writer.write(len(reply).to_bytes(2, "big") + reply)
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def reply_to(query: bytes, *, tcp: bool) -> bytes:
    labels, at = [], _HEADER
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    question, name = query[_HEADER : at + 5], ".".join(labels) + "."
    if name.lower().startswith("big") and not tcp:
        return query[:2] + _TRUNCATED + bytes.fromhex("0001000000000000") + question
    if question[-4:-2] != b"\0\1":  # only A has data
        return query[:2] + _PLAIN + bytes.fromhex("0001000000000000") + question
    address = bytes(map(int, address_of(name).split(".")))
    record = bytes.fromhex("c00c00010001") + TTL.to_bytes(4, "big") + b"\0\4" + address
    return query[:2] + _PLAIN + bytes.fromhex("0001000100000000") + question + record
