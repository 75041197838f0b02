"""Runs QRS detectors on exported strips and compares the heart rates with the true ones.

The strips come from `evaluate --export` and `synthesise --export` (see `run`), so that all detectors see the same samples.
A rate is right within 5 bpm or 10 %. The rate of a detector is the mean from its first to its last beat; with fewer
than two beats, or an exception, it has no rate. Only Bedside states a quality, so all other rates count as good.
"""

import argparse
import collections
import csv
import os
import pathlib
import sys
import time
import warnings

import numpy as np

RATE_BPM, RATE_SHARE = 5.0, 0.1
CLASSES = ["right", "wrong_good", "wrong_poor", "refused"]


def bedside(signal, fs):
    import bedside_ecg

    result = bedside_ecg.analyze(signal, fs)
    return result.heart_rate_bpm, result.quality == "good"


def of_beats(find):
    """The rate of a function that returns the indices of beats."""

    def rate(signal, fs):
        beats = np.sort(np.asarray(find(signal, fs), dtype=float)) / fs
        if len(beats) < 2 or beats[-1] <= beats[0]:
            return None, True
        return 60 * (len(beats) - 1) / (beats[-1] - beats[0]), True

    return rate


def bedside_beats(signal, fs):
    import bedside_ecg

    return bedside_ecg.detect(signal, fs)


def sleepecg(signal, fs):
    import sleepecg

    return sleepecg.detect_heartbeats(signal.astype(float), fs)


def xqrs(signal, fs):
    import wfdb.processing

    return wfdb.processing.xqrs_detect(signal.astype(float), fs=fs, verbose=False)


def gqrs(signal, fs):
    import wfdb.processing

    counts = np.round(200 * signal).astype(int)
    return wfdb.processing.gqrs_detect(d_sig=counts, fs=fs, adc_gain=200, adc_zero=0)


def unsw(signal, fs):
    import neurokit2

    return neurokit2.ecg_findpeaks(signal.astype(float), sampling_rate=fs, method="khamis2016")["ECG_R_Peaks"]


DETECTORS = {
    "bedside": ("Bedside", bedside),
    "bedside_beats": ("Bedside, beats only", of_beats(bedside_beats)),
    "sleepecg": ("sleepecg", of_beats(sleepecg)),
    "xqrs": ("xqrs", of_beats(xqrs)),
    "gqrs": ("gqrs", of_beats(gqrs)),
    "unsw": ("UNSW", of_beats(unsw)),
}


