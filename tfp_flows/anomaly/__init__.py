"""Anomaly detection with a trained flow: scorers, thresholds, reports, an estimator.

    scorer = tfpf.anomaly.TypicalityScorer()
    tfpf.anomaly.fit_scorer(model, scorer, held_out, false_alarm_rate=0.01)
    tfpf.anomaly.is_anomaly(model, x)
    model.save("flow.keras")                        # the fitted scorer travels along
    tfpf.export_saved_model(model, "models/flow")    # with a signature `anomaly_score`

Functions take a `flow`, a trained `tfpf.FlowModel` or TFP distribution, rows `x`
`[n, *event]` in its units with, for a conditional flow, their `condition`, and work on
`batch_size` rows at a time.

| scorer | score, larger is more anomalous |
|---|---|
| `NllScorer` | `-log p(x)` |
| `TypicalityScorer` | distance of `-log p(x)` from the entropy |
| `RatioScorer` | `log p_background(x) - log p(x)` |
| `ComplexityScorer` | `-log p(x)` less the size of `x` as a PNG |
| `LatentNormScorer` | norm of the latents, or its distance from the usual one |
| `JointTypicalityScorer` | how unusual likelihood, norm and PNG size are together |

**The likelihood alone misleads.** A flow of clothes gives digits on black, which it has
never seen, a higher density than most clothes (Nalisnick et al., Do Deep Generative
Models Know What They Don't Know?, 2019, arXiv:1810.09136). `python -m
benchmarks.anomaly` measures this, and what the other scorers make of it.
"""

from tfp_flows.anomaly.detector import FlowAnomalyDetector
from tfp_flows.anomaly.fitting import (
    anomaly_scores,
    false_alarm_threshold,
    fit_scorer,
    is_anomaly,
)
from tfp_flows.anomaly.report import DetectionReport, detection_report
from tfp_flows.anomaly.rows import Rows, evaluate_rows
from tfp_flows.anomaly.scorers import (
    AnomalyScorer,
    BatchTypicality,
    ComplexityScorer,
    JointTypicalityScorer,
    LatentNormScorer,
    NllScorer,
    RatioScorer,
    TypicalityScorer,
)
