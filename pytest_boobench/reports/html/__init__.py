"""Room 7: the HTML report: one file that opens offline and loads nothing.

- ``series``      each cell with its measurements, or why it has none; what became of it
- ``chart_data``  one cell: its metrics over time, its newest samples and facts
- ``page_data``   what a page is made from; all data of the page's script, as compact JSON
- ``render_page`` finding, counts and table, filled into the template
- ``assets/``     template, style and script; the script draws the charts as SVG from the JSON

The script draws charts only when they are looked at: SVG for 500 cells of 50 runs would take tens of megabytes, and a
chart library would add megabytes to each page.
"""

from pytest_boobench.reports.html.page_data import RUNS, History, gather
from pytest_boobench.reports.html.render_page import render, require_template_engine

__all__ = ["RUNS", "History", "gather", "render", "require_template_engine"]
