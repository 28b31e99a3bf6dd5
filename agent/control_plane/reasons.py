"""Why a control plane was not reached, in words: aiohttp's own show its objects."""

from __future__ import annotations

import os
import ssl

import aiohttp


def reason_of(error: aiohttp.ClientError | OSError) -> str:
    """What ``error``, of a connection to a control plane, says to somebody who does not know the program."""
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as inner):
            return f"its certificate is not good: {inner.verify_message}"
        case aiohttp.ClientConnectorError(os_error=inner, host=host, port=port):
            return f"{host}:{port}: {_words(inner)}"
        case OSError():
            return _words(error)
    return str(error) or type(error).__name__


def _words(error: OSError) -> str:
    # The text that asyncio gives has addresses as tuples; the resolver's errors have negative numbers and good texts.
    if isinstance(error, ssl.SSLError):
        return f"no TLS 1.3 is spoken there: {(error.reason or str(error)).lower().replace('_', ' ')}"
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or str(error)