def strips(directory, every):
    """Yields set, name, true rate, sampling rate and samples of each `every`th strip of a set."""
    samples = np.memmap(directory / "strips.f32", dtype="<f4", mode="r")
    seen, at = collections.Counter(), 0
    with open(directory / "strips.tsv", newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            count = int(row["samples"])
            if seen[row["set"]] % every == 0:
                yield row["set"], row["name"], float(row["rate_bpm"]), float(row["sample_rate_hz"]), samples[at : at + count]
            seen[row["set"]] += 1
            at += count
    if at != len(samples):
        sys.exit(f"{directory}: strips.tsv describes {at} samples, strips.f32 contains {len(samples)}")


def classify(rate, is_good, truth):
    if rate is None or not np.isfinite(rate):
        return "refused"
    if abs(rate - truth) <= max(RATE_BPM, RATE_SHARE * truth):
        return "right"
    return "wrong_good" if is_good else "wrong_poor"


def run(args):
    """Writes one line per set: counts of the four classes and the processor time."""
    _, detect = DETECTORS[args.detector]
    counts = collections.defaultdict(collections.Counter)
    for directory in args.strips:
        for name, _, truth, fs, signal in strips(directory, args.every):
            start = time.process_time()
            try:
                # Some detectors require a whole number.
                rate, is_good = detect(np.ascontiguousarray(signal), int(fs) if fs == int(fs) else fs)
            except Exception:  # A detector that fails on a strip has no rate.
                rate, is_good = None, True
            counts[name]["ms"] += 1000 * (time.process_time() - start)
            counts[name]["samples"] += len(signal)
            counts[name][classify(rate, is_good, truth)] += 1
    with open(args.output, "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["detector", "set", "every", *CLASSES, "samples", "ms"])
        for name, count in counts.items():
            writer.writerow([args.detector, name, args.every, *(count[key] for key in CLASSES), count["samples"], round(count["ms"])])


def table(args):
    """Prints the results as a Markdown table and draws them."""
    results = collections.defaultdict(dict)
    for path in args.results:
        with open(path, newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                results[row["set"]][row["detector"]] = row
    used = [key for key in DETECTORS if any(key in row for row in results.values())]
    share = lambda row, key: 100 * int(row[key]) / max(1, sum(int(row[name]) for name in CLASSES))
    print("| set | strips | " + " | ".join(DETECTORS[key][0] for key in used) + " |")
    print("|---|---|" + "---|" * len(used))
    for name, row in results.items():
        cells = []
        best = max(share(row[key], "right") for key in used if key in row)
        for key in used:
            if key not in row:
                cells.append("")
                continue
            right = f"{share(row[key], 'right'):.1f}"
            right = f"**{right}**" if share(row[key], "right") >= best - 1e-9 else right
            cells.append(" / ".join([right, *(f"{share(row[key], part):.1f}" for part in CLASSES[1:] if key == "bedside" or part != "wrong_poor")]))
        strips = {sum(int(row[key][part]) for part in CLASSES) for key in used if key in row}
        print(f"| {name} | {', '.join(str(count) for count in sorted(strips))} | " + " | ".join(cells) + " |")
    if args.plot:
        plot(results, used, share, args.plot)


def plot(results, used, share, path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bedside"
    import matplotlib.pyplot as plt

    names = list(results)[::-1]
    figure, axes = plt.subplots(figsize=(8.5, 0.3 * len(names) + 1.3))
    colors = ["#0b6e4f", "#7bc8a4", "#d1495b", "#edae49", "#8d6cab", "#30638e"]
    for index, key in enumerate(used):
        x = [share(results[name][key], "right") if key in results[name] else np.nan for name in names]
        axes.plot(x, range(len(names)), "o" if key == "bedside" else ".", color=colors[index], label=DETECTORS[key][0],
                  markersize=8 if key == "bedside" else 7, alpha=0.9)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, 101)
    axes.set_xlabel("strips with the right heart rate, %")
    axes.grid(axis="both", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def speed(args):
    """Prints samples per second of Bedside and sleepecg on the same signal, best of several alternating runs."""
    import bedside_ecg
    import sleepecg

    fs = 360
    rng = np.random.default_rng(1)
    time_s = np.arange(600 * fs) / fs
    phase = (time_s + 0.05 * np.sin(time_s / 4)) % 0.8
    signal = np.exp(-(((phase - 0.3) / 0.012) ** 2) / 2) + 0.25 * np.exp(-(((phase - 0.58) / 0.05) ** 2) / 2)
    signal = (signal + 0.1 * np.sin(time_s) + 0.02 * rng.standard_normal(len(time_s))).astype(np.float32)
    double = signal.astype(float)
    best = {"bedside": np.inf, "sleepecg": np.inf}
    for _ in range(args.runs):
        for name, work in [("bedside", lambda: bedside_ecg.detect(signal, fs)), ("sleepecg", lambda: sleepecg.detect_heartbeats(double, fs))]:
            start = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - start)
    rates = {name: len(signal) / seconds / 1e6 for name, seconds in best.items()}
    print(f"bedside {rates['bedside']:.1f} Ms/s, sleepecg {rates['sleepecg']:.1f} Ms/s, ratio {rates['bedside'] / rates['sleepecg']:.2f}")


def main():
    # One core per detector.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run", help="run one detector on exported strips")
    command.add_argument("detector", choices=DETECTORS)
    command.add_argument("strips", type=pathlib.Path, nargs="+", metavar="DIR")
    command.add_argument("--every", type=int, default=1, metavar="N", help="use each Nth strip of a set")
    command.add_argument("--output", required=True, metavar="FILE.tsv")
    command.set_defaults(work=run)
    command = commands.add_parser("table", help="print and draw results")
    command.add_argument("results", nargs="+", metavar="FILE.tsv")
    command.add_argument("--plot", metavar="FILE.svg")
    command.set_defaults(work=table)
    command = commands.add_parser("speed", help="compare the speed of detection")
    command.add_argument("--runs", type=int, default=15)
    command.set_defaults(work=speed)
    args = parser.parse_args()
    args.work(args)


if __name__ == "__main__":
    main()
