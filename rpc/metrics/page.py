"""The page of numbers in the text format of Prometheus. The library is imported where metrics are on, and nowhere
else."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import structlog

from portway.rpc.errors import PortwayError
from portway.rpc.metrics.families import Family, Source, cumulated, gauge

# A source that waits for something busy leaves its part out.
SOURCE_SECONDS = 2.0


class Page:
    """Asks every source each time; keeps nothing."""

    def __init__(self, sources: Sequence[Source]) -> None:
        # 6 MB and 60 ms that only a server with metrics pays for.
        import prometheus_client  # noqa: PLC0415
        from prometheus_client import exposition, openmetrics  # noqa: F401, PLC0415

        self._library: Any = prometheus_client
        self._sources = sources
        self._registry: Any = prometheus_client.CollectorRegistry(auto_describe=False)
        prometheus_client.ProcessCollector(registry=self._registry)
        self._families: list[Family] = []
        self._registry.register(self)
        self._one_at_a_time = asyncio.Lock()
        self._log = structlog.get_logger("portway.metrics")

    async def render(self, accept: str) -> tuple[bytes, str]:
        """The bytes, and what they are."""
        async with self._one_at_a_time:
            found, missing = list[Family](), 0
            for source in self._sources:
                try:
                    async with asyncio.timeout(SOURCE_SECONDS):
                        found.extend(await source.families())
                except (TimeoutError, PortwayError, OSError) as error:
                    missing += 1
                    self._log.warning("some metrics are missing", source=type(source).__name__, reason=str(error))
            found.append(gauge("portway_metrics_sources_missing", "Sources that did not answer this time.", missing))
            self._families = found
            encode, kind = self._library.exposition.choose_encoder(accept)
            return encode(self._registry), kind

    def collect(self) -> Iterator[Any]:
        """For the library."""
        from prometheus_client import core  # noqa: PLC0415 - loaded already

        for family in self._families:
            yield _metric(core, family)


def _metric(core: Any, family: Family) -> Any:
    if family.kind == "histogram":
        metric = core.HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, histogram in family.histograms:
            metric.add_metric(labels, list(cumulated(histogram)), histogram.total)
        return metric
    kind = core.CounterMetricFamily if family.kind == "counter" else core.GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in family.values:
        metric.add_metric(labels, value)
    return metric
