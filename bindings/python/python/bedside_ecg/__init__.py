"""ECG analysis: beats, heart rate, signal quality, waves, beat types and rhythm. Not a medical device."""

from ._native import Analysis, Beats, Finding, Lead, Recording, analyze, detect, read, __version__

__all__ = ["Analysis", "Beats", "Finding", "Lead", "Recording", "__version__", "analyze", "detect", "read"]
