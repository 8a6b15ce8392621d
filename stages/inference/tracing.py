"""Convert a network to an ONNX graph with PyTorch's exporter, which runs it once."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import nn


class UntraceableError(RuntimeError):
    """The exporter cannot handle a network; the text gives the reason in a few words."""


def trace(network: nn.Module, inputs: dict[str, torch.Tensor], output: str) -> Any:
    """Return the graph, an onnx_ir.Model, for batches of any size.

    Args:
        network: in evaluation mode; maps `inputs`, in their order, to one tensor.
        inputs: {name: an example with a batch of 2 or more}.
    Raises:
        UntraceableError: the exporter gives up.
    """
    batch = torch.export.Dim("batch")
    try:
        with in_silence(), in_single_steps(network):
            program = torch.onnx.export(
                network,
                tuple(inputs.values()),
                input_names=[*inputs],
                output_names=[output],
                dynamic_shapes=(tuple({0: batch} for _ in inputs),),  # of *images
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # any error is possible, also in the network's own code
        raise UntraceableError(_find_reason(error)) from error
    register_constants(program.model.graph)
    return program.model


def register_constants(graph: Any) -> None:
    """Add the constants to the graph that PyTorch's exporter leaves out when a network clamps a tensor twice."""
    for node in graph.all_nodes():
        for value in node.inputs:
            is_known = value is None or value.producer() or value.is_graph_input() or value.is_initializer()
            if not is_known and value.const_value is not None:
                graph.register_initializer(value)


@contextmanager
def in_silence() -> Iterator[None]:
    """Hide the output of the exporter, which prints hundreds of lines when it fails."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def in_single_steps(network: nn.Module) -> Iterator[None]:
    """Let timm's attention layers compute in single steps: the exporter cannot handle all fused shapes."""
    fused = [each for each in network.modules() if getattr(each, "fused_attn", False)]
    for each in fused:
        each.fused_attn = False
    try:
        yield
    finally:
        for each in fused:
            each.fused_attn = True


def _find_reason(error: BaseException) -> str:
    """Return the beginning of the first error: the exporter wraps it in pages of advice."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
