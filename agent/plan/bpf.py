"""Instructions of the kernel's BPF machine, with names for places to jump to. Pure.

Only what `agent.plan.link_filter` needs of RFC 9669. Registers are numbers from 0 to 10; `load` reads memory, `jump`
compares with a constant, `jump_register` with a register.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field

CONTEXT, FRAME = 1, 10  # the registers that hold the packet's context, and the end of the stack, at the start

_INSTRUCTION = struct.Struct("=BBhi")
_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}  # BPF_B, BPF_H, BPF_W, BPF_DW
_LOAD, _STORE, _LOAD_CONSTANT = 0x61, 0x63, 0x18  # BPF_LDX|MEM, BPF_STX|MEM; BPF_LD|IMM|DW
_MOVE, _MOVE_REGISTER, _ADD = 0xB7, 0xBF, 0x07  # BPF_ALU64
_CALL, _EXIT, _ALWAYS = 0x85, 0x95, 0x05
_COMPARISONS = {"==": 0x10, "!=": 0x50, ">": 0x20}  # BPF_JEQ, BPF_JNE, BPF_JGT
_WITH_CONSTANT, _WITH_REGISTER = 0x06, 0x0D  # BPF_JMP32|BPF_K compares 32 bits, BPF_JMP|BPF_X all 64


@dataclass(slots=True)
class Program:
    """A program that is being written, instruction by instruction."""

    _written: list[tuple[int, int, int, int, int, str]] = field(default_factory=list)
    """Opcode, destination and source register, offset, constant, and the label that is jumped to."""
    _labels: dict[str, int] = field(default_factory=dict)
    """The number of the instruction that follows each label."""

    def label(self, name: str) -> None:
        """Names the next instruction."""
        self._labels[name] = len(self._written)

    def load(self, register: int, base: int, offset: int, size: int) -> None:
        """``register`` = the ``size`` octets at ``base`` + ``offset``, as they lie in memory."""
        self._add(_LOAD | _SIZES[size], register, base, offset)

    def store(self, base: int, offset: int, value: int) -> None:
        """The four octets at ``base`` + ``offset`` = ``value``, by way of register 0.

        Before Linux 6.4, a constant may not be stored in the context of a packet, but a register may.
        """
        self.move(0, value)
        self._add(_STORE, base, 0, offset)

    def constant(self, register: int, octets: bytes) -> None:
        """``register`` = the number that `load` reads where ``octets``, of which there are eight, lie in memory."""
        low, high = struct.unpack("=ii", octets if sys.byteorder == "little" else octets[4:] + octets[:4])
        self._add(_LOAD_CONSTANT, register, 0, 0, low)
        self._add(0, 0, 0, 0, high)

    def move(self, register: int, value: int) -> None:
        """``register`` = ``value``."""
        self._add(_MOVE, register, 0, 0, value)

    def move_register(self, register: int, other: int, add: int = 0) -> None:
        """``register`` = ``other`` + ``add``."""
        self._add(_MOVE_REGISTER, register, other)
        if add:
            self._add(_ADD, register, 0, 0, add)

    def call(self, helper: int) -> None:
        """Calls a helper of the kernel with registers 1 to 5; its result is in register 0."""
        self._add(_CALL, 0, 0, 0, helper)

    def jump(self, target: str, register: int, comparison: str, value: bytes | int) -> None:
        """Goes to ``target`` if ``register`` compares so with ``value``: a number, or octets as `load` reads them."""
        number = int.from_bytes(value, sys.byteorder) if isinstance(value, bytes) else value
        (signed,) = struct.unpack("=i", struct.pack("=I", number))
        self._add(_COMPARISONS[comparison] | _WITH_CONSTANT, register, 0, 0, signed, target)

    def jump_register(self, target: str, register: int, comparison: str, other: int) -> None:
        """Goes to ``target`` if ``register`` compares so with the register ``other``."""
        self._add(_COMPARISONS[comparison] | _WITH_REGISTER, register, other, 0, 0, target)

    def go(self, target: str) -> None:
        """Goes to ``target``."""
        self._add(_ALWAYS, target=target)

    def exit(self, value: int) -> None:
        """Ends with ``value``."""
        self.move(0, value)
        self._add(_EXIT)

    def packed(self) -> bytes:
        """The program as the kernel takes it."""
        return b"".join(
            _INSTRUCTION.pack(
                opcode,
                register | source << 4 if sys.byteorder == "little" else register << 4 | source,
                self._labels[target] - at - 1 if target else offset,
                constant,
            )
            for at, (opcode, register, source, offset, constant, target) in enumerate(self._written)
        )

    def _add(
        self, opcode: int, register: int = 0, source: int = 0, offset: int = 0, constant: int = 0, target: str = ""
    ) -> None:
        self._written.append((opcode, register, source, offset, constant, target))
