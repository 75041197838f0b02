"""The installed wheel: types, values, copies, errors and type stubs."""

import inspect
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest

import numpy as np

import bedside_ecg

FS = 250


def ecg(seconds=30, rr=0.8, fs=FS):
    """A regular rhythm with P, QRS and T, in millivolts, and the times of its R peaks."""
    time = np.arange(int(seconds * fs)) / fs
    peaks = np.arange(0.5, seconds - 0.5, rr)
    signal = 0.01 * np.random.default_rng(1).standard_normal(len(time))
    for peak in peaks:
        for offset, height, width in [(-0.16, 0.12, 0.02), (-0.025, -0.1, 0.01), (0, 1.2, 0.011), (0.025, -0.2, 0.01), (0.27, 0.3, 0.05)]:
            signal += height * np.exp(-(((time - peak - offset) / width) ** 2) / 2)
    return signal.astype(np.float32), peaks


def peak_memory_of(work):
    """Memory in bytes by which the resident set of this process grew at most."""

    def status(key):
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

    # Resets the peak.
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


class Detect(unittest.TestCase):
    def test_beats_are_found_at_their_r_peaks(self):
        signal, peaks = ecg()
        found = bedside_ecg.detect(signal, FS)
        self.assertEqual((found.dtype, found.ndim), (np.dtype("int64"), 1))
        self.assertEqual(len(found), len(peaks))
        self.assertLess(np.abs(found / FS - peaks).max(), 0.02)

    def test_types_and_layouts_give_the_same_beats(self):
        signal, _ = ecg()
        expected = bedside_ecg.detect(signal, FS)
        strided = np.repeat(signal, 2)[::2]
        unaligned = np.frombuffer(b"x" + signal.tobytes(), dtype=np.uint8)[1:].view(np.float32)
        read_only = signal.copy()
        read_only.setflags(write=False)
        self.assertFalse(strided.flags.c_contiguous or unaligned.flags.aligned)
        for other in [signal.astype(float), strided, unaligned, read_only, signal.astype(float)[::1]]:
            np.testing.assert_array_equal(bedside_ecg.detect(other, FS), expected)

    def test_contiguous_float32_is_not_copied(self):
        signal, _ = ecg()
        signal = np.tile(signal, 2000)
        bedside_ecg.detect(signal[:10_000], FS)
        self.assertLess(peak_memory_of(lambda: bedside_ecg.detect(signal, FS)), 0.5 * signal.nbytes)
        # The same measurement sees a copy where there is one.
        double = signal.astype(float)
        self.assertGreater(peak_memory_of(lambda: bedside_ecg.detect(double, FS)), 0.9 * signal.nbytes)

    def test_result_is_not_copied(self):
        found = bedside_ecg.detect(ecg()[0], FS)
        self.assertFalse(found.flags.owndata)
        self.assertTrue(found.flags.writeable)

    def test_other_threads_run_meanwhile(self):
        signal = np.tile(ecg()[0], 200)
        results = []
        threads = [threading.Thread(target=lambda: results.append(len(bedside_ecg.detect(signal, FS)))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(set(results)), 1)

    def test_wrong_input_is_explained(self):
        signal, _ = ecg()
        for wrong, message in [
            (signal.astype(np.int16), "int16"),
            (signal.reshape(2, -1), r"float32 of shape \(2, 3750\)"),
            (signal.astype(">f4"), ">f4"),
            (list(signal), "list"),
        ]:
            for function in [bedside_ecg.detect, bedside_ecg.analyze]:
                with self.assertRaisesRegex(TypeError, "one-dimensional NumPy array.*" + message):
                    function(wrong, FS)
        for rate in [0, -1, 5, 1e6, float("nan"), float("inf")]:
            with self.assertRaisesRegex(ValueError, "fs must be"):
                bedside_ecg.detect(signal, rate)
        self.assertEqual(len(bedside_ecg.detect(signal[:0], FS)), 0)


class Analyze(unittest.TestCase):
    def test_sinus_rhythm_is_analysed(self):
        signal, peaks = ecg()
        result = bedside_ecg.analyze(signal, FS)
        self.assertAlmostEqual(result.heart_rate_bpm, 75, delta=0.5)
        self.assertEqual((result.quality, result.no_heart_rate_reason), ("good", None))
        beats = result.beats
        self.assertEqual(len(beats), len(peaks))
        np.testing.assert_array_equal(beats.sample, bedside_ecg.detect(signal, FS))
        types = [array.dtype for array in (beats.sample, beats.confidence, beats.type, beats.type_confidence, beats.waves)]
        self.assertEqual(types, [np.dtype(name) for name in ("int64", "float32", "<U1", "float32", "float64")])
        self.assertEqual(set(beats.type), {"N"})
        self.assertEqual(beats.waves.shape, (len(peaks), 9))
        middle = beats.waves[len(peaks) // 2]
        self.assertTrue(np.all(np.diff(middle) >= 0), middle)
        self.assertAlmostEqual(middle[4], peaks[len(peaks) // 2], delta=0.03)
        self.assertIn("sinus_rhythm", [finding.code for finding in result.findings])
        self.assertTrue(60 < result.intervals_ms["qrs"] < 140, result.intervals_ms)
        self.assertEqual(set(result.st_mv), {"j60", "j80"})
        self.assertEqual(result.pacing_pulses_s.dtype, np.float64)

    def test_noise_has_no_heart_rate_but_a_reason(self):
        noise = np.random.default_rng(2).standard_normal(10 * FS).astype(np.float32)
        result = bedside_ecg.analyze(noise, FS)
        self.assertIsNone(result.heart_rate_bpm)
        self.assertEqual(result.quality, "unusable")
        self.assertTrue(result.no_heart_rate_reason.endswith("."))
        # Nothing is measured in noise.
        self.assertEqual((result.findings, set(result.beats.type) - {"Q"}), ([], set()))
        self.assertTrue(np.isnan(result.beats.waves).all())

    def test_gap_splits_the_signal_and_positions_stay(self):
        signal, peaks = ecg()
        with_gap = signal.copy()
        with_gap[10 * FS : 14 * FS] = np.nan
        with_gap[20 * FS] = np.inf
        result = bedside_ecg.analyze(with_gap, FS)
        self.assertAlmostEqual(result.heart_rate_bpm, 75, delta=1)
        outside = peaks[(peaks < 9.8) | (peaks > 14.2)]
        distance = np.abs(result.beats.sample[:, None] / FS - outside).min(axis=0)
        self.assertLess(distance.max(), 0.03)
        self.assertFalse(np.any((result.beats.sample > 10 * FS) & (result.beats.sample < 14 * FS)))


class Read(unittest.TestCase):
    def test_text_file_is_read_with_all_leads(self):
        signal, _ = ecg()
        time = np.arange(len(signal)) / FS
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "strip.csv"
            rows = np.column_stack([time, signal, 0.5 * signal])
            np.savetxt(path, rows, delimiter=",", header="time,II,V1", comments="", fmt="%.4f")
            recording = bedside_ecg.read(path)
            self.assertEqual([lead.name for lead in recording.leads], ["II", "V1"])
            lead = recording.leads[recording.selected]
            self.assertEqual(lead.fs, FS)
            np.testing.assert_allclose(lead.signal, signal, atol=1e-4)
            self.assertIs(lead.signal, lead.signal)
            self.assertFalse(lead.signal.flags.writeable)
            self.assertEqual(bedside_ecg.read(str(path), lead="v1").selected, 1)
            with self.assertRaisesRegex(ValueError, "strip.csv"):
                bedside_ecg.read(path, lead="aVF")
        with self.assertRaisesRegex(ValueError, "cannot be read"):
            bedside_ecg.read("absent.csv")


class Stubs(unittest.TestCase):
    def test_stubs_describe_what_the_module_contains(self):
        folder = pathlib.Path(inspect.getfile(bedside_ecg)).parent
        self.assertTrue((folder / "py.typed").is_file())
        check = subprocess.run(
            [sys.executable, "-m", "mypy.stubtest", "--concise", "bedside_ecg", "--ignore-missing-stub"],
            capture_output=True, text=True, cwd="/",
        )
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)


if __name__ == "__main__":
    unittest.main()
