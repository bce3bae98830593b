"""Which addresses the outbound policy lets requests reach, however they are spelled."""

from __future__ import annotations

import pytest

from portway.rpc.addresses import literal
from portway.rpc.errors import NotPermitted
from portway.server.outbound.policy import OutboundPolicy

INSIDE = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://0x7f.0.0.1./",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://a.localhost/",
    "http://10.0.0.1/",
    "http://172.16.3.4/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://0.0.0.0/",
    "http://0/",
    "http://255.255.255.255/",
    "http://224.0.0.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://100.100.100.200/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[2002:7f00:1::]/",
    "http://[64:ff9b::10.0.0.1]/",
    "http://[ff02::1]/",
]


@pytest.mark.parametrize("url", INSIDE)
def test_what_is_inside_is_refused_in_every_spelling(url: str) -> None:
    with pytest.raises(NotPermitted):
        OutboundPolicy().check(url)


@pytest.mark.parametrize(
    "url", ["https://api.example.com/v1", "http://93.184.216.34/", "https://[2606:4700::1111]:8443/"]
)
def test_public_places_are_reached(url: str) -> None:
    OutboundPolicy().check(url)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/",
        "//example.com/",
        "https://",
        "https://user:pw@example.com/",
        "https://example.com:99999/",
        "https://[::1/",
        "",
    ],
)
def test_other_schemes_and_broken_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(NotPermitted) as refused:
        OutboundPolicy().check(url)
    assert "pw" not in refused.value.message
    assert str(refused.value.reason) == "REFUSED_BY_POLICY"


def test_only_the_schemes_that_are_allowed() -> None:
    with pytest.raises(NotPermitted, match="must begin with https://"):
        OutboundPolicy(schemes=("https",)).check("http://example.com/")
    with pytest.raises(ValueError, match="there is no scheme 'file'"):
        OutboundPolicy(schemes=("file",))


def test_private_places_that_an_operator_allows_are_reached_and_no_others() -> None:
    policy = OutboundPolicy(private_hosts=("localhost", "10.1.0.0/16", "fd00::/8", "::1"))
    for url in ("http://localhost:11434/", "http://10.1.2.3/", "http://[fd00::5]/", "http://[::1]:80/"):
        policy.check(url)
    for url in ("http://10.2.0.1/", "http://127.0.0.1/", "http://169.254.169.254/"):
        with pytest.raises(NotPermitted, match=r"outbound\.private_hosts"):
            policy.check(url)


def test_metadata_addresses_need_their_own_entry() -> None:
    open_policy = OutboundPolicy(private_addresses=True)
    open_policy.check("http://10.0.0.1/")
    with pytest.raises(NotPermitted, match="metadata"):
        open_policy.check("http://169.254.169.254/")
    with pytest.raises(NotPermitted, match="metadata"):
        open_policy.check("http://[fd00:ec2::254]/")
    OutboundPolicy(private_hosts=("169.254.169.254",)).check("http://169.254.169.254/")


def test_a_named_private_host_does_not_lead_to_the_metadata_of_the_machine() -> None:
    policy = OutboundPolicy(private_hosts=("models.lan",))
    address = literal("192.168.3.4")
    metadata = literal("169.254.169.254")
    assert address is not None
    assert metadata is not None
    policy.check_address("models.lan", address)
    with pytest.raises(NotPermitted):
        policy.check_address("models.lan", metadata)
    with pytest.raises(NotPermitted):
        policy.check_address("other.lan", address)


def test_allowed_and_denied_hosts() -> None:
    policy = OutboundPolicy(
        allowed_hosts=("*.example.com", "example.org"), denied_hosts=("bad.example.com", "93.184.0.0/16")
    )
    policy.check("https://api.example.com/")
    policy.check("https://EXAMPLE.org./")
    for url in ("https://example.com/", "https://bad.example.com/", "https://notexample.com/", "https://1.1.1.1/"):
        with pytest.raises(NotPermitted):
            policy.check(url)
    denied = literal("93.184.216.34")
    assert denied is not None
    with pytest.raises(NotPermitted, match="denied_hosts"):
        policy.check_address("api.example.com", denied)
