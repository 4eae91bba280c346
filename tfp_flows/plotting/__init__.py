"""Pictures of data, samples, densities and training, as matplotlib figures.

Every function returns a new `matplotlib.figure.Figure` that no global state knows of,
so that it works without a screen and in any thread. `save` writes one to disk.
"""

from tfp_flows.plotting.charts import density_map, learning_curve, pair_plot, save
from tfp_flows.plotting.images import image_grid, real_and_sampled_images
