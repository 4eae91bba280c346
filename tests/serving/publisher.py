"""Exports without end, to be killed at any moment.

    python publisher.py BASE_PATH

TensorFlow takes seconds to import, so this process imports it once and forks: for
every line on its input it starts a child that exports until it is killed, and writes
the child's process id.
"""

import os
import sys

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.serving import export_saved_model

tfb, tfd = tfp.bijectors, tfp.distributions


def export_forever(base_path):
    loc = tf.Variable(tf.zeros([2]))
    flow = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(tf.zeros([2]), tf.ones([2])),
        tfb.Chain([tfb.Sigmoid(), tfb.Shift(loc)]),
    )
    while True:
        export_saved_model(flow, base_path)


def main():
    base_path = sys.argv[1]
    print("ready", flush=True)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            export_forever(base_path)
        print(child, flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
