"""`portway schedule`: list, show, create, delete, trigger, on, off."""

import uuid
from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS, Portway
from portway.rpc.status import errors_by_meaning
from portway.v1 import schedule_pb2 as pb

schedule = typer.Typer(no_args_is_help=True, help="What happens by the clock.")
Json = Annotated[bool, session.JSON_OPTION]
Id = Annotated[str, typer.Argument(help="Schedule id.")]


def register(app: typer.Typer) -> None:
    app.add_typer(schedule, name="schedule")


@schedule.command("list")
def list_schedules(as_json: Json = False) -> None:
    """The first 200 schedules, with their next and last time."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                page = await host.schedules.ListSchedules(pb.ListSchedulesRequest(page_size=200), timeout=CALL_SECONDS)
        if as_json:
            session.print_json(list(page.schedules))
            return
        rows = [
            (
                one.schedule_id,
                f"{one.cron} {one.time_zone}",
                one.agent_id or "-",
                "off" if one.disabled else _written(one, "next_time"),
                _written(one, "last_time"),
                session.name_of(pb.ScheduleOutcome.DESCRIPTOR, one.last_outcome) if one.last_outcome else "-",
            )
            for one in page.schedules
        ]
        session.print_table(("schedule", "times", "agent", "next", "last", "outcome"), rows)

    session.run(work)


@schedule.command()
def show(schedule_id: Id) -> None:
    """Everything of one schedule, as JSON."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            session.print_json(await _read(host, schedule_id))

    session.run(work)


@schedule.command()
def create(
    cron: Annotated[str, typer.Argument(help='Five fields in quotes, such as "30 7 * * MON-FRI", or @daily.')],
    agent: Annotated[str, typer.Option(help="Agent that runs; without it the bindings decide.")] = "",
    schedule_id: Annotated[str, typer.Option("--id", help="Id of your choice.")] = "",
    name: Annotated[str, typer.Option(help="Name of your choice.")] = "",
    time_zone: Annotated[str, typer.Option(help="IANA name, such as Europe/Berlin.")] = "UTC",
    conversation: Annotated[str, typer.Option(help="Conversation of its runs and messages.")] = "",
    overlap: Annotated[str, typer.Option(help="skip, queue, cancel or allow.")] = "skip",
    catch_up: Annotated[str, typer.Option(help="none, last or all: what happens to missed times.")] = "none",
    as_json: Json = False,
) -> None:
    """Make a schedule."""

    async def work(endpoint: Endpoint) -> None:
        wanted = pb.Schedule(
            schedule_id=schedule_id,
            name=name or schedule_id or cron,
            cron=cron,
            time_zone=time_zone,
            agent_id=agent,
            conversation_id=conversation,
            overlap=pb.OverlapPolicy.ValueType(session.value_of(pb.OverlapPolicy.DESCRIPTOR, overlap, "overlap")),
            catch_up=pb.CatchUpPolicy.ValueType(session.value_of(pb.CatchUpPolicy.DESCRIPTOR, catch_up, "catch-up")),
        )
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.schedules.CreateSchedule(
                    pb.CreateScheduleRequest(schedule=wanted, request_id=uuid.uuid4().hex), timeout=CALL_SECONDS
                )
        if as_json:
            session.print_json(answer.schedule)
            return
        typer.echo(f"schedule {answer.schedule.schedule_id}: next at {_written(answer.schedule, 'next_time')}")

    session.run(work)


@schedule.command()
def delete(schedule_id: Id) -> None:
    """Remove a schedule. Runs under way go on."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                await host.schedules.DeleteSchedule(
                    pb.DeleteScheduleRequest(schedule_id=schedule_id), timeout=CALL_SECONDS
                )
        typer.echo(f"schedule {schedule_id} removed")

    session.run(work)


@schedule.command()
def trigger(schedule_id: Id) -> None:
    """Make its event now."""

    async def work(endpoint: Endpoint) -> None:
        request = pb.TriggerScheduleRequest(schedule_id=schedule_id, request_id=uuid.uuid4().hex)
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.schedules.TriggerSchedule(request, timeout=CALL_SECONDS)
        typer.echo(f"event {answer.event_id}, {f'run {answer.run_id}' if answer.run_id else 'nobody answers it'}")

    session.run(work)


@schedule.command("on")
def switch_on(schedule_id: Id) -> None:
    """Switch it on; its next time is counted from now."""
    _switch(schedule_id, disabled=False)


@schedule.command("off")
def switch_off(schedule_id: Id) -> None:
    """Switch it off."""
    _switch(schedule_id, disabled=True)


def _switch(schedule_id: str, *, disabled: bool) -> None:
    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            wanted = await _read(host, schedule_id)
            wanted.disabled = disabled
            with errors_by_meaning():
                answer = await host.schedules.UpdateSchedule(
                    pb.UpdateScheduleRequest(schedule=wanted), timeout=CALL_SECONDS
                )
        state = "is off" if disabled else f"is on; next at {_written(answer.schedule, 'next_time')}"
        typer.echo(f"schedule {schedule_id} {state}")

    session.run(work)


async def _read(host: Portway, schedule_id: str) -> pb.Schedule:
    with errors_by_meaning():
        answer: pb.GetScheduleResponse = await host.schedules.GetSchedule(
            pb.GetScheduleRequest(schedule_id=schedule_id), timeout=CALL_SECONDS
        )
    return answer.schedule


def _written(one: pb.Schedule, name: str) -> str:
    return getattr(one, name).ToDatetime().strftime("%Y-%m-%d %H:%M UTC") if one.HasField(name) else "-"  # type: ignore[arg-type]
