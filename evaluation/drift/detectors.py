"""Runs everything that is judged, ours and the peers', and hands back where they alarm."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from . import score
from .score import Alarms, Strengths
from .streams import Stream, load

HERE = pathlib.Path(__file__).parent
#: The peers are not to report home.
QUIET = {"NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}
#: Rows of a window of Evidently: as many as one of the monitor.
EVIDENTLY_ROWS = 500
#: More repetitions than there are.
EVERY = 1_000
#: Groups whose clean rows settings are matched on.
MATCHED_ON = ("splice", "synthetic")
#: Our detectors by the names in the program's answer.
OWN = {
    "monitor": "Plumbline monitor",
    "evidence": "Plumbline sequential test",
    "adwin": "Plumbline ADWIN",
    "page_hinkley": "Plumbline Page-Hinkley",
    "cusum": "Plumbline CUSUM",
    "ewma": "Plumbline EWMA",
}


@dataclasses.dataclass(frozen=True)
class Judged:
    """A detector in one setting."""

    name: str
    setting: str
    alarms: Alarms


@dataclasses.dataclass(frozen=True)
class Onset:
    """What an alarm of the monitor says about where the change began."""

    stream: str
    column: str
    row: int
    begin: int | None


class Runner:
    """Runs programs over the streams of one folder; what was run before on the same streams is not run again."""

    def __init__(self, streams: pathlib.Path, evaluate: pathlib.Path, setup: pathlib.Path, slow: int) -> None:
        self.path, self.evaluate, self.setup, self.slow = streams, evaluate, setup, slow
        self.streams = load(streams)
        self.onsets: list[Onset] = []

    def all(self) -> list[Judged]:
        """Ours, then the baselines, then the peers: each in its own setting, then matched to no false alarms in the
        streams that settings are matched on.
        """
        judged = self.own()
        judged.append(Judged("an alarm every 100 rows", "baseline", score.every(self.streams, 100)))
        judged.append(Judged("never an alarm", "baseline", score.never(self.streams)))
        families: dict[str, list[Judged]] = collections.defaultdict(list)
        for arguments in (("ADWIN,Page-Hinkley", str(EVERY)), ("KSWIN", "1")):
            for name, alarms in self.peer("river", "river_alarms", *arguments).items():
                family, setting = name.split("|")
                families[family].append(Judged(f"river {family}", setting, alarms))
        for settings in families.values():
            judged.append(dataclasses.replace(settings[0], setting=f"its own, {settings[0].setting}"))
            matched = self._matched([j.alarms for j in settings])
            judged.append(dataclasses.replace(settings[0], setting="matched", alarms=matched))
        strengths = self.peer("evidently", "evidently_scores", str(EVIDENTLY_ROWS), str(EVERY))
        judged += self._by_strength(f"Evidently, {EVIDENTLY_ROWS} rows", strengths)
        judged += self._by_strength("NannyML, 10 chunks", self.peer("nannyml", "nannyml_scores", str(self.slow)))
        return judged

    def _matched(self, settings: list[Alarms]) -> Alarms:
        """For each column by itself, the loosest setting without a false alarm in any repetition, or the strictest."""
        chosen: Alarms = {}
        matching = [s for s in self.streams if s.group in MATCHED_ON and s.key in settings[0]]
        for name, column in sorted({(s.name, column) for s in matching for column in s.columns}):
            streams = [s for s in matching if s.name == name and column in settings[0][s.key]]

            def false_alarms(of: Alarms, streams: list[Stream] = streams, column: str = column) -> int:
                return score.score(streams, of, lambda _stream, of_column: of_column == column).false_alarms

            best = next((of for of in settings if false_alarms(of) == 0), settings[-1])
            for stream in streams:
                chosen.setdefault(stream.key, {})[column] = best[stream.key][column]
        # Columns that the detector cannot watch are missed, as in its own setting.
        return {s.key: chosen.get(s.key, {}) for s in matching}

    def _by_strength(self, name: str, strengths: Strengths) -> list[Judged]:
        settings = [score.cut(strengths, at) for at in (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)]
        return [Judged(name, "its own", settings[0]), Judged(name, "matched", self._matched(settings))]

    def own(self) -> list[Judged]:
        """The programs of this repository."""
        by_name: dict[str, Alarms] = {name: {} for name in OWN}
        by_reference: dict[int, list[Stream]] = collections.defaultdict(list)
        for stream in self.streams:
            by_reference[stream.reference].append(stream)
        for reference, streams in by_reference.items():
            command = [str(self.evaluate), "--reference", str(reference), *(s.file for s in streams)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            for stream, line in zip(streams, done.stdout.splitlines()):
                self._take(stream, json.loads(line), by_name)
        return [Judged(OWN[name], "defaults", alarms) for name, alarms in by_name.items()]

    def _take(self, stream: Stream, outcome: dict[str, Any], by_name: dict[str, Alarms]) -> None:
        for column in outcome["columns"]:
            for name, alarms in by_name.items():
                if name in column["alarms"]:
                    alarms.setdefault(stream.key, {})[column["name"]] = column["alarms"][name]
            for row, begin in zip(column["alarms"]["monitor"], column["onsets"]):
                self.onsets.append(Onset(stream.key, column["name"], row, begin))
        # The mean's charts cannot watch a table without numbers, but they were asked.
        for alarms in by_name.values():
            alarms.setdefault(stream.key, {})

    def peer(self, environment: str, program: str, *arguments: str) -> Any:
        """What a peer's program wrote about these streams."""
        source = HERE / "peers" / f"{program}.py"
        digest = hashlib.sha256(self.path.read_bytes() + source.read_bytes() + repr(arguments).encode()).hexdigest()
        output = self.path.parent / f"{program}-{digest[:12]}.json"
        if not output.exists():
            part = output.with_suffix(".part")
            print(f"running {environment} over {len(self.streams)} streams", file=sys.stderr, flush=True)
            python = self.setup / f"drift-{environment}" / "bin" / "python"
            command = [str(python), "-m", f"drift.peers.{program}", str(self.path), str(part), *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=HERE.parent, env={**os.environ, **QUIET})
            part.rename(output)
        return json.loads(output.read_text())
