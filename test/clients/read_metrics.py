"""Reads metrics from standard input as Prometheus' own Python client does, and prints them as JSON.

    python read_metrics.py < METRICS
"""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

families = [
    {
        "name": family.name,
        "type": family.type,
        "help": family.documentation,
        "samples": [
            {"name": name, "labels": labels, "value": str(value)}
            for name, labels, value, *_ in family.samples
        ],
    }
    for family in text_string_to_metric_families(sys.stdin.read())
]
json.dump(families, sys.stdout)
