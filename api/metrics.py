"""`/metrics`: what `farm.metrics` defines, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from api.auth import TheServer, identify, require, server_of, take_turn
from api.gauge import Samples, values
from api.traffic import Traffic
from farm.metrics import METRICS, Histogram, Kind, Metric
from farm.model import Scope
from farm.serve import Server

router = APIRouter(tags=["health"])

_TEXT = {"schema": {"type": "string"}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The metrics; docs/metrics.md explains each",
        "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
    }
}


async def _may_scrape(request: Request) -> None:
    """Whoever may read, or anybody where the settings say so. Raises ProblemError."""
    if server_of(request).config.metrics_public:
        take_turn(request, "")
    else:
        await require(Scope.READ)(await identify(request))


@router.get(
    "/metrics",
    summary="Scrape metrics",
    response_class=Response,
    responses=_RESPONSES,
    dependencies=[Depends(_may_scrape)],
)
def get_metrics(request: Request, server: TheServer, accept: Annotated[str, Header()] = "") -> Response:
    """In Prometheus' text format, or OpenMetrics where that is asked for; takes the scope `read`."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Farm(server, request.app.state.traffic))
    encode, media_type = choose_encoder(accept)
    return Response(encode(registry), headers={"Content-Type": media_type})


class _Farm(Collector):
    """All metrics of the farm, as they are at one moment."""

    def __init__(self, server: Server, traffic: Traffic) -> None:
        self._server, self._traffic = server, traffic

    def collect(self) -> Iterable[Family]:
        """Each metric of the table, with samples or without."""
        found = values(self._server, self._traffic)
        return [family(metric, found.get(metric.name, {})) for metric in METRICS]

    def describe(self) -> Iterable[Family]:
        """Nothing: all names are the table's."""
        return ()


def family(metric: Metric, samples: Samples) -> Family:
    """A metric as Prometheus' library has it."""
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in samples.items():
            assert isinstance(value, Histogram)  # noqa: S101
            histogram.add_metric(labels, list(value.buckets), value.sum)
        return histogram
    if metric.kind is Kind.INFO:
        info = InfoMetricFamily(metric.name, metric.help)
        for labels in samples:
            info.add_metric((), dict(zip(metric.labels, labels, strict=True)))
        return info
    plain: CounterMetricFamily | GaugeMetricFamily
    simple = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    plain = simple(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples.items():
        assert not isinstance(value, Histogram)  # noqa: S101
        plain.add_metric(labels, float(value))
    return plain
