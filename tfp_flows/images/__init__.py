"""What one does with a flow of images: latents, interpolation, restoration.

    tfpf.images.interpolate(model, start, end, steps=8)
    tfpf.images.inpaint(model, images, known)

Every function takes a flow or a `FlowModel` whose data are images `[n, h, w, c]` in
data units, and returns images in data units; `picture_grid` and `write_png` turn them
into files. For a conditional flow, bind the condition first: `tfpf.condition(flow, c)`.
`seed` is that of the random latents or steps.
"""

from tfp_flows.images.distance import frechet_distance
from tfp_flows.images.latents import (
    add_attribute,
    attribute_vector,
    decode,
    encode,
    interpolate,
    temperature_series,
)
from tfp_flows.images.restoration import (
    inpaint,
    inpainting_series,
    restore,
    super_resolution_series,
    super_resolve,
)
from tfp_flows.internal.pictures import picture_grid, write_png
