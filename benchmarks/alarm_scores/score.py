"""Scores alarms on annotated WFDB records, as the program `alarm_scores` does, on annotations that `wfdb` reads.

    score.py ALARMS DIR... [--compare TABLE]

ALARMS is the file of `alarm_scores DIR... --alarms ALARMS`, and TABLE is what that program printed. With --compare, the exit code
is 1 if a table differs. The definitions are those in the header of benchmarks/src/bin/alarm_scores.rs; this program shares no
code with it. It needs the packages of requirements.txt.
"""

import argparse
import collections
import pathlib
import sys

import numpy as np
import wfdb

STRONGER = {
    "pause": ["asystole"],
    "heart_rate_extreme_low": ["asystole"],
    "heart_rate_low": ["heart_rate_extreme_low", "asystole"],
    "heart_rate_high": ["heart_rate_extreme_high"],
}
BEATS = set("NLRaVFJASEj/QefnBr?")
RULES = ["asystole", "ventricular_run", "heart_rate_extreme_low", "heart_rate_extreme_high", "heart_rate_low", "heart_rate_high",
         "pause", "atrial_fibrillation"]  # fmt: skip


def joined(episodes):
    result = []
    for start, end in episodes:
        if result and start - result[-1][1] <= 15:
            result[-1][1] = max(end, result[-1][1])
        else:
            result.append([start, end])
    return result


def spans(times, present, seconds=0.0):
    """From the first of consecutive beats at which something is present to the last one."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]]).astype(int)))
    pairs = [(times[first], times[behind - 1]) for first, behind in edges.reshape(-1, 2)]
    return joined([(start + seconds, end) for start, end in pairs if end - start >= seconds])


def reference(path):
    header, notes = wfdb.rdheader(str(path)), wfdb.rdann(str(path), "atr")
    rate = header.fs
    at = notes.sample / rate
    beat = np.array([symbol in BEATS for symbol in notes.symbol])
    times = at[beat]
    kinds = np.array(notes.symbol)[beat]
    intervals = np.concatenate([[np.nan], np.diff(times)])
    begun = None
    flutter = []
    for time, symbol in zip(at, notes.symbol):
        if symbol == "[" and begun is None:
            begun = time
        elif symbol == "]" and begun is not None:
            flutter.append((begun, time))
            begun = None
    if begun is not None:
        flutter.append((begun, np.inf))
    for start, end in flutter:
        intervals[1:][(times[:-1] < end) & (times[1:] > start)] = np.nan

    def over(count):
        """The latest intervals of each beat; NaN where one is missing."""
        padded = np.concatenate([np.full(count - 1, np.nan), intervals])
        return np.lib.stride_tricks.sliding_window_view(padded, count)

    with np.errstate(invalid="ignore"):
        gaps = {name: joined([(times[i - 1] + limit, times[i]) for i in np.flatnonzero(intervals >= limit)])
                for name, limit in (("asystole", 4.0), ("pause", 3.0))}  # fmt: skip
        mean_rate = 60 / over(8).mean(axis=1)
        slow, fast = (over(2) > 60 / 35).all(axis=1), over(5).mean(axis=1) < 60 / 150
        low, high = mean_rate < 50, mean_rate > 120
    ectopic = np.isin(kinds, ["V", "E"])
    run = np.zeros(len(kinds), dtype=bool)
    for first in range(len(kinds) - 2):
        if ectopic[first : first + 3].all():
            run[first : first + 3] = True
    rhythms = [(time, note.rstrip("\0")) for time, note in zip(at, notes.aux_note) if note.startswith("(")]
    fibrillation, begun = [], None
    for time, name in [*rhythms, (header.sig_len / rate, "")]:
        if name.startswith("(AFIB"):
            begun = time if begun is None else begun
        elif begun is not None:
            fibrillation.append((begun, time))
            begun = None
    episodes = {
        **gaps,
        "ventricular_run": spans(times, run),
        "heart_rate_extreme_low": spans(times, slow),
        "heart_rate_extreme_high": spans(times, fast),
        "heart_rate_low": spans(times, low, 10.0),
        "heart_rate_high": spans(times, high, 10.0),
        "atrial_fibrillation": joined([one for one in fibrillation if one[1] - one[0] >= 30]),
    }
    return header.sig_len / rate / 3600, episodes


def score(rule, episodes, alarms):
    """Episodes, found ones, alarms, false ones."""
    after = 60 if rule == "atrial_fibrillation" else 15
    own = [start for name, start, _ in alarms if name == rule]
    matches = lambda start, one: one[0] - 5 <= start <= one[1] + after  # noqa: E731
    standing = [(start, end) for name, start, end in alarms if name in (rule, *STRONGER.get(rule, []))]
    found = sum(
        any(matches(start, one) or (start <= one[1] and end >= one[0]) for start, end in standing) for one in episodes
    )
    false = sum(not any(matches(start, one) for one in episodes) for start in own)
    return np.array([len(episodes), found, len(own), false])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("alarms", type=pathlib.Path)
    parser.add_argument("folders", type=pathlib.Path, nargs="+")
    parser.add_argument("--compare", type=pathlib.Path)
    options = parser.parse_args()
    alarms = collections.defaultdict(list)
    for line in options.alarms.read_text().splitlines():
        record, rule, start, end = line.split("\t")
        alarms[record].append((rule, float(start), float(end)))
    printed = []
    for folder in sorted(options.folders, key=lambda one: one.name):
        hours, count = 0.0, 0
        scores = {rule: np.zeros(4, dtype=int) for rule in RULES}
        for header in sorted(folder.glob("*.hea")):
            if not header.with_suffix(".atr").is_file():
                continue
            count += 1
            length, episodes = reference(header.with_suffix(""))
            hours += length
            for rule in RULES:
                scores[rule] += score(rule, episodes[rule], alarms[f"{folder.name}/{header.stem}"])
        lines = [f"{folder.name}: {count} records, {hours:.1f} h", ""]
        lines += ["| rule | episodes | found | sensitivity | alarms | false | false per hour |", "|---|---|---|---|---|---|---|"]
        for rule, (number, found, raised, false) in scores.items():
            share = f"{100 * found / number:.1f} %" if number else "-"
            lines.append(f"| `{rule}` | {number} | {found} | {share} | {raised} | {false} | {false / hours:.2f} |")
        printed += [*lines, ""]
    text = "\n".join(printed).rstrip("\n")
    print(text)
    if options.compare and options.compare.read_text().rstrip("\n") != text:
        sys.exit("the tables differ")


if __name__ == "__main__":
    main()
