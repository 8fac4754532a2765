"""What a person sees while a sweep runs."""

import io

from rich.console import Console

from searchers.display.live_table import ROWS, LiveTable
from searchers.record.schema import FINISHED
from searchers.record.trials import TrialRecord


def test_the_best_trial_stays_in_sight():
    values = [5.0, 1.0, *range(10, 10 + 2 * ROWS)]
    records = {
        str(n): TrialRecord(str(n), n, {"beta": 1.0}, {1: {"fid": float(value)}}, FINISHED)
        for n, value in enumerate(values, 1)
    }
    console = Console(file=io.StringIO(), width=100)
    progress = LiveTable(
        records, metric="fid", mode="min", dimensions=["beta"], epochs=1, num_samples=99, console=console
    )
    table = progress._table()
    numbers = list(table.columns[0].cells)
    assert len(numbers) == ROWS and numbers[0] == "2" and numbers[-1] == str(len(values))
    console.print(table)
    assert console.file.getvalue().count("← best") == 1
