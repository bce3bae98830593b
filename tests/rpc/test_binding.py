"""A servicer that does not fit its service is refused at start, with what is wrong."""

from typing import Any

import pytest

from portway.rpc.binding import OPEN, RegistrationError, Service, bind
from portway.rpc.describe import contract_services
from portway.rpc.identity import Role
from portway.v1 import options_pb2
from tests.rpc.contract import ECHO
from tests.rpc.contract import OPEN as OPEN_SERVICE
from tests.rpc.echo_server import EchoServicer


class WithUnknownMethod(EchoServicer):
    async def Shout(self, request: Any, call: Any) -> Any:
        return request


class WithPlainMethod:
    def Say(self, request: Any, call: Any) -> Any:
        return request


class WithGenerator:
    async def Count(self, request: Any, call: Any) -> Any:
        yield request


class WithWrongArguments:
    async def Collect(self, request: Any, call: Any) -> Any:
        return request


@pytest.mark.parametrize(
    ("servicer", "complaint"),
    [
        (WithUnknownMethod(), "has no Shout"),
        (WithPlainMethod(), "Say: the servicer's method is not an async function"),
        (WithGenerator(), "Count: the servicer's method is not an async function"),
        (WithWrongArguments(), r"Collect: the servicer's method must take \(call\)"),
    ],
)
def test_a_servicer_that_does_not_fit_is_refused(servicer: object, complaint: str) -> None:
    with pytest.raises(RegistrationError, match=complaint):
        bind(Service(ECHO, servicer))


def test_names_of_methods_that_do_not_exist_are_refused() -> None:
    with pytest.raises(RegistrationError, match="has no Relai"):
        bind(Service(ECHO, EchoServicer(), raw_methods=frozenset({"Relai"})))
    with pytest.raises(RegistrationError, match="has no Sey"):
        bind(Service(ECHO, EchoServicer(), quiet_methods=frozenset({"Sey"})))


def test_a_method_without_an_access_option_cannot_be_served() -> None:
    with pytest.raises(RegistrationError, match="no .portway.v1.access. option"):
        bind(Service(OPEN_SERVICE, None))


def test_access_to_the_contract_cannot_be_widened_in_code() -> None:
    with pytest.raises(RegistrationError, match="decided in the contract"):
        bind(Service(ECHO, EchoServicer(), access=OPEN))


def test_admin_is_always_among_the_roles() -> None:
    methods = {method.path.rpartition("/")[2]: method for method in bind(Service(ECHO, EchoServicer())).methods}
    assert methods["Say"].access.roles == {Role.ADMIN, Role.MEMBER}
    assert methods["Administer"].access.roles == {Role.ADMIN}
    assert methods["Later"].target is None


def test_roles_are_those_of_the_contract() -> None:
    names = {f"ROLE_{role.name}": role.value for role in Role} | {"ROLE_UNSPECIFIED": 0}
    assert names == dict(options_pb2.Role.items())


def test_every_service_of_the_contract_can_be_bound_without_a_servicer() -> None:
    services = contract_services()
    bound = [bind(Service(service, None)) for service in services]
    assert len(bound) > 20
    assert all(method.target is None for service in bound for method in service.methods)
