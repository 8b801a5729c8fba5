"""tf.compat.v1.train's optimizers on a table, in graphs and eagerly, against dense variables."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from taco.tf import dynamic_embedding as de
from taco.tf import train

from tests.tf._tables import filled, random_rows, rows_of

v1 = tf.compat.v1
KEYS = np.array([3, -8, 2**61, 0, 11, -1])
DIM = 5
STEPS = 4

# Each made with the global step, which AdagradDA takes.
OPTIMIZERS = {
    "sgd": lambda step: v1.train.GradientDescentOptimizer(0.1),
    "momentum": lambda step: v1.train.MomentumOptimizer(0.1, 0.9),
    "nesterov": lambda step: v1.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
    "adagrad": lambda step: v1.train.AdagradOptimizer(0.1),
    "adam": lambda step: v1.train.AdamOptimizer(0.1),
    "rmsprop": lambda step: v1.train.RMSPropOptimizer(0.1, momentum=0.9),
    "rmsprop_centered": lambda step: v1.train.RMSPropOptimizer(0.1, centered=True),
    "ftrl": lambda step: v1.train.FtrlOptimizer(
        0.1,
        l1_regularization_strength=0.01,
        l2_regularization_strength=0.01,
        l2_shrinkage_regularization_strength=0.01,
        beta=0.1,
    ),
    "adadelta": lambda step: v1.train.AdadeltaOptimizer(0.1),
    "proximal_sgd": lambda step: v1.train.ProximalGradientDescentOptimizer(0.1),
    "proximal_sgd_regularized": lambda step: v1.train.ProximalGradientDescentOptimizer(
        0.1, l1_regularization_strength=0.2, l2_regularization_strength=0.3
    ),
    "proximal_adagrad": lambda step: v1.train.ProximalAdagradOptimizer(0.1),
    "proximal_adagrad_regularized": lambda step: v1.train.ProximalAdagradOptimizer(
        0.1,
        initial_accumulator_value=0.5,
        l1_regularization_strength=1.0,
        l2_regularization_strength=0.3,
    ),
    "adagrad_da": lambda step: v1.train.AdagradDAOptimizer(0.1, step),
    "adagrad_da_regularized": lambda step: v1.train.AdagradDAOptimizer(
        0.1,
        step,
        initial_gradient_squared_accumulator_value=0.5,
        l1_regularization_strength=0.2,
        l2_regularization_strength=0.3,
    ),
    "lamb": lambda step: train.LAMBOptimizer(0.1, weight_decay=0.1),
    "sparse_adam": lambda step: train.SparseAdamOptimizer(0.1),
}
# Those whose stock update leaves rows without a gradient alone.
LAZY = ["sgd", "momentum", "adagrad", "rmsprop", "ftrl", "adadelta"]
LAZY += [name for name in OPTIMIZERS if name.startswith(("proximal", "adagrad_da"))]


def batch(seed, all_rows=True):
    rng = np.random.default_rng(seed)
    which = np.arange(len(KEYS)) if all_rows else rng.choice(len(KEYS), 2, replace=False)
    which = rng.permutation(np.concatenate([which, which[:2]]))
    return which, rng.normal(size=(len(which), DIM)).astype(np.float32)


def in_a_session(make, all_rows=True, devices=None, dense_gradient=False):
    """Trained rows (table, dense variable) and the dense variables beside them."""
    rows = random_rows(len(KEYS), DIM)
    results = []
    for is_table in (True, False):
        with v1.Graph().as_default(), v1.Session() as session:
            which = v1.placeholder(tf.int64, [None])
            target = v1.placeholder(tf.float32, [None, DIM])
            beside = v1.get_variable("beside", initializer=[1.0, 2.0], use_resource=True)
            if is_table:
                params = de.get_variable("params", dim=DIM, devices=devices)
                ids = tf.gather(tf.constant(KEYS), which)
            else:
                params = v1.get_variable("params", initializer=rows, use_resource=True)
                ids = which
            found = tf.nn.embedding_lookup(params, ids)
            loss = tf.reduce_sum(found * target) * beside[0] + tf.reduce_sum(beside)
            step = v1.train.get_or_create_global_step()
            optimizer = make(step)
            if dense_gradient and not is_table:
                pairs = optimizer.compute_gradients(loss)
                pairs = [(tf.convert_to_tensor(g), v) for g, v in pairs]
                train_op = optimizer.apply_gradients(pairs, step)
            else:
                train_op = optimizer.minimize(loss, step)
            result = params.lookup(KEYS) if is_table else params.read_value()
            fill = params.upsert(KEYS, rows) if is_table else tf.no_op()
            session.run(v1.global_variables_initializer())
            session.run(fill)
            for seed in range(STEPS):
                numbers, targets = batch(seed, all_rows)
                session.run(train_op, {which: numbers, target: targets})
            assert session.run(step) == STEPS
            assert v1.get_collection(v1.GraphKeys.TRAIN_OP) == [train_op]
            results.append(session.run([result, beside]))
    return results


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_session_is_the_stock_optimizer(name):
    ours, stock = in_a_session(OPTIMIZERS[name])
    for mine, theirs in zip(ours, stock, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", LAZY)
def test_session_where_only_some_rows_are_touched(name):
    ours, stock = in_a_session(OPTIMIZERS[name], all_rows=False)
    np.testing.assert_allclose(ours[0], stock[0], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["adam", "ftrl"])
def test_session_with_several_tables(name):
    ours, stock = in_a_session(OPTIMIZERS[name], devices=["/CPU:0"] * 3)
    np.testing.assert_allclose(ours[0], stock[0], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_eager_is_the_stock_optimizer(name, in_function):
    rows = random_rows(len(KEYS), DIM)
    made, dense = filled(KEYS, rows), tf.Variable(rows)
    for params in (made, dense):
        count = tf.Variable(0, dtype=tf.int64)
        optimizer = OPTIMIZERS[name](count)

        def step(ids, target, params=params, optimizer=optimizer, count=count):
            def loss():
                return tf.reduce_sum(tf.nn.embedding_lookup(params, ids) * target)

            pairs = optimizer.compute_gradients(loss, [params])
            optimizer.apply_gradients(pairs, count)

        run = tf.function(step) if in_function else step
        for seed in range(STEPS):
            which, target = batch(seed)
            run(tf.constant(KEYS[which] if params is made else which), tf.constant(target))
        assert int(count) == STEPS
    np.testing.assert_allclose(rows_of(made, KEYS), dense, rtol=2e-5, atol=2e-6)


def test_a_graph_knows_the_table_as_one_of_its_variables():
    with v1.Graph().as_default() as graph, v1.Session() as session:
        with v1.variable_scope("tower"):
            made = de.get_variable("items", dim=2, initializer=1.0)
            fixed = de.get_variable("fixed", dim=2, trainable=False)
        assert made.name == "tower/items" and made.op.name == "tower/items"
        assert v1.global_variables() == [made, fixed]
        assert v1.trainable_variables() == [made]
        with v1.variable_scope("tower", reuse=True):
            assert de.get_variable("items", dim=2) is made
        with v1.variable_scope("tower"), pytest.raises(ValueError, match="already exists"):
            de.get_variable("items", dim=2)
        found = tf.nn.embedding_lookup(made, tf.constant([1, 1, 2], tf.int64))
        (gradient,) = tf.gradients(tf.reduce_sum(found), [made])
        assert isinstance(gradient, tf.IndexedSlices)
        session.run(v1.global_variables_initializer())
        assert session.run(v1.report_uninitialized_variables()).size == 0
        assert session.run(gradient.indices).tolist() == [1, 1, 2]
        assert session.run(found).tolist() == [[1.0, 1.0]] * 3
        assert graph.get_operation_by_name("tower/items").type == "TacoTable"


def test_lookups_of_a_graph():
    with v1.Graph().as_default(), v1.Session() as session:
        made = de.get_variable("items", dim=2, initializer=1.5)
        ids = tf.SparseTensor([[0, 0], [0, 2], [1, 1]], tf.constant([4, 5, 4], tf.int64), [3, 3])
        found = [
            v1.nn.embedding_lookup(made, ids.values),
            v1.nn.embedding_lookup_sparse(made, ids, None, combiner="sum"),
            v1.nn.safe_embedding_lookup_sparse(made, ids, combiner="sum"),
            de.safe_embedding_lookup_sparse(made, ids, combiner="sum"),
            tf.nn.embedding_lookup_sparse(made, ids, None, combiner="sum", allow_fast_lookup=True),
        ]
        session.run(v1.global_variables_initializer())
        values = [value.tolist() for value in session.run(found)]
        two = [[3.0, 3.0], [1.5, 1.5]]
        assert values == [[[1.5, 1.5]] * 3, two, two + [[0.0, 0.0]], two + [[0.0, 0.0]], two]


def test_the_initializer_leaves_rows_alone():
    with v1.Graph().as_default(), v1.Session() as session:
        made = de.get_variable("items", dim=1)
        fill, size, clear = made.upsert([1, 2], [[1.0], [2.0]]), made.size(), made.clear()
        session.run(fill)
        session.run(v1.global_variables_initializer())
        assert session.run(size) == 2
        session.run(clear)
        assert session.run(size) == 0


def test_sessions_of_one_process_have_tables_of_their_own():
    with v1.Graph().as_default():
        made = de.get_variable("items", dim=1)
        fill, size = made.upsert([1, 2], [[1.0], [2.0]]), made.size()
        with v1.Session() as one, v1.Session() as two:
            one.run(fill)
            assert (one.run(size), two.run(size)) == (2, 0)


def test_a_monitored_session_trains_it():
    with v1.Graph().as_default():
        made = de.get_variable("items", dim=1)
        found = tf.nn.embedding_lookup(made, tf.constant([4, 5], tf.int64))
        train_op = v1.train.AdamOptimizer(0.1).minimize(
            tf.reduce_sum(found), v1.train.get_or_create_global_step()
        )
        size = made.size()
        with v1.train.MonitoredSession() as session:
            session.run(train_op)
            assert session.run(size) == 2


def test_learning_rate_may_be_a_tensor_that_changes():
    with v1.Graph().as_default(), v1.Session() as session:
        rate = v1.placeholder(tf.float32, [])
        made = de.get_variable("items", dim=1)
        loss = tf.reduce_sum(tf.nn.embedding_lookup(made, tf.constant([4], tf.int64)))
        train_op = v1.train.GradientDescentOptimizer(rate).minimize(loss)
        row = made.lookup([4])
        session.run(v1.global_variables_initializer())
        session.run(train_op, {rate: 1.0})
        session.run(train_op, {rate: 10.0})
        assert session.run(row).tolist() == [[-11.0]]


def test_the_step_count_is_a_variable_of_the_optimizer():
    with v1.Graph().as_default():
        made = de.get_variable("items", dim=1)
        loss = tf.reduce_sum(tf.nn.embedding_lookup(made, tf.constant([4], tf.int64)))
        optimizer = v1.train.AdamOptimizer()
        optimizer.minimize(loss)
        assert [v.op.name for v in optimizer.variables()] == ["Adam/taco_step"]
        assert optimizer.variables()[0].dtype == tf.int64


@pytest.mark.parametrize("dim", [1, 3])  # for which TensorFlow has two kernels
def test_adagrad_da_takes_its_step_from_the_global_step(dim):
    """Which may begin anywhere, jump, and be counted by someone else."""
    made, dense = filled([7], [[0.5] * dim]), tf.Variable([[0.5] * dim])
    for params, key in ((made, 7), (dense, 0)):
        count = tf.Variable(0, dtype=tf.int64)
        optimizer = v1.train.AdagradDAOptimizer(
            0.1, count, l1_regularization_strength=0.03, l2_regularization_strength=0.02
        )
        for place in (0, 0, 41, 6):
            count.assign(place)
            keys = tf.constant([key, key], tf.int64)
            optimizer.apply_gradients([(tf.IndexedSlices(tf.ones([2, dim]), keys), params)])
        assert int(count) == 6
        if params is made:  # no count of its own
            assert optimizer.variables() == []
    np.testing.assert_allclose(rows_of(made, [7]), dense, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["proximal_sgd", "proximal_adagrad", "adagrad_da"])
def test_l1_leaves_exact_zeros(name):
    ours, stock = in_a_session(OPTIMIZERS[name + "_regularized"])
    np.testing.assert_array_equal(ours[0] == 0.0, stock[0] == 0.0)
    assert 0 < np.count_nonzero(ours[0]) < ours[0].size


def test_return_trainable_is_taken_by_minimize():
    with v1.Graph().as_default(), v1.Session() as session:
        made = de.get_variable("items", dim=1)
        ids = tf.constant([4, 5, 4], tf.int64)
        found, trainable = de.embedding_lookup(made, ids, return_trainable=True)
        optimizer = de.DynamicEmbeddingOptimizer(v1.train.GradientDescentOptimizer(1.0))
        train_op = optimizer.minimize(tf.reduce_sum(found), var_list=[trainable])
        row = made.lookup([4, 5])
        session.run(v1.global_variables_initializer())
        session.run(train_op)
        assert session.run(row).tolist() == [[-2.0], [-1.0]]


def test_other_optimizers_are_refused_and_the_supported_ones_named():
    made = filled([1], [[1.0]])
    slices = tf.IndexedSlices([[1.0]], tf.constant([1], tf.int64))

    class Halving(v1.train.GradientDescentOptimizer):
        def _resource_apply_sparse(self, grad, handle, indices):
            return super()._resource_apply_sparse(grad / 2, handle, indices)

    optimizer = Halving(0.1)
    with pytest.raises(TypeError, match="AdamOptimizer.*taco.tf.train"):
        optimizer.apply_gradients([(slices, made)])
    with pytest.raises(TypeError, match="Halving cannot train"):
        de.DynamicEmbeddingOptimizer(optimizer)


def test_every_optimizer_of_the_module_is_tested_here():
    wrappers = {v1.train.Optimizer, v1.train.SyncReplicasOptimizer}
    public = {vars(v1.train)[name] for name in dir(v1.train) if name.endswith("Optimizer")}
    with tf.Graph().as_default():
        tested = {type(make(v1.train.get_or_create_global_step())) for make in OPTIMIZERS.values()}
    assert public - wrappers <= tested


def test_lamb_scales_by_weights_over_direction():
    variable = tf.Variable([3.0, 4.0])
    train.LAMBOptimizer(learning_rate=0.1).apply_gradients([(tf.constant([1.0, 1.0]), variable)])
    scale = 0.1 * 5.0 / np.sqrt(2.0)
    np.testing.assert_allclose(variable, [3.0 - scale, 4.0 - scale], rtol=1e-5)


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("beside", [False, True])
def test_the_step_has_the_name_that_it_was_given(counted, beside):
    with tf.Graph().as_default() as graph:
        var = de.Variable(name="named", dim=2)
        loss = tf.reduce_sum(tf.nn.embedding_lookup(var, [1, 2]))
        if beside:
            loss += v1.get_variable("w", initializer=1.0)
        count = v1.train.get_or_create_global_step() if counted else None
        step = v1.train.AdamOptimizer().minimize(loss, count, name="train")
        assert step.name == "train"
        assert graph.get_operation_by_name("train") is step
        names = {variable.op.name for variable in v1.global_variables()}
        assert ("beta1_power" in names) is beside
