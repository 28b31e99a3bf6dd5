"""The keys under which the store holds its data, all below one prefix. The schema, with types, is in README.md."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PREFIX = "interlock:"
DIFFERENCES = ":differences"  # after the key of a document; no id has a colon, and whoever may read one may read both
ALL_HOSTS = "@hosts"  # stands where an environment's id does, for the documents of all hosts; no id begins with "@"


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of the keys. Each begins with ``prefix``, so several data sets can share one server."""

    prefix: str = DEFAULT_PREFIX

    @property
    def types(self) -> dict[str, str]:
        """The type that each key must have of which there is one: key → type, as the server calls it."""
        return {
            self.epoch: "string",
            self.environments: "hash",
            self.networks: "hash",
            self.changes: "stream",
            self.hosts: "hash",
            self.hosts_revision: "string",
            self.hosts_down: "hash",
            self.hosts_missed: "hash",
            self.tokens: "hash",
            self.token_uses: "hash",
            self.quotas: "hash",
            self.guard: "hash",
            self.authority: "string",
            self.credentials: "hash",
            self.enrolments: "hash",
            self.deleted: "hash",
        }

    @property
    def epoch(self) -> str:
        return self.prefix + "epoch"

    @property
    def environments(self) -> str:
        return self.prefix + "environments"

    @property
    def networks(self) -> str:
        return self.prefix + "networks"

    @property
    def changes(self) -> str:
        return self.prefix + "changes"

    @property
    def tokens(self) -> str:
        return self.prefix + "tokens"

    @property
    def token_uses(self) -> str:
        return self.prefix + "tokens:used"

    @property
    def quotas(self) -> str:
        return self.prefix + "quotas"

    @property
    def hosts(self) -> str:
        return self.prefix + "hosts"

    @property
    def hosts_revision(self) -> str:
        return self.prefix + "hosts:revision"

    @property
    def hosts_down(self) -> str:
        return self.prefix + "hosts:down"

    @property
    def hosts_missed(self) -> str:
        return self.prefix + "hosts:missed"

    @property
    def guard(self) -> str:
        return self.prefix + "guard"

    @property
    def authority(self) -> str:
        return self.prefix + "authority"

    @property
    def credentials(self) -> str:
        return self.prefix + "credentials"

    @property
    def enrolments(self) -> str:
        return self.prefix + "enrolments"

    @property
    def deleted(self) -> str:
        return self.prefix + "deleted"

    def deleted_document(self, id_: str, revision: int) -> str:
        return f"{self.prefix}deleted:{id_}:{revision}"

    def restoring(self, key: str) -> str:
        return f"{self.prefix}restoring:{key.removeprefix(self.prefix)}"

    def lease(self, host: str) -> str:
        return f"{self.prefix}lease:{host}"

    def claim(self, host: str) -> str:
        return f"{self.prefix}claim:{host}"

    def history(self, id_: str) -> str:
        return f"{self.prefix}history:{id_}"

    def sign_in(self, digest: str) -> str:
        return f"{self.prefix}sign-in:{digest}"

    def sign_in_link(self, digest: str) -> str:
        return f"{self.prefix}sign-in-link:{digest}"

    def environment(self, id_: str) -> str:
        return f"{self.prefix}environment:{id_}"

    def differences(self, id_: str) -> str:
        return self.environment(id_) + DIFFERENCES

    def aside(self, key: str) -> str:
        return f"{self.prefix}damaged:{key}"

    def acks(self, id_: str) -> str:
        return f"{self.prefix}acks:{id_}"
