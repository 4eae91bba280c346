"""Plain functions that assemble flows from bijectors and networks.

    flow = tfpf.real_nvp((2,), steps=8)              # a `tfd.TransformedDistribution`

Arguments that the architectures share; each docstring lists only its own:

| argument | meaning |
|---|---|
| `event_shape` | shape of one data point; an integer stands for a vector |
| `steps` | how many layers lie one behind the other (on each level, if there are some) |
| `hidden_units` | widths of the hidden layers of fully connected networks |
| `hidden_channels` | width of convolutional networks |
| `activation` | Keras activation of the networks |
| `residual` | whether the networks use residual blocks |
| `dropout` | share of hidden values dropped while training |
| `coupling` | `"affine"`, `"additive"` or a value of `tfpf.transforms` |
| `log_scale` | how affine layers bound their scale; see `AffineCoupling` |
| `permutation` | kind of mixing before couplings, see `InvertibleConv1x1`; None for `"lu"` of up to 128 values and a fixed `"permutation"` of more |
| `bins` | bins of each spline |
| `bound` | splines bend on `[-bound, bound]` and are the identity outside, in standard deviations where there is an actnorm: 3 suits data without tails, 5 outliers |
| `condition_shape` | shape of one condition, for a conditional flow; `()` for labels, which need an `encoder` |
| `encoder` | Keras layer that conditions go through first, such as `keras.layers.Embedding(10, 8)` for labels; see `EncodedCondition` |
| `base` | distribution of flat latents; None for a standard normal. `MultiScale` documents the order of an image's latents |
| `preprocess` | bijector on the data's side, such as `tfpf.logit(256)`; see `pixel_splines` for images with noise |
| `mode` | how repeated layers run; `"reversible"` trains in memory that does not grow with their number. See `Repeat` |
| `dtype` | float type of flow and networks; None for Keras's defaults |
| `name` | name of the distribution |

All return a distribution of events of `event_shape`, and raise a `ValueError` that
names an argument that is out of range or does not suit the events.
"""  # noqa: E501
