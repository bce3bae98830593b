"""From the configuration to the models that can be asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from portway.rpc.configuration import load
from portway.rpc.errors import InvalidInput, NotAvailable
from portway.server.models.build import Surroundings, build_registry
from portway.server.models.config import (
    DemoConfig,
    ModelConfig,
    ModelsConfig,
    ProviderConfig,
    ProviderKind,
    ProviderLimits,
    ProviderTimeouts,
)
from portway.server.models.errors import ModelBadRequest, ModelNotFound
from portway.server.models.provider import StreamingProvider
from portway.server.models.registry import ModelRegistry
from portway.server.models.types import Capability, Message, MessageRole, ModelKind, ModelRequest, TextPart


def build(environ: dict[str, str] | None = None, **providers: ProviderConfig) -> ModelRegistry:
    return build_registry(ModelsConfig(providers=providers), Surroundings(environ or {}))


def local(*models: str) -> ProviderConfig:
    return ProviderConfig(
        ProviderKind.OPENAI, tuple(ModelConfig(one) for one in models), base_url="http://127.0.0.1:9/v1"
    )


async def test_without_configuration_the_demo_provider_is_there_and_answers() -> None:
    registry = build()
    assert [info.model_id for info in registry.models()] == [
        "demo",
        "demo-20",
        "demo-embed",
        "demo-rerank",
        "demo-slow",
    ]
    demo = registry.resolve(registry.default_model_id)
    answer = await demo.provider.invoke(demo.name, ModelRequest((Message(MessageRole.USER, (TextPart("hi"),)),)))
    assert "demo" in answer.message.text.lower()
    await registry.close()


def test_a_configured_model_is_found_with_everything_known_about_it() -> None:
    model = ModelConfig("smart", "vendor/smart-2026", context_window=128_000, capabilities=(Capability.IMAGES,))
    config = ProviderConfig(ProviderKind.ANTHROPIC, (model,), base_url="https://models.example", api_key="k")
    found = build(main=config).resolve("smart")
    assert (found.name, found.provider.provider_id) == ("vendor/smart-2026", "main")
    assert (found.info.provider_kind, found.info.context_window) == ("anthropic", 128_000)
    assert found.info.capabilities == {Capability.IMAGES}


def test_an_unknown_model_is_refused_with_those_that_are_near() -> None:
    with pytest.raises(ModelNotFound, match=r"did you mean smart-1\?"):
        build(main=local("smart-1")).resolve("smart1")
    with pytest.raises(ModelNotFound, match="there are: demo, demo-20, demo-embed, demo-rerank, demo-slow, smart-1"):
        build(main=local("smart-1")).resolve("zzz")


def test_a_model_of_another_type_is_refused() -> None:
    vectors = ModelConfig("vectors", kind=ModelKind.EMBEDDING)
    registry = build(main=ProviderConfig(ProviderKind.OPENAI, (vectors,), base_url="http://127.0.0.1:9"))
    with pytest.raises(ModelBadRequest, match="of type embedding") as refused:
        registry.resolve("vectors")
    assert [one.field for one in refused.value.fields] == ["model_id"]
    assert registry.resolve("vectors", ModelKind.EMBEDDING).info.kind is ModelKind.EMBEDDING


async def test_what_a_provider_lacks_is_said_and_not_faked() -> None:
    lacking = StreamingProvider("p")
    with pytest.raises(NotAvailable, match="no embeddings"):
        await lacking.embed("m", ["text"])
    with pytest.raises(NotAvailable, match="no reranking"):
        await lacking.rerank("m", "query", ["text"], 1)


@pytest.mark.parametrize(
    ("name", "config", "field"),
    [
        ("demo", local("m"), "models.providers.demo"),
        ("a b", local("m"), "models.providers.a b"),
        ("p", local(), "models.providers.p.models"),
        ("p", local("demo"), "models.providers.p.models[0].id"),
        ("p", local("m", "m"), "models.providers.p.models[1].id"),
        ("p", local(""), "models.providers.p.models[0].id"),
        ("p", ProviderConfig(ProviderKind.OPENAI, (ModelConfig("m"),)), "models.providers.p.api_key"),
        (
            "p",
            ProviderConfig(ProviderKind.OPENAI, (ModelConfig("m"),), api_key_env="NONE"),
            "models.providers.p.api_key_env",
        ),
        (
            "p",
            ProviderConfig(ProviderKind.OPENAI, (ModelConfig("m"),), api_key="a", api_key_env="KEY"),
            "models.providers.p.api_key_env",
        ),
        ("p", ProviderConfig(ProviderKind.OPENAI, (ModelConfig("m"),), "ftp://x"), "models.providers.p.base_url"),
        ("p", ProviderConfig(ProviderKind.OPENAI, (ModelConfig("m"),), "https://"), "models.providers.p.base_url"),
        (
            "p",
            ProviderConfig(ProviderKind.OPENAI, (ModelConfig("m"),), "https://user:secret@x"),
            "models.providers.p.base_url",
        ),
        (
            "p",
            ProviderConfig(ProviderKind.OPENAI, (ModelConfig("m", context_window=0),), "https://x"),
            "models.providers.p.models[0].context_window",
        ),
        (
            "p",
            ProviderConfig(ProviderKind.OPENAI, (ModelConfig("m"),), "https://x", limits=ProviderLimits(concurrency=0)),
            "models.providers.p.limits.concurrency",
        ),
        (
            "p",
            ProviderConfig(ProviderKind.OPENAI, (ModelConfig("m"),), "https://x", timeouts=ProviderTimeouts(read=0)),
            "models.providers.p.timeouts.read",
        ),
    ],
)
def test_each_mistake_is_named_by_its_path(name: str, config: ProviderConfig, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        build({"KEY": "x"}, **{name: config})
    assert [one.field for one in caught.value.fields] == [field]
    assert "secret" not in caught.value.message


def test_all_mistakes_are_named_at_once() -> None:
    config = ModelsConfig(default="nope", providers={"p": local()}, demo=DemoConfig(slow_chunk_seconds=-1))
    with pytest.raises(InvalidInput) as caught:
        build_registry(config, Surroundings({}))
    assert [one.field for one in caught.value.fields] == [
        "models.providers.p.models",
        "models.default",
        "models.demo.slow_chunk_seconds",
    ]


def test_the_key_can_come_from_the_environment_and_is_never_shown() -> None:
    config = ProviderConfig(ProviderKind.OPENAI, (ModelConfig("m"),), api_key="very-secret", proxy="http://u:pw@proxy")
    assert "very-secret" not in repr(config)
    assert "pw" not in repr(config)
    from_env = ProviderConfig(ProviderKind.OPENAI, (ModelConfig("m"),), api_key_env="MY_KEY")
    assert build({"MY_KEY": "very-secret"}, main=from_env).resolve("m").info.provider_id == "main"


def test_building_a_registry_loads_no_provider_library() -> None:
    program = """
