"""Which scorer of a Fashion-MNIST flow finds which anomalies."""
