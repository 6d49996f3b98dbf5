"""The data sets with known changes, as their own descriptions tell them."""

from __future__ import annotations

import csv
import datetime
import json
import pathlib
import statistics

from . import streams
from .streams import Writer
from .tables import Table, features, read

ELEC2, BANK, BIKE = (
    "elec2_nsw/elec2.csv",
    "bank_marketing_2008_2010/bank_marketing.csv",
    "bike_sharing_hourly/hour.csv",
)
WEATHER, TELCO = "weather_nebraska_1949_1999/weather.csv", "telco_churn/telco_churn.csv"
#: Name, file, row of the change, columns that change, columns that do not.
SPLICES: tuple[tuple[str, str, int | None, tuple[str, ...], tuple[str, ...]], ...] = (
    ("elec2", ELEC2, 17_424, ("nswprice", "nswdemand", "vicdemand"), ()),
    ("bank", BANK, 27_690, ("age", "job", "education", "duration", "campaign", "pdays", "y"), ()),
    ("bike", BIKE, 8_645, ("cnt", "hum", "temp"), ("windspeed",)),
    ("weather", WEATHER, 9_079, ("feat_4", "feat_5", "feat_6"), ("feat_1",)),
    ("telco", TELCO, None, (), ("MonthlyCharges",)),
)
#: Annotators of a series that have to agree, within this many rows.
ANNOTATORS, AGREE = 3, 5


def write(writer: Writer, data: pathlib.Path, repetitions: int) -> None:
    """Writes every stream."""
    for name, file, at, changed, unchanged in SPLICES:
        streams.splice(writer, name, read(data / file).select(changed + unchanged), at, changed, repetitions)
    streams.synthetic(writer, repetitions)
    _tables(writer, data)
    _operations(writer, data / "nab_ops_series")
    _small_series(writer, data / "tcpd_changepoints")
    _seasons(writer, data)


def _tables(writer: Writer, data: pathlib.Path) -> None:
    elec2 = read(data / ELEC2)
    streams.raw(
        writer,
        "elec2",
        elec2.select(features(elec2)),
        5_000,
        ("vicprice", "vicdemand", "transfer"),
        ((17_424, len(elec2.rows)),),
    )
    bank = read(data / BANK)
    columns = features(bank)
    streams.raw(writer, "bank", bank.select(columns), 5_000, columns, ((7_763, len(bank.rows)),))
    # No step is known in 50 years of weather, but the yearly cycle; the reference is its first three years.
    weather = read(data / WEATHER)
    streams.raw(writer, "weather", weather.select(features(weather)), 1_096)


def _operations(writer: Writer, folder: pathlib.Path) -> None:
    """The first 15 % are the reference, by the rule of the benchmark that they come from."""
    labels = json.loads((folder / "labels.json").read_text())
    for file in sorted(folder.glob("*.csv")):
        table = read(file)
        times = [datetime.datetime.fromisoformat(t) for t in table.column("timestamp")]
        changes = []
        for window in labels[file.name]["windows"]:
            begin, end = (datetime.datetime.fromisoformat(t.split(".")[0]) for t in window)
            changes.append((sum(t < begin for t in times), sum(t <= end for t in times)))
        changed = ("value",) if changes else ()
        streams.raw(writer, file.stem, table.select(["value"]), len(times) * 15 // 100, changed, tuple(changes))


def _small_series(writer: Writer, folder: pathlib.Path) -> None:
    """A change is where at least three annotators agree. The reference is 100 rows, far fewer than it should be."""
    annotations = json.loads((folder / "annotations.json").read_text())
    for file in sorted(folder.glob("*.csv")):
        with file.open(newline="") as opened:
            rows = [[row[-1]] for row in list(csv.reader(opened))[1:]]
        marks = sorted(m for marks in annotations[file.stem]["annotators"].values() for m in marks)
        begins: list[int] = []
        for mark in marks:
            near = [m for m in marks if abs(m - mark) <= AGREE]
            begin = round(statistics.median(near))
            if len(near) >= ANNOTATORS and begin > 100 and (not begins or begin - begins[-1] > AGREE):
                begins.append(begin)
        changes = tuple(zip(begins, [*begins[1:], len(rows)]))
        changed = ("value",) if changes else ()
        streams.raw(writer, file.stem, Table(("value",), rows), 100, changed, changes)


def _seasons(writer: Writer, data: pathlib.Path) -> None:
    """Odd days are the reference, even days of the same span follow: same seasons, so every alarm is false."""
    bike = read(data / BIKE)
    days = [datetime.date.fromisoformat(d) for d in bike.column("dteday")]
    odd = [i for i, day in enumerate(days) if day.year == 2011 and day.toordinal() % 2 == 1]
    even = [i for i, day in enumerate(days) if day.year == 2011 and day.toordinal() % 2 == 0]
    next_year = [i for i, day in enumerate(days) if day.year == 2012]
    begin = len(odd) + len(even)
    rows = bike.select(["cnt"]).take([*odd, *even, *next_year])
    writer.add("season", "bike", rows, len(odd), ("cnt",), ((begin, len(rows.rows)),))
    taxi = read(data / "nab_ops_series" / "nyc_taxi.csv")
    days = [datetime.datetime.fromisoformat(t).date() for t in taxi.column("timestamp")]
    odd = [i for i, day in enumerate(days) if day.toordinal() % 2 == 1]
    even = [i for i, day in enumerate(days) if day.toordinal() % 2 == 0]
    writer.add("season", "nyc_taxi", taxi.select(["value"]).take([*odd, *even]), len(odd))
