"""Putting the filters of `agent.plan.link_filter` on links: BPF programs of the traffic control (tc-bpf(8)).

A program lives as long as it is on its link, whoever loaded it. It is put on before the link comes up.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

from agent.errors import Failed
from agent.plan.link_filter import LinkFilter
from agent.system.netlink import Links

_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}  # the number of bpf(2)
_LOAD, _CLASSIFIER = 5, 3  # BPF_PROG_LOAD, BPF_PROG_TYPE_SCHED_CLS
_LICENSE = b"Apache-2.0\0"
_INSTRUCTION = 8  # octets
ATTEMPTS = 50  # the kernel gives up checking a program where a signal comes meanwhile (EAGAIN), and libbpf tries again

_libc = ctypes.CDLL(None, use_errno=True)


class _LoadAttributes(ctypes.Structure):
    """The beginning of union bpf_attr of <linux/bpf.h>, as far as BPF_PROG_LOAD needs it."""

    _fields_ = (
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
    )


def guard_link(links: Links, link: str, wanted: LinkFilter) -> None:
    """Puts ``wanted`` on ``link``, unless it is there. Raises `Failed`."""
    if not is_guarded(links, link, wanted):
        put_filter(links, link, wanted)


def put_filter(links: Links, link: str, wanted: LinkFilter) -> None:
    """Puts ``wanted`` on ``link``, in place of an earlier one at the same moment. Raises `Failed`."""
    with loaded(wanted.incoming) as incoming, loaded(wanted.outgoing) as outgoing:
        links.set_filter(link, incoming, outgoing, wanted.label)


def is_guarded(links: Links, link: str, wanted: LinkFilter) -> bool:
    """Whether both programs of ``wanted`` are on ``link``. Raises `Failed`."""
    return links.filters(link) == (wanted.label, wanted.label)


@contextmanager
def loaded(program: bytes) -> Iterator[int]:
    """A descriptor of ``program`` in the kernel, which ends it unless it is on a link by then."""
    instructions, license_ = ctypes.create_string_buffer(program, len(program)), ctypes.create_string_buffer(_LICENSE)
    wanted = _LoadAttributes(
        prog_type=_CLASSIFIER,
        insn_cnt=len(program) // _INSTRUCTION,
        insns=ctypes.addressof(instructions),
        license=ctypes.addressof(license_),
    )
    number = _BPF.get(platform.machine())
    if number is None:
        raise Failed(f"the number of bpf(2) on {platform.machine()} is not known")
    for _ in range(ATTEMPTS):
        descriptor = _libc.syscall(number, _LOAD, ctypes.byref(wanted), ctypes.sizeof(wanted))
        if descriptor >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    if descriptor < 0:
        raise Failed(f"the kernel does not take a BPF program: {os.strerror(ctypes.get_errno())}")
    try:
        yield descriptor
    finally:
        os.close(descriptor)
