"""What training returns: the parameters it found, and how it came to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from diffkit.display import Display, Displayed, short
from diffkit.structure import flatten

MOST_ROWS: Final = 12  # of epochs in the table


@dataclass(frozen=True, repr=False)
class History(Displayed):
    """What happened, epoch by epoch. Printed, a table of some epochs.

    Attributes:
        loss: the mean of the losses of the batches as they were when they were used.
        gradient_norm: the mean of the Euclidean norms of their gradients.
        held_out: the loss on the held-out data after each epoch, if there are any.
        ended: why training ended: `epochs`, `patience`, `tolerance`, `stationary`, `diverged`.
    """

    loss: tuple[float, ...] = ()
    gradient_norm: tuple[float, ...] = ()
    held_out: tuple[float, ...] = ()
    ended: str = "epochs"

    @property
    def epochs(self) -> int:
        """How many epochs there were."""
        return len(self.loss)

    def __repr__(self) -> str:
        course = f", loss {short(self.loss[0])} to {short(self.loss[-1])}" if self.loss else ""
        return f"<History of {self.epochs} epochs{course}, ended by {self.ended}>"

    def _display(self) -> Display:
        columns = {"loss": self.loss, "gradient norm": self.gradient_norm}
        if self.held_out:
            columns["held out"] = self.held_out
        rows = tuple(
            (str(epoch + 1), *(short(values[epoch], 4) for values in columns.values()))
            for epoch in _shown(self.epochs)
        )
        return Display((f"ended by: {self.ended}",), ("epoch", *columns), rows)


@dataclass(frozen=True, eq=False, repr=False)
class Trained(Displayed):
    """What training found: the parameters, and how it came to them.

    Attributes:
        parameters: in the structure in which they were given.
        history: of the training.
    """

    parameters: Any
    history: History

    def __repr__(self) -> str:
        layout, _ = flatten(self.parameters, "parameters")
        return f"<Trained {layout.size} parameters, {self.history!r}>"

    def _display(self) -> Display:
        layout, _ = flatten(self.parameters, "parameters")
        table = self.history._display()
        heading = (f"{layout.size} parameters: {layout.summary()}", *table.heading)
        return Display(heading, table.columns, table.rows)


def _shown(epochs: int) -> list[int]:
    """The first and the last epoch, and some between them, evenly spread."""
    if epochs <= MOST_ROWS:
        return list(range(epochs))
    return [round(i * (epochs - 1) / (MOST_ROWS - 1)) for i in range(MOST_ROWS)]
