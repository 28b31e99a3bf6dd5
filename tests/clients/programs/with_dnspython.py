"""Look-ups through dnspython's stub resolver, which reads /etc/resolv.conf."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import dns.exception
import dns.rdatatype
import dns.resolver
import dns.reversename

from tests.clients.programs.answers import Failed, NotThere, serve

_FAMILIES = {"any": ("AAAA", "A"), "4": ("A",), "6": ("AAAA",)}


def look(request: list[str]) -> Iterable[str]:
    match request:
        case ["ptr", address]:
            return _resolve(str(dns.reversename.from_address(address)), "PTR")
        case ["type", number, name]:
            return [str(len(_resolve(name, dns.rdatatype.to_text(dns.rdatatype.RdataType.make(int(number))))))]
        case ["many", count, suffix]:
            with ThreadPoolExecutor(int(count)) as threads:
                found = threads.map(lambda number: _addresses("any", f"m{number}.{suffix}"), range(int(count)))
                return [str(sum(1 for one in found if one))]
        case [family, name]:
            return _addresses(family, name)
    raise AssertionError(request)


def _addresses(family: str, name: str) -> list[str]:
    found = []
    for rtype in _FAMILIES[family]:
        try:
            found += _resolve(name, rtype)
        except NotThere as error:
            if str(error) == "NXDOMAIN":
                raise
    if not found:
        raise NotThere("NODATA")
    return found


def _resolve(name: str, rtype: str) -> list[str]:
    try:
        answer = dns.resolver.resolve(name, rtype, search=True)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer) as error:
        raise NotThere("NXDOMAIN" if isinstance(error, dns.resolver.NXDOMAIN) else "NODATA") from error
    except dns.exception.DNSException as error:
        raise Failed(type(error).__name__) from error
    return [rdata.to_text().rstrip(".") for rdata in answer]


if __name__ == "__main__":
    serve(look)
