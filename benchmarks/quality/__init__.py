"""Held-out likelihoods of our flows and of zuko's, on the same splits.

    python -m benchmarks.quality.splits FOLDER          # once: data of ten seeds
    python -m benchmarks.quality.ours FOLDER            # where tfp_flows is
    python benchmarks/quality/torch_peers.py zuko FOLDER          # where torch and
    python benchmarks/quality/torch_peers.py normflows FOLDER     # they are
    python benchmarks/quality/flowjax_peers.py FOLDER   # where FlowJAX is
    python -m benchmarks.quality.table FOLDER           # Markdown table, pictures

Every model trains by Adam on the same batches' size for the same number of steps,
with the learning rate falling along a cosine, and is kept as it was at its best
validation likelihood. The numbers are held-out nll in nats, mean over the seeds and
standard error of that mean. `--steps`, `--seeds`, `--sets` and `--models` shorten a
run; a row that is in the results already is not run again.
"""
