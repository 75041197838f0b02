import os
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Analysis", "Beats", "Finding", "Lead", "Recording", "__version__", "analyze", "detect", "read"]

__version__: str

_Signal = NDArray[np.float32] | NDArray[np.float64]

@final
class Beats:
    """Beats in order of time. All arrays have one element per beat."""

    @property
    def sample(self) -> NDArray[np.int64]:
        """Index of the R peak in the signal."""
    @property
    def confidence(self) -> NDArray[np.float32]:
        """Confidence, 0 (doubtful) to 1 (certain)."""
    @property
    def type(self) -> NDArray[np.str_]:
        """N, S (supraventricular), V (ventricular), P (paced) or Q (unknown)."""
    @property
    def type_confidence(self) -> NDArray[np.float32]:
        """Confidence of the type, 0 to 1."""
    @property
    def waves(self) -> NDArray[np.float64]:
        """Shape (beats, 9): onset, peak and end of P, QRS and T in seconds from the first sample, NaN if there is no such wave."""
    def __len__(self) -> int: ...

@final
class Finding:
    """A finding of the rhythm. It is not a diagnosis."""

    @property
    def code(self) -> str: ...
    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...
    @property
    def evidence(self) -> str: ...

@final
class Analysis:
    """Result of analyze(). Times are seconds from the first sample. A value that cannot be measured is None."""

    @property
    def heart_rate_bpm(self) -> float | None:
        """60 s divided by the mean valid RR interval."""
    @property
    def no_heart_rate_reason(self) -> str | None:
        """One sentence, present exactly if there is no heart rate."""
    @property
    def quality(self) -> Literal["good", "poor", "unusable"]: ...
    @property
    def beats(self) -> Beats: ...
    @property
    def pacing_pulses_s(self) -> NDArray[np.float64]:
        """Times of pacemaker pulses. Empty below 250 Hz."""
    @property
    def findings(self) -> list[Finding]: ...
    @property
    def intervals_ms(self) -> dict[str, float | None]:
        """Medians: pr, qrs, qt, qtc_bazett, qtc_fridericia."""
    @property
    def st_mv(self) -> dict[str, float | None]:
        """Medians 60 and 80 ms after the J point, relative to the PR segment: j60, j80."""

@final
class Lead:
    """One lead of a recording."""

    @property
    def name(self) -> str | None: ...
    @property
    def fs(self) -> float:
        """Samples per second."""
    @property
    def signal(self) -> NDArray[np.float32]:
        """Samples in millivolts, NaN in gaps. Each access returns the same array, which is read-only."""
    @property
    def warnings(self) -> list[str]:
        """Sentences about how the file was read."""

@final
class Recording:
    """Result of read()."""

    @property
    def leads(self) -> list[Lead]:
        """The leads in the order of the file. Not empty."""
    @property
    def selected(self) -> int:
        """Index of the requested lead, or else of the one that is preferred by its name."""
    @property
    def start(self) -> str | None:
        """Local time of the first sample (ISO 8601), if the file states it."""
    @property
    def other_signals(self) -> list[str]:
        """Names of signals that are not leads of an ECG."""

def detect(signal: _Signal, fs: float) -> NDArray[np.int64]:
    """Return the indices of the R peaks, in order.

    signal: shape (n,), millivolts; the scale does not matter. NaN and infinity are missing samples.
    fs: samples per second, 10 to 100000.
    Raises TypeError for another type or shape and ValueError for another rate.
    """

def analyze(signal: _Signal, fs: float) -> Analysis:
    """Return beats, heart rate, quality, waves, beat types and rhythm.

    signal: shape (n,), millivolts. NaN and infinity are missing samples: up to 0.1 s of them are interpolated.
    fs: samples per second, 10 to 100000.
    Raises TypeError for another type or shape and ValueError for another rate.
    """

def read(
    path: str | os.PathLike[str], *, lead: str | None = None, sample_rate: float | None = None
) -> Recording:
    """Read all leads of a text (CSV), EDF, EDF+ or BDF file, or of a WFDB record by its header (.hea).

    lead: name of the lead, or its number from 1, that gives the heart rate.
    sample_rate: samples per second, for text files without times.
    Raises ValueError with one sentence if the file cannot be read or is no ECG.
    """
