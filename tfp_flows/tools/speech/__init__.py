"""Audio by flows: likelihoods in nats a sample, and speech from spectrograms.

    speech = tff.speech.example_speech()                  # synthetic, by espeak-ng
    x, mel = tff.speech.windows(speech.train, 2048, rate=speech.rate)

    model = tff.FlowModel(tff.speech.waveglow(2048))
    model.compile(optimizer=tff.optimizer(2e-3, clip_norm=2048.0))
    model.adapt(x[:500], mel[:500])
    model.fit(x, mel, batch_size=8)

    held_out = tff.speech.windows(speech.test, 2048, rate=speech.rate)
    tff.speech.nats_per_sample(model, *held_out).mean()
    tff.speech.baselines.autoregression(x, 10).mean_nats(held_out[0])

    copy = tff.speech.copy_synthesis(model, speech.test[0], speech.rate)
    tff.speech.write_wav("copy.wav", copy, speech.rate)

Amplitudes lie in [-1, 1); samples of 16 bits are dequantized uniformly, and densities
are of amplitudes. `python -m benchmarks.speech` measures what that reaches.
"""

from tfp_flows.tools.speech import baselines
from tfp_flows.tools.speech.corpus import (
    VOICES,
    Speech,
    Voice,
    example_speech,
    read_speech,
    synthesize,
)
from tfp_flows.tools.speech.early_output import EarlyOutput
from tfp_flows.tools.speech.grouped import Grouped
from tfp_flows.tools.speech.likelihood import nats_per_sample
from tfp_flows.tools.speech.linear_prediction import LinearPrediction
from tfp_flows.tools.speech.local_condition import LocalCondition
from tfp_flows.tools.speech.pictures import spectrogram_figure
from tfp_flows.tools.speech.sentences import SENTENCES
from tfp_flows.tools.speech.spectrogram import mel_spectrogram
from tfp_flows.tools.speech.synthesis import at_length, copy_synthesis, synthesize_mel
from tfp_flows.tools.speech.wav import dequantized, quantized, read_wav, write_wav
from tfp_flows.tools.speech.waveglow import waveglow
from tfp_flows.tools.speech.wavenet import WaveNet
from tfp_flows.tools.speech.windows import windows

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
