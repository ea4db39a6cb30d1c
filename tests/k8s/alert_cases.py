"""For each alert what fires it and what does not: series as promtool writes them, one sample a minute (of
an alert over days: every ten minutes).

FIRES: alert -> (series, minutes, labels, summary); QUIET: alert -> (what it is, series, minutes), close to the bound.
"""

I = 'job="hookward",instance="a"'
R = f'{I},route="default"'
INSTANCE = {"job": "hookward", "instance": "a"}
ROUTE = {"job": "hookward", "route": "default"}
BOTH = {**INSTANCE, "route": "default"}
SLOW_STEP = 10


def step(alert):
    """Minutes between two samples."""
    return SLOW_STEP if alert == "HookwardAckErrorBudgetSlowBurn" else 1


# Buckets of a histogram: counts per minute up to each bound.
def ack(bounds):
    return [(f'hookward_ack_duration_seconds_bucket{{{R},le="{le}"}}', f"0+{n}x30") for le, n in bounds] + [
        (f"hookward_ack_duration_seconds_count{{{R}}}", f"0+{bounds[-1][1]}x30")
    ]


def skew(side, bounds):
    labels = f'{R},side="{side}"'
    return [(f'hookward_timestamp_skew_seconds_bucket{{{labels},le="{le}"}}', f"0+{n}x60") for le, n in bounds] + [
        (f"hookward_timestamp_skew_seconds_count{{{labels}}}", f"0+{bounds[-1][1]}x60")
    ]


def requests(minutes, **per_minute):
    outcomes = {"accepted": 0, "duplicate": 0, "passed": 0, "rejected": 0, "failed": 0, **per_minute}
    return [(f'hookward_requests_total{{{R},outcome="{o}"}}', f"0+{n}x{minutes}") for o, n in outcomes.items()]


def refusals(reason, per_minute, minutes=60):
    return [(f'hookward_rejections_total{{{R},reason="{reason}"}}', f"0+{per_minute}x{minutes}")]


def attempts(minutes, delivered=0, retry=0, dead=0):
    counts = {"delivered": delivered, "retry": retry, "dead": dead}
    return [(f'hookward_delivery_attempts_total{{{R},result="{r}"}}', f"0+{n}x{minutes}") for r, n in counts.items()]


def buffer(used, capacity=1000):
    return [(f"hookward_buffer_bytes{{{I}}}", used), (f"hookward_buffer_capacity_bytes{{{I}}}", f"{capacity}x600")]


