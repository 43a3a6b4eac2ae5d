"""`segcli models show` of a model that is in no list: a run's, an exported one, one of the Hub's that is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from segcli.errors import WeightsUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from segcli.weights.checkpoint import LoadedModel

_NAMED = 20  # classes that a row has room for
# What this process decided, and what has a row of its own.
_PASSING = ("source", "device_reason", "no_gpu", "place", "precision", "metrics", "licence", "thresholds", "exported")


class OwnModel:
    """A model as its files describe it. Raises what `load_model` raises, and WeightsUnavailable for one of the Hub that
    is not in the cache: nothing is downloaded to be looked at."""

    def __init__(self, ref: str) -> None:
        from segcli.weights import hub
        from segcli.weights.checkpoint import load_model

        self.folder: Path = hub.own_folder(ref)
        self.weights: Sequence[Path] = ()
        if not hub.is_exported(self.folder):
            files = hub.find(ref)
            if files is None:
                raise WeightsUnavailable(f"{ref} is not on this machine: segcli models pull {ref}")
            self.folder, self.weights = files.folder, files.weights
        self.loaded: LoadedModel = load_model(ref, "cpu")
        self.weights = self.weights or getattr(self.loaded.model, "files", ())  # the graph of an exported one

    def to_json(self) -> dict[str, Any]:
        """What --json prints; the keys are those of models in the list, as far as they have a meaning here."""
        loaded, spec = self.loaded, self.loaded.spec
        return {
            "name": loaded.name,
            "folder": str(self.folder),
            "family": loaded.config.model_type,
            "megabytes": self._megabytes(),
            "queries": loaded.config.num_queries,
            "parameters": self._parameters() or None,
            "tasks": list(spec.tasks),
            "size": spec.size.to_table(),
            "rule": asdict(spec.rule),
            "metrics": self._metrics(),
            "licence": loaded.facts.get("licence"),
            "facts": self._others(),
            "classes": [{"id": label.id, "name": label.name, "isthing": label.isthing} for label in spec.labels],
        }

    def rows(self) -> list[tuple[str, str]]:
        """(fact, value), as of a model in the list."""
        loaded, spec = self.loaded, self.loaded.spec
        names = spec.labels.names
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        things = sum(spec.labels.isthing)
        count = self._parameters()
        graph = f"{loaded.facts.get('exported')} graph for {loaded.facts.get('device_reason')}"
        parameters = f"{count:,} parameters" if count else graph
        metrics = ", ".join(f"{name} {value:.1f}" for name, value in self._metrics().items())
        return [
            ("name", loaded.name),
            ("from", str(self.folder)),
            ("weights", f"{self._megabytes():.0f} MB"),
            ("licence", str(loaded.facts.get("licence", "not stated"))),
            ("network", f"{loaded.config.title}, {loaded.config.num_queries} queries, {parameters}"),
            ("tasks", ", ".join(spec.tasks)),
            ("classes", f"{len(names)} ({things} things, {len(names) - things} stuff)"),
            ("", ", ".join(names[:_NAMED]) + more),
            ("test size", spec.size.in_words()),
            ("merge rule", spec.rule.shown_in_words(spec.tasks[0])),
            ("says of itself", metrics or "-"),
            *((key, str(value)) for key, value in self._others().items()),
        ]

    def _parameters(self) -> int:
        """0 for a compiled graph."""
        return sum(parameter.numel() for parameter in self.loaded.model.parameters())

    def _megabytes(self) -> float:
        return round(sum(file.stat().st_size for file in self.weights) / 1e6, 1)

    def _metrics(self) -> dict[str, float]:
        known = self.loaded.facts.get("metrics")
        pairs = known.items() if isinstance(known, Mapping) else ()
        return {str(name): float(value) for name, value in pairs if isinstance(value, int | float)}

    def _others(self) -> dict[str, Any]:
        """What else a run, a converter or an export has noted."""
        facts = self.loaded.facts
        return {key: value for key, value in facts.items() if key not in _PASSING and value not in (None, "")}
