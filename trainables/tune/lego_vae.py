"""The Tune trainable of the LEGO-face VAE: its objective is the validation loss of [LEGO]."""

import json
import math
from pathlib import Path
from typing import Any

from trainables.models import lego_vae
from trainables.tune.trainable import GenerativeTrainable

LOSSES = "losses.json"
AVERAGED = 3  # epochs, as in the code of [LEGO]


class LegoVAE(GenerativeTrainable):
    """Trains `trainables.models.lego_vae.LegoVAE`.

    Each step reports `validation_loss`, squared error + KL an image in nats, and `validation_loss_last3`, its
    mean over the last three epochs (those that were evaluated), which is what the search of [LEGO] minimizes.
    """

    model_class = lego_vae.LegoVAE
    objective = "validation_loss_last3"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial, without the last one's losses."""
        self.losses: list[tuple[int, float]] = []  # of the last epochs: each one's number, and its loss
        return super().reset_config(new_config)

    def evaluate(self) -> dict[str, Any]:
        """Score the held-out images."""
        result = super().evaluate()
        c = self.model_config
        # The loss of [LEGO] leaves out the density's constant.
        constant = 0.5 * c.channels * c.image_size**2 * math.log(math.pi)
        loss = -result["elbo"] - constant
        first = self.epoch - AVERAGED + 1
        self.losses = [*((k, value) for k, value in self.losses if k >= first), (self.epoch, loss)]
        averaged = sum(value for _, value in self.losses) / len(self.losses)
        return result | {"validation_loss": loss, self.objective: averaged}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all that the next epoch depends on."""
        super().save_checkpoint(checkpoint_dir)
        (Path(checkpoint_dir) / LOSSES).write_text(json.dumps(self.losses))

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]  # Tune gives a path
        """Restore `save_checkpoint`'s state."""
        super().load_checkpoint(checkpoint_dir)
        self.losses = json.loads((Path(checkpoint_dir) / LOSSES).read_text())
