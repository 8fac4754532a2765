"""What a sweep's start takes, from its command to the first result: `python -m benchmarks.start [SETTINGS]`.

Wall seconds and CPU seconds of the driver's process, all of its threads, at each milestone of a tiny sweep.
"""

import functools
import sys
import time

BEGAN = time.perf_counter()
TINY = (
    "--preset quick --dataset-limit 60 --image-size 16 --width 0.1 --batch-size 16 --evaluation-samples 20 "
    "--features random --num-samples 2 --replicates 0 --epochs 1"
)


def tell(what: str) -> None:
    wall, cpu = time.perf_counter() - BEGAN, time.process_time()
    print(f"{what:<20} {wall:6.1f} s, CPU {cpu:5.1f} s", file=sys.stderr, flush=True)


def told(owner, name: str, what: str) -> None:
    """Have a function tell, the first time, when it returns."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def telling(*arguments, **options):
        found = function(*arguments, **options)
        if what not in seen:
            seen.add(what)
            tell(what)
        return found

    seen: set[str] = set()
    setattr(owner, name, telling)


def main() -> int:
    from searchers import beta_vaegan
    from searchers.execution import driver, run

    tell("imported")
    told(run, "prepare", "data prepared")
    told(run, "check_settings", "settings checked")
    told(driver, "join", "Ray started")
    told(driver.Driver, "deliver", "MLflow answers")
    told(driver.LiveTable, "on_trial_start", "first trial starts")
    told(driver.LiveTable, "on_trial_result", "first result")
    code = beta_vaegan.main([*TINY.split(), *sys.argv[1:]])
    tell("ended")
    return code


if __name__ == "__main__":
    sys.exit(main())
