"""`python -m portway.runtime.kit`: what is behind `portway plugin new`, `run`, `test`, `pack`, `keygen` and `sign`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from portway.runtime.kit.folder import Unusable
from portway.runtime.kit.new import KINDS, NAMES, make
from portway.runtime.kit.pack import pack
from portway.runtime.kit.play import play
from portway.runtime.kit.trial import try_out
from portway.runtime.signing.sign import make_key, sign

_REFUSED = 1


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="portway plugin", description="For authors of plugins; no server is needed.")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="make a folder to begin with")
    new.add_argument("folder", type=Path, help="made; its name is the plugin's name")
    new.add_argument("--template", choices=NAMES, help="what it begins with: python, go, node, or a kind")
    new.add_argument("--kind", choices=KINDS, default="runner", help="what a plugin in Python brings (runner)")
    new.add_argument("--author", default="me", help="the first half of the plugin's id (me)")
    run = commands.add_parser("run", help="run a plugin once, with a message, in a runtime of its own")
    run.add_argument("folder", type=Path, help="the plugin's folder")
    run.add_argument("message", help="what the person says")
    run.add_argument("--runner", default="", help="name of the runner, where there are several (default)")
    run.add_argument("--history", action="append", default=[], metavar="TEXT", help="an earlier message; repeat it")
    run.add_argument("--config", action="append", default=[], metavar="NAME=VALUE", help="configuration; repeat it")
    test = commands.add_parser("test", help="run the conformance suite on a plugin in any language")
    test.add_argument("folder", type=Path, help="the plugin's folder")
    packing = commands.add_parser("pack", help="make a zip of a plugin; the same files make the same bytes")
    packing.add_argument("folder", type=Path, help="the plugin's folder")
    packing.add_argument("--output", "-o", type=Path, help="file or folder for it (AUTHOR-NAME-VERSION.zip, here)")
    packing.add_argument("--sign", type=Path, metavar="KEY", help="sign it with this private key")
    keygen = commands.add_parser("keygen", help="make a key that signs plugins")
    keygen.add_argument("key", type=Path, help="file for the private key; keep it to yourself")
    signing = commands.add_parser("sign", help="sign a packed plugin; the signature lies beside it")
    signing.add_argument("zip", type=Path, help="what `pack` made")
    signing.add_argument("--key", type=Path, required=True, help="the private key")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    given = _arguments(argv)
    try:
        match given.command:
            case "new":
                make(given.folder, given.template or KINDS[given.kind], given.author)
            case "run":
                return asyncio.run(play(given.folder, given.message, given.runner, given.history, given.config))
            case "test":
                return asyncio.run(try_out(given.folder))
            case "keygen":
                made = make_key(given.key)
                print(f"key id {made.key_id}; operators trust it with\nruntime:\n  installing:")
                print(f"    trusted_keys: {{{given.key.stem}: {made.public_key}}}")
            case "sign":
                print(sign(given.zip, given.key))
            case _:
                target = pack(given.folder, given.output)
                print(target)
                if given.sign is not None:
                    print(sign(target, given.sign))
    except Unusable as error:
        print(error, file=sys.stderr)
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
