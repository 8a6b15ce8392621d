"""A network that learns: the optimizer, the average of the weights, and a step that fits every machine."""

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from stages.networks.devices import computes_bf16
from stages.settings.types import ModelSettings
from stages.training.optimizers import build_optimizer, set_learning_rate
from stages.training.processes import Processes


class Learner:
    """A network on its device, and all that changes with a step.

    Args:
        class_weights: (n_classes,), on the device, or None.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: ModelSettings,
        class_weights: torch.Tensor | None,
        processes: Processes,
        device: torch.device,
    ):
        self.network, self.settings, self.class_weights = network, settings, class_weights
        self.processes, self.device = processes, device
        self.in_bf16 = settings.precision == "bf16" and computes_bf16(device)
        self.optimizer = build_optimizer(network, settings)
        self.average = _build_average(network, settings)
        self.n_steps, self.n_parts = 0, 1
        self.parallel = network  # what gradients are averaged through

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.in_bf16)

    def start_epoch(self, epoch: int) -> None:
        """Set layers to training; in the frozen epochs the backbone neither learns nor moves its batch statistics."""
        self.network.train()
        if self.settings.frozen_epochs:
            frozen = epoch < self.settings.frozen_epochs
            self.network.backbone.train(not frozen)
            self.network.backbone.requires_grad_(not frozen)
        if self.processes.count > 1:  # anew, since what learns may have changed
            self.parallel = DistributedDataParallel(self.network, broadcast_buffers=False)

    def end_epoch(self) -> None:
        """Give all processes the first one's batch statistics, so that they validate the same network."""
        if self.processes.count > 1:
            self.parallel = self.network
            modules = [self.network, self.average.module] if self.average else [self.network]
            for buffer in itertools.chain(*(module.buffers() for module in modules)):
                torch.distributed.broadcast(buffer, src=0)

    def step(self, images: torch.Tensor, targets: torch.Tensor, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Learn from one batch.

        Args:
            images: (batch, 3, size, size); of several processes, this one's share.
            targets: int64 labels (batch,), or shares of the classes (batch, n_classes).
        Returns:
            The batch's mean loss times its images, of this process's share, and logits (batch, n_classes).
        Raises:
            torch.OutOfMemoryError: not even two images at a time fit into the device's memory.
        """
        set_learning_rate(self.optimizer, rate)
        loss, logits = self._backward_in_parts(images, targets)
        if self.settings.gradient_clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        self.n_steps += 1
        if self.average:
            self.average.update(self.network, step=self.n_steps)
        return loss, logits

    def _backward_in_parts(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do the backward pass in as many parts as the device's memory needs; their gradients add up to the batch's."""
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                return self._backward(images, targets)
            except torch.OutOfMemoryError:
                # of several processes, the others wait for this one's gradients: too late to divide here
                if self.processes.count > 1 or len(images) < 4 * self.n_parts:
                    raise
            self.n_parts *= 2
            print(
                f"out of memory on {self.device}: batches of {len(images)} are now learnt in {self.n_parts} parts; "
                "batch normalisation sees one part at a time",
                flush=True,
            )
            torch.cuda.empty_cache()

    def _backward(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight, n_images = self._size_of_batch(targets)
        losses, logits = [], []
        n_parts = max(1, min(self.n_parts, len(images) // 2))  # batch normalisation cannot learn from one image alone
        for part, its_targets in zip(images.tensor_split(n_parts), targets.tensor_split(n_parts), strict=True):
            with self.autocast():
                its_logits = self.parallel(part)  # (part, n_classes)
                loss = self._cross_entropy(its_logits.float(), its_targets) / weight
            (loss * self.processes.count).backward()  # of several processes, the mean of gradients is taken
            losses.append(loss.detach())
            logits.append(its_logits.detach())
        return torch.stack(losses).sum() * n_images, torch.cat(logits)

    def _cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        smoothing = self.settings.label_smoothing
        return functional.cross_entropy(logits, targets, self.class_weights, reduction="sum", label_smoothing=smoothing)

    def _size_of_batch(self, targets: torch.Tensor) -> tuple[Any, Any]:
        """Return the weight and the number of the batch's images, over all processes."""
        n_images = weight = len(targets)
        if self.class_weights is not None and not targets.is_floating_point():
            weight = self.class_weights[targets].sum()
        if self.processes.count == 1:
            return weight, n_images
        sizes = torch.full((2,), float(n_images), device=self.device)
        if weight is not n_images:
            sizes[0] = weight
        return tuple(self.processes.add_up(sizes))

    def best_network(self) -> nn.Module:
        """Return the network to validate and to keep: the average of the weights where there is one."""
        return self.average.module if self.average else self.network

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "n_steps": self.n_steps,
            "n_parts": self.n_parts,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.module.load_state_dict(state["average"])
        self.n_steps = state["n_steps"]
        self.n_parts = state["n_parts"] if self.processes.count == 1 else 1


def _build_average(network: nn.Module, settings: ModelSettings):
    """Return timm's moving average of the weights, which follows fast at first, or None."""
    if not settings.ema_decay:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(network, decay=settings.ema_decay, use_warmup=True, warmup_power=2 / 3)


def copy_weights(network: nn.Module, into: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """Return the weights on the CPU, in `into` where it is given: memory that is already there is faster."""
    state = network.state_dict()
    if not into:
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
    for name, tensor in state.items():
        into[name].copy_(tensor)
    return into
