"""The platform's authority in the store, which the first control plane that needs it makes."""

from __future__ import annotations

from admin.hosts.certificates import Authority
from store.store import Store


async def load_authority(store: Store) -> Authority:
    """The platform's certificate authority. Raises `admin.hosts.errors.BadAuthority`, and `store.errors.Unavailable`.

    Of several control planes that start at once, one makes it, and all have that one.
    """
    found = await store.credentials.authority()
    if found is None:
        found = await store.credentials.add_authority(Authority.generate().pem)
    return Authority.parse(found)
