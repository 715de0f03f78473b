"""Spans go to a file, one JSON object a line."""

import os
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from outlast.config import Config, Telemetry


class ToFile(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with open(os.environ["LEDGER"], "a") as file:
            for span in spans:
                file.write(span.to_json(indent=None) + "\n")
        return SpanExportResult.SUCCESS


config = Config(project="proj_traced", dirs=["tasks"], telemetry=Telemetry(exporters=[ToFile()]))
