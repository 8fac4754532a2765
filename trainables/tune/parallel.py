"""A trial in several processes, one a GPU: each trains on its part of every batch, gradients are averaged.

All processes begin with the same weights and take the same steps, so that their weights stay equal. Each
draws its own noise. Batch norm takes the statistics of a process's part of the batch; running means are
averaged after each epoch. The first process is the trainable that Tune knows: it evaluates and saves. Where
another one fails, the trial fails for its reason, and goes on from its last checkpoint. They share a
machine, which is how Tune places them here; Ray Train's own trainers run to an end of their own, and know no
trial that pauses or becomes another one.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import Tensor

from trainables.models.base import GenerativeModel

PLACE = "_place"  # the key under which a replica's configuration has its `Place`
PATIENCE = timedelta(minutes=10)  # that one process waits for another in an epoch
GRACE = 30.0  # seconds in which a process comes out of a message that another one has left
LOOPBACK = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True)
class Place:
    """Which of a trial's processes this is, from 0, where they meet, and how many threads each one has."""

    rank: int = 0
    size: int = 1
    address: str = ""
    threads: int = 1

    def meet(self, device: torch.device) -> None:
        """Join the others; return once all are there."""
        for name in LOOPBACK:
            os.environ.setdefault(name, "lo")
        if dist.is_initialized():  # of an earlier trial in this process
            dist.destroy_process_group()
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend, init_method=self.address, rank=self.rank, world_size=self.size, timeout=PATIENCE
        )


class ReplicaProcess:
    """A process of a trial beside the first."""

    def __init__(self, kind: Callable[..., Any], config: dict[str, Any], place: Place):
        self.trainable = kind(config={**config, PLACE: place})

    def reset(self, config: dict[str, Any]) -> bool:
        """Become another trial."""
        return bool(self.trainable.reset_config(config))

    def train(self, epoch: int) -> dict[str, list[Tensor]]:
        """Train for an epoch; return the losses of each step, on a CPU."""
        losses: dict[str, list[Tensor]] = {}
        self.trainable.epoch = epoch
        self.trainable.train_epoch(losses, {})
        return {name: [value.cpu() for value in values] for name, values in losses.items()}

    def random_state(self) -> dict[str, Tensor]:
        """Return what this process draws from."""
        return random_state(self.trainable.model)

    def load(self, checkpoint_dir: str, state: dict[str, Tensor]) -> None:
        """Restore the checkpoint, and what this process drew from then."""
        self.trainable.load_checkpoint(checkpoint_dir)
        restore_random_state(self.trainable.model, state)


Replica: Any = ray.remote(ReplicaProcess)


class Peers:
    """The other processes of a trial, as its first one sees them."""

    def __init__(self, kind: type, config: dict[str, Any], size: int, device: torch.device):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        first, *others = (Place(rank, size, address, torch.get_num_threads()) for rank in range(size))
        self.replicas = [
            Replica.options(**_resources(place.rank)).remote(kind, config, place) for place in others
        ]
        first.meet(device)

    def each(self, method: str, *args: Any) -> list[Any]:
        """Call a method of each replica, and return the results. Raises what one of them raises."""
        return ray.get([getattr(replica, method).remote(*args) for replica in self.replicas])

    @contextmanager
    def training(self, epoch: int, losses: dict[str, list[Tensor]]) -> Iterator[None]:
        """Have them train for an epoch, as the body does at the same time; then append their losses.

        Raises the first one's error at once. It takes part in no message, for which the body would wait.
        """
        begun = [replica.train.remote(epoch) for replica in self.replicas]
        failed: list[Exception] = []
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(begun, failed, over), daemon=True)
        watch.start()
        try:
            yield
            for theirs in ray.get(begun):
                for name, values in theirs.items():
                    losses.setdefault(name, []).extend(values)
        except (RuntimeError, ray.exceptions.RayError) as error:
            over.set()
            watch.join(GRACE)  # a connection may break before it is known why
            if failed:
                raise failed[0] from error
            raise
        finally:
            over.set()

    def _watch(self, begun: list[ray.ObjectRef], failed: list[Exception], over: threading.Event) -> None:
        """Wait for the first of their errors, and get the body of `training` out of its message with them."""
        while begun and not failed:
            done, begun = ray.wait(begun)
            try:
                ray.get(done)
            except Exception as error:
                failed.append(error)
        if not failed or over.is_set():
            return
        for replica in self.replicas:
            ray.kill(replica)  # which ends gloo's connections
        if dist.get_backend() == "nccl":
            dist.distributed_c10d._get_default_group().abort()
        if not over.wait(GRACE):
            print(f"Another process of the trial failed: {failed[0]}", file=sys.stderr, flush=True)
            os._exit(1)

    def load(self, checkpoint_dir: str, states: list[dict[str, Tensor]]) -> None:
        """Have each restore a checkpoint; `states` are those that `random_state` returned for it."""
        pairs = zip(self.replicas, states, strict=True)
        ray.get([replica.load.remote(checkpoint_dir, state) for replica, state in pairs])

    def stop(self) -> None:
        """End them."""
        for replica in self.replicas:
            ray.kill(replica)
        dist.destroy_process_group()


def _resources(rank: int) -> dict[str, Any]:
    """Return what a replica asks Ray for: its bundle of the trial's placement group, where there is one."""
    group = get_current_placement_group()
    if group is None:
        return {"num_cpus": 0}
    bundle = group.bundle_specs[rank]
    place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
    return {
        "num_cpus": bundle.get("CPU", 0),
        "num_gpus": bundle.get("GPU", 0),
        "scheduling_strategy": place,
    }


def share_gradients(model: GenerativeModel) -> None:
    """Average gradients over the processes before each optimizer of the model steps.

    `GenerativeModel.update` has them averaged before it clips them; a model that steps its optimizers itself
    clips those of its own part. What decides about a step, the model averages by `average_values`.
    """
    averaged = set[int]()

    def average(optimizer: torch.optim.Optimizer) -> None:
        _average([p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None])
        averaged.add(id(optimizer))

    def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if id(optimizer) not in averaged:
            average(optimizer)
        averaged.discard(id(optimizer))

    for part in model.modules():  # a model may be a part of another one
        if isinstance(part, GenerativeModel):
            part.average_gradients, part.average_values = average, _average
    for optimizer in model.optimizers.values():
        optimizer.register_step_pre_hook(before_step)


@torch.no_grad()
def share_buffers(model: GenerativeModel) -> None:
    """Average the model's running means over the processes; whole numbers are the same in all."""
    _average([buffer for buffer in model.buffers() if buffer.is_floating_point()])


def _average(tensors: list[Tensor]) -> None:
    """Replace tensors of one type by their means over the processes, in one message."""
    if not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    parts = (flat / dist.get_world_size()).split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def random_state(model: GenerativeModel) -> dict[str, Tensor]:
    """Return the states of all that a training step may draw from, by name, on a CPU."""
    state = {"torch": torch.get_rng_state(), "model": model.generator.get_state()}
    if model.device.type == "cuda":  # a model of one's own may draw from it, as dropout does
        state["cuda"] = torch.cuda.get_rng_state(model.device)
    return state


def restore_random_state(model: GenerativeModel, state: dict[str, Tensor]) -> None:
    """Restore what `random_state` returned."""
    torch.set_rng_state(state["torch"].cpu())
    model.generator.set_state(state["model"].cpu())
    if "cuda" in state and model.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), model.device)
