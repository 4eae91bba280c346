"""Text of fixed length by flows: bits a character, and samples.

    text = tfpf.text.load("kjv.txt")                       # 27 characters, as text8
    first, last = tfpf.text.split(text, held_out=0.1)
    train, test = tfpf.text.windows(first, 32), tfpf.text.windows(last, 32)

    flow = tfpf.text.TextFlow(length=32)
    flow.fit(train, epochs=2, batch_size=128)
    flow.bits_per_char(test, samples=8)                   # an upper bound
    flow.sample(5, seed=1, prompt="in the beginning ")

Each character is drawn as a vector near a learned place of its own, and the flow has
the density of the sequence of vectors (`CategoricalFlow`). `python -m benchmarks.text`
measures what that reaches, beside counts of characters and a recurrent language model.
"""

from tfp_flows.architectures.autoregressive import causal_flow
from tfp_flows.bijectors.causal import Causal
from tfp_flows.bijectors.mixture import ConditionalMixture
from tfp_flows.distributions.surjections import CategoricalFlow, character_embeddings
from tfp_flows.nets.sequence import CausalLSTM
from tfp_flows.text.corpus import LETTERS, clean, load, split, windows
from tfp_flows.text.text_flow import TextFlow
