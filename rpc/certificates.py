"""Callers known by the certificate of their connection. The library has checked it against the authority by then: what
is left is whom it stands for."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from portway.rpc.errors import NotAuthenticated, Reason
from portway.rpc.identity import Caller, Role

_COMMON_NAME = "x509_common_name"
_ALTERNATIVE = "x509_subject_alternative_name"
_WHOLE = "x509_pem_cert"


class TokenPolicy(StrEnum):
    """Whether those who have a certificate may send a token, or must."""

    ALLOWED = "allowed"
    REQUIRED = "required"
    REFUSED = "refused"


class CertificateRole(StrEnum):
    """What a certificate may stand for: what a token may, but for runs, runtimes and boxes."""

    ADMIN = "admin"
    OPERATOR = "operator"
    ADAPTER = "adapter"
    NODE = "node"
    VIEWER = "viewer"
    MEMBER = "member"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRule:
    """Certificates with this common name, or with this alternative name (DNS name, URI, address), are this principal.

    `*` in a name stands for anything. Where a rule has both names, both must fit. `subject` '' is the name that fitted.
    """

    role: CertificateRole
    common_name: str = ""
    alternative_name: str = ""
    workspace: str = "default"
    subject: str = ""

    def __post_init__(self) -> None:
        if not self.common_name and not self.alternative_name:
            raise ValueError("a rule needs a common_name or an alternative_name")


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a rule looks at. `fingerprint` is the start of its SHA-256."""

    common_name: str
    alternative_names: Sequence[str]
    fingerprint: str


def certificate_of(connection: Mapping[str, Iterable[bytes]]) -> Certificate | None:
    """From what the library says of a connection; nothing for one without."""
    whole = b"".join(connection.get(_WHOLE, ()))
    if not whole:
        return None
    common = b"".join(connection.get(_COMMON_NAME, ())).decode("utf-8", "replace")
    others = tuple(name.decode("utf-8", "replace") for name in connection.get(_ALTERNATIVE, ()))
    return Certificate(common, others, hashlib.sha256(whole).hexdigest()[:32])


class Certificates:
    """The rules of one server, in order: the first that fits counts."""

    def __init__(self, rules: Sequence[ClientRule], tokens: TokenPolicy = TokenPolicy.ALLOWED) -> None:
        self._rules = tuple(rules)
        self.tokens = tokens

    def caller(self, certificate: Certificate | None, peer: str) -> Caller:
        """Raises NotAuthenticated (CERTIFICATE_UNKNOWN)."""
        for rule in self._rules if certificate is not None else ():
            name = _fitting(rule, certificate) if certificate is not None else ""
            if name and certificate is not None:
                token_id = f"crt_{certificate.fingerprint}"
                return Caller(Role[rule.role.name], rule.workspace, token_id, rule.subject or name, "", peer)
        raise NotAuthenticated(
            "no rule of this server says whom the certificate of this connection stands for; add one under "
            "`tls.clients`, or send a token where that is allowed",
            reason=Reason.CERTIFICATE_UNKNOWN,
        )

    def check_fit(self, by_certificate: Caller, by_token: Caller) -> None:
        """Where both are required, they are of one principal. Raises NotAuthenticated (CERTIFICATE_UNKNOWN)."""
        one = by_certificate.role, by_certificate.workspace_id
        if one != (by_token.role, by_token.workspace_id):
            raise NotAuthenticated(
                "the token is not of the role and workspace that the certificate of this connection stands for",
                reason=Reason.CERTIFICATE_UNKNOWN,
            )


def _fitting(rule: ClientRule, certificate: Certificate) -> str:
    """The name that fits; '' where the rule does not."""
    if rule.common_name and not fnmatchcase(certificate.common_name, rule.common_name):
        return ""
    if not rule.alternative_name:
        return certificate.common_name
    return next((one for one in certificate.alternative_names if fnmatchcase(one, rule.alternative_name)), "")
