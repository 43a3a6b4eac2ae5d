"""What masked attention does to one photo: the predictions of every layer, the regions they open, and the attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from segcli.errors import UsageError
from segcli.inspection.views.photo import OpenedPhoto, batch_of, check_finite, looking
from segcli.layers.trace import record
from segcli.postprocess.tiles import class_probabilities, coarse_logits
from segcli.render.colours import class_colours
from segcli.render.views.attention import DecoderStep, Strip
from segcli.types import LabelSet, QueryPredictions
from segcli.weights.checkpoint import LoadedModel

_NOBODY = (150, 150, 150)  # the colour of "no object"
_SURE = 0.5  # probability from which a query is worth following; below, it may be guessing
_SAME = 0.5  # IoU above which two queries are after the same thing


def attention_strips(
    loaded: LoadedModel, photo: OpenedPhoto, queries: Sequence[int] = (), most: int = 3
) -> list[Strip]:
    """Run the network over a photo and follow some queries through its layers.

    Args:
        queries: which; none: the `most` surest that find something (`surest`).

    Raises:
        UsageError: the network has no masked attention, or not so many queries.
        CheckpointError: its output is not finite.
    """
    prepared = photo.prepared(loaded)
    with looking(photo.path), record("cross_attention", "attention_mask") as trace:
        predictions: list[QueryPredictions] = loaded.model(batch_of(loaded, prepared), every_layer=True)
        if not trace["attention_mask"]:
            raise UsageError(f"{loaded.name}: no masked attention to show; this model's queries attend everywhere")
        check_finite(predictions, loaded)
        count = predictions[-1].classes.shape[1]
        for query in queries:
            if not 0 <= query < count:
                raise UsageError(f"--query {query}: {loaded.name} has the queries 0 to {count - 1}")
        chosen = list(queries) or surest(predictions[-1], loaded.spec.labels, most)
        steps = [
            _steps(allowed[0, chosen], attention[0][:, chosen].mean(0), prepared.frame.padded[0])
            for allowed, attention in zip(trace["attention_mask"], trace["cross_attention"], strict=True)
        ]
        return _strips(predictions, chosen, steps, loaded.spec.labels)


def _steps(allowed: Tensor, attention: Tensor, height: int) -> list[DecoderStep]:
    """One layer: allowed [N, h, w], attention [N, h·w], height of the padded frame -> a step a query."""
    rows, columns = allowed.shape[1:]
    looks = attention.float().cpu().unflatten(1, (rows, columns)).numpy()
    return [
        DecoderStep(round(height / rows), region, look)
        for region, look in zip(allowed.cpu().numpy(), looks, strict=True)
    ]


def _strips(
    predictions: Sequence[QueryPredictions], queries: list[int], steps: list[list[DecoderStep]], labels: LabelSet
) -> list[Strip]:
    which = torch.tensor(queries)
    classes = torch.stack([class_probabilities(p, 0)[which] for p in predictions])  # [L + 1, N, K + 1]
    logits = torch.stack([coarse_logits(p, 0, which) for p in predictions])  # [L + 1, N, h, w]
    scores, best = classes.max(-1)
    names = [*labels.names, "no object"]
    colours = [*map(tuple, class_colours(labels).tolist()), _NOBODY]
    return [
        Strip(
            query=query,
            names=tuple(names[k] for k in best[:, n].tolist()),
            scores=tuple(scores[:, n].tolist()),
            colours=tuple(colours[k] for k in best[:, n].tolist()),
            masks=logits[:, n].numpy(),
            steps=tuple(layer[n] for layer in steps),
        )
        for n, query in enumerate(queries)
    ]


def surest(prediction: QueryPredictions, labels: LabelSet, most: int) -> list[int]:
    """The queries of one image that are surest of a class: one of each class first, things before stuff, no two after
    the same thing. Where no query finds anything, the one that is nearest to it.
    """
    scores, classes = class_probabilities(prediction, 0)[:, :-1].max(-1)
    order = scores.sort(descending=True, stable=True).indices
    found = order[scores[order] >= _SURE]
    masks = (coarse_logits(prediction, 0, found) > 0).flatten(1).numpy()
    areas = masks.sum(1)
    distinct: list[int] = []  # places in `found`
    for place in range(len(found)):
        common = np.array([(masks[place] & masks[other]).sum() for other in distinct])
        unions = areas[place] + areas[distinct] - common
        if areas[place] and not (common > _SAME * unions).any():
            distinct.append(place)
    seen: Counter[int] = Counter()
    ranked = []
    for place in distinct:
        label = int(classes[found[place]])
        seen[label] += 1
        ranked.append((seen[label], not labels[label].isthing, place))
    return [int(found[place]) for *_, place in sorted(ranked)[:most]] or [int(order[0])]
