"""The runner that asks an application of Dify."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from portway.runtime.official.dify.forms import question_of, submission_of
from portway.runtime.official.dify.settings import CODES, Settings, read_settings
from portway.runtime.official.dify.stream import Exchange
from portway.runtime.sdk import AgentRunner, FinishReason, HostApi, RunCompleted, RunContext, RunFailure, RunResult
from portway.runtime.sdk.service import (
    Answer,
    File,
    Memory,
    Reply,
    Service,
    ServiceFailure,
    bad_answer,
    open_service,
    person_of,
    read_attachments,
)
from portway.runtime.sdk.service.reading import object_at, object_of, text_at

NAME = "Dify"


class Dify(AgentRunner):
    """One message, one answer; a paused workflow ends the run with a question, and its answer takes it up again."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx.config)
        headers = {"authorization": f"Bearer {settings.api_key}"}
        async with open_service(
            NAME, settings.service, headers=headers, secrets=(settings.api_key,), codes=CODES
        ) as service:
            talk = _Talk(ctx, host, service, settings)
            try:
                async for result in talk.results():
                    yield result
            finally:
                await talk.stop()


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
        self._conversation = Memory(host, "dify", "conversation", *belongs_to)

    async def results(self) -> AsyncIterator[RunResult]:
        """Everything up to the end of the run."""
        answered = self._ctx.input.interaction
        if answered is not None:
            async for result in self._resume():
                yield result
        else:
            async for result in self._ask():
                yield result
        if self._exchange.paused:
            await self._put_question()
            yield RunCompleted(FinishReason.AWAITING_INTERACTION, usage=self._answer.usage)
            return
        if not self._exchange.complete:
            raise bad_answer(NAME, "the stream ended before the answer did")
        for result in self._answer.finish():
            yield result

    async def stop(self) -> None:
        """Ends what goes on at Dify where the run ended before it."""
        exchange = self._exchange
        if exchange.task_id and not exchange.complete and not exchange.paused:
            path = "/workflows/tasks/" if self._settings.is_workflow else "/chat-messages/"
            await self._service.tell("POST", f"{path}{exchange.task_id}/stop", {"user": self._user})

    async def _ask(self) -> AsyncIterator[RunResult]:
        files = await self._upload()
        known = None if self._settings.is_workflow else await self._conversation.recall()
        conversation_id = known if isinstance(known, str) else ""
        try:
            async for result in self._exchanged(self._request(files, conversation_id)):
                yield result
        except ServiceFailure as failure:
            # A conversation that was deleted there is begun anew, once.
            if failure.status != 404 or not conversation_id:
                raise
            await self._conversation.forget()
            async for result in self._exchanged(self._request(files, "")):
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

    async def _exchanged(self, request: AbstractAsyncContextManager[Reply]) -> AsyncIterator[RunResult]:
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
        if self._settings.is_workflow:
            return list(exchange.take_workflow(object_at(document, "data")))
        if "answer" not in document:
            raise bad_answer(NAME, "it has no field answer")
        exchange.take_metadata(object_at(document, "metadata"))
        exchange.complete = True
        return list(self._answer.say(text_at(document, "answer")))

    async def _remember(self) -> None:
        if self._exchange.conversation_id and not self._settings.is_workflow:
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
                raise bad_answer(NAME, "the upload of a file has no id")
            sent.append({"type": file.kind, "transfer_method": "local_file", "upload_file_id": uploaded["id"]})
        return sent

    async def _put_question(self) -> None:
        form = self._exchange.form
        question = question_of(form, f"dify-{self._ctx.run_id}")
        paused = Memory(self._host, "dify", "paused", question.interaction_id)
        await paused.keep({"token": form["form_token"], "run": self._exchange.workflow_run_id, "user": self._user})
        await self._host.interactions.request(question)

    async def _resume(self) -> AsyncIterator[RunResult]:
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
        await self._service.post(f"/form/human_input/{token}", submission_of(answered, user))
        await paused.forget()
        self._exchange = Exchange(self._service, self._settings, self._answer, resumed=True)
        self._exchange.workflow_run_id = run
        async with self._service.request("GET", f"/workflow/{run}/events", params={"user": user}) as reply:
            async for event in reply.events():
                for result in self._exchange.take(object_of(NAME, event.data)):
                    yield result
                if self._exchange.complete or self._exchange.paused:
                    return
