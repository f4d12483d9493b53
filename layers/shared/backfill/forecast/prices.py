"""Prices: what AWS takes for functions, queues and logs. The database and the network are your own."""

from __future__ import annotations

from backfill.forecast.work import Work

# The template's concurrency and memory. All workers are there while GitHub sets the pace.
WORKERS, MEMORY_GB = 4, 0.5
# Planner seconds for a page of the listing or a chunk, more or less.
PLANNING_SECONDS = 1.0
# US dollars in us-east-1 (aws.amazon.com/lambda, /sqs, /cloudwatch pricing, November 2026): arm64 GB-second, Lambda
# request, SQS request (a message takes three), GB of logs.
GB_SECOND, INVOCATION, SQS_REQUEST, LOG_GB = 0.0000133334, 0.20e-6, 0.40e-6, 0.50
# Bytes of log that a request and a chunk leave.
LOG_BYTES_OF_REQUEST, LOG_BYTES_OF_CHUNK = 700, 3500


def dollars(work: Work, pace: float) -> float:
    """At the most: all workers wait for GitHub all the time."""
    function_seconds = WORKERS * work.server_seconds * pace + PLANNING_SECONDS * (work.pages + work.chunks)
    messages = 2 * work.chunks
    logged = LOG_BYTES_OF_REQUEST * work.requests + LOG_BYTES_OF_CHUNK * work.chunks
    return function_seconds * MEMORY_GB * GB_SECOND + messages * (INVOCATION + 3 * SQS_REQUEST) + logged / 1e9 * LOG_GB
