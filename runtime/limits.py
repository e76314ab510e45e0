"""Limits of the running parts, each named once; relations between them are asserted below.

Seconds unless the name says otherwise. Limits that a user may set stand in the spec instead.
"""

BEAT_S = 2.0  # a node writes its presence this often
BEATS_ALIVE = 3  # presence older than this many beats means dead
ALIVE_S = BEAT_S * BEATS_ALIVE
POLL_LOG_S = 1.0  # a member probes the next record of its run's epochs
POLL_CLAIM_S = 1.0  # a training node without a run probes the pool log
POLL_MODEL_S = 2.0  # a replica probes the next live record
# A list request costs about 5e-6 USD on the clouds' price pages; 10 s is 360 an hour per lister.
LIST_IDLE_S = 10.0  # who watches presence lists this often once all expected nodes are there
LIST_BUSY_S = 1.0  # and this often while some are still missing

CHILD_STOP_S = 5.0  # from SIGTERM to SIGKILL for a child that holds no requests
WORKER_START_S = 120.0  # importing torch on a loaded machine
COLLECTIVE_S = 30.0  # a collective that takes longer has lost a peer
JOIN_GRACE_S = 30.0  # a claim this young without members is starting, not dead
REJOIN_S = 8.0  # how long survivors wait for a lost node to come back before they go on without it

REQUEST_BODY_BYTES = 1 << 20
STREAM_PING_S = 10.0
READY_CHECK_S = 1.0  # the balancer asks /readyz this often
READY_CHECKS_DOWN = 2  # and takes a target out after this many failures
DRAIN_NOTICE_S = READY_CHECK_S * READY_CHECKS_DOWN + 1.0  # not ready, still serving

assert LIST_BUSY_S <= BEAT_S <= LIST_IDLE_S
assert ALIVE_S < COLLECTIVE_S, "presence must tell before the collective's own deadline does"
assert REJOIN_S > ALIVE_S, "a restarted node must be able to be seen alive"
