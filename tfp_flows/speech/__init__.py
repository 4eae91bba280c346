"""Audio by flows: likelihoods in nats a sample, and speech from spectrograms.

    x, mel = tfpf.speech.windows(utterances, 2048, rate=8000)

    model = tfpf.FlowModel(tfpf.speech.waveglow(2048))
    model.compile(optimizer=tfpf.optimizer(2e-3, clip_norm=2048.0))
    model.adapt(x[:500], mel[:500])
    model.fit(x, mel, batch_size=8)
    tfpf.speech.nats_per_sample(model, x, mel).mean()

    copy = tfpf.speech.copy_synthesis(model, utterances[0], 8000)
    tfpf.speech.write_wav("copy.wav", copy, 8000)

Amplitudes lie in [-1, 1); samples of 16 bits are dequantized uniformly, and densities
are of amplitudes. `python -m benchmarks.speech` measures what that reaches beside
linear prediction; its `corpus` has speech to learn from.
"""

from tfp_flows.architectures.waveglow import waveglow
from tfp_flows.bijectors.conditional import LocalCondition
from tfp_flows.bijectors.linear_prediction import LinearPrediction
from tfp_flows.bijectors.multiscale import EarlyOutput
from tfp_flows.bijectors.reshape import Grouped
from tfp_flows.nets.sequence import WaveNet
from tfp_flows.speech.spectrogram import mel_spectrogram, spectrogram_figure, windows
from tfp_flows.speech.synthesis import (
    at_length,
    copy_synthesis,
    nats_per_sample,
    synthesize_mel,
)
from tfp_flows.speech.wav import dequantized, quantized, read_wav, write_wav
