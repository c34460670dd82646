"""A census-like table of people who do not exist, to try everything on."""

from __future__ import annotations

import numpy as np

from evolve.gsd.columns import Codes, category, integer, real
from evolve.gsd.schema import Schema
from zoo.errors import InputError

_EDUCATION = (
    *("none", "preschool", "grades 1-4", "grades 5-6", "grades 7-8", "grade 9", "grade 10"),
    *("grade 11", "grade 12", "high school", "some college", "vocational", "associate"),
    *("bachelor", "master", "doctorate"),
)
_OCCUPATION = (  # from those that ask for the least schooling to those that ask for the most
    *("farm", "cleaning", "transport", "machines", "construction", "care", "sales", "crafts"),
    *("office", "technical", "management", "professional"),
)
_REGION = (
    *("northeast", "middle atlantic", "midwest", "plains", "south atlantic", "south"),
    *("southwest", "mountain", "pacific"),
)
_REGION_SHARE = np.array([5, 13, 14, 7, 20, 6, 12, 7, 16]) / 100
_SEED = 2023


def example_schema() -> Schema:
    """Eight columns: two integers, a real with nulls, five categories, one of them with nulls."""
    return Schema(
        (
            integer("age", 17, 90),
            category("sex", ("female", "male")),
            category("education", _EDUCATION),
            category("occupation", _OCCUPATION, null=""),
            integer("hours", 1, 99),
            real("income", 0, 250_000, null="", decimals=2),
            category("region", _REGION),
            category("married", ("no", "yes")),
        )
    )


def example_codes(rows: int = 5000) -> Codes:
    """Table of the example, (rows, 8): always the same for a number of rows.

    Schooling grows with age and differs between regions; occupations follow schooling and sex;
    hours and incomes follow all of these. People under 20 have no income, those without work no
    occupation.

    Raises
    ------
    InputError
        If there are no rows.
    """
    if rows < 1:
        raise InputError(f"rows must be >= 1, got {rows}")
    rng = np.random.Generator(np.random.Philox(key=_SEED))
    uniform = rng.random((7, rows))
    normal = rng.standard_normal((4, rows))
    schema = example_schema()

    age = 17 + np.floor(74 * np.maximum(uniform[0], 1e-9) ** 1.4)
    male = uniform[1] < 0.49
    region = np.searchsorted(np.cumsum(_REGION_SHARE)[:-1], uniform[2], side="right")
    married = uniform[3] < 0.72 / (1 + np.exp((27 - age) / 3)) * np.where(age > 75, 0.7, 1)
    years = 10.2 + 2.6 * normal[0] + 0.15 * (region - 4) - 0.03 * np.maximum(age - 60, 0)
    education = np.clip(np.rint(years), 0, np.minimum(15, age - 9)).astype(int)

    rank = 0.75 * education - 1.5 + 1.8 * normal[1] + np.where(male, -0.8, 0.8)
    occupation = np.clip(np.rint(rank), 0, 11).astype(int)
    idle = uniform[4] < np.where(age < 20, 0.5, np.where(age > 66, 0.8, 0.12))
    full = np.where(uniform[5] < 0.55, 40, 40 + 9 * normal[2] + np.where(male, 3, -4))
    hours = np.clip(np.rint(np.where(idle | (age < 20), full * 0.4, full)), 1, 99)
    earned = 9.1 + 0.09 * education + 0.05 * occupation + 0.018 * hours
    earned += 0.12 * male + 0.1 * married - ((age - 50) / 30) ** 2 + 0.5 * normal[3]
    income = np.where(idle & (uniform[6] < 0.4), 0, np.minimum(np.exp(earned), 250_000))

    codes = np.empty((rows, len(schema.columns)), np.int32)
    codes[:, 0] = schema.column("age").codes(age)
    codes[:, 1] = male
    codes[:, 2] = education
    codes[:, 3] = np.where(idle, len(_OCCUPATION), occupation)
    codes[:, 4] = schema.column("hours").codes(hours)
    pay = schema.column("income")
    codes[:, 5] = np.where(age < 20, pay.bins, pay.codes(income))
    codes[:, 6] = region
    codes[:, 7] = married
    return codes
