"""Sales by month and region. What a data team writes: frames in, frames out, and nothing of Elixir."""

import matplotlib.pyplot as plt
import pandas as pd

_COLUMNS = ["day", "region", "product", "pieces", "price"]


def read(path: str):
    """The sales in a CSV file, a frame with a row for each."""
    sales = pd.read_csv(path)
    missing = [column for column in _COLUMNS if column not in sales.columns]
    if missing:
        raise ValueError(f"no column {', '.join(missing)} in {path}")
    if sales.empty:
        raise ValueError(f"no sales in {path}")
    day = pd.to_datetime(sales["day"], format="%Y-%m-%d", errors="coerce")
    if day.isna().any():
        row = day.isna().idxmax()
        raise ValueError(f"{path}, line {row + 2}: {sales['day'][row]} is no day")
    return sales.assign(day=day)


def monthly(sales):
    """Revenue: a row for each month, a column for each region."""
    month = sales["day"].dt.to_period("M").dt.start_time.dt.date
    revenue = sales["pieces"] * sales["price"]
    return revenue.groupby([month.rename("month"), sales["region"]]).sum().unstack(fill_value=0.0)


def rows(table) -> list:
    """The rows of such a table, as dicts: the month is a date, the regions are names of columns."""
    return table.reset_index().to_dict("records")


def chart(table):
    """A figure with a line for each region."""
    figure, axes = plt.subplots(figsize=(7, 3))
    table.plot(ax=axes, marker="o", xlabel="", ylabel="revenue")
    # Figures that a function makes stay open in pyplot until they are closed; this one can be saved all the same.
    plt.close(figure)
    return figure
