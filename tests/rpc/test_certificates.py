"""Callers known by certificates: real ones, over the wire."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from portway.rpc.certificates import CertificateRole, ClientRule, TokenPolicy
from portway.rpc.channel import ClientTls, open_channel
from portway.rpc.errors import NotAuthenticated, NotPermitted, Reason, Unavailable
from portway.rpc.identity import Caller, Role
from portway.rpc.serving import TlsConfig
from portway.rpc.status import errors_by_meaning
from tests.rpc.authority import Authority
from tests.rpc.contract import EchoMessage
from tests.rpc.echo_server import ADMIN, MEMBER, EchoServer, EchoServicer, Stub, echo_server

RULES = (
    ClientRule(role=CertificateRole.MEMBER, common_name="laptop-*", workspace="team", subject="ada"),
    ClientRule(role=CertificateRole.MEMBER, alternative_name="spiffe://example.org/adapters/*"),
    ClientRule(role=CertificateRole.MEMBER, common_name="default-member"),
    ClientRule(role=CertificateRole.VIEWER, common_name="reader"),
)


@dataclass
class Secured:
    server: EchoServer
    servicer: EchoServicer
    authority: Authority

    async def say(self, tls: ClientTls, token: str = "") -> Caller:
        """Who the server thinks has called."""
        async with open_channel(self.server.server.address, token=token or None, tls=tls) as channel:
            with errors_by_meaning():
                await Stub(channel).method("Say")(EchoMessage(text="hi"), timeout=60)
        caller: Caller = self.servicer.calls[-1].caller
        return caller


@asynccontextmanager
async def secured(folder: Path, tokens: TokenPolicy = TokenPolicy.ALLOWED) -> AsyncIterator[Secured]:
    authority = Authority(folder / "ours")
    own = authority.issue("server")
    assert own.certificate is not None and own.private_key is not None
    tls = TlsConfig(own.certificate, own.private_key, client_ca=authority.ca, clients=RULES, tokens=tokens)
    servicer = EchoServicer()
    async with echo_server(servicer, tls=tls) as server:
        yield Secured(server, servicer, authority)


async def test_a_certificate_stands_for_whom_a_rule_says(tmp_path: Path) -> None:
    async with secured(tmp_path) as served:
        by_name = await served.say(served.authority.issue("laptop-7"))
        assert (by_name.role, by_name.workspace_id, by_name.subject) == (Role.MEMBER, "team", "ada")
        assert by_name.token_id.startswith("crt_") and by_name.peer.startswith("ipv4:127.0.0.1")
        uri = "spiffe://example.org/adapters/web"
        by_uri = await served.say(served.authority.issue("any", uri))
        assert (by_uri.role, by_uri.workspace_id, by_uri.subject) == (Role.MEMBER, "default", uri)
        assert by_uri.principal != by_name.principal


async def test_no_rule_a_role_without_the_method_and_a_name_that_only_begins_alike(tmp_path: Path) -> None:
    async with secured(tmp_path) as served:
        for unknown in ("server", "not-a-laptop-7", "laptop"):
            with pytest.raises(NotAuthenticated) as refused:
                await served.say(served.authority.issue(unknown))
            assert refused.value.reason == Reason.CERTIFICATE_UNKNOWN
        with pytest.raises(NotPermitted):
            await served.say(served.authority.issue("reader"))


async def test_another_authority_an_expired_certificate_and_none_do_not_connect(tmp_path: Path) -> None:
    async with secured(tmp_path) as served:
        theirs = Authority(tmp_path / "theirs").issue("laptop-7")
        ours = served.authority.ca
        for wrong in (
            ClientTls(ca=ours, certificate=theirs.certificate, private_key=theirs.private_key),
            served.authority.issue("laptop-8", expired=True),
            ClientTls(ca=ours),
        ):
            with pytest.raises(Unavailable):
                await served.say(wrong)
    assert not served.servicer.calls


async def test_a_token_counts_where_it_is_allowed(tmp_path: Path) -> None:
    async with secured(tmp_path) as served:
        found = await served.say(served.authority.issue("laptop-7"), ADMIN.text)
        assert (found.role, found.token_id) == (Role.ADMIN, ADMIN.token_id)
        with pytest.raises(NotAuthenticated):
            # A wrong one is not made good by the certificate.
            await served.say(served.authority.issue("laptop-7"), "pw_member_" + "0" * 32 + "_" + "0" * 64)


async def test_both_are_asked_for_and_must_fit(tmp_path: Path) -> None:
    async with secured(tmp_path, TokenPolicy.REQUIRED) as served:
        member = served.authority.issue("default-member")
        found = await served.say(member, MEMBER.text)
        assert found.token_id == MEMBER.token_id
        with pytest.raises(NotAuthenticated) as missing:
            await served.say(member)
        assert missing.value.reason == Reason.TOKEN_MISSING
        for name, token in (("laptop-7", MEMBER.text), ("default-member", ADMIN.text), ("nobody", MEMBER.text)):
            with pytest.raises(NotAuthenticated) as refused:
                await served.say(served.authority.issue(name), token)
            assert refused.value.reason == Reason.CERTIFICATE_UNKNOWN


async def test_tokens_are_refused_where_certificates_say_it_all(tmp_path: Path) -> None:
    async with secured(tmp_path, TokenPolicy.REFUSED) as served:
        assert (await served.say(served.authority.issue("laptop-7"))).subject == "ada"
        with pytest.raises(NotAuthenticated):
            await served.say(served.authority.issue("laptop-7"), MEMBER.text)


def test_rules_without_an_authority_or_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match="client_ca"):
        TlsConfig(Path("a"), Path("b"), clients=RULES)
    with pytest.raises(ValueError, match="common_name"):
        ClientRule(role=CertificateRole.MEMBER)
