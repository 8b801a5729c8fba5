"""Logs that the demo trains on: MovieLens CSV, Criteo TSV, and a generated click stream."""

from taco.demo.sources.base import Chunk, LineReport, Source, windows
from taco.demo.sources.detect import open_source

__all__ = ["Chunk", "LineReport", "Source", "open_source", "windows"]
