"""Room 7: the HTML report: one page that needs nothing but itself, opens offline and asks no network.

- ``history``   what a page is made from, and how it is asked for
- ``courses``   stored measurements -> each cell's course, the cells that ask most of the reader first
- ``unmeasured``   cells without a measurement
- ``states``    what became of a cell, in one word, and what to do about it
- ``summary``   the finding, the counts, and what to look at
- ``table``     the table of all cells
- ``points``    a course as columns of numbers
- ``turns``     when a cell became slower or faster, in words
- ``details``   samples, TTFT split and facts of a cell's newest measurement
- ``groups``    cells that differ in their host only, or in host and lanes
- ``data``      all that the page's script draws from, as compact JSON
- ``text``      strange text, fit for a page
- ``page``      the template, filled in
- ``assets/``   template, style and script; the script draws the charts as SVG from the JSON

Charts are drawn when they are looked at: drawn beforehand, 500 cells of 50 runs would be tens of megabytes of SVG, and
a chart library of megabytes would ride in every page.
"""

from pytest_boobench.reports.html.page import render, require_template_engine
from pytest_boobench.reports.html.page_data import RUNS, History, gather

__all__ = ["RUNS", "History", "gather", "render", "require_template_engine"]