FIRES = {
    "HookwardDown": ([(f"up{{{I}}}", "1 0x10")], 7, INSTANCE, "hookward a cannot be scraped for 5 minutes."),
    "HookwardBufferStalled": (
        # Of minute 1, and it is minute 8.
        [(f"hookward_buffer_oldest_pending_timestamp_seconds{{{I}}}", "0 60x10")],
        8,
        INSTANCE,
        "The app has not taken an event of a that is older than 5 minutes.",
    ),
    "HookwardUpstreamHeld": (
        # Until an hour of the start.
        [(f"hookward_upstream_held_until_timestamp_seconds{{{R}}}", "3600x20")],
        8,
        BOTH,
        "The app behind default of a asks to be left alone (Retry-After), for minutes now.",
    ),
    "HookwardUpstreamPaused": (
        # In minute 1, and it is minute 250.
        [(f"hookward_upstream_paused_since_timestamp_seconds{{{R}}}", "0 60x260")],
        250,
        BOTH,
        "Deliveries of route default of a are paused by an operator for more than 4 hours.",
    ),
    "HookwardDeliveryLoop": (
        [(f"hookward_delivery_loops_total{{{R}}}", "0x5 1x10")],
        8,
        BOTH,
        "The upstream of route default leads back to hookward; its events wait.",
    ),
    "HookwardDeadLetters": (
        [(f'hookward_delivery_attempts_total{{{R},result="dead"}}', "0 0 1x20")],
        5,
        BOTH,
        "Events of route default were given up and wait as dead letters.",
    ),
    "HookwardEventsExpired": (
        [(f"hookward_events_expired_total{{{R}}}", "0 0 1x20")],
        5,
        BOTH,
        "Dead or quarantined events of route default were dropped at the end of their keep.",
    ),
    "HookwardDeliveryErrorBudgetBurn": (
        attempts(90, delivered=8, retry=2),
        80,
        ROUTE,
        "The app fails 20% of the deliveries of route default.",
    ),
    "HookwardBufferNearFull": (buffer("850x20"), 6, INSTANCE, "The buffer of a is 85% full; at 100 % senders get 503."),
    "HookwardBufferFillingUp": (
        buffer("0+5x90"),
        80,
        INSTANCE,
        "At this rate the buffer of a is full within 4 hours.",
    ),
    "HookwardBufferFullRejecting": (
        [(f'hookward_rejections_total{{{R},reason="buffer_full"}}', "0 0 1x20")],
        4,
        INSTANCE,
        "a refuses webhooks: its buffer is full.",
    ),
    "HookwardBufferFailed": (
        # One error, long ago, and still not open.
        [
            (f'hookward_buffer_errors_total{{{I},kind="failed"}}', "0 0 1x40"),
            (f"hookward_buffer_failed{{{I}}}", "0 0 1x40"),
        ],
        30,
        INSTANCE,
        "The volume of a refuses writes or syncs, or is not in its place; webhooks get 503.",
    ),
    "HookwardBufferCorruption": (
        # Found before the first scrape, so it never increases.
        [(f'hookward_buffer_errors_total{{{I},kind="damaged"}}', "1x20")],
        1,
        {**INSTANCE, "kind": "damaged"},
        "The volume of a has altered or lost stored events.",
    ),
    "HookwardAckErrorBudgetBurn": (
        requests(90, accepted=98, failed=2),
        80,
        ROUTE,
        "Route default answers 2% of its webhooks with 5xx.",
    ),
    "HookwardAckErrorBudgetSlowBurn": (
        requests(500, accepted=998, failed=2),
        4500,
        ROUTE,
        "Over three days route default answered more than 0.1 % of its webhooks with 5xx.",
    ),
    "HookwardAckLatencyHigh": (
        ack([("0.5", 90), ("1", 100), ("+Inf", 100)]),
        20,
        BOTH,
        "1 % of the webhooks of route default wait longer than 950ms for their answer.",
    ),
    "HookwardSignatureFailuresSpike": (
        requests(60, accepted=10, rejected=5) + refusals("signature_mismatch", 5),
        30,
        ROUTE,
        "50 webhooks of route default within 10 minutes had no good signature.",
    ),
    "HookwardIPDeniedAll": (
        requests(60, rejected=2) + refusals("ip_denied", 1) + refusals("client_ip_undetermined", 1),
        30,
        ROUTE,
        "Route default refuses every webhook for its sender's address.",
    ),
    "HookwardTimestampSkew": (
        skew("future", [("60", 0), ("180", 0), ("300", 10), ("+Inf", 10)]),
        40,
        INSTANCE,
        "Half of the webhooks at a are 4m 0s or more away from its clock.",
    ),
    "HookwardConfigReloadFailed": (
        # Hours after the file was broken.
        [(f"hookward_config_last_reload_successful{{{I}}}", "1 0x300")],
        280,
        INSTANCE,
        "a refused a changed configuration and goes on with the old one.",
    ),
    "HookwardCertificateExpiresSoon": (
        # In ten days, seen at minute 90.
        [(f'hookward_tls_certificate_not_after_timestamp_seconds{{{I},listener="x"}}', f"{10 * 86400 + 90 * 60}x200")],
        90,
        {**INSTANCE, "listener": "x"},
        "The certificate of listener x at a ends in 10d 0h 0m 0s.",
    ),
    "HookwardPanic": (
        [(f"hookward_process_panics_total{{{I}}}", "0 0 1x20")],
        5,
        INSTANCE,
        "A defect of hookward cost a a connection or an attempt, no event.",
    ),
    "HookwardNoWebhooksReceived": (
        [(f'hookward_requests_total{{{R},outcome="accepted"}}', "5x120")]
        + [(f'hookward_requests_total{{{R},outcome="rejected"}}', "0+5x120")],
        90,
        {"job": "hookward"},
        "No webhook has been accepted for more than an hour.",
    ),
}

