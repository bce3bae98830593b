"""The runner that asks an application of Dify."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any
from urllib.parse import quote

from portway.runtime.official.dify.forms import question_of, submission_of
from portway.runtime.official.dify.settings import CODES, Settings, read_settings
from portway.runtime.official.dify.stream import Exchange
from portway.runtime.sdk import AgentRunner, FinishReason, HostApi, RunCompleted, RunContext, RunFailure, RunResult
from portway.runtime.sdk.service import (
    Answer,
    Conversation,
    File,
    Memory,
    Reply,
    Service,
    ServiceFailure,
    ended,
    open_service,
    person_of,
    read_attachments,
)
from portway.runtime.sdk.service.reading import object_at, object_of, text_at

NAME = "Dify"


def is_forgotten(failure: ServiceFailure) -> bool:
    """Whether Dify has no such conversation, or one that goes on no more."""
    gone = failure.status == 404 and "conversation" in failure.detail.lower()
    return gone or failure.vendor_code == "conversation_completed"


class Dify(AgentRunner):
    """One message, one answer; a paused workflow ends the run with a question, and its answer takes it up again."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx.config)
        headers = {"authorization": f"Bearer {settings.api_key}"}
        async with open_service(
            NAME, settings.service, headers=headers, secrets=(settings.api_key,), codes=CODES
        ) as service:
            talk = _Talk(ctx, host, service, settings)
            async with aclosing(service.told(talk.results(), talk.stop)) as results:
                async for result in results:
                    yield result


class _Talk:
    def __init__(self, ctx: RunContext, host: HostApi, service: Service, settings: Settings) -> None:
        self._ctx = ctx
        self._host = host
        self._service = service
        self._settings = settings
        self._answer = Answer(NAME, show_references=settings.show_references)
        self._user = person_of(ctx)
        self._exchange = Exchange(service, settings, self._answer)
        belongs_to = (settings.service.base_url, settings.api_key[-8:], settings.mode, self._user)
        self._conversation = Conversation(Memory(host, "dify", "conversation", *belongs_to), is_forgotten)

    async def results(self) -> AsyncGenerator[RunResult, None]:
        """Everything up to the end of the run."""
        async with aclosing(self._resume() if self._ctx.input.interaction is not None else self._ask()) as results:
            async for result in results:
                yield result
        if self._exchange.paused:
            await self._put_question()
            yield RunCompleted(FinishReason.AWAITING_INTERACTION, usage=self._answer.usage)
            return
        if not self._exchange.complete:
            raise self._service.bad("the stream ended before the answer did")
        async for result in ended(self._service, self._host, self._answer):
            yield result

    async def stop(self) -> None:
        """Ends what goes on at Dify where the run ended before it."""
        exchange = self._exchange
        if exchange.task_id and not exchange.complete and not exchange.paused:
            path = "/workflows/tasks/" if self._settings.is_workflow else "/chat-messages/"
            await self._service.tell("POST", f"{path}{quote(exchange.task_id, safe='')}/stop", {"user": self._user})

    async def _ask(self) -> AsyncGenerator[RunResult, None]:
        files = await self._upload()

        def exchanged(conversation_id: str) -> AsyncGenerator[RunResult, None]:
            return self._exchanged(self._request(files, conversation_id))

        results = exchanged("") if self._settings.is_workflow else self._conversation.results(exchanged)
        async with aclosing(results):
            async for result in results:
                yield result

    def _request(self, files: list[dict[str, str]], conversation_id: str) -> AbstractAsyncContextManager[Reply]:
        settings, text = self._settings, self._ctx.input.text
        body: dict[str, Any] = {
            "inputs": dict(settings.inputs),
            "response_mode": "streaming" if settings.streaming else "blocking",
            "user": self._user,
        }
        if settings.is_workflow:
            body["inputs"][settings.query_variable] = text
            if files:
                body["inputs"][settings.files_variable] = files
            return self._service.request("POST", "/workflows/run", body=body)
        body |= {"query": text or "(a file)", "conversation_id": conversation_id, "auto_generate_name": False}
        if files:
            body["files"] = files
        return self._service.request("POST", "/chat-messages", body=body)

    async def _exchanged(self, request: AbstractAsyncContextManager[Reply]) -> AsyncGenerator[RunResult, None]:
        async with request as reply:
            if not self._settings.streaming:
                for result in self._whole(await reply.json()):
                    yield result
                await self._remember()
                return
            async for event in reply.events():
                for result in self._exchange.take(object_of(NAME, event.data)):
                    yield result
                await self._remember()
                if self._exchange.complete or self._exchange.paused:
                    return

    def _whole(self, document: dict[str, Any]) -> list[RunResult]:
        exchange = self._exchange
        exchange.conversation_id = text_at(document, "conversation_id")
        exchange.workflow_run_id = text_at(document, "workflow_run_id")
        if text_at(document, "event") == "workflow_paused" or text_at(document, "data", "status") == "paused":
            exchange.pause(object_at(document, "data"))
            return []
        if self._settings.is_workflow:
            return list(exchange.take_workflow(object_at(document, "data")))
        if "answer" not in document:
            raise self._service.bad("it has no field answer")
        exchange.take_metadata(object_at(document, "metadata"))
        exchange.complete = True
        return list(self._answer.say(text_at(document, "answer")))

    async def _remember(self) -> None:
        if not self._settings.is_workflow:
            await self._conversation.keep(self._exchange.conversation_id)

    async def _upload(self) -> list[dict[str, str]]:
        files = await read_attachments(self._ctx, self._host, self._settings.service.max_file_bytes)
        if files and self._settings.is_workflow and not self._settings.files_variable:
            raise ServiceFailure(
                "service.unsupported", "the workflow takes no files; name its variable in config.files_variable"
            )
        sent = []
        for file in files:
            form = File("file", file.name, file.mime_type, file.data)
            uploaded = await self._service.upload("/files/upload", form, {"user": self._user})
            if not text_at(uploaded, "id"):
                raise self._service.bad("the upload of a file has no id")
            sent.append({"type": file.kind, "transfer_method": "local_file", "upload_file_id": uploaded["id"]})
        return sent

    async def _put_question(self) -> None:
        form = self._exchange.form
        question = question_of(form, f"dify-{self._ctx.run_id}")
        paused = Memory(self._host, "dify", "paused", question.interaction_id)
        await paused.keep({"token": form["form_token"], "run": self._exchange.workflow_run_id, "user": self._user})
        await self._host.interactions.request(question)

    async def _resume(self) -> AsyncGenerator[RunResult, None]:
        answered = self._ctx.input.interaction
        assert answered is not None
        paused = Memory(self._host, "dify", "paused", answered.interaction_id)
        kept = await paused.recall()
        token, run, user = (text_at(kept, key) for key in ("token", "run", "user"))
        if not token or not run:
            raise RunFailure(
                "service.not_found", "nothing is known of the workflow that asked this; send the message again"
            )
        self._user = user
        # What was taken is not sent again: whatever happens then, this question is answered.
        await paused.forget()
        await self._service.post(f"/form/human_input/{quote(token, safe='')}", submission_of(answered, user))
        self._exchange = Exchange(self._service, self._settings, self._answer, resumed=True)
        self._exchange.workflow_run_id = run
        path = f"/workflow/{quote(run, safe='')}/events"
        async with self._service.request("GET", path, params={"user": user}) as reply:
            async for event in reply.events():
                for result in self._exchange.take(object_of(NAME, event.data)):
                    yield result
                if self._exchange.complete or self._exchange.paused:
                    return