import sys
from pathlib import Path
from portway.server.models.build import Surroundings, build_registry
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig, ProviderKind
main = ProviderConfig(ProviderKind.ANTHROPIC, (ModelConfig("m"),), api_key="k")
async def build():
    build_registry(ModelsConfig(default="m", providers={"main": main}), Surroundings({})).resolve("m")
import asyncio
asyncio.run(build())
heavy = {"pydantic", "pydantic_ai", "openai", "anthropic", "httpx", "httpx2"} & set(sys.modules)
print(sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_section_is_read_from_a_file_and_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "portway.yaml"
    file.write_text(
        "models:\n  default: smart\n  providers:\n    main:\n      kind: anthropic\n      base_url: https://models.example\n"
        "      models:\n        - {id: smart, context_window: 200000, capabilities: [tools, images]}\n"
    )
    environment = {
        "PORTWAY__MODELS__PROVIDERS__MAIN__API_KEY": "k",
        "PORTWAY__MODELS__PROVIDERS__OTHER__KIND": "openai",
        "PORTWAY__MODELS__PROVIDERS__OTHER__BASE_URL": "http://127.0.0.1:11434/v1",
        "PORTWAY__MODELS__PROVIDERS__OTHER__MODELS": "[{id: small}]",
        "PORTWAY__MODELS__PROVIDERS__OTHER__LIMITS__CONCURRENCY": "2",
        "PORTWAY__MODELS__DEMO__SLOW_CHUNK_SECONDS": "0.5",
    }
    config = load(ModelsConfig, "models", file=file, environment=environment)
    assert config.providers["main"].api_key == "k"
    assert config.providers["other"].limits.concurrency == 2
    assert config.demo.slow_chunk_seconds == 0.5
    registry = build_registry(config, Surroundings({}))
    assert registry.resolve(registry.default_model_id).info.capabilities == {Capability.TOOLS, Capability.IMAGES}
    assert registry.resolve("small").info.provider_kind == "openai"
