"""Every method of the runtime, for every kind of caller that it can have."""

from pathlib import Path

from portway.rpc.identity import Role
from portway.rpc.token_file import TokenFile
from portway.rpc.tokens import mint_token
from portway.runtime.app import run_runtime
from portway.runtime.config import RuntimeConfig
from tests.credentials import credentials_file
from tests.probing import methods_of, path_of, probe_all, roles_of

METHODS = methods_of("RuntimeService")
INVALID = ("UNAUTHENTICATED", "TOKEN_INVALID")


async def test_each_role_calls_what_the_contract_lets_it_call_and_nobody_else_anything(
    config: RuntimeConfig, tmp_path: Path
) -> None:
    tokens = {role: mint_token(role.name.lower()) for role in Role}
    file = credentials_file(tmp_path / "accepted.json", tokens)
    async with run_runtime(config, TokenFile(file)) as server:
        served = {method.path: method for service in server.services for method in service.methods}
        assert {path for path in served if path.startswith("/portway.")} == set(map(path_of, METHODS))
        for role, token in tokens.items():
            verdicts = await probe_all(server.address, METHODS, f"Bearer {token.text}")
            for method in METHODS:
                path = path_of(method)
                if role not in roles_of(method):
                    expected = ("PERMISSION_DENIED", "ROLE_LACKS_METHOD")
                elif served[path].target is None:
                    expected = ("UNIMPLEMENTED", "NOT_AVAILABLE")
                else:
                    expected = ("INVALID_ARGUMENT", "UNPARSABLE_MESSAGE")
                assert verdicts[path].short == expected, (role, path, verdicts[path])
        wrong = tokens[Role.ADMIN].text.rpartition("_")[0] + "_" + "0" * 64
        for header, expected in (
            ("", ("UNAUTHENTICATED", "TOKEN_MISSING")),
            ("Basic YTpi", INVALID),
            ("Bearer garbage", INVALID),
            (f"Bearer {mint_token('admin').text}", INVALID),
            (f"Bearer {wrong}", INVALID),
        ):
            found = await probe_all(server.address, METHODS, header)
            assert {verdict.short for verdict in found.values()} == {expected}
