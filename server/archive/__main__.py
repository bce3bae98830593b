"""`python -m portway.server.archive`: what `portway db` and `portway token reset-admin` do on the host's machine."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from portway.rpc.configuration import EXIT_CODE, ConfigurationError
from portway.rpc.errors import InvalidInput, NotFound, PortwayError
from portway.server.archive.backup import back_up
from portway.server.archive.check import check
from portway.server.archive.export import export
from portway.server.archive.load import import_archive
from portway.server.archive.manifest import Manifest
from portway.server.archive.place import Place, find_place
from portway.server.archive.reset_admin import reset_admin
from portway.server.archive.restore import restore
from portway.server.archive.sizes import measure
from portway.server.archive.vacuum import vacuum

_WITHOUT_KEYS = (
    "warning: the archive has NO keys. Stored secrets (provider keys, tokens of platforms) cannot be read without "
    "{keys}: keep a copy of that file in a safe place, apart from this archive."
)
_WITH_KEYS = "warning: the archive holds the keys to every stored secret. Keep it as safe as the secrets themselves."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="portway db", description="The host's data, on its own machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, told: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=told, description=told)
        sub.add_argument("--data", type=Path, default=Path("data"), help="folder as given to `portway up`")
        sub.add_argument("--host-data", type=Path, help="folder of a host alone, as given to `portway host`")
        sub.add_argument("--config", type=Path, help="configuration file, where it names the database")
        sub.add_argument("--json", action="store_true", help="print JSON for programs")
        return sub

    command("size", "Bytes and rows per table, blobs, backups. The host may run.")
    sub = command("check", "Look for damage: database, files, keys. The host may run. Exit code 1 where there is some.")
    sub.add_argument("--quick", action="store_true", help="do not read every byte")
    command("vacuum", "Give unused space back to the disk. The host must be stopped.")
    for name, told in (
        ("backup", "Write one archive of everything, of one moment. The host may run."),
        ("export", "Write a portable archive, for SQLite and PostgreSQL alike. The host may run."),
    ):
        sub = command(name, told)
        sub.add_argument("archive", type=Path, help="file to write; it must not be there yet")
        sub.add_argument("--include-keys", action="store_true", help="also the keys to the stored secrets")
        sub.add_argument("--without-blobs", action="store_true", help="leave out the bytes of files")
    sub = command("restore", "Put a backup in its place. The host must be stopped.")
    sub.add_argument("archive", type=Path)
    sub.add_argument("--replace", action="store_true", help="move aside what is there")
    sub.add_argument("--keys", type=Path, help="key file, for an archive without keys")
    sub = command("import", "Read an export into an empty database. The host must be stopped.")
    sub.add_argument("archive", type=Path)
    moved = "the old host was stopped before the export and stays so: what was pending goes on"
    sub.add_argument("--moved", action="store_true", help=moved)
    sub = command("reset-admin", "Make a new admin token. The host must be stopped.")
    sub.add_argument("--token-file", type=Path, help="where it is written (default: DATA/admin.token)")
    sub.add_argument("--revoke-others", action="store_true", help="end every other admin token")
    return parser


def _size(place: Place, options: argparse.Namespace) -> int:
    usage = measure(place)
    if options.json:
        return _print(asdict(usage))
    for table in usage.tables:
        print(f"{table.table:<24}{table.rows:>12} rows {_told(table.size):>12}")
    print(f"\ndatabase {_told(usage.database)}, of it unused {_told(usage.free)}; log {_told(usage.log)}")
    print(f"files {_told(usage.blobs)} in {usage.blob_files}; backups of migrations {_told(usage.backups)}")
    return 0


def _check(place: Place, options: argparse.Namespace) -> int:
    report = check(place, quick=options.quick)
    if options.json:
        _print(asdict(report))
    else:
        print("\n".join(report.problems) or f"no damage found; {report.blobs} files looked at")
    return 1 if report.problems else 0


def _vacuum(place: Place, options: argparse.Namespace) -> int:
    before, after = vacuum(place)
    return _print({"before": before, "after": after}) if options.json else _say(f"{_told(before)} -> {_told(after)}")


def _backup(place: Place, options: argparse.Namespace) -> int:
    manifest = back_up(place, options.archive, keys=options.include_keys, blobs=not options.without_blobs)
    return _archived(place, options, manifest)


def _export(place: Place, options: argparse.Namespace) -> int:
    manifest = export(place, options.archive, keys=options.include_keys, blobs=not options.without_blobs)
    if manifest.host_running:
        print("note: the host was running; what it does from now on is not in the archive", file=sys.stderr)
    return _archived(place, options, manifest)


def _archived(place: Place, options: argparse.Namespace, manifest: Manifest) -> int:
    print(_WITH_KEYS if manifest.keys else _WITHOUT_KEYS.format(keys=place.keys), file=sys.stderr)
    for name in manifest.missing:
        print(f"warning: {place.data / name} is missing, so the archive lacks it too", file=sys.stderr)
    size = options.archive.stat().st_size
    rows = sum(manifest.rows.values())
    if options.json:
        short = {"kind": manifest.kind, "revision": manifest.revision, "rows": manifest.rows, "keys": manifest.keys}
        return _print({**short, "files": len(manifest.members), "size": size, "missing": manifest.missing})
    return _say(f"{options.archive}: {rows} rows, {len(manifest.members)} files, {_told(size)}")


def _restore(place: Place, options: argparse.Namespace) -> int:
    done = asyncio.run(restore(options.archive, place, replace=options.replace, keys=options.keys))
    if done.aside is not None:
        print(f"what was there before is in {done.aside}", file=sys.stderr)
    if not done.keys:
        print(f"warning: there are no keys. Put the key file at {place.keys} before the host starts.", file=sys.stderr)
    settled = done.settled
    if options.json:
        return _print({**asdict(settled), "data": str(place.data), "aside": str(done.aside or ""), "keys": done.keys})
    return _say(
        f"{place.data}: restored; {settled.parked_deliveries} deliveries wait for a person, {settled.ended_runs} open "
        f"runs were ended, epoch {settled.epoch}\n"
        "DeliveryService.ListDeliveries shows them as UNKNOWN; RetryDelivery sends one, DiscardDelivery drops it"
        if settled.parked_deliveries
        else f"{place.data}: restored; {settled.ended_runs} open runs were ended, epoch {settled.epoch}"
    )


def _import(place: Place, options: argparse.Namespace) -> int:
    settled = asyncio.run(import_archive(options.archive, place, moved=options.moved))
    if options.json:
        return _print(asdict(settled) if settled else {"moved": True})
    if settled is None:
        return _say("imported; what was pending goes on with the next start")
    return _say(
        f"imported; {settled.parked_deliveries} deliveries wait for a person, {settled.ended_runs} open runs were ended"
    )


def _reset_admin(place: Place, options: argparse.Namespace) -> int:
    file = options.token_file or options.data / "admin.token"
    done = asyncio.run(reset_admin(place, file, revoke_others=options.revoke_others))
    if options.json:
        return _print({"token_id": done.token_id, "file": str(done.file), "revoked": done.revoked})
    return _say(f"token {done.token_id} is in {done.file}; {done.revoked} older admin tokens were ended")


_COMMANDS: dict[str, Callable[[Place, argparse.Namespace], int]] = {
    "size": _size,
    "check": _check,
    "vacuum": _vacuum,
    "backup": _backup,
    "export": _export,
    "restore": _restore,
    "import": _import,
    "reset-admin": _reset_admin,
}


def _print(document: object) -> int:
    json.dump(document, sys.stdout, indent=2)
    print()
    return 0


def _say(text: str) -> int:
    print(text)
    return 0


def _told(size: int) -> str:
    return f"{size / 1048576:.1f} MiB" if size >= 1048576 else f"{size / 1024:.1f} KiB"


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    try:
        place = find_place(options.data, options.host_data, options.config, os.environ)
        return _COMMANDS[options.command](place, options)
    except (PortwayError, ConfigurationError) as error:
        print(f"portway db {options.command}: {error}", file=sys.stderr)
        if isinstance(error, ConfigurationError):
            return EXIT_CODE
        return 2 if isinstance(error, InvalidInput) else 3 if isinstance(error, NotFound) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
