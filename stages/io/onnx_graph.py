"""Finishes an ONNX graph: preprocessing before the network, the node names that insightface expects, metadata.

Nothing of the machine it was made on is left in: torch notes the source lines of every node.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from stages.core.errors import InputError


def finish(
    model: onnx.ModelProto, name: str, mean: float, scale: float, *, reverse: bool, about: Mapping[str, Any]
) -> onnx.ModelProto:
    """Return the model with (x - mean) * scale, and reversed channels if needed, before its only input.

    Args:
        model: its input is what the network takes.
        name: of the new input: float32 RGB images, 0 to 255.
        mean: taken from every value.
        scale: then multiplied by.
        reverse: the network takes BGR.
        about: written into the metadata, each value as JSON under ``facet.KEY``.

    Raises:
        ValueError: the graph has not one input.
    """
    graph = model.graph
    if len(graph.input) != 1:
        raise InputError(f"wanted a graph with one input, got {[item.name for item in graph.input]}")
    inner = graph.input[0].name
    before = [
        helper.make_node("Sub", [name, "pixel_mean"], ["pixels_centred"]),
        helper.make_node("Mul", ["pixels_centred", "pixel_scale"], ["pixels_scaled" if reverse else inner]),
    ]
    graph.initializer.append(numpy_helper.from_array(np.array(mean, np.float32), "pixel_mean"))
    graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), "pixel_scale"))
    if reverse:
        graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "channels_reversed"))
        before.append(helper.make_node("Gather", ["pixels_scaled", "channels_reversed"], [inner], axis=1))
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input[0].name = name
    _clean(model)
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
    model.producer_name, model.producer_version = "facet", ""
    helper.set_model_props(model, {f"facet.{key}": json.dumps(value) for key, value in about.items()})
    onnx.checker.check_model(model, full_check=True)
    return model


def _clean(model: onnx.ModelProto) -> None:
    """Remove notes, which contain paths of this machine."""
    graph = model.graph
    model.doc_string = graph.doc_string = ""
    graph.name = "facet"
    del graph.metadata_props[:]
    del graph.value_info[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