QUIET = {
    "HookwardDown": ("a restart of 3 minutes", [(f"up{{{I}}}", "1 0 0 0 1x10")], 7),
    "HookwardBufferStalled": (
        "nothing pending; and an event of 4 minutes ago",
        [
            (f"hookward_buffer_oldest_pending_timestamp_seconds{{{I}}}", "0x60"),
            ('hookward_buffer_oldest_pending_timestamp_seconds{job="hookward",instance="b"}', "0x4 60+60x60"),
        ],
        30,
    ),
    "HookwardUpstreamHeld": (
        "not held; and a wait of half a minute",
        [
            (f"hookward_upstream_held_until_timestamp_seconds{{{R}}}", "0x60"),
            ('hookward_upstream_held_until_timestamp_seconds{job="hookward",instance="b",route="default"}', "0x10 630x60"),
        ],
        30,
    ),
    "HookwardUpstreamPaused": (
        "not paused; and a pause of 3 hours",
        [
            (f"hookward_upstream_paused_since_timestamp_seconds{{{R}}}", "0x300"),
            ('hookward_upstream_paused_since_timestamp_seconds{job="hookward",instance="b",route="default"}', "0x60 3660x180 0x60"),
        ],
        239,
    ),
    "HookwardDeadLetters": (
        "retries, and dead letters of an hour ago",
        attempts(120, delivered=1, retry=5) + [('hookward_delivery_attempts_total{job="hookward",instance="b",route="default",result="dead"}', "0 1x120")],
        90,
    ),
    "HookwardDeliveryLoop": ("none for 20 minutes", [(f"hookward_delivery_loops_total{{{R}}}", "0 9x60")], 30),
    "HookwardEventsExpired": ("none", [(f"hookward_events_expired_total{{{R}}}", "7x60")], 30),
    "HookwardDeliveryErrorBudgetBurn": (
        "5 % of the attempts fail",
        attempts(90, delivered=95, retry=5),
        80,
    ),
    "HookwardBufferNearFull": ("79 %; and a peak of 3 minutes", buffer("790x10 900 900 900 500x20"), 14),
    "HookwardBufferFillingUp": ("the first seventh fills quickly", buffer("0+4x60"), 35),
    "HookwardBufferFullRejecting": ("it was full an hour ago", [(f'hookward_rejections_total{{{R},reason="buffer_full"}}', "0 9x90")], 70),
    "HookwardBufferFailed": (
        "a full buffer is another alert",
        [
            (f'hookward_buffer_errors_total{{{I},kind="failed"}}', "0x20"),
            (f'hookward_buffer_errors_total{{{I},kind="full"}}', "0+1x20"),
            (f"hookward_buffer_failed{{{I}}}", "0x20"),
        ],
        10,
    ),
    "HookwardBufferCorruption": (
        "failed writes alter nothing",
        [
            (f'hookward_buffer_errors_total{{{I},kind="damaged"}}', "0x20"),
            (f'hookward_buffer_errors_total{{{I},kind="failed"}}', "0+1x20"),
            (f"hookward_buffer_quarantined_events_total{{{I}}}", "0x20"),
        ],
        10,
    ),
    "HookwardAckErrorBudgetBurn": (
        "forgeries are refused all day, 0.1 % fail",
        requests(90, accepted=999, rejected=500, failed=1),
        80,
    ),
    "HookwardAckErrorBudgetSlowBurn": (
        "a bad hour two days ago, good since",
        [
            (f'hookward_requests_total{{{R},outcome="accepted"}}', "0+1000x500"),
            (f'hookward_requests_total{{{R},outcome="failed"}}', "0+4000x6 24000x500"),
        ],
        4000,
    ),
    "HookwardAckLatencyHigh": (
        "slow, but ten webhooks only",
        [(series, values.replace("0+100", "0+2").replace("0+90", "0+1")) for series, values in ack([("0.5", 90), ("1", 100), ("+Inf", 100)])],
        20,
    ),
    "HookwardSignatureFailuresSpike": (
        "a scanner knocks now and then",
        requests(60, accepted=10, rejected=1) + refusals("signature_missing", 1),
        30,
    ),
    "HookwardIPDeniedAll": (
        "strangers are refused, Telnyx is not",
        requests(60, accepted=1, rejected=99) + refusals("ip_denied", 99),
        30,
    ),
    "HookwardTimestampSkew": (
        "5 s is what a queue at the sender costs",
        skew("past", [("0", 1), ("10", 10), ("60", 10), ("+Inf", 10)]),
        40,
    ),
    "HookwardConfigReloadFailed": (
        "the broken file was replaced a minute later",
        [(f"hookward_config_last_reload_successful{{{I}}}", "1 1 1 0 1x20")],
        5,
    ),
    "HookwardCertificateExpiresSoon": (
        "it ends in a month",
        [(f'hookward_tls_certificate_not_after_timestamp_seconds{{{I},listener="x"}}', f"{30 * 86400}x200")],
        90,
    ),
    "HookwardPanic": ("a panic of an hour ago", [(f"hookward_process_panics_total{{{I}}}", "0 1x90")], 70),
    "HookwardNoWebhooksReceived": (
        "one an hour",
        [(f'hookward_requests_total{{{R},outcome="accepted"}}', "0x50 1x50 2x50")],
        140,
    ),
}
