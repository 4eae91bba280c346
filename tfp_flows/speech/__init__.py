"""Audio by flows: likelihoods in nats a sample, and speech from spectrograms.

    speech = tfpf.speech.example_speech()                  # synthetic, by espeak-ng
    x, mel = tfpf.speech.windows(speech.train, 2048, rate=speech.rate)

    model = tfpf.FlowModel(tfpf.speech.waveglow(2048))
    model.compile(optimizer=tfpf.optimizer(2e-3, clip_norm=2048.0))
    model.adapt(x[:500], mel[:500])
    model.fit(x, mel, batch_size=8)

    held_out = tfpf.speech.windows(speech.test, 2048, rate=speech.rate)
    tfpf.speech.nats_per_sample(model, *held_out).mean()
    tfpf.speech.baselines.autoregression(x, 10).mean_nats(held_out[0])

    copy = tfpf.speech.copy_synthesis(model, speech.test[0], speech.rate)
    tfpf.speech.write_wav("copy.wav", copy, speech.rate)

Amplitudes lie in [-1, 1); samples of 16 bits are dequantized uniformly, and densities
are of amplitudes. `python -m benchmarks.speech` measures what that reaches.
"""

from tfp_flows.architectures.waveglow import waveglow
from tfp_flows.bijectors.conditional import LocalCondition
from tfp_flows.bijectors.linear_prediction import LinearPrediction
from tfp_flows.bijectors.multiscale import EarlyOutput
from tfp_flows.bijectors.reshape import Grouped
from tfp_flows.nets.sequence import WaveNet
from tfp_flows.speech import baselines
from tfp_flows.speech.corpus import (
    VOICES,
    Speech,
    Voice,
    example_speech,
    read_speech,
    synthesize,
)
from tfp_flows.speech.likelihood import nats_per_sample
from tfp_flows.speech.pictures import spectrogram_figure
from tfp_flows.speech.sentences import SENTENCES
from tfp_flows.speech.spectrogram import mel_spectrogram
from tfp_flows.speech.synthesis import at_length, copy_synthesis, synthesize_mel
from tfp_flows.speech.wav import dequantized, quantized, read_wav, write_wav
from tfp_flows.speech.windows import windows

__all__ = [
    "SENTENCES",
    "VOICES",
    "EarlyOutput",
    "Grouped",
    "LinearPrediction",
    "LocalCondition",
    "Speech",
    "Voice",
    "WaveNet",
    "at_length",
    "baselines",
    "copy_synthesis",
    "dequantized",
    "example_speech",
    "mel_spectrogram",
    "nats_per_sample",
    "quantized",
    "read_speech",
    "read_wav",
    "spectrogram_figure",
    "synthesize",
    "synthesize_mel",
    "waveglow",
    "windows",
    "write_wav",
]
