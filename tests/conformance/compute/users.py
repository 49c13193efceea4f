"""What users put on an executor: joblib, scikit-learn and dask collections give
the same with a cluster as without. Prints `test NAME ... ok` or `FAILED`.

`python users.py ADDRESS [WORD [FAMILY…]]`
"""

import sys
import traceback

import joblib
import numpy as np

import trine
import trine.joblib

ADDRESS = None


def joblib_maps():
    with joblib.parallel_config("trine", address=ADDRESS):
        squares = joblib.Parallel(n_jobs=4)(joblib.delayed(pow)(i, 2) for i in range(50))
    assert squares == [i * i for i in range(50)]


def joblib_shares_a_large_array():
    data = np.arange(200_000.0)
    with joblib.parallel_config("trine", address=ADDRESS):
        sums = joblib.Parallel(n_jobs=4)(joblib.delayed(lambda d, i: d[i:].sum())(data, i) for i in range(8))
    assert sums == [data[i:].sum() for i in range(8)]


def joblib_raises():
    try:
        with joblib.parallel_config("trine", address=ADDRESS):
            joblib.Parallel(n_jobs=2)(joblib.delayed(divmod)(1, i) for i in (1, 0, 2))
    except ZeroDivisionError:
        return
    raise AssertionError("nothing was raised")


def joblib_generates():
    with joblib.parallel_config("trine", address=ADDRESS):
        lazily = joblib.Parallel(n_jobs=2, return_as="generator")(joblib.delayed(abs)(-i) for i in range(20))
        assert list(lazily) == list(range(20))


def sklearn_grid_search():
    from sklearn.datasets import load_iris
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    features, classes = load_iris(return_X_y=True)
    grid = {"C": [0.1, 1, 10], "kernel": ["rbf", "linear"]}
    alone = GridSearchCV(SVC(), grid, n_jobs=1).fit(features, classes)
    with joblib.parallel_config("trine", address=ADDRESS):
        together = GridSearchCV(SVC(), grid, n_jobs=4).fit(features, classes)
    assert alone.best_params_ == together.best_params_
    assert (alone.cv_results_["mean_test_score"] == together.cv_results_["mean_test_score"]).all()


def sklearn_random_forest():
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score

    features, classes = load_iris(return_X_y=True)
    forest = RandomForestClassifier(20, random_state=7)
    alone = cross_val_score(forest, features, classes, n_jobs=1)
    with joblib.parallel_config("trine", address=ADDRESS):
        together = cross_val_score(forest, features, classes, n_jobs=4)
    assert (alone == together).all()


def dask_array():
    import dask
    import dask.array

    ones = dask.array.ones((400, 400), chunks=(100, 400))
    with trine.Executor(ADDRESS) as executor:
        (total,) = dask.compute((ones + ones.T.rechunk((100, 400))).sum(), scheduler=executor)
    assert total == 320_000


def dask_bag():
    import dask.bag

    bag = dask.bag.from_sequence(range(100), npartitions=5).map(lambda value: value * value).filter(lambda v: v % 2)
    with trine.Executor(ADDRESS) as executor:
        assert bag.compute(scheduler=executor) == [v * v for v in range(100) if v % 2]


def dask_delayed():
    import dask

    add = dask.delayed(lambda a, b: a + b)
    total = 0
    for value in range(10):
        total = add(total, value)
    with trine.Executor(ADDRESS) as executor:
        assert dask.compute(total, scheduler=executor) == (45,)


def pool_is_like_that_of_multiprocessing():
    with trine.Pool(4, address=ADDRESS) as pool:
        assert pool.map(abs, range(-20, 0)) == list(range(20, 0, -1))
        assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        assert list(pool.imap(abs, [-1, -2])) == [1, 2]
        assert sorted(pool.imap_unordered(abs, [-1, -2, -3], 2)) == [1, 2, 3]
        assert pool.apply(max, (1, 5)) == 5


TESTS = [
    joblib_maps,
    joblib_shares_a_large_array,
    joblib_raises,
    joblib_generates,
    sklearn_grid_search,
    sklearn_random_forest,
    dask_array,
    dask_bag,
    dask_delayed,
    pool_is_like_that_of_multiprocessing,
]


def main(address, word="", *families):
    global ADDRESS
    ADDRESS = address
    trine.joblib.register()
    failed = False
    for test in TESTS:
        name = "users " + test.__name__
        if word not in name or families and "users" not in families:
            continue
        try:
            test()
        except BaseException:
            failed = True
            print("test %s ... FAILED" % name, flush=True)
            print("".join("    " + line for line in traceback.format_exc().splitlines(True)[-12:]), flush=True)
        else:
            print("test %s ... ok" % name, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
