"""REPORT: what happened to one commit, as one HTML file for engineers and for approvers."""

from fedloom.hub.report.evidence import Report as Report
from fedloom.hub.report.evidence import collect as collect
from fedloom.hub.report.report import render as render
