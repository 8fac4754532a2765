"""One thread for small matrices."""

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from searchers.bayesopt.threads import one_thread


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@one_thread
def inside(fails=False):
    if fails:
        raise ValueError
    return blas_threads()


def test_a_function_runs_in_one_and_leaves_the_number_as_it_was():
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        assert before and set(inside()) == {1}
        assert blas_threads() == before == [2] * len(before)
        with pytest.raises(ValueError):
            inside(fails=True)
        assert blas_threads() == before
